//! Remote write: by labels alone, once, in any order, and the rest of what can't be stored.

pub(crate) mod model;

use std::time::Duration;

use wire::MetricKind;

use super::{EVER, FakeAgent, START_MS, schema, tick};
use crate::store::{
    GapFilter, Host, IngestError, LedgerReason, ReadRequest, Retention, Selector, Series, Store,
    WriteBatch, Written,
    write::{Reason, Refused, Target, WriteFamily},
};

/// What ends a series.
pub(crate) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// A series to be written: metric, labels, samples.
pub(crate) type Sent<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(i64, f64)]);

pub(crate) fn batch(series: &[Sent<'_>]) -> WriteBatch {
    let mut batch = WriteBatch::new(START_MS);
    for (metric, labels, samples) in series {
        batch.push(metric, labels.iter().copied(), (None, ""), samples.iter().copied());
    }
    batch
}

pub(crate) async fn send(store: &dyn Store, series: &[Sent<'_>]) -> Written {
    store.write(batch(series).into()).await.unwrap()
}

/// Every series of a metric, in the order of their labels, with the bits of its samples.
pub(crate) async fn found(store: &dyn Store, metric: &str) -> Vec<(Series, Vec<(i64, u64)>)> {
    let mut series = store.series(Selector::metric(metric)).await.unwrap();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let ids = series.iter().map(|series| series.id).collect();
    let request = ReadRequest { series: ids, from_ms: EVER.0, to_ms: EVER.1 };
    let samples = store.read(request).await.unwrap().collect(series.len()).await.unwrap();
    let bits = |samples: Vec<(i64, f64)>| {
        samples.into_iter().map(|(time_ms, value)| (time_ms, value.to_bits())).collect()
    };
    series.into_iter().zip(samples.into_iter().map(bits)).collect()
}

/// What is stored of a metric of one series.
async fn check(store: &dyn Store, metric: &str, expected: &[(i64, f64)]) {
    let expected: Vec<_> =
        expected.iter().map(|(time_ms, value)| (*time_ms, value.to_bits())).collect();
    let found = found(store, metric).await;
    assert_eq!(found.len(), 1, "{metric}");
    assert_eq!(found[0].1, expected, "{metric}");
}

const fn stored(samples: u64, duplicates: u64) -> Written {
    Written { samples, duplicates, refused: Vec::new() }
}

pub(crate) async fn run(store: &dyn Store) {
    labels_are_kept_as_they_were_sent(store).await;
    samples_are_stored_once(store).await;
    another_value_is_refused_and_the_rest_is_stored(store).await;
    samples_come_in_any_order(store).await;
    a_target_is_no_agent(store).await;
    an_agent_cannot_write_as_a_target(store).await;
    what_is_said_of_metrics_is_kept(store).await;
}

async fn labels_are_kept_as_they_were_sent(store: &dyn Store) {
    let sent: [&[(&str, &str)]; 4] = [
        &[("__tmp", "é \" \\ \n"), ("instance", "a:1"), ("job", "x")],
        &[("instance", "a:1"), ("job", "x"), ("z", "1")],
        &[("job", "x")],
        &[],
    ];
    let series: Vec<Sent<'_>> =
        sent.iter().map(|labels| ("kept", *labels, &[(1, 0.5)][..])).collect();
    assert_eq!(send(store, &series).await, stored(4, 0));
    let mut expected: Vec<Vec<(&str, &str)>> = sent.iter().map(|labels| labels.to_vec()).collect();
    expected.sort();
    let found = found(store, "kept").await;
    let pairs = |series: &Series| -> Vec<(String, String)> {
        series.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    assert_eq!(found.len(), 4);
    for ((series, samples), expected) in found.iter().zip(&expected) {
        let expected_pairs: Vec<(String, String)> =
            expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(pairs(series), expected_pairs);
        let label = |wanted| expected.iter().find(|(name, _)| *name == wanted);
        let label = |wanted| label(wanted).map_or("", |(_, value)| *value);
        let target = Target { job: label("job"), instance: label("instance") };
        assert_eq!((series.agent_id, series.hostname.as_str()), (target.id(), target.instance));
        assert!(series.is_written);
        assert_eq!(series.label("job"), target.job, "no other than was sent");
        assert_eq!(*samples, [(1, 0.5_f64.to_bits())]);
    }
}

async fn samples_are_stored_once(store: &dyn Store) {
    let labels: &[_] = &[("instance", "once:1"), ("job", "x")];
    let nan = f64::from_bits(0xfff8_0000_0000_0007);
    let samples = [(10, 1.0), (20, nan), (30, STALE), (40, -0.0)];
    assert_eq!(send(store, &[("w_once", labels, &samples)]).await, stored(4, 0));
    assert_eq!(send(store, &[("w_once", labels, &samples)]).await, stored(0, 4), "again");
    let more = [(40, -0.0), (50, 5.0), (50, 5.0)];
    assert_eq!(send(store, &[("w_once", labels, &more)]).await, stored(1, 2), "overlapping");
    let twice = [("w_once", labels, &[(60, 6.0)][..]), ("w_once", labels, &[(60, 6.0), (70, 7.0)])];
    assert_eq!(send(store, &twice).await, stored(2, 1), "twice in one request");
    let expected = [samples.as_slice(), &[(50, 5.0), (60, 6.0), (70, 7.0)]].concat();
    check(store, "w_once", &expected).await;
    assert_eq!(send(store, &[]).await, stored(0, 0));
    assert_eq!(send(store, &[("w_once", labels, &[])]).await, stored(0, 0));
}

async fn another_value_is_refused_and_the_rest_is_stored(store: &dyn Store) {
    let (one, two): (&[_], &[_]) = (&[("instance", "r:1")], &[("instance", "r:2")]);
    send(store, &[("w_refused", one, &[(10, 1.0), (20, 0.0)])]).await;
    let sent: [Sent<'_>; 3] = [
        ("w_refused_too", two, &[(5, 1.0)]),
        ("w_refused", one, &[(10, 1.5), (20, -0.0), (30, 3.0), (30, 4.0), (10, 1.0)]),
        ("w_refused_too", two, &[(5, 2.0), (6, 2.0)]),
    ];
    let mut written = send(store, &sent).await;
    written.refused.sort_by_key(|refused| refused.series);
    let refused =
        |series, time_ms, samples| Refused { series, reason: Reason::OtherValue, time_ms, samples };
    let expected =
        Written { samples: 3, duplicates: 1, refused: vec![refused(1, 10, 3), refused(2, 5, 1)] };
    assert_eq!(written, expected);
    check(store, "w_refused", &[(10, 1.0), (20, 0.0), (30, 3.0)]).await;
    check(store, "w_refused_too", &[(5, 1.0), (6, 2.0)]).await;
}

async fn samples_come_in_any_order(store: &dyn Store) {
    let day_ms = 24 * 60 * 60 * 1_000;
    let labels: &[_] = &[("instance", "o:1"), ("job", "x")];
    let times = [START_MS, START_MS - 5, START_MS + 7, 3, START_MS - 900 * day_ms, 2, START_MS + 6];
    for time_ms in times {
        let sample = [(time_ms, time_ms as f64)];
        assert_eq!(send(store, &[("w_order", labels, &sample)]).await, stored(1, 0));
    }
    let backwards = [(START_MS + 9, 9.0), (START_MS + 8, 8.0), (1, 1.0)];
    assert_eq!(send(store, &[("w_order", labels, &backwards)]).await, stored(3, 0));
    let mut expected: Vec<_> = times.map(|time_ms| (time_ms, time_ms as f64)).to_vec();
    expected.extend(backwards);
    expected.sort_by_key(|(time_ms, _)| *time_ms);
    check(store, "w_order", &expected).await;
}

async fn a_target_is_no_agent(store: &dyn Store) {
    let schema = schema("w_beside", 1);
    let agent = FakeAgent::new(19, 1, &[&schema]);
    agent.send(store, &[tick(1, &schema)]).await;
    let agents = store.agents().await.unwrap().len();
    // Both have that host and metric; `n` is the agent's label.
    send(store, &[("w_beside", &[("instance", "host-19"), ("job", "x")], &[(1, 0.5)])]).await;
    assert_eq!(store.agents().await.unwrap().len(), agents);
    let host = Some(Host::parse("host-19"));
    let all = store.series(Selector::metric("w_beside").on(host)).await.unwrap();
    let mut jobs: Vec<_> =
        all.iter().map(|series| (series.is_written, series.label("job"))).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, [(false, "node"), (true, "x")]);
}

async fn what_is_said_of_metrics_is_kept(store: &dyn Store) {
    let check = async |metric, kinds: &[MetricKind]| {
        let found: Vec<_> = found(store, metric).await.iter().map(|(one, _)| one.kind).collect();
        assert_eq!(found, kinds, "{metric}");
    };
    use MetricKind::{Counter, Gauge, Untyped};
    let family = |kind| WriteFamily { metric: "w_kind".into(), kind, help: "Help.".into() };
    send(store, &[("w_kind", &[("n", "1")], &[(1, 1.0)])]).await;
    check("w_kind", &[Untyped]).await;
    let mut said = WriteBatch::new(START_MS);
    said.families = vec![family(Counter)];
    store.write(said.into()).await.unwrap();
    check("w_kind", &[Counter]).await;
    send(store, &[("w_kind", &[("n", "2")], &[(1, 1.0)])]).await;
    check("w_kind", &[Counter, Counter]).await;
    let mut told = WriteBatch::new(START_MS);
    told.push("w_kind", [("n", "2")], (Some(Gauge), "Help."), [(2, 1.0)]);
    told.push("w_told", [("n", "1")], (Some(Gauge), "Help."), [(2, 1.0)]);
    store.write(told.into()).await.unwrap();
    check("w_kind", &[Counter, Gauge]).await;
    check("w_told", &[Gauge]).await;
    send(store, &[("w_told", &[("n", "2")], &[(1, 1.0)])]).await;
    check("w_told", &[Gauge, Gauge]).await;
}

async fn an_agent_cannot_write_as_a_target(store: &dyn Store) {
    send(store, &[("w_mine", &[("instance", "mine:1"), ("job", "x")], &[(1, 1.0)])]).await;
    let schema = schema("w_mine", 1);
    let mut agent = FakeAgent::new(20, 1, &[&schema]);
    agent.header.agent_id = Target { job: "x", instance: "mine:1" }.id();
    let refused = store.ingest(agent.batch(&[tick(1, &schema)])).await;
    assert!(matches!(refused, Err(IngestError::Conflict { .. })), "{refused:?}");
    agent.header.agent_id = Target { job: "x", instance: "mine:2" }.id();
    agent.send(store, &[tick(1, &schema)]).await;
    let target = batch(&[("w_mine", &[("instance", "mine:2"), ("job", "x")], &[(1, 1.0)])]);
    let refused = store.write(target.into()).await;
    assert!(matches!(refused, Err(IngestError::Conflict { .. })), "{refused:?}");
}

/// Of a store that takes two series of a target, and is empty.
pub(crate) async fn too_many_series_are_refused_and_told(store: &dyn Store) {
    let of = |n| [("instance", "a:1"), ("n", n)];
    let (a, b, c) = (of("a"), of("b"), of("c"));
    let sent: [Sent<'_>; 4] = [
        ("limit", &a, &[(1, 1.0)]),
        ("limit", &b, &[(1, 1.0)]),
        ("limit", &c, &[(1, 1.0), (2, 1.0)]),
        ("limit", &[("instance", "other:1")], &[(1, 1.0)]),
    ];
    for samples in [3, 0] {
        let written = send(store, &sent).await;
        assert_eq!((written.samples, written.duplicates), (samples, 3 - samples));
        let refused = written.refused[0];
        assert_eq!((refused.series, refused.reason), (2, Reason::SeriesLimit));
        assert_eq!((refused.time_ms, refused.samples), (1, 2));
    }
    let filter = GapFilter { host: None, from_ms: 0, to_ms: i64::MAX, limit: 10 };
    let gaps = store.gaps(filter).await.unwrap();
    assert_eq!(gaps.len(), 1);
    let found = (gaps[0].host.as_str(), gaps[0].reason, gaps[0].samples);
    assert_eq!(found, ("a:1", LedgerReason::SeriesLimit, 4));
    assert_eq!(store.stats().refused_samples, 4);
}

/// Old samples go, then their series, then their target. `settle` brings samples where they are looked for.
pub(crate) async fn old_ones_go(store: &dyn Store, settle: impl AsyncFn()) {
    let day_ms = 24 * 60 * 60 * 1_000;
    let (gone, back): (&[_], &[_]) = (&[("instance", "gone:1")], &[("instance", "back:1")]);
    send(store, &[("old", gone, &[(START_MS, 1.0)]), ("old", back, &[(START_MS, 1.0)])]).await;
    settle().await;
    let later = START_MS + 20 * day_ms;
    let mut again = batch(&[("old", back, &[(later, 2.0)])]);
    again.received_ms = later;
    store.write(again.into()).await.unwrap();
    // What came back hasn't settled. Samples go in the round after the one that makes their rollups, or
    // later.
    for round in 1..=3 {
        let keep = Retention::all(Duration::from_secs(10 * 24 * 60 * 60));
        store.maintain(later + round, keep).await.unwrap();
    }
    let left = found(store, "old").await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].1, [(later, 2.0_f64.to_bits())]);
    // A target that has gone comes again as a new one.
    let written = send(store, &[("old", gone, &[(START_MS, 1.0)])]).await;
    assert_eq!((written.samples, written.duplicates), (1, 0));
    assert_eq!(found(store, "old").await.len(), 2);
}
