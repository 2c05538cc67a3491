//! Rollups are what the samples come to, whenever and in whatever order these came.

use std::{collections::BTreeMap, time::Duration};

use wire::EncodedSchema;

use super::{EVER, Fake, FakeAgent, samples_of, schema, series_of};
use crate::store::{
    Retention, RollupRequest, SeriesId, Store,
    rollup::{Level, Rollup},
};

/// Two days and more before [`super::START_MS`], at the start of a day of UTC.
pub(super) const FROM_MS: i64 = 1_699_747_200_000;
pub(super) const DAY_MS: i64 = Level::Day.ms();
pub(super) const FOR_LONG: Retention = Retention::all(days(3_000));
const TICK_MS: i64 = 7 * 60_000 + 1_234;

pub(super) async fn run(store: &dyn Store) {
    let schema = schema("rolled", 2);
    let agent = FakeAgent::new(18, 1, &[&schema]);
    let ticks: Vec<_> = (1..=500).map(|seq| tick(seq, time_of(seq), &schema)).collect();
    // A day is there before what lies before it and after it: three parts, sent as one stream that tells
    // old times late.
    for (n, part) in [&ticks[200..350], &ticks[..200], &ticks[350..]].into_iter().enumerate() {
        let renumbered = (1..).zip(part).map(|(seq, tick)| match tick {
            Fake::TickAt(_, time_ms, values) => {
                Fake::TickAt(seq + 1_000 * n as u64, *time_ms, values.clone())
            }
            other => other.clone(),
        });
        agent.send(store, &renumbered.collect::<Vec<_>>()).await;
        check(store).await;
    }
    for now in [4, 10] {
        check_span(store, FROM_MS + 90 * 60_000, FROM_MS + 200 * 60_000).await;
        check_span(store, FROM_MS + 20 * 60 * 60_000, FROM_MS + DAY_MS + 1).await;
        keep_house(store, FROM_MS + now * DAY_MS, FOR_LONG).await;
        check(store).await;
    }
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}

