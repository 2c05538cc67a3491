//! The conformance suite over PostgreSQL and TimescaleDB, and what only a store that several hubs share can
//! get wrong.

pub(crate) mod database;
mod written;

use std::time::Duration;

use self::database::Database;
use super::{Options, Postgres, days::DAY_MS};
use crate::store::{
    IngestBatch, IngestError, Reader as _, Retention, RollupRequest, Selector, Store, StoreError,
    conformance::{self, EVER, Fake, FakeAgent, START_MS, check_samples, samples_of, schema, tick},
    rollup::Level,
};

const DAY_S: u64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_store_has_to() {
    let Some(database) = Database::plain().await else { return };
    let store = Postgres::open(&Options::new(&database.url)).await.unwrap();
    conformance::run(&store).await;
    conformance::rollups::run_without_samples(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_timescale_it_does_too() {
    let Some(database) = Database::timescale().await else { return };
    let store = Postgres::open(&Options::new(&database.url)).await.unwrap();
    conformance::run(&store).await;
    conformance::rollups::run_without_samples(&store).await;
    store.close().await;
}

/// Pages are made, and made again when something came late.
async fn rollups_are_made(database: &Database) {
    let store = Postgres::open(&Options::new(&database.url)).await.unwrap();
    let client = database.connect().await;
    let schema = schema("paged", 3);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let keep = Retention::all(Duration::from_secs(30 * DAY_S));
    let now_ms = START_MS + 2 * DAY_MS;
    let rows = async |what: &str| {
        let sql = format!("SELECT count(*) FROM holdfast.{what}");
        client.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    for (seqs, made) in [(1..=20, 4), (21..=30, 8)] {
        agent.send(&store, &seqs.map(|seq| tick(seq, &schema)).collect::<Vec<_>>()).await;
        assert_eq!(rows("unpaged").await, 1);
        store.maintain(now_ms, keep).await.unwrap();
        assert_eq!((rows("unpaged").await, rows("pages").await), (0, 4), "one for each level");
        store.maintain(now_ms, keep).await.unwrap();
        assert_eq!(store.stats().rollup_pages, made, "not made again without a reason");
    }
    // An attempt that has come to nothing is made again; what another hub has taken since isn't stored.
    let take = "INSERT INTO holdfast.unpaged SELECT agent, day, 77, 0 FROM holdfast.paged";
    client.batch_execute(take).await.unwrap();
    store.maintain(now_ms, keep).await.unwrap();
    assert_eq!((rows("unpaged").await, store.stats().rollup_pages), (0, 12));
    let series = conformance::series_of(&store, "host-1", "paged").await;
    let request = RollupRequest {
        series: vec![series[0].id],
        level: Level::Day,
        from_ms: EVER.0,
        to_ms: EVER.1,
    };
    let found = super::examine(&database.url, now_ms).await.unwrap();
    let rollups = found.iter().find(|finding| finding.what == "rollups").unwrap();
    assert!(rollups.says.ends_with("; 0 days of agents wait for theirs"), "{}", rollups.says);
    let damage = "UPDATE holdfast.pages SET data = data || '\\x00'";
    let read = async || store.rollups(request.clone()).await.unwrap().collect(1).await;
    assert_eq!(read().await.unwrap()[0][0].1.count, 30);
    client.batch_execute(damage).await.unwrap();
    assert!(matches!(read().await, Err(StoreError::Damaged { series, .. }) if series == [0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_are_made_when_their_day_is_over() {
    let Some(database) = Database::plain().await else { return };
    rollups_are_made(&database).await;
}

/// Two hubs on one database.
async fn two_hubs(database: &Database) -> [Postgres; 2] {
    let options = Options::new(&database.url);
    [Postgres::open(&options).await.unwrap(), Postgres::open(&options).await.unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_two_hubs_is_stored_once() {
    let Some(database) = Database::plain().await else { return };
    let hubs = two_hubs(&database).await;
    let schema = schema("shared", 2);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    for seq in 1..=20 {
        // Each request goes to one and then, as if its answer had been lost, to the other, with the next
        // record behind it.
        let (first, second) = (&hubs[seq as usize % 2], &hubs[(seq as usize + 1) % 2]);
        let reply = agent.send(first, &[tick(2 * seq - 1, &schema)]).await;
        assert_eq!((reply.acked_seq, reply.records), (2 * seq - 1, 1));
        let reply = agent.send(second, &[tick(2 * seq - 1, &schema), tick(2 * seq, &schema)]).await;
        assert_eq!((reply.acked_seq, reply.records, reply.duplicates), (2 * seq, 1, 1));
    }
    let all: Vec<u64> = (1..=40).collect();
    for hub in &hubs {
        check_samples(hub, "host-1", "shared", &all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_two_hubs_at_one_time_is_stored_once() {
    let Some(database) = Database::plain().await else { return };
    let hubs = two_hubs(&database).await;
    let schema = schema("raced", 2);
    let agents: Vec<FakeAgent> = (1..=4).map(|n| FakeAgent::new(n, 1, &[&schema])).collect();
    for seq in (1..=30).step_by(3) {
        let records: Vec<Fake> = (seq..seq + 3).map(|seq| tick(seq, &schema)).collect();
        let sends = agents.iter().flat_map(|agent| hubs.iter().map(move |hub| (agent, hub)));
        let sends = sends.map(|(agent, hub)| agent.send(hub, &records));
        let replies = futures_util::future::join_all(sends).await;
        for pair in replies.chunks(2) {
            assert!(pair.iter().all(|reply| reply.acked_seq == seq + 2), "{pair:?}");
            assert_eq!(pair.iter().map(|reply| reply.records).sum::<u64>(), 3, "{pair:?}");
        }
    }
    let all: Vec<u64> = (1..=30).collect();
    for agent in &agents {
        check_samples(&hubs[0], &agent.header.hostname, "raced", &all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hub_leads_and_another_when_it_has_gone() {
    let Some(database) = Database::plain().await else { return };
    let [first, second] = two_hubs(&database).await;
    assert_eq!([first.is_leader(), second.is_leader()], [true, false]);
    first.close().await;
    let followed = async {
        while !second.is_leader() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), followed).await.expect("within 15 s");
    assert!(matches!(first.check().await, Err(StoreError::Closed)));
    let refused = first.ingest(FakeAgent::new(1, 1, &[]).batch(&[])).await;
    assert!(matches!(refused, Err(IngestError::Store(StoreError::Closed))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_newer_hub_are_refused() {
    let Some(database) = Database::plain().await else { return };
    let said = super::migrate(&database.url).await.unwrap();
    let newest = super::migrate::newest();
    assert!(said.contains(&format!("brought from version 0 to {newest}")), "{said}");
    let said = super::migrate(&database.url).await.unwrap();
    assert!(said.contains(&format!("up to date (version {newest})")), "{said}");
    database
        .connect()
        .await
        .batch_execute("UPDATE holdfast.version SET version = 99")
        .await
        .unwrap();
    let error = Postgres::open(&Options::new(&database.url)).await.err().unwrap().to_string();
    let expected = format!("newer hub (tables of version 99, this build knows {newest})");
    assert!(error.contains(&expected), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_that_start_at_one_time_make_the_tables_once() {
    let Some(database) = Database::plain().await else { return };
    let options = Options::new(&database.url);
    let opened = futures_util::future::join_all((0..4).map(|_| Postgres::open(&options))).await;
    let hubs: Vec<Postgres> = opened.into_iter().map(Result::unwrap).collect();
    assert_eq!(hubs.iter().filter(|hub| hub.is_leader()).count(), 1);
}

/// Days of [`START_MS`]'s, and what of them is left when ten are kept.
async fn old_samples_go(database: &Database) {
    let store = Postgres::open(&Options::new(&database.url)).await.unwrap();
    let schema = schema("old", 1);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let day_ms = 86_400_000;
    let times = [-400, -40, -20, -5, 0, 1].map(|days| START_MS + days * day_ms);
    let ticks =
        (1..).zip(times).map(|(seq, at)| Fake::TickAt(seq, at, vec![(schema.id, vec![1.0])]));
    agent.send(&store, &ticks.collect::<Vec<_>>()).await;
    let gone = conformance::schema("gone", 1);
    let other = FakeAgent::new(2, 1, &[&gone]);
    let tick = Fake::TickAt(1, START_MS - 20 * day_ms, vec![(gone.id, vec![1.0])]);
    let long_ago = IngestBatch { received_ms: START_MS - 20 * day_ms, ..other.batch(&[tick]) };
    store.ingest(long_ago).await.unwrap();
    let keep = Retention::all(Duration::from_secs(10 * 86_400));
    assert_eq!(store.dropped_ms(), None);
    store.maintain(START_MS, keep).await.unwrap();
    let kept_ms = (START_MS - 10 * DAY_MS).div_euclid(DAY_MS) * DAY_MS;
    assert_eq!(store.dropped_ms(), Some(kept_ms - 1));
    let left = samples_of(&store, "host-1", "old", EVER).await.concat();
    let left: Vec<i64> = left.iter().map(|(at, _)| *at).collect();
    assert_eq!(left, times[3..]);
    assert!(store.series(Selector::metric("gone")).await.unwrap().is_empty());
    // What comes for a day that was dropped is stored all the same, by a writer that remembers otherwise.
    let late = Fake::TickAt(7, times[2], vec![(schema.id, vec![2.0])]);
    assert_eq!(agent.send(&store, &[late]).await.acked_seq, 7);
    assert_eq!(samples_of(&store, "host-1", "old", EVER).await.concat()[0], (times[2], 2.0));
    let again = Fake::TickAt(2, START_MS, vec![(gone.id, vec![1.0])]);
    assert_eq!(
        other.send(&store, &[again]).await.acked_seq,
        2,
        "a series that went may come again"
    );
    store.maintain(START_MS + 12 * day_ms, keep).await.unwrap();
    let left = samples_of(&store, "host-1", "old", EVER).await.concat();
    assert_eq!(left.len(), 0, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_by_partitions() {
    let Some(database) = Database::plain().await else { return };
    old_samples_go(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_by_chunks() {
    let Some(database) = Database::timescale().await else { return };
    old_samples_go(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_for_a_day_in_columns_is_there() {
    let Some(database) = Database::timescale().await else { return };
    let store = Postgres::open(&Options::new(&database.url)).await.unwrap();
    let schema = schema("columns", 3);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let at = |seq| {
        Fake::TickAt(
            seq,
            START_MS + seq.cast_signed() * 10_000,
            vec![(schema.id, vec![seq as f64; 3])],
        )
    };
    agent.send(&store, &(1..=50).map(at).collect::<Vec<_>>()).await;
    let keep = Retention::all(Duration::from_secs(30 * 86_400));
    let later = START_MS + 3 * 86_400_000;
    let columns = async || {
        let sql = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed";
        database.connect().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(columns().await, 0);
    store.maintain(later, keep).await.unwrap();
    assert_eq!(columns().await, 2, "a chunk of samples, one of ticks");
    agent.send(&store, &(51..=60).map(at).collect::<Vec<_>>()).await;
    let expected: Vec<f64> = (1..=60).map(f64::from).collect();
    let check = async || {
        for samples in samples_of(&store, "host-1", "columns", EVER).await {
            let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
            assert_eq!(values, expected);
        }
    };
    check().await;
    store.maintain(later, keep).await.unwrap();
    check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_database_refuses_fails_alone() {
    let Some(database) = Database::plain().await else { return };
    let options = Options { writers: 1, ..Options::new(&database.url) };
    let store = Postgres::open(&options).await.unwrap();
    let client = database.connect().await;
    client
        .batch_execute(
            "ALTER TABLE holdfast.agents ADD CONSTRAINT refused CHECK (hostname <> 'host-3')",
        )
        .await
        .unwrap();
    let schema = schema("alone", 1);
    let agents: Vec<FakeAgent> = (1..=5).map(|n| FakeAgent::new(n, 1, &[&schema])).collect();
    let sends = agents.iter().map(|agent| store.ingest(agent.batch(&[tick(1, &schema)])));
    let replies = futures_util::future::join_all(sends).await;
    let stored: Vec<bool> = replies.iter().map(Result::is_ok).collect();
    assert_eq!(stored, [true, true, false, true, true]);
    client.batch_execute("ALTER TABLE holdfast.agents DROP CONSTRAINT refused").await.unwrap();
    assert_eq!(agents[2].send(&store, &[tick(1, &schema)]).await.acked_seq, 1);
}
