//! From samples to points, one for each bucket of time: pure.
//!
//! A rate is what a counter gained a second, from the last sample before the bucket to the last one
//! in it: every gain is counted once, and after an outage the first bucket shows the average over it.
//! A counter that falls was reset and goes on from zero. NaN is not a sample, except for `last`,
//! which shows what was there.

use serde::{Serialize, Serializer, ser::SerializeTuple as _};
use wire::MetricKind;

/// How the samples of a bucket become one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// Their mean.
    #[default]
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The newest.
    Last,
    /// What a counter gained a second.
    Rate,
}

impl Aggregation {
    /// All of them, by the words they are asked for with.
    pub const WORDS: [(&str, Self); 5] = [
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("last", Self::Last),
        ("rate", Self::Rate),
    ];
}

/// Beginning of a bucket in Unix milliseconds, and its value. In JSON a pair; what JSON has no number
/// for is a string: `"NaN"`, `"+Inf"`, `"-Inf"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point(pub i64, pub f64);

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.0)?;
        match self.1 {
            value if value.is_nan() => pair.serialize_element("NaN")?,
            f64::INFINITY => pair.serialize_element("+Inf")?,
            f64::NEG_INFINITY => pair.serialize_element("-Inf")?,
            value => pair.serialize_element(&value)?,
        }
        pair.end()
    }
}

/// Takes samples in order of time and makes points of them.
#[derive(Clone, Debug)]
pub struct Fold {
    aggregation: Aggregation,
    kind: MetricKind,
    from_ms: i64,
    step_ms: i64,
    open: Option<Bucket>,
    /// The last sample before the open bucket.
    before: Option<(i64, f64)>,
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    start_ms: i64,
    count: u32,
    sum: f64,
    min: f64,
    max: f64,
    last: (i64, f64),
    gained: f64,
}

impl Fold {
    /// Samples before `from_ms` only serve to count the first rate from. A counter that falls began
    /// anew at zero; a gauge that falls has fallen.
    #[must_use]
    pub const fn new(
        aggregation: Aggregation,
        kind: MetricKind,
        from_ms: i64,
        step_ms: i64,
    ) -> Self {
        Self { aggregation, kind, from_ms, step_ms, open: None, before: None, points: Vec::new() }
    }

    /// Adds a sample; each is later than the one before.
    pub fn push(&mut self, time_ms: i64, value: f64) {
        if value.is_nan() && self.aggregation != Aggregation::Last {
            return;
        }
        if time_ms < self.from_ms {
            self.before = Some((time_ms, value));
            return;
        }
        let start_ms = time_ms.div_euclid(self.step_ms).saturating_mul(self.step_ms);
        if self.open.is_some_and(|bucket| bucket.start_ms != start_ms) {
            self.close();
        }
        let kind = self.kind;
        let gained =
            |last: Option<(i64, f64)>| last.map_or(0.0, |(_, last)| gain(kind, last, value));
        match &mut self.open {
            Some(bucket) => {
                bucket.count += 1;
                bucket.sum += value;
                bucket.min = bucket.min.min(value);
                bucket.max = bucket.max.max(value);
                bucket.gained += gained(Some(bucket.last));
                bucket.last = (time_ms, value);
            }
            None => {
                let gained = gained(self.before);
                // Without a sample before the bucket, its first one is what is counted from.
                self.before.get_or_insert((time_ms, value));
                let last = (time_ms, value);
                let (count, sum, min, max) = (1, value, value, value);
                self.open = Some(Bucket { start_ms, count, sum, min, max, last, gained });
            }
        }
    }