/// Housekeeping until nothing is left to be done.
pub(super) async fn keep_house(store: &dyn Store, now_ms: i64, keep: Retention) {
    for _ in 0..4 {
        store.maintain(now_ms, keep).await.unwrap();
        while store.stats().unsealed_samples > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// What is kept when the samples have gone, and what comes late then. For the end of a suite: it drops
/// samples of everyone's.
pub(crate) async fn run_without_samples(store: &dyn Store) {
    let schema = schema("outlived", 2);
    let agent = FakeAgent::new(19, 1, &[&schema]);
    let ticks: Vec<_> = (1..=500).map(|seq| tick(seq, time_of(seq), &schema)).collect();
    agent.send(store, &ticks).await;
    let mut samples = samples_of(store, "host-19", "outlived", EVER).await;
    let ids: Vec<_> =
        series_of(store, "host-19", "outlived").await.iter().map(|series| series.id).collect();
    let now_ms = FROM_MS + 20 * DAY_MS;
    let keep = Retention { raw: days(5), ..FOR_LONG };
    keep_house(store, now_ms, keep).await;
    assert_eq!(samples_of(store, "host-19", "outlived", EVER).await.concat(), []);
    check_against(store, &ids, &samples, &Level::ALL).await;
    // Late: beside what was there and between it, where the counter doesn't begin again.
    let late: Vec<_> = [(3, 20_000), (100, 77), (101, 60_000), (400, 200_000), (498, 1)]
        .into_iter()
        .chain([(500, 3 * 60 * 60_000)])
        .collect();
    let mut records = Vec::new();
    for (seq, (n, after_ms)) in (1..).zip(&late) {
        let values: Vec<f64> = samples.iter().map(|samples| samples[*n as usize - 1].1).collect();
        let time_ms = time_of(*n) + after_ms;
        for (samples, value) in samples.iter_mut().zip(&values) {
            samples.push((time_ms, *value));
        }
        records.push(Fake::TickAt(seq, time_ms, vec![(schema.id, values)]));
    }
    samples.iter_mut().for_each(|samples| samples.sort_by_key(|(time_ms, _)| *time_ms));
    FakeAgent::new(19, 2, &[&schema]).send(store, &records).await;
    check_against(store, &ids, &samples, &Level::ALL).await;
    keep_house(store, now_ms, keep).await;
    check_against(store, &ids, &samples, &Level::ALL).await;
    // Each level goes when its time has come; once all have, the series is forgotten.
    let keep = Retention { raw: days(5), rollups: [days(6), days(7), days(100), days(100)] };
    keep_house(store, now_ms, keep).await;
    check_against(store, &ids, &samples, &[Level::Hour, Level::Day]).await;
    check_against(store, &ids, &[vec![], vec![]], &[Level::Minute, Level::TenMinutes]).await;
    keep_house(store, now_ms, Retention::all(days(5))).await;
    check_against(store, &ids, &[vec![], vec![]], &Level::ALL).await;
    assert_eq!(series_of(store, "host-19", "outlived").await, []);
}

async fn check_against(
    store: &dyn Store,
    ids: &[SeriesId],
    samples: &[Vec<(i64, f64)>],
    levels: &[Level],
) {
    for level in levels {
        let (from_ms, to_ms) = EVER;
        let request = RollupRequest { series: ids.to_vec(), level: *level, from_ms, to_ms };
        let found = store.rollups(request).await.unwrap().collect(ids.len()).await.unwrap();
        let expected: Vec<_> = samples.iter().map(|samples| recomputed(*level, samples)).collect();
        assert_eq!(found, expected, "{level:?}");
    }
}

fn time_of(seq: u64) -> i64 {
    FROM_MS + seq.cast_signed() * TICK_MS
}

/// Counters that begin again now and then.
fn tick(seq: u64, time_ms: i64, schema: &EncodedSchema) -> Fake {
    let values = vec![(seq % 37) as f64 * 3.0, (seq % 101) as f64];
    Fake::TickAt(seq, time_ms, vec![(schema.id, values)])
}

async fn check(store: &dyn Store) {
    check_span(store, EVER.0, EVER.1).await;
}

async fn check_span(store: &dyn Store, from_ms: i64, to_ms: i64) {
    let samples = samples_of(store, "host-18", "rolled", EVER).await;
    let ids: Vec<_> =
        series_of(store, "host-18", "rolled").await.iter().map(|series| series.id).collect();
    for level in Level::ALL {
        let request = RollupRequest { series: ids.clone(), level, from_ms, to_ms };
        let found = store.rollups(request).await.unwrap().collect(ids.len()).await.unwrap();
        let expected: Vec<_> = samples
            .iter()
            .map(|samples| {
                let mut spans = recomputed(level, samples);
                spans.retain(|(end_ms, _)| (from_ms..=to_ms).contains(end_ms));
                spans
            })
            .collect();
        assert_eq!(found, expected, "{level:?}");
    }
}

/// Every span from its samples, said once more without what stores use.
pub(super) fn recomputed(level: Level, samples: &[(i64, f64)]) -> Vec<(i64, Rollup)> {
    let mut spans = BTreeMap::<i64, Vec<(i64, f64)>>::new();
    for (time_ms, value) in samples {
        let number = (time_ms - 1).div_euclid(level.ms()) + 1;
        spans.entry(number * level.ms()).or_default().push((*time_ms, *value));
    }
    let rollup = |samples: Vec<(i64, f64)>| {
        let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
        let steps = values.windows(2);
        let growth = steps.map(|pair| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] });
        let ((first_ms, first), (last_ms, last)) = (samples[0], samples[samples.len() - 1]);
        Rollup {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            sum: values.iter().sum(),
            count: values.len() as u64,
            first,
            first_ms,
            last,
            last_ms,
            increase: growth.sum(),
            is_ended: false,
        }
    };
    spans.into_iter().map(|(end_ms, samples)| (end_ms, rollup(samples))).collect()
}
