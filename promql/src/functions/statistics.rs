//! Sums and quantiles that several functions share.

/// A sum that keeps what rounding takes away (Neumaier's form of Kahan's).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, value: f64) {
        let next = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() {
            (self.sum - next) + value
        } else {
            (value - next) + self.sum
        };
        self.sum = next;
    }

    /// The sum, which may be infinite.
    pub(crate) fn value(self) -> f64 {
        // once infinite, what was lost is no number
        if self.sum.is_infinite() { self.sum } else { self.finite() }
    }

    /// The sum, or NaN if it isn't finite.
    pub(crate) fn finite(self) -> f64 {
        self.sum + self.lost
    }
}

pub(crate) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Sum::default();
    values.into_iter().for_each(|value| sum.add(value));
    sum.value()
}

/// A mean that doesn't overflow where the sum would, and that infinities are kept in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    count: f64,
    mean: Sum,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let mean = self.mean.sum;
        if mean.is_infinite() {
            let same_infinity = value.is_infinite() && (mean > 0.0) == (value > 0.0);
            if same_infinity || value.is_finite() {
                return;
            }
        }
        self.mean.add(value / self.count - mean / self.count);
    }

    pub(crate) fn value(self) -> f64 {
        self.mean.value()
    }
}

/// Population variance in one pass (Welford).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Variance {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Variance {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean.finite();
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - self.mean.finite()));
    }

    pub(crate) fn value(self) -> f64 {
        self.squares.finite() / self.count
    }
}

/// The quantile of some values, between two of them in proportion; sorts them, NaN first.
pub(crate) fn quantile(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let last = values.len() - 1;
    let rank = quantile * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_rounding_takes() {
        assert_eq!(sum([1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum([f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum([f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn quantiles_lie_between_values() {
        let check = |q: f64, values: &[f64], expected: f64| {
            assert_eq!(quantile(q, &mut values.to_vec()), expected, "{q} of {values:?}");
        };
        check(0.5, &[3.0, 1.0, 2.0], 2.0);
        check(0.5, &[1.0, 2.0], 1.5);
        check(0.75, &[0.0, 4.0], 3.0);
        check(0.0, &[2.0, 1.0], 1.0);
        check(1.0, &[2.0, 1.0], 2.0);
        check(-0.1, &[1.0], f64::NEG_INFINITY);
        check(1.1, &[1.0], f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
        assert!(quantile(f64::NAN, &mut [1.0]).is_nan());
    }
}
