//! Rollups are what the samples come to, whenever and in whatever order these came.

use std::collections::BTreeMap;

use wire::EncodedSchema;

use super::{EVER, Fake, FakeAgent, samples_of, schema, series_of};
use crate::store::{
    RollupRequest, Store,
    rollup::{Level, Rollup},
};

/// Two days and more before [`super::START_MS`], at the start of a day of UTC.
const FROM_MS: i64 = 1_699_747_200_000;
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
    check_span(store, FROM_MS + 90 * 60_000, FROM_MS + 200 * 60_000).await;
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
fn recomputed(level: Level, samples: &[(i64, f64)]) -> Vec<(i64, Rollup)> {
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
