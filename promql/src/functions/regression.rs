//! Straight lines through a window, and smoothing.

use crate::{
    error::{Result, execution},
    functions::{Window, statistics::Sum},
};

/// Per-second slope of the line of least squares.
pub(super) fn deriv(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    // from the first sample's time on: large times would cost digits
    let first = window.samples.first()?;
    line(window, first.time_ms).map(|line| line.slope)
}

/// Where the line of least squares is so many seconds from now.
pub(super) fn predict_linear(window: &Window<'_>, scalars: &[f64]) -> Option<f64> {
    let seconds = scalars.first()?;
    line(window, window.now_ms).map(|line| line.slope * seconds + line.intercept)
}

struct Line {
    slope: f64,
    intercept: f64,
}

/// The line of least squares, its intercept at a time of ours.
fn line(window: &Window<'_>, zero_ms: i64) -> Option<Line> {
    let [first, _, ..] = window.samples else { return None };
    if window.samples.iter().all(|sample| sample.value == first.value) {
        // not reckoned, so that no rounding tilts it
        let finite = first.value.is_finite();
        let (slope, intercept) = if finite { (0.0, first.value) } else { (f64::NAN, f64::NAN) };
        return Some(Line { slope, intercept });
    }
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_x2] = [Sum::default(); 4];
    for sample in window.samples {
        let x = (sample.time_ms - zero_ms) as f64 / 1000.0;
        sum_x.add(x);
        sum_y.add(sample.value);
        sum_xy.add(x * sample.value);
        sum_x2.add(x * x);
    }
    let count = window.samples.len() as f64;
    let (sum_x, sum_y) = (sum_x.finite(), sum_y.finite());
    let slope =
        (sum_xy.finite() - sum_x * sum_y / count) / (sum_x2.finite() - sum_x * sum_x / count);
    Some(Line { slope, intercept: sum_y / count - slope * sum_x / count })
}

/// Double exponential smoothing (Holt-Winters without seasons), by a factor for values and one for trend.
///
/// # Errors
/// Each factor must lie strictly between 0 and 1.
pub(crate) fn smooth(window: &Window<'_>, scalars: &[f64]) -> Result<Option<f64>> {
    let [for_value, for_trend] = *scalars else { return Ok(None) };
    check_factor("smoothing factor. Expected: 0 < sf < 1", for_value)?;
    check_factor("trend factor. Expected: 0 < tf < 1", for_trend)?;
    let [first, second, ..] = window.samples else { return Ok(None) };
    let mut trend = second.value - first.value;
    let mut level = first.value;
    for sample in &window.samples[1..] {
        let smoothed = for_value * sample.value + (1.0 - for_value) * (level + trend);
        trend = for_trend * (smoothed - level) + (1.0 - for_trend) * trend;
        level = smoothed;
    }
    Ok(Some(level))
}

fn check_factor(name: &str, factor: f64) -> Result<()> {
    if factor <= 0.0 || factor >= 1.0 {
        return execution(format!("invalid {name}, got: {factor:.6}"));
    }
    Ok(())
}
