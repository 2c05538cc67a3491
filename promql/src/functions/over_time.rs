//! One value from all values of a window.

use crate::{
    functions::{
        Window,
        statistics::{self, Mean, Variance},
    },
    source::Sample,
};

fn values<'a>(window: &Window<'a>) -> impl Iterator<Item = f64> + use<'a> {
    window.samples.iter().map(|sample| sample.value)
}

fn seconds(sample: &Sample) -> f64 {
    sample.time_ms as f64 / 1000.0
}

pub(super) fn avg(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let mut mean = Mean::default();
    values(window).for_each(|value| mean.add(value));
    Some(mean.value())
}

pub(super) fn count(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    Some(window.samples.len() as f64)
}

pub(super) fn sum(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    Some(statistics::sum(values(window)))
}

/// The largest value; NaN only if there is nothing else.
pub(super) fn max(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    values(window).reduce(|max, value| if value > max || max.is_nan() { value } else { max })
}

/// The smallest value; NaN only if there is nothing else.
pub(super) fn min(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    values(window).reduce(|min, value| if value < min || min.is_nan() { value } else { min })
}

pub(super) fn first(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    window.samples.first().map(|sample| sample.value)
}

pub(super) fn last(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    window.samples.last().map(|sample| sample.value)
}

pub(super) fn time_of_first(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    window.samples.first().map(seconds)
}

pub(super) fn time_of_last(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    window.samples.last().map(seconds)
}

/// When the largest value was last seen.
pub(super) fn time_of_max(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let later = |a, b: Sample| b.value >= a || a.is_nan();
    time_of(window, later)
}

/// When the smallest value was last seen.
pub(super) fn time_of_min(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let later = |a, b: Sample| b.value <= a || a.is_nan();
    time_of(window, later)
}

fn time_of(window: &Window<'_>, takes_over: impl Fn(f64, Sample) -> bool) -> Option<f64> {
    let samples = window.samples.iter().copied();
    let found = samples.reduce(|best, next| if takes_over(best.value, next) { next } else { best });
    found.as_ref().map(seconds)
}

pub(super) fn stdvar(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let mut variance = Variance::default();
    values(window).for_each(|value| variance.add(value));
    Some(variance.value())
}

pub(super) fn stddev(window: &Window<'_>, none: &[f64]) -> Option<f64> {
    stdvar(window, none).map(f64::sqrt)
}

pub(super) fn quantile(window: &Window<'_>, scalars: &[f64]) -> Option<f64> {
    let wanted = scalars.first()?;
    Some(statistics::quantile(*wanted, &mut values(window).collect::<Vec<_>>()))
}

/// Median of the distances from the median.
pub(super) fn mad(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let mut values: Vec<_> = values(window).collect();
    let median = statistics::quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    Some(statistics::quantile(0.5, &mut values))
}