    fn close(&mut self) {
        let Some(bucket) = self.open.take() else { return };
        let value = match self.aggregation {
            Aggregation::Avg => Some(bucket.sum / f64::from(bucket.count)),
            Aggregation::Min => Some(bucket.min),
            Aggregation::Max => Some(bucket.max),
            Aggregation::Last => Some(bucket.last.1),
            Aggregation::Rate => self.rate(&bucket),
        };
        self.points.extend(value.map(|value| Point(bucket.start_ms, value)));
        self.before = Some(bucket.last);
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a query are far below 2^53")]
    fn rate(&self, bucket: &Bucket) -> Option<f64> {
        let (from_ms, _) = self.before?;
        let elapsed_ms = bucket.last.0.saturating_sub(from_ms);
        (elapsed_ms > 0).then(|| bucket.gained * 1_000.0 / elapsed_ms as f64)
    }

    /// The points.
    #[must_use]
    pub fn finish(mut self) -> Vec<Point> {
        self.close();
        self.points
    }
}

fn gain(kind: MetricKind, from: f64, to: f64) -> f64 {
    if to >= from || kind == MetricKind::Gauge { to - from } else { to }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fold(
        aggregation: Aggregation,
        from_ms: i64,
        step_ms: i64,
        samples: &[(i64, f64)],
    ) -> Vec<Point> {
        let mut fold = Fold::new(aggregation, MetricKind::Counter, from_ms, step_ms);
        samples.iter().for_each(|(time, value)| fold.push(*time, *value));
        fold.finish()
    }

    #[test]
    fn a_gauge_that_falls_has_a_negative_rate() {
        let rate = |kind| {
            let mut fold = Fold::new(Aggregation::Rate, kind, 0, 10_000);
            fold.push(0, 100.0);
            fold.push(5_000, 90.0);
            fold.finish()
        };
        assert_eq!(rate(MetricKind::Gauge), [Point(0, -2.0)]);
        assert_eq!(rate(MetricKind::Counter), [Point(0, 18.0)]);
    }

    #[test]
    fn each_aggregation_of_the_same_samples() {
        let samples = [(0, 4.0), (5, 1.0), (9, 7.0), (10, f64::NAN), (30, -2.0), (39, 0.5)];
        let check = |aggregation, expected: &[(i64, f64)]| {
            let expected: Vec<_> = expected.iter().map(|(t, v)| Point(*t, *v)).collect();
            assert_eq!(fold(aggregation, 0, 10, &samples), expected, "{aggregation:?}");
        };
        check(Aggregation::Avg, &[(0, 4.0), (30, -0.75)]);
        check(Aggregation::Min, &[(0, 1.0), (30, -2.0)]);
        check(Aggregation::Max, &[(0, 7.0), (30, 0.5)]);
        let last = fold(Aggregation::Last, 0, 10, &samples);
        assert_eq!((last.len(), last[0], last[2]), (3, Point(0, 7.0), Point(30, 0.5)));
        assert!(last[1].1.is_nan());
    }

    #[test]
    fn rates_count_every_gain_once() {
        let check = |samples: &[(i64, f64)], expected: &[(i64, f64)]| {
            let expected: Vec<_> = expected.iter().map(|(t, v)| Point(*t, *v)).collect();
            assert_eq!(fold(Aggregation::Rate, 10_000, 10_000, samples), expected, "{samples:?}");
        };
        // One a second, seen every five seconds, with and without a sample before.
        check(&[(5_000, 5.0), (10_000, 10.0), (15_000, 15.0)], &[(10_000, 1.0)]);
        check(&[(10_000, 10.0), (15_000, 15.0), (20_000, 20.0)], &[(10_000, 1.0), (20_000, 1.0)]);
        // One sample alone says nothing.
        check(&[(12_000, 10.0)], &[]);
        // A reset goes on from zero.
        check(&[(10_000, 100.0), (12_000, 104.0), (14_000, 4.0)], &[(10_000, 2.0)]);
        // An outage: its average stands where samples come again.
        check(&[(10_000, 0.0), (19_000, 9.0), (79_000, 129.0)], &[(10_000, 1.0), (70_000, 2.0)]);
    }

    #[test]
    fn buckets_begin_at_multiples_of_the_step_before_1970_too() {
        let points = fold(Aggregation::Last, i64::MIN, 10, &[(-11, 1.0), (-1, 2.0), (3, 3.0)]);
        assert_eq!(points, [Point(-20, 1.0), Point(-10, 2.0), Point(0, 3.0)]);
    }

    #[test]
    fn points_are_pairs_in_json() {
        let points =
            [Point(1, 0.5), Point(2, f64::NAN), Point(3, f64::INFINITY), Point(4, -f64::INFINITY)];
        let json = serde_json::to_string(&points).unwrap();
        assert_eq!(json, r#"[[1,0.5],[2,"NaN"],[3,"+Inf"],[4,"-Inf"]]"#);
    }

    /// What the module's opening says, computed the long way round.
    fn naive(
        aggregation: Aggregation,
        from_ms: i64,
        step_ms: i64,
        samples: &[(i64, f64)],
    ) -> Vec<Point> {
        let start = |time: i64| time.div_euclid(step_ms) * step_ms;
        let mut starts: Vec<i64> =
            samples.iter().filter(|(t, _)| *t >= from_ms).map(|(t, _)| start(*t)).collect();
        starts.dedup();
        let point = |bucket: i64| {
            let inside: Vec<(i64, f64)> = samples
                .iter()
                .copied()
                .filter(|(t, _)| *t >= from_ms && start(*t) == bucket)
                .collect();
            let before = samples.iter().copied().rfind(|(t, _)| *t < inside[0].0);
            let values = || inside.iter().map(|(_, v)| *v);
            let value = match aggregation {
                Aggregation::Avg => values().sum::<f64>() / inside.len() as f64,
                Aggregation::Min => values().fold(f64::INFINITY, f64::min),
                Aggregation::Max => values().fold(f64::NEG_INFINITY, f64::max),
                Aggregation::Last => inside.last()?.1,
                Aggregation::Rate => {
                    let all: Vec<_> = before.into_iter().chain(inside.iter().copied()).collect();
                    let gains = all.windows(2).map(|w| gain(MetricKind::Counter, w[0].1, w[1].1));
                    let elapsed = all.last()?.0 - all.first()?.0;
                    if elapsed == 0 {
                        return None;
                    }
                    gains.fold(0.0, |sum, gain| sum + gain) * 1_000.0 / elapsed as f64
                }
            };
            Some(Point(bucket, value))
        };
        starts.into_iter().filter_map(point).collect()
    }

    proptest! {
        #[test]
        fn as_computed_the_long_way_round(
            steps in proptest::collection::vec((1_i64..40, -50_i32..50), 0..60),
            step_ms in 1_i64..100,
            from_ms in 0_i64..500,
        ) {
            let mut time = 0;
            let samples: Vec<(i64, f64)> = steps.into_iter().map(|(step, value)| {
                time += step;
                (time, f64::from(value))
            }).collect();
            for (_, aggregation) in Aggregation::WORDS {
                let expected = naive(aggregation, from_ms, step_ms, &samples);
                prop_assert_eq!(fold(aggregation, from_ms, step_ms, &samples), expected);
            }
        }
    }
}
