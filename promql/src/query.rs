//! A query from text to answer.

use crate::{
    error::{Error, Result, same_labels},
    eval::{Columns, Evaluator, Grid},
    expr::{Expr, Range, Type},
    labels::Labels,
    limits::{Budget, Interrupt, Limits},
    parse,
    source::{Sample, Source, is_stale},
};

/// How queries are evaluated, whatever they ask.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How old the newest sample of a series may be to count as its value.
    pub lookback_ms: i64,
    /// Steps of subqueries that don't say, `[1h:]`: Prometheus's evaluation interval.
    pub subquery_step_ms: i64,
    /// Bounds of each query.
    pub limits: Limits,
}

impl Default for Settings {
    /// Prometheus's: five minutes, one minute.
    fn default() -> Self {
        Self { lookback_ms: 300_000, subquery_step_ms: 60_000, limits: Limits::default() }
    }
}

/// The answer to an instant query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// A value for each series, in the order that `sort` or `topk` gave them.
    Vector(Vec<(Labels, f64)>),
    /// Samples for each series, by labels.
    Matrix(Vec<SeriesSamples>),
}

/// One series of an answer and its samples, by time.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSamples {
    /// Labels; no two series of an answer have the same.
    pub labels: Labels,
    /// At least one.
    pub samples: Vec<Sample>,
}

/// The times of a range query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// First step.
    pub start_ms: i64,
    /// No step is later.
    pub end_ms: i64,
    /// Between two steps; more than zero.
    pub step_ms: i64,
}

/// A parsed and typed expression.
#[derive(Debug, Clone)]
pub struct Query {
    expr: Expr,
}

/// Times further than this from 1970 are refused, so that no sum of a few of them overflows.
const TIME_MS_MAX: u64 = 1 << 53;

impl Query {
    /// Parses and types an expression.
    ///
    /// # Errors
    /// [`Error::Parse`] for what is no PromQL, [`Error::Unsupported`] for what isn't evaluated here.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self { expr: parse::parse(text)? })
    }

    /// The answer at one time.
    ///
    /// # Errors
    /// [`Error::Execution`] when the data doesn't fit the expression, [`Error::TooLarge`] beyond a
    /// bound, and what the interrupt or the source return.
    pub fn instant(
        &self,
        source: &dyn Source,
        time_ms: i64,
        settings: &Settings,
        interrupt: &Interrupt<'_>,
    ) -> Result<Value, Error> {
        check_times(&[time_ms])?;
        let grid = Grid::instant(time_ms);
        let evaluator = evaluator(source, grid, settings, interrupt);
        if let Expr::Range(range) = &self.expr {
            return raw(&evaluator, range, grid).map(Value::Matrix);
        }
        Ok(match evaluator.evaluate(&self.expr, grid)? {
            Columns::Scalar(values) => Value::Scalar(values.first().copied().unwrap_or(f64::NAN)),
            Columns::Text(text) => Value::Text(text),
            Columns::Vector(all) => {
                let values = all.into_iter().filter_map(|s| Some((s.labels.clone(), s.at(0)?)));
                Value::Vector(values.collect())
            }
        })
    }

    /// The answers at all steps, series by their labels.
    ///
    /// # Errors
    /// As for [`Query::instant`]; and an expression must be a scalar or an instant vector.
    pub fn range(
        &self,
        source: &dyn Source,
        steps: Steps,
        settings: &Settings,
        interrupt: &Interrupt<'_>,
    ) -> Result<Vec<SeriesSamples>, Error> {
        let value_type = self.expr.value_type();
        if !matches!(value_type, Type::Scalar | Type::Vector) {
            let found = value_type.name();
            let message = format!(
                "invalid expression type {found:?} for range query, must be Scalar or instant Vector"
            );
            return Err(Error::Parse(message));
        }
        check_times(&[steps.start_ms, steps.end_ms, steps.step_ms])?;
        if steps.step_ms <= 0 {
            return Err(Error::Parse("the step of a range query must be positive".to_owned()));
        }
        let grid = Grid::new(steps.start_ms, steps.end_ms, steps.step_ms);
        let evaluator = evaluator(source, grid, settings, interrupt);
        evaluator.budget.steps(grid.steps)?;
        if grid.steps == 0 {
            return Ok(Vec::new());
        }
        let mut all = match evaluator.evaluate(&self.expr, grid)? {
            Columns::Vector(all) => all
                .into_iter()
                .map(|series| SeriesSamples {
                    samples: samples(grid, &series.values),
                    labels: series.labels,
                })
                .collect(),
            Columns::Scalar(values) => {
                vec![SeriesSamples { labels: Labels::empty(), samples: samples(grid, &values) }]
            }
            Columns::Text(_) => Vec::new(),
        };
        in_order(&mut all)?;
        Ok(all)
    }
}

fn check_times(times: &[i64]) -> Result<()> {
    if times.iter().all(|time| time.unsigned_abs() <= TIME_MS_MAX) {
        return Ok(());
    }
    Err(Error::Parse("time out of range".to_owned()))
}

fn evaluator<'a>(
    source: &'a dyn Source,
    query: Grid,
    settings: &Settings,
    interrupt: &'a Interrupt<'a>,
) -> Evaluator<'a> {
    Evaluator {
        source,
        budget: Budget::new(settings.limits, interrupt),
        query,
        lookback_ms: settings.lookback_ms,
        subquery_step_ms: settings.subquery_step_ms,
    }
}

/// A range vector as an answer: the samples themselves.
fn raw(evaluator: &Evaluator<'_>, range: &Range, grid: Grid) -> Result<Vec<SeriesSamples>> {
    let mut all = Vec::new();
    evaluator.windows(range, grid, &mut |labels, windows| {
        windows.reckon(|_, window| {
            let samples = window.samples.to_vec();
            all.push(SeriesSamples { labels: labels.clone(), samples });
            Ok(None)
        })?;
        Ok(())
    })?;
    in_order(&mut all)?;
    Ok(all)
}

fn samples(grid: Grid, values: &[f64]) -> Vec<Sample> {
    let values = grid.times().zip(values).filter(|(_, value)| !is_stale(**value));
    values.map(|(time_ms, value)| Sample { time_ms, value: *value }).collect()
}

fn in_order(all: &mut Vec<SeriesSamples>) -> Result<()> {
    all.retain(|series| !series.samples.is_empty());
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    if all.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
        return same_labels();
    }
    Ok(())
}
