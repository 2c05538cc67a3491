//! From a series' samples to the one value that is compared.
//!
//! A value is judged at the time of the newest sample it was made of, never at the time of asking:
//! what arrives late is judged at its own time, and asking twice changes nothing. NaN says that
//! something could not be measured, so it is no sample here, and no value is ever NaN.

use serde::{Deserialize, Serialize};
use wire::MetricKind;

/// How the samples of a window become one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    /// Their mean.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The newest.
    #[default]
    Last,
    /// Change a second from the first to the last of the window; needs two. A counter that falls
    /// was reset, and goes on from zero; a gauge may fall, and then the rate is negative.
    Rate,
}

/// One series' value at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Unix milliseconds of the newest sample in it.
    pub at_ms: i64,
    /// Never NaN.
    pub value: f64,
}

/// What `samples` (ascending in time) say at the newest of them that is not after `until_ms`, from
/// the `window_ms` before it (its start left out). `None` if they say nothing.
#[must_use]
pub fn observe(
    samples: &[(i64, f64)],
    kind: MetricKind,
    aggregation: Aggregation,
    window_ms: i64,
    until_ms: i64,
) -> Option<Observation> {
    let known = || samples.iter().copied().filter(|(t, v)| *t <= until_ms && !v.is_nan());
    let (at_ms, last) = known().next_back()?;
    let window = || known().filter(|(t, _)| *t > at_ms.saturating_sub(window_ms));
    let values = || window().map(|(_, v)| v);
    let value = match aggregation {
        Aggregation::Last => last,
        Aggregation::Min => values().fold(f64::INFINITY, f64::min),
        Aggregation::Max => values().fold(f64::NEG_INFINITY, f64::max),
        Aggregation::Avg => mean(values()),
        Aggregation::Rate => rate(window(), kind)?,
    };
    // Infinities of both signs average to NaN.
    (!value.is_nan()).then_some(Observation { at_ms, value })
}

/// The mean, kept as a running one: a sum of large values could overflow to infinity.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    values.zip(1_u32..).fold(0.0, |mean, (value, n)| {
        let n = f64::from(n);
        if mean.is_finite() && value.is_finite() {
            mean + (value / n - mean / n)
        } else {
            mean + value
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "a window in milliseconds is far below 2^53")]
fn rate(mut window: impl Iterator<Item = (i64, f64)>, kind: MetricKind) -> Option<f64> {
    let first = window.next()?;
    let (mut previous, mut change) = (first, 0.0);
    for sample in window {
        let reset = kind != MetricKind::Gauge && sample.1 < previous.1;
        change += if reset { sample.1 } else { sample.1 - previous.1 };
        previous = sample;
    }
    let seconds = (previous.0 - first.0) as f64 / 1_000.0;
    (seconds > 0.0).then(|| change / seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Aggregation::{Avg, Last, Max, Min, Rate};
    use MetricKind::{Counter, Gauge, Untyped};

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    fn check(
        kind: MetricKind,
        aggregation: Aggregation,
        samples: &[(i64, f64)],
        expected: Option<(i64, f64)>,
    ) {
        let found = observe(samples, kind, aggregation, 60_000, i64::MAX);
        let expected = expected.map(|(at_ms, value)| Observation { at_ms, value });
        assert_eq!(found, expected, "{aggregation:?} of {kind:?} {samples:?}");
    }

    #[test]
    fn gauges() {
        let samples = [(0, 9.0), (60_000, 4.0), (70_000, 1.0), (80_000, 4.0)];
        check(Gauge, Last, &samples, Some((80_000, 4.0)));
        check(Gauge, Avg, &samples, Some((80_000, 3.0)));
        check(Gauge, Min, &samples, Some((80_000, 1.0)));
        check(Gauge, Max, &samples, Some((80_000, 4.0)));
        check(Gauge, Rate, &samples, Some((80_000, 0.0)));
        check(Gauge, Rate, &[(0, 30.0), (10_000, 0.0)], Some((10_000, -3.0)));
        check(Gauge, Max, &[(0, 9.0), (60_000, 1.0)], Some((60_000, 1.0)));
        check(Gauge, Last, &[], None);
    }

    #[test]
    fn rates_of_counters_survive_a_reset() {
        check(Counter, Rate, &[(0, 100.0), (10_000, 150.0)], Some((10_000, 5.0)));
        check(Counter, Rate, &[(0, 100.0), (10_000, 150.0), (20_000, 10.0)], Some((20_000, 3.0)));
        check(Untyped, Rate, &[(0, 100.0), (10_000, 20.0)], Some((10_000, 2.0)));
        check(Counter, Rate, &[(0, 100.0)], None);
        check(Counter, Rate, &[(0, 100.0), (0, 200.0)], None);
        // One sample in the window is not enough, however many stand before it.
        check(Counter, Rate, &[(0, 1.0), (1_000, 2.0), (90_000, 3.0)], None);
    }

    #[test]
    fn nan_is_no_sample() {
        check(Gauge, Last, &[(0, 1.0), (10_000, NAN)], Some((0, 1.0)));
        check(Gauge, Avg, &[(0, 1.0), (10_000, NAN), (20_000, 3.0)], Some((20_000, 2.0)));
        check(Gauge, Max, &[(0, NAN)], None);
        check(Counter, Rate, &[(0, 0.0), (10_000, NAN), (20_000, 4.0)], Some((20_000, 0.2)));
    }

    #[test]
    fn infinities_are_values_until_they_cancel() {
        check(Gauge, Last, &[(0, INF)], Some((0, INF)));
        check(Gauge, Avg, &[(0, INF), (1, 1.0)], Some((1, INF)));
        check(Gauge, Avg, &[(0, INF), (1, -INF)], None);
        check(Gauge, Rate, &[(0, INF), (1_000, INF)], None);
        check(Gauge, Avg, &[(0, f64::MAX), (1, f64::MAX)], Some((1, f64::MAX)));
    }

    #[test]
    fn the_past_can_be_asked_for() {
        let samples = [(0, 1.0), (10_000, 2.0), (20_000, 3.0)];
        let found = observe(&samples, Gauge, Max, 60_000, 15_000);
        assert_eq!(found, Some(Observation { at_ms: 10_000, value: 2.0 }));
        assert_eq!(observe(&samples, Gauge, Max, 60_000, -1), None);
    }

    proptest! {
        #[test]
        fn a_value_lies_within_its_samples(values in proptest::collection::vec(-1e300_f64..1e300, 1..20)) {
            let samples: Vec<_> = (0..).map(|i: i64| i * 1_000).zip(values.iter().copied()).collect();
            let of = |aggregation| observe(&samples, Gauge, aggregation, 60_000, i64::MAX).unwrap().value;
            let slack = 1e-9 * of(Max).abs().max(of(Min).abs());
            prop_assert!(of(Min) <= of(Avg) + slack && of(Avg) <= of(Max) + slack);
            prop_assert!(of(Min) <= of(Last) && of(Last) <= of(Max));
        }

        #[test]
        fn never_nan(bits in proptest::collection::vec(any::<u64>(), 0..20), kind in 0..2) {
            let samples: Vec<_> = (0..).zip(bits.iter().map(|b| f64::from_bits(*b))).collect();
            let kind = if kind == 0 { Counter } else { Gauge };
            for aggregation in [Avg, Min, Max, Last, Rate] {
                let found = observe(&samples, kind, aggregation, 60_000, i64::MAX);
                prop_assert!(!found.is_some_and(|o| o.value.is_nan()));
            }
        }
    }
}
