//! How a series moves within a window: slopes of counters and gauges, resets, changes.

use crate::{functions::Window, source::Sample};

/// Per-second slope of a counter.
pub(super) fn rate(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let range_seconds = (window.end_ms - window.start_ms) as f64 / 1000.0;
    extrapolated(window, true).map(|increase| increase / range_seconds)
}

/// Growth of a counter over the window.
pub(super) fn increase(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    extrapolated(window, true)
}

/// Growth of a gauge over the window.
pub(super) fn delta(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    extrapolated(window, false)
}

/// What the samples show, stretched to the whole window.
///
/// To an end that is near (within 1.1 times the mean distance between samples) it is stretched fully,
/// else by half of that distance: the series then began or ended inside. A counter isn't stretched
/// beyond the point where it would have been zero.
fn extrapolated(window: &Window<'_>, counter: bool) -> Option<f64> {
    let [first, .., last] = window.samples else { return None };
    let grown =
        last.value - first.value + if counter { reset_heights(window.samples) } else { 0.0 };
    let ends = (*first, *last, window.samples.len() as f64);
    Some(stretched(grown, ends, (window.start_ms, window.end_ms), counter))
}

/// What has grown between a first and a last of at least two samples, stretched to a window.
pub(super) fn stretched(
    grown: f64,
    (first, last, count): (Sample, Sample, f64),
    (start_ms, end_ms): (i64, i64),
    counter: bool,
) -> f64 {
    let sampled = (last.time_ms - first.time_ms) as f64 / 1000.0;
    let distance = sampled / (count - 1.0);
    let mut to_start = (first.time_ms - start_ms) as f64 / 1000.0;
    let to_end = (end_ms - last.time_ms) as f64 / 1000.0;
    if counter && grown > 0.0 && first.value >= 0.0 {
        to_start = to_start.min(sampled * (first.value / grown));
    }
    let stretch = |gap: f64| if gap < distance * 1.1 { gap } else { distance / 2.0 };
    grown * ((sampled + stretch(to_start) + stretch(to_end)) / sampled)
}

/// What a counter had reached each time before it began anew.
fn reset_heights(samples: &[Sample]) -> f64 {
    let pairs = samples.windows(2).filter(|pair| pair[1].value < pair[0].value);
    pairs.map(|pair| pair[0].value).sum()
}

/// Per-second slope between the last two samples of a counter.
pub(super) fn irate(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let [.., before, last] = window.samples else { return None };
    let grown = if last.value < before.value { last.value } else { last.value - before.value };
    Some(grown / ((last.time_ms - before.time_ms) as f64 / 1000.0))
}

/// Difference of the last two samples of a gauge.
pub(super) fn idelta(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let [.., before, last] = window.samples else { return None };
    Some(last.value - before.value)
}

/// How often a counter began anew.
pub(super) fn resets(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    count_pairs(window, |before, now| now < before)
}

/// How often the value became another one.
pub(super) fn changes(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    count_pairs(window, |before, now| now != before && !(now.is_nan() && before.is_nan()))
}

fn count_pairs(window: &Window<'_>, counts: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let pairs = window.samples.windows(2);
    Some(pairs.filter(|pair| counts(pair[0].value, pair[1].value)).count() as f64)
}
