//! Function calls: arguments evaluated, each value or window reckoned, labels put right.

use crate::{
    error::{Error, Result},
    eval::{
        Columns, Evaluator, Grid, Series, has_values,
        rank::nan_last,
        series::{merged, unique},
    },
    expr::{Call, Expr, Range, RangeOf},
    functions::{self, Body, OfValue, OfWindow, Window, regression},
    labels::{Labels, METRIC_NAME},
    source::{MatchOp, Matcher, STALE, is_stale},
};

impl Evaluator<'_> {
    pub(super) fn call(&self, call: &Call, grid: Grid) -> Result<Columns> {
        let arguments = &*call.arguments;
        let vector = match call.function.body {
            Body::Pi => return Ok(Columns::Scalar(vec![std::f64::consts::PI; grid.steps])),
            Body::Time => return Ok(Columns::Scalar(grid.times().map(seconds).collect())),
            Body::Scalar => return self.to_scalar(arguments, grid).map(Columns::Scalar),
            Body::Window(of) => self.simple(call, of, grid, false),
            Body::SameSeries(of) => self.simple(call, of, grid, true),
            Body::Smooth => self.of_windows(regression::smooth, arguments, grid, false),
            Body::Value(of) => self.of_values(of, arguments, grid),
            Body::Date(of) => self.date(of, arguments, grid),
            Body::Absent => self.absent(arguments, grid),
            Body::AbsentOverTime => self.absent_over_time(arguments, grid),
            Body::Grid(of) => return Ok(Columns::Scalar(vec![of(self.query); grid.steps])),
            Body::Pair(of) => return self.pairs(of, arguments, grid).map(Columns::Scalar),
            Body::HistogramFraction => self.histogram_fraction(arguments, grid),
            Body::HistogramQuantile => self.histogram_quantile(arguments, grid),
            Body::LabelJoin => self.label_join(arguments, grid),
            Body::LabelReplace => self.label_replace(arguments, grid),
            Body::Sort => self.sort(arguments, grid, |a, b| a.total_cmp(&b)),
            Body::SortDescending => self.sort(arguments, grid, |a, b| b.total_cmp(&a)),
            Body::Timestamp => self.timestamp(arguments, grid),
            Body::Vector => self.to_vector(arguments, grid),
        };
        vector.map(Columns::Vector)
    }

    /// From spans where these say it all, else from samples.
    fn simple(
        &self,
        call: &Call,
        of: OfWindow,
        grid: Grid,
        keeps_name: bool,
    ) -> Result<Vec<Series>> {
        if let Some(of) = functions::spans::find(call.function.name)
            && let Some(all) = self.of_spans(of, range(&call.arguments)?, grid, keeps_name)?
        {
            return unique(all);
        }
        let is_counted = functions::counts_samples(call.function.name)
            && matches!(range(&call.arguments)?.of, RangeOf::Samples(_));
        let of = |window: &Window<'_>, scalars: &[f64]| {
            let is_whole = !is_counted || self.source.resolution_ms(window.start_ms) == 0;
            Ok(if is_whole { of(window, scalars) } else { None })
        };
        self.of_windows(of, &call.arguments, grid, keeps_name)
    }

    /// An argument that must be there, as the parser has checked.
    pub(super) fn argument(arguments: &[Expr], at: usize) -> Result<&Expr> {
        arguments.get(at).ok_or_else(|| Error::Parse("argument missing in call".to_owned()))
    }

    /// The scalars among the arguments, by step.
    fn scalars(&self, arguments: &[&Expr], grid: Grid) -> Result<Vec<Vec<f64>>> {
        let columns = arguments.iter().map(|argument| self.scalar(argument, grid));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let row = |step: usize| columns.iter().map(|column| column[step]).collect();
        Ok((0..grid.steps).map(row).collect())
    }

    fn of_windows(
        &self,
        of: impl Fn(&Window<'_>, &[f64]) -> Result<Option<f64>>,
        arguments: &[Expr],
        grid: Grid,
        keeps_name: bool,
    ) -> Result<Vec<Series>> {
        let range = range(arguments)?;
        let others = arguments.iter().filter(|argument| !matches!(argument, Expr::Range(_)));
        let scalars = self.scalars(&others.collect::<Vec<_>>(), grid)?;
        let mut all = Vec::new();
        self.windows(range, grid, &mut |labels, windows| {
            let values = windows.reckon(|step, window| of(window, &scalars[step]))?;
            if has_values(&values) {
                let labels = if keeps_name { labels.clone() } else { labels.without_name() };
                all.push(Series { labels, values });
            }
            Ok(())
        })?;
        unique(all)
    }

    fn of_values(&self, of: OfValue, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let mut all = self.vector(Self::argument(arguments, 0)?, grid)?;
        let scalars = self.scalars(&arguments[1..].iter().collect::<Vec<_>>(), grid)?;
        for series in &mut all {
            self.budget.work(grid.steps)?;
            for (value, scalars) in series.values.iter_mut().zip(&scalars) {
                if !is_stale(*value) {
                    *value = of(*value, scalars).unwrap_or(STALE);
                }
            }
        }
        nameless(all)
    }

    fn date(&self, of: fn(f64) -> f64, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let Some(argument) = arguments.first() else {
            let values = grid.times().map(|time_ms| of(seconds(time_ms))).collect();
            return Ok(vec![Series { labels: Labels::empty(), values }]);
        };
        let mut all = self.vector(argument, grid)?;
        all.iter_mut().for_each(|series| series.change(of));
        nameless(all)
    }

    fn to_scalar(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<f64>> {
        let all = self.vector(Self::argument(arguments, 0)?, grid)?;
        self.budget.work(all.len().saturating_mul(grid.steps))?;
        let only = |step| {
            let mut present = all.iter().filter_map(|series: &Series| series.at(step));
            match (present.next(), present.next()) {
                (Some(value), None) => value,
                _ => f64::NAN,
            }
        };
        Ok((0..grid.steps).map(only).collect())
    }

    fn pairs(&self, of: fn(f64, f64) -> f64, pair: &[Expr], grid: Grid) -> Result<Vec<f64>> {
        let first = self.scalar(Self::argument(pair, 0)?, grid)?;
        let second = self.scalar(Self::argument(pair, 1)?, grid)?;
        Ok(first.into_iter().zip(second).map(|(first, second)| of(first, second)).collect())
    }

    fn to_vector(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let values = self.scalar(Self::argument(arguments, 0)?, grid)?;
        Ok(vec![Series { labels: Labels::empty(), values }])
    }

    /// Of a selector the times of its samples, of anything else the time of evaluation.
    fn timestamp(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let argument = Self::argument(arguments, 0)?;
        if let Expr::Selector(selector) = argument {
            return nameless(self.select_times(selector, grid)?);
        }
        let mut all = self.vector(argument, grid)?;
        for series in &mut all {
            for (value, time_ms) in series.values.iter_mut().zip(grid.times()) {
                if !is_stale(*value) {
                    *value = seconds(time_ms);
                }
            }
        }
        nameless(all)
    }

    /// By value where there is one step; over several steps there is no order.
    fn sort(
        &self,
        arguments: &[Expr],
        grid: Grid,
        by: impl Fn(f64, f64) -> std::cmp::Ordering,
    ) -> Result<Vec<Series>> {
        let mut all = self.vector(Self::argument(arguments, 0)?, grid)?;
        if grid.steps == 1 {
            let value = |series: &Series| series.at(0).unwrap_or(f64::NAN);
            all.sort_by(|a, b| nan_last(value(a), value(b), &by));
        }
        Ok(all)
    }

    fn absent(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let argument = Self::argument(arguments, 0)?;
        let all = self.vector(argument, grid)?;
        let mut there = vec![false; grid.steps];
        for series in &all {
            self.budget.work(grid.steps)?;
            mark(&mut there, &series.values);
        }
        let labels = match argument {
            Expr::Selector(selector) => implied_labels(&selector.matchers),
            _ => Labels::empty(),
        };
        Ok(one_where_absent(labels, &there))
    }

    fn absent_over_time(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let range = range(arguments)?;
        let mut there = vec![false; grid.steps];
        self.windows(range, grid, &mut |_, windows| {
            mark(&mut there, &windows.reckon(|_, _| Ok(Some(1.0)))?);
            Ok(())
        })?;
        let labels = match &range.of {
            RangeOf::Samples(matchers) => implied_labels(matchers),
            RangeOf::Subquery { .. } => Labels::empty(),
        };
        Ok(one_where_absent(labels, &there))
    }
}

fn seconds(time_ms: i64) -> f64 {
    time_ms as f64 / 1000.0
}

fn range(arguments: &[Expr]) -> Result<&Range> {
    let mut ranges = arguments.iter().filter_map(|argument| match argument {
        Expr::Range(range) => Some(range),
        _ => None,
    });
    ranges.next().ok_or_else(|| Error::Parse("expected a range vector in call".to_owned()))
}

/// The result of most functions: no longer the metric that it was.
pub(super) fn nameless(mut all: Vec<Series>) -> Result<Vec<Series>> {
    all.retain(|series| has_values(&series.values));
    for series in &mut all {
        series.labels = series.labels.without_name();
    }
    merged(all)
}

fn mark(there: &mut [bool], values: &[f64]) {
    for (there, value) in there.iter_mut().zip(values) {
        *there |= !is_stale(*value);
    }
}

fn one_where_absent(labels: Labels, there: &[bool]) -> Vec<Series> {
    let values: Vec<_> = there.iter().map(|there| if *there { STALE } else { 1.0 }).collect();
    if has_values(&values) { vec![Series { labels, values }] } else { Vec::new() }
}

/// The labels that the series would have: those asked for with one `=` and nothing else.
fn implied_labels(matchers: &[Matcher]) -> Labels {
    let mut builder = Labels::empty().builder();
    let mut equal = std::collections::HashSet::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matches!(matcher.op, MatchOp::Equal) && equal.insert(&matcher.name) {
            builder.set(&matcher.name, &matcher.value);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}
