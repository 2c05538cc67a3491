//! Functions of one value.

/// Within two bounds; no result when they are the wrong way round.
pub(super) fn clamp(value: f64, bounds: &[f64]) -> Option<f64> {
    let [low, high] = *bounds else { return None };
    (low <= high || low.is_nan() || high.is_nan()).then(|| max(low, min(high, value)))
}

pub(super) fn clamp_min(value: f64, bounds: &[f64]) -> Option<f64> {
    bounds.first().map(|low| max(*low, value))
}

pub(super) fn clamp_max(value: f64, bounds: &[f64]) -> Option<f64> {
    bounds.first().map(|high| min(*high, value))
}

/// To the nearest multiple of the parameter, 1 unless given; halves go up.
pub(super) fn round(value: f64, nearest: &[f64]) -> Option<f64> {
    // by the inverse, as fractions like 0.1 are then exact more often
    let inverse = 1.0 / nearest.first().copied().unwrap_or(1.0);
    Some((value * inverse + 0.5).floor() / inverse)
}

/// 1, -1, or the value itself when it is neither above nor below zero.
pub(super) fn sgn(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        value
    }
}

/// The larger one; NaN wins where `f64::max` prefers the number, but nothing is larger than infinity.
pub(super) fn max(one: f64, other: f64) -> f64 {
    if one == f64::INFINITY || other == f64::INFINITY {
        f64::INFINITY
    } else if one.is_nan() || other.is_nan() {
        f64::NAN
    } else {
        one.max(other)
    }
}

/// The smaller one, likewise.
pub(super) fn min(one: f64, other: f64) -> f64 {
    -max(-one, -other)
}
