//! Binary operators on numbers, and between a vector and a number.

use crate::{
    error::Result,
    eval::{Columns, Evaluator, Grid, Series, has_values, series::merged},
    expr::{Arithmetic, Binary, BinaryOp, Comparison},
    source::{STALE, is_stale},
};

impl Arithmetic {
    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Modulo => left % right,
            Self::Power => left.powf(right),
            Self::Atan2 => left.atan2(right),
        }
    }
}

impl Comparison {
    fn of(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
        }
    }
}

impl Binary {
    /// The result for a pair of values; none where a comparison filters. What passes a filter is
    /// `kept`, one of the two.
    pub(super) fn of(&self, left: f64, right: f64, kept: f64) -> Option<f64> {
        match self.op {
            BinaryOp::Arithmetic(op) => Some(op.of(left, right)),
            BinaryOp::Comparison(op) if self.returns_bool => {
                Some(f64::from(u8::from(op.of(left, right))))
            }
            BinaryOp::Comparison(op) => op.of(left, right).then_some(kept),
            // told apart before
            BinaryOp::Set(_) => None,
        }
    }

    /// Whether a result is another thing than what the metric's name says. Not so for `atan2`: an
    /// oversight of Prometheus 2, kept because results are to be the same.
    pub(super) fn drops_name(&self) -> bool {
        let named = matches!(self.op, BinaryOp::Arithmetic(Arithmetic::Atan2));
        self.returns_bool || (matches!(self.op, BinaryOp::Arithmetic(_)) && !named)
    }
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &Binary, grid: Grid) -> Result<Columns> {
        let left = self.evaluate(&binary.left, grid)?;
        let right = self.evaluate(&binary.right, grid)?;
        match (left, right) {
            (Columns::Scalar(left), Columns::Scalar(right)) => {
                let pairs = left.into_iter().zip(right);
                let of = |(left, right)| binary.of(left, right, left).unwrap_or(f64::NAN);
                Ok(Columns::Scalar(pairs.map(of).collect()))
            }
            (Columns::Vector(vector), Columns::Scalar(scalar)) => {
                self.with_scalar(binary, vector, &scalar, |value, scalar| (value, scalar))
            }
            (Columns::Scalar(scalar), Columns::Vector(vector)) => {
                self.with_scalar(binary, vector, &scalar, |value, scalar| (scalar, value))
            }
            (Columns::Vector(left), Columns::Vector(right)) => match binary.op {
                BinaryOp::Set(op) => self.set(op, &binary.matching, left, right, grid),
                _ => self.matched(binary, &left, &right, grid),
            }
            .map(Columns::Vector),
            // types are checked before
            (other, _) => Ok(other),
        }
    }

    fn with_scalar(
        &self,
        binary: &Binary,
        mut vector: Vec<Series>,
        scalar: &[f64],
        in_order: impl Fn(f64, f64) -> (f64, f64),
    ) -> Result<Columns> {
        for series in &mut vector {
            self.budget.work(scalar.len())?;
            for (value, scalar) in series.values.iter_mut().zip(scalar) {
                if is_stale(*value) {
                    continue;
                }
                let (left, right) = in_order(*value, *scalar);
                *value = binary.of(left, right, *value).unwrap_or(STALE);
            }
            if binary.drops_name() {
                series.labels = series.labels.without_name();
            }
        }
        vector.retain(|series| has_values(&series.values));
        merged(vector).map(Columns::Vector)
    }
}
