use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::store::{
    Embedded, IngestBatch, Retention, Store as _,
    conformance::{Fake, FakeAgent, START_MS, check_samples, gap, schema, tick},
    embedded::{Options, database},
};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn count(directory: &Path, table: &str, condition: &str) -> i64 {
    let connection = database::open_reader(directory).unwrap();
    let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
    connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Housekeeping on the day of that number, keeping one day; what is due to be sealed is sealed first.
async fn maintain(store: &Embedded, day: i64) {
    for _ in 0..3 {
        let keep = Retention::all(std::time::Duration::from_secs(24 * 60 * 60));
        store.maintain(START_MS + day * DAY_MS, keep).await.unwrap();
        while store.stats().unsealed_samples > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_lines_of_the_ledger_go() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&Options::new(directory.path())).unwrap();
    let schema = schema("ledger", 1);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let mut of_now = gap(7, 8);
    of_now.to_ms = START_MS + 3 * DAY_MS;
    let told = Fake::Gap(4, gap(2, 3));
    let records = [tick(1, &schema), told, tick(6, &schema), Fake::Gap(9, of_now)];
    agent.send(&store, &records).await;
    assert_eq!(count(directory.path(), "gaps", "1"), 3, "told, told, and unexplained");
    maintain(&store, 1).await;
    assert_eq!(count(directory.path(), "gaps", "1"), 3, "not old yet");
    maintain(&store, 2).await;
    assert_eq!(count(directory.path(), "gaps", "1"), 1);
    assert_eq!(count(directory.path(), "gaps", "seq = 9"), 1, "what reaches beyond stays");
    // A retry of what was told doesn't tell it again.
    agent.send(&store, &records).await;
    assert_eq!(count(directory.path(), "gaps", "1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_go_with_their_line_of_the_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&Options::new(directory.path())).unwrap();
    let schema = schema("damage", 1);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    for seq in 1..=3 {
        agent.send(&store, &[tick(seq, &schema)]).await;
    }
    let connection = Connection::open(database::path_in(directory.path())).unwrap();
    let broken = "UPDATE head SET body = zeroblob(length(body)) WHERE first_seq = 2";
    assert_eq!(connection.execute(broken, []).unwrap(), 1);
    maintain(&store, 1).await;
    assert_eq!(count(directory.path(), "damaged", "1"), 1);
    maintain(&store, 2).await;
    assert_eq!(count(directory.path(), "gaps", "1"), 0);
    assert_eq!(count(directory.path(), "damaged", "1"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_nothing_names_go() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { series_per_agent: 2, ..Options::new(directory.path()) };
    let store = Embedded::open(&options).unwrap();
    let (old, kept) = (schema("old", 1), schema("kept", 1));
    let (refused, late) = (schema("refused", 1), schema("late", 1));
    let agent = FakeAgent::new(1, 1, &[&old, &kept, &refused]);
    agent.send(&store, &[tick(1, &old)]).await;
    let values = |schema: &wire::EncodedSchema| vec![(schema.id, vec![1.0])];
    let of_now = |seq, schema| Fake::TickAt(seq, START_MS + 3 * DAY_MS, values(schema));
    for record in [of_now(2, &kept), of_now(3, &refused)] {
        let received_ms = START_MS + 3 * DAY_MS;
        let batch = IngestBatch { received_ms, ..agent.batch(&[record]) };
        store.ingest(batch).await.unwrap();
    }
    let texts = |text: &str| count(directory.path(), "texts", &format!("text = '{text}'"));
    assert_eq!([texts("old"), texts("kept"), texts("refused")], [1, 1, 1]);
    maintain(&store, 3).await;
    assert_eq!(texts("refused"), 0, "none of it was stored");
    maintain(&store, 4).await;
    assert_eq!([texts("old"), texts("kept"), texts("Test."), texts("test")], [0, 1, 1, 1]);

    // What comes into use between the look and the drop stays.
    store.change(watch_texts).await.unwrap();
    let connection = database::open_reader(directory.path()).unwrap();
    let begun = "INSERT INTO texts (text) VALUES ('late'), ('never')";
    let write = |writing: &mut Writing<'_>| {
        writing.connection.execute(begun, []).map(|_| ()).map_err(database::database("test"))
    };
    store.change(write).await.unwrap();
    let unused = unused_texts(&connection).unwrap();
    assert_eq!(unused.len(), 2);
    FakeAgent::new(2, 1, &[&late]).send(&store, &[tick(1, &late)]).await;
    store.change(move |writing| drop_texts(writing, &unused)).await.unwrap();
    assert_eq!([texts("late"), texts("never")], [1, 0]);
    check_samples(&store, "host-2", "late", &[1]).await;
    // Nothing is watched any more.
    FakeAgent::new(3, 1, &[&late]).send(&store, &[tick(1, &late)]).await;
}
