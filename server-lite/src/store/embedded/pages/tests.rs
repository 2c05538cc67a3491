use std::{path::Path, time::Duration};

use super::*;
use crate::store::{
    Embedded, Reader as _, RollupRequest, Store as _,
    conformance::{EVER, FakeAgent, START_MS, schema, series_of, tick},
    embedded::{Options, database},
    rollup::Rollup,
};

const DAY_MS: i64 = Level::Day.ms();

const KEPT: Duration = Duration::from_secs(1_000 * 24 * 60 * 60);

/// A store with a page of 30 ticks; their samples dropped, if asked for.
async fn store_with_page(directory: &Path, raw: Duration) -> Embedded {
    let store = Embedded::open(&Options::new(directory)).unwrap();
    let schema = schema("paged", 2);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    agent.send(&store, &(1..=30).map(|seq| tick(seq, &schema)).collect::<Vec<_>>()).await;
    for _ in 0..3 {
        let keep = Retention { raw, ..Retention::all(KEPT) };
        store.maintain(START_MS + 9 * DAY_MS, keep).await.unwrap();
        while store.stats().unsealed_samples > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(store.stats().rollup_pages, 4, "one for each level");
    store
}

async fn days(store: &Embedded) -> Result<Vec<Vec<(i64, Rollup)>>, StoreError> {
    let series: Vec<_> =
        series_of(store, "host-1", "paged").await.iter().map(|series| series.id).collect();
    let (from_ms, to_ms) = EVER;
    let request = RollupRequest { series, level: Level::Day, from_ms, to_ms };
    store.rollups(request).await.unwrap().collect(2).await
}

fn change(directory: &Path, sql: &str) -> usize {
    Connection::open(database::path_in(directory)).unwrap().execute(sql, []).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with_page(directory.path(), KEPT).await;
    assert_eq!(days(&store).await.unwrap()[1][0].1.count, 30);
    // Where the samples are is of no account.
    assert_eq!(change(directory.path(), "DELETE FROM blocks"), 1);
    assert_eq!(days(&store).await.unwrap()[1][0].1.count, 30);
    assert_eq!(
        change(
            directory.path(),
            "INSERT INTO unpaged SELECT grp, day, 99 FROM pages WHERE level = 1"
        ),
        1
    );
    assert_eq!(days(&store).await.unwrap(), [vec![], vec![]], "until it is due");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_costs_nothing_while_the_samples_are_there() {
    let damage = "UPDATE pages SET data = zeroblob(length(data)) WHERE level = 4";
    let directory = tempfile::tempdir().unwrap();
    let store = store_with_page(directory.path(), KEPT).await;
    let good = days(&store).await.unwrap();
    change(directory.path(), damage);
    // The other's fractions are summed up in another order.
    assert_eq!(days(&store).await.unwrap()[0], good[0]);
    let directory = tempfile::tempdir().unwrap();
    let store = store_with_page(directory.path(), Duration::from_secs(60 * 60)).await;
    assert_eq!(days(&store).await.unwrap(), good);
    change(directory.path(), damage);
    let error = days(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_without_samples_is_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with_page(directory.path(), Duration::from_secs(60 * 60)).await;
    let counted = |sql: &str| -> i64 {
        let connection = database::open_reader(directory.path()).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((store.stats().series, counted("SELECT series FROM agents")), (0, 0));
    assert_eq!(counted("SELECT count(*) FROM series WHERE is_old = 1"), 2);
    // It is the same series when it comes again.
    let schema = schema("paged", 2);
    FakeAgent::new(1, 1, &[&schema]).send(&store, &[tick(31, &schema)]).await;
    assert_eq!((store.stats().series, counted("SELECT series FROM agents")), (2, 2));
    assert_eq!(counted("SELECT count(*) FROM series WHERE is_old = 0"), 2);
    assert_eq!(days(&store).await.unwrap()[0][0].1.count, 31);
}

#[test]
fn who_is_not_quiet_waits() {
    let due = |last_block| Due { group: 1, day: 1, last_block };
    let mut patience = Patience::default();
    assert_eq!(patience.pick(vec![due(7)]), [due(7)], "was there before");
    assert_eq!(patience.pick(vec![due(7), due(8)]), [due(7)]);
    assert_eq!(patience.pick(vec![due(8)]), [due(8)]);
    for round in 4..PATIENCE {
        assert_eq!(patience.pick(vec![due(100 + round.cast_signed())]), []);
    }
    assert_eq!(patience.pick(vec![due(200)]), [due(200)], "at last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_answered_when_the_samples_have_gone() {
    use crate::query::expression::{Bounds, Expressions, Wishes};
    let directory = tempfile::tempdir().unwrap();
    let store = store_with_page(directory.path(), Duration::from_secs(60 * 60)).await;
    let bounds = Bounds {
        settings: promql::Settings::default(),
        time_max: Duration::from_secs(60),
        at_once: 1,
        waiting_max: 1,
    };
    let expressions = Expressions::new(std::sync::Arc::new(store), bounds);
    let warned = "samples up to 2023-11-14T22:18:20.000Z are kept as rollups of 1m only";
    let check_at =
        async |after_ms: i64, text: &'static str, step_ms: i64, expected: &[f64], is_warned| {
            let start_ms = (START_MS.div_euclid(DAY_MS) + 1) * DAY_MS + after_ms;
            let steps = promql::Steps { start_ms, end_ms: start_ms + step_ms, step_ms };
            let work = move |source: &dyn promql::Source,
                             settings: &promql::Settings,
                             interrupt: &promql::Interrupt<'_>| {
                promql::Query::parse(text)?.range(source, steps, settings, interrupt)
            };
            let (series, warnings) = expressions.run(Wishes::default(), work).await.unwrap();
            let values: Vec<f64> =
                series.iter().flat_map(|one| &one.samples).map(|sample| sample.value).collect();
            assert_eq!(values, expected, "{text}");
            assert_eq!(warnings.len(), usize::from(is_warned), "{text}: {warnings:?}");
            assert!(warnings.iter().all(|one| one.starts_with(warned)), "{warnings:?}");
        };
    let check = async |text, step_ms, expected: &[f64]| {
        check_at(0, text, step_ms, expected, false).await;
    };
    check("max_over_time(paged{n=\"0\"}[6h])", 10 * 60_000, &[30.0, 30.0]).await;
    check("count_over_time(paged{n=\"0\"}[1d])", DAY_MS, &[30.0]).await;
    // Nothing of it on the ends of spans.
    check_at(1_000, "max_over_time(paged{n=\"0\"}[1d])", DAY_MS, &[30.0], true).await;
    check_at(1_000, "10 * irate(paged{n=\"0\"}[1d])", DAY_MS, &[1.0], true).await;
    check_at(1_000, "count_over_time(paged{n=\"0\"}[1d])", DAY_MS, &[], true).await;
}
