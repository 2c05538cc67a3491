//! Evaluation: each expression is reckoned for all steps of a grid before the next one is.
//!
//! A series is a column: one value for each step, and [`STALE`] where it has none. Series are read
//! from the source one after the other and become columns (or one value a window) at once, so that
//! what is in memory is the result, not the samples.

mod aggregate;
mod binary;
mod call;
mod grid;
mod groups;
mod histogram;
mod labels;
mod matching;
mod range;
mod rank;
mod selector;
mod series;
mod set;
mod spans;

pub(crate) use grid::Grid;
pub(crate) use series::{Columns, Series};

use crate::{
    error::{Result, execution},
    expr::{At, Expr, Shift},
    limits::Budget,
    source::{STALE, Source, is_stale},
};

/// What evaluation needs besides the expression and the grid.
pub(crate) struct Evaluator<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) budget: Budget<'a>,
    /// The whole query's grid: what `start()` and `end()` mean, within subqueries too.
    pub(crate) query: Grid,
    /// How old the newest sample of a series may be.
    pub(crate) lookback_ms: i64,
    /// Steps of subqueries that don't say.
    pub(crate) subquery_step_ms: i64,
}

impl Evaluator<'_> {
    /// Evaluates an expression that is no range vector.
    pub(crate) fn evaluate(&self, expr: &Expr, grid: Grid) -> Result<Columns> {
        // a column at least, and a chance to be stopped; vectors take more where they grow
        self.budget.take(grid.steps)?;
        if grid.steps > 1 && self.is_fixed(expr) {
            let once = self.evaluate(expr, grid.first())?;
            return once.repeated(grid.steps, &self.budget);
        }
        match expr {
            Expr::Number(value) => Ok(Columns::Scalar(vec![*value; grid.steps])),
            Expr::Text(text) => Ok(Columns::Text(text.clone())),
            Expr::Selector(selector) => self.select(selector, grid).map(Columns::Vector),
            // functions ask for its windows, and types are checked before
            Expr::Range(_) => execution("a range vector has no single value"),
            Expr::Negate(inner) => self.negate(inner, grid),
            Expr::Binary(binary) => self.binary(binary, grid),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, grid).map(Columns::Vector),
            Expr::Call(call) => self.call(call, grid),
        }
    }

    pub(crate) fn vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Series>> {
        Ok(match self.evaluate(expr, grid)? {
            Columns::Vector(series) => series,
            Columns::Scalar(_) | Columns::Text(_) => Vec::new(),
        })
    }

    pub(crate) fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>> {
        Ok(match self.evaluate(expr, grid)? {
            Columns::Scalar(values) => values,
            Columns::Vector(_) | Columns::Text(_) => vec![f64::NAN; grid.steps],
        })
    }

    pub(crate) fn text(&self, expr: &Expr, grid: Grid) -> Result<String> {
        Ok(match self.evaluate(expr, grid)? {
            Columns::Text(text) => text,
            Columns::Scalar(_) | Columns::Vector(_) => String::new(),
        })
    }

    fn negate(&self, inner: &Expr, grid: Grid) -> Result<Columns> {
        match self.evaluate(inner, grid)? {
            Columns::Scalar(values) => {
                Ok(Columns::Scalar(values.into_iter().map(|v| -v).collect()))
            }
            Columns::Text(text) => Ok(Columns::Text(text)),
            Columns::Vector(mut all) => {
                for series in &mut all {
                    series.labels = series.labels.without_name();
                    series.change(|value| -value);
                }
                series::unique(all).map(Columns::Vector)
            }
        }
    }

    /// The time that a selector or subquery looks at, at a step.
    pub(crate) fn shifted(&self, shift: Shift, step_ms: i64) -> i64 {
        let time_ms = match shift.at {
            None => step_ms,
            Some(At::Time(at_ms)) => at_ms,
            Some(At::Start) => self.query.start_ms,
            Some(At::End) => self.query.end_ms(),
        };
        time_ms - shift.offset_ms
    }

    /// Whether an `@` makes every step of this the same, so that once is enough.
    fn is_fixed(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Number(_) | Expr::Text(_) => true,
            Expr::Selector(selector) => selector.shift.at.is_some(),
            Expr::Range(range) => range.shift.at.is_some(),
            Expr::Negate(inner) => self.is_fixed(inner),
            Expr::Binary(binary) => self.is_fixed(&binary.left) && self.is_fixed(&binary.right),
            Expr::Aggregate(aggregate) => {
                let parameter = aggregate.parameter.as_ref();
                self.is_fixed(&aggregate.of) && parameter.is_none_or(|p| self.is_fixed(p))
            }
            Expr::Call(call) => {
                !call.function.tells_time() && call.arguments.iter().all(|a| self.is_fixed(a))
            }
        }
    }
}

/// A column without a value.
fn empty_column(grid: Grid) -> Vec<f64> {
    vec![STALE; grid.steps]
}

/// Whether a column has a value anywhere.
fn has_values(values: &[f64]) -> bool {
    values.iter().any(|value| !is_stale(*value))
}
