use promql::STALE_BITS;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::store::Chunk;

const STALE: f64 = f64::from_bits(STALE_BITS);

fn fold(level: Level, samples: &[(i64, f64)]) -> Vec<(i64, Rollup)> {
    let mut folding = Folding::new(level);
    let mut all: Vec<_> = samples.iter().filter_map(|(t, v)| folding.push(*t, *v)).collect();
    all.extend(folding.finish());
    all
}

#[test]
fn a_span_ends_with_the_sample_at_its_end() {
    let ends = |times: &[i64]| -> Vec<(i64, u64)> {
        let samples: Vec<_> = times.iter().map(|time| (*time, 1.0)).collect();
        fold(Level::Minute, &samples).iter().map(|(end, one)| (*end, one.count)).collect()
    };
    assert_eq!(ends(&[60_000, 60_001, 120_000]), [(60_000, 1), (120_000, 2)]);
    assert_eq!(ends(&[-60_000, -59_999, 0, 1]), [(-60_000, 1), (0, 2), (60_000, 1)]);
    assert_eq!(Level::Day.end_of(i64::MAX), i64::MAX);
}

#[test]
fn a_counter_that_begins_again_has_grown_by_what_it_shows() {
    let check = |values: &[f64], increase: f64| {
        let samples: Vec<_> = values.iter().zip(1..).map(|(value, time)| (time, *value)).collect();
        let found = fold(Level::Minute, &samples);
        assert_eq!(found[0].1.increase.to_bits(), increase.to_bits(), "{values:?}");
    };
    check(&[5.0], 0.0);
    check(&[5.0, 7.0, 7.0], 2.0);
    check(&[5.0, 7.0, 3.0, 4.0], 6.0);
}

#[test]
fn the_end_of_a_series_is_no_value() {
    let check = |samples: &[(i64, f64)], count, last_ms, is_ended| {
        let found = fold(Level::Minute, samples)[0].1;
        assert_eq!((found.count, found.last_ms, found.is_ended), (count, last_ms, is_ended));
        assert_eq!(found.sum.to_bits(), (count as f64).to_bits());
    };
    check(&[(1, 1.0), (2, STALE)], 1, 1, true);
    check(&[(1, 1.0), (2, STALE), (3, 1.0)], 2, 3, false);
    check(&[(1, STALE), (2, 1.0)], 1, 2, false);
    check(&[(1, STALE)], 0, 1, true);
}

#[test]
fn what_is_no_number_is_a_value_but_no_extreme() {
    let found = fold(Level::Minute, &[(1, f64::NAN), (2, 4.0), (3, 2.0)])[0].1;
    assert_eq!((found.min, found.max, found.count), (2.0, 4.0, 3));
    assert!(found.sum.is_nan() && found.first.is_nan());
    assert!(fold(Level::Minute, &[(1, f64::NAN)])[0].1.min.is_nan());
}

#[test]
fn the_samples_of_whole_spans_are_asked_for() {
    let check = |from_ms, to_ms, expected| {
        let request = RollupRequest { series: vec![], level: Level::Minute, from_ms, to_ms };
        let samples = request.samples();
        assert_eq!((samples.from_ms, samples.to_ms), expected);
    };
    check(60_000, 120_000, (1, 120_000));
    check(60_001, 179_999, (60_001, 120_000));
    check(-1, 0, (-59_999, 0));
    check(i64::MIN, i64::MAX, (i64::MIN + 1, i64::MAX / 60_000 * 60_000));
}

#[tokio::test]
async fn what_cannot_be_read_is_said_after_what_could() {
    let (sink, chunks) = mpsc::channel(4);
    for time_ms in [1, 60_001] {
        let chunk = Chunk { series: 0, times: vec![time_ms], values: vec![1.0] };
        sink.send(Ok(chunk)).await.unwrap();
    }
    let damaged = StoreError::Damaged { what: "x".into(), detail: "y".into(), series: vec![0] };
    sink.send(Err(damaged)).await.unwrap();
    let (level, series) = (Level::Minute, vec![SeriesId(1)]);
    let request = RollupRequest { series, level, from_ms: i64::MIN, to_ms: i64::MAX };
    let mut rollups = Rollups::fold(Samples::new(chunks), &request);
    for end_ms in [60_000, 120_000] {
        assert_eq!(rollups.next().await.unwrap().unwrap().rollups[0].0, end_ms);
    }
    assert!(matches!(rollups.next().await, Err(StoreError::Damaged { .. })));
    assert!(matches!(rollups.next().await, Ok(None)));
}

proptest! {
    /// An hour made of minutes is an hour made of samples.
    #[test]
    fn longer_spans_are_made_of_shorter_ones(
        steps in prop::collection::vec((1_i64..200_000, -5_i32..20, any::<bool>()), 1..200)
    ) {
        let mut time_ms = 0;
        let samples: Vec<_> = steps.iter().map(|(step, value, is_end)| {
            time_ms += step;
            // Whole numbers, so that sums don't depend on how they are grouped.
            (time_ms, if *is_end && *value < 0 { STALE } else { f64::from(*value) })
        }).collect();
        let mut hours = Folding::new(Level::Hour);
        let minutes = fold(Level::Minute, &samples);
        let mut made: Vec<_> =
            minutes.iter().filter_map(|(end, one)| hours.push_rollup(*end, *one)).collect();
        made.extend(hours.finish());
        // The marker's bits are values nowhere but in spans without any.
        prop_assert_eq!(format!("{made:?}"), format!("{:?}", fold(Level::Hour, &samples)));
    }
}

#[test]
fn parts_of_a_span_come_together() {
    let of = |samples: &[(i64, f64)]| fold(Level::Minute, samples)[0].1;
    let check = |one: &[(i64, f64)], other: &[(i64, f64)]| {
        let mut all = [one, other].concat();
        all.sort_by_key(|(time_ms, _)| *time_ms);
        let expected = format!("{:?}", of(&all));
        for (a, b) in [(one, other), (other, one)] {
            assert_eq!(format!("{:?}", of(a).together(of(b))), expected, "{a:?} {b:?}");
        }
    };
    // One after the other, resets or not.
    check(&[(1, 5.0), (2, 9.0), (3, 2.0)], &[(4, 1.0), (5, 3.0)]);
    check(&[(1, 5.0), (2, STALE)], &[(4, 1.0)]);
    check(&[(1, 5.0)], &[(4, STALE)]);
    check(&[(1, STALE)], &[(4, 1.0), (5, 2.0)]);
    // Between each other.
    check(&[(1, 1.0), (3, 3.0), (5, 5.0)], &[(2, 2.0), (4, 4.0)]);
    check(&[(1, 1.0), (3, 3.0)], &[(2, 2.0), (4, 4.0), (5, STALE)]);
}
