//! Aggregations that pick series of a group: `topk`, `bottomk`, `limitk`.

use std::cmp::Ordering;

use crate::{
    error::{Result, execution},
    eval::{Evaluator, Grid, Series, empty_column, groups::Groups, has_values},
    expr::{Aggregate, Aggregator},
};

impl Evaluator<'_> {
    pub(super) fn rank(
        &self,
        aggregate: &Aggregate,
        all: Vec<Series>,
        grid: Grid,
    ) -> Result<Vec<Series>> {
        let Some(parameter) = &aggregate.parameter else { return Ok(Vec::new()) };
        let counts = self.scalar(parameter, grid)?;
        let counts = counts.into_iter().map(count).collect::<Result<Vec<_>>>()?;
        let groups = Groups::new(&all, &aggregate.grouping);
        self.budget.take(all.len().saturating_mul(grid.steps))?;
        let mut columns: Vec<_> = all.iter().map(|_| empty_column(grid)).collect();
        let mut order = Vec::new();
        for group in &groups.groups {
            for (step, count) in counts.iter().enumerate() {
                self.budget.work(group.members.len())?;
                let picked = pick(aggregate.aggregator, &all, &group.members, step, *count);
                for member in &picked {
                    columns[*member][step] = all[*member].values[step];
                }
                order.extend(picked);
            }
        }
        Ok(put_in_order(all, columns, &order, grid))
    }
}

/// The parameter as a number of series.
fn count(parameter: f64) -> Result<usize> {
    // from 2^63 on nothing fits
    if parameter.is_nan() || parameter.abs() >= 9_223_372_036_854_775_808.0 {
        return execution(format!("Scalar value {} overflows int64", go(parameter)));
    }
    Ok(if parameter < 1.0 { 0 } else { parameter as usize })
}

/// A number as Prometheus's errors write it: with an exponent from 21 digits on.
fn go(value: f64) -> String {
    let text = if value.abs() >= 1e21 { format!("{value:e}") } else { value.to_string() };
    match (text.as_str(), text.split_once('e')) {
        ("inf", _) => "+Inf".to_owned(),
        ("-inf", _) => "-Inf".to_owned(),
        (_, Some((digits, exponent))) => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

/// The members that count at a step, best first; NaN is never better than a number.
fn pick(
    aggregator: Aggregator,
    all: &[Series],
    members: &[usize],
    step: usize,
    count: usize,
) -> Vec<usize> {
    let present = members.iter().filter_map(|at| Some((*at, all[*at].at(step)?)));
    let mut present: Vec<_> = present.collect();
    match aggregator {
        Aggregator::Topk => present.sort_by(|a, b| nan_last(a.1, b.1, |a, b| b.total_cmp(&a))),
        Aggregator::Bottomk => present.sort_by(|a, b| nan_last(a.1, b.1, |a, b| a.total_cmp(&b))),
        _ => {}
    }
    present.into_iter().take(count).map(|(at, _)| at).collect()
}

/// Compares with NaN after everything else.
pub(super) fn nan_last(a: f64, b: f64, numbers: impl Fn(f64, f64) -> Ordering) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if a == b => Ordering::Equal,
        (false, false) => numbers(a, b),
        (a, b) => a.cmp(&b),
    }
}

/// At a single step in the order of picking, else as the series came.
fn put_in_order(
    all: Vec<Series>,
    columns: Vec<Vec<f64>>,
    order: &[usize],
    grid: Grid,
) -> Vec<Series> {
    let mut picked: Vec<_> = all
        .into_iter()
        .zip(columns)
        .map(|(series, values)| Some(Series { values, ..series }))
        .collect();
    if grid.steps == 1 {
        return order.iter().filter_map(|at| picked[*at].take()).collect();
    }
    picked.into_iter().flatten().filter(|series| has_values(&series.values)).collect()
}
