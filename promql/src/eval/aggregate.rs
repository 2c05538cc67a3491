//! Aggregations: one series of a group, a value a step from the values there.

use std::collections::HashMap;

use crate::{
    error::{Result, execution},
    eval::{Evaluator, Grid, Series, empty_column, groups::Groups, has_values},
    expr::{Aggregate, Aggregator, Grouping},
    functions::statistics::{self, Mean},
    labels::is_label_name,
    source::is_stale,
};

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Series>> {
        let all = self.vector(&aggregate.of, grid)?;
        match aggregate.aggregator {
            Aggregator::CountValues => return self.count_values(aggregate, &all, grid),
            Aggregator::Topk | Aggregator::Bottomk | Aggregator::Limitk => {
                return self.rank(aggregate, all, grid);
            }
            _ => {}
        }
        let parameter = aggregate.parameter.as_ref();
        let parameter = parameter.map(|parameter| self.scalar(parameter, grid)).transpose()?;
        let groups = Groups::new(&all, &aggregate.grouping);
        self.budget.take(groups.groups.len().saturating_mul(grid.steps))?;
        let series = groups.groups.iter().map(|group| {
            self.budget.work(group.members.len().saturating_mul(grid.steps))?;
            let members: Vec<_> = group.members.iter().map(|at| &all[*at]).collect();
            let values = match &parameter {
                Some(quantiles) => quantile_column(&members, quantiles),
                None => column(aggregate.aggregator, &members, grid),
            };
            Ok(Series { labels: group.labels.clone(), values })
        });
        let series: Vec<_> = series.collect::<Result<_>>()?;
        Ok(series.into_iter().filter(|series| has_values(&series.values)).collect())
    }

    fn count_values(
        &self,
        aggregate: &Aggregate,
        all: &[Series],
        grid: Grid,
    ) -> Result<Vec<Series>> {
        let Some(parameter) = &aggregate.parameter else { return Ok(Vec::new()) };
        let label = self.text(parameter, grid)?;
        if !is_label_name(&label) {
            return execution(format!("invalid label name {label:?}"));
        }
        let grouping = counted_by(&aggregate.grouping, &label);
        let mut places = HashMap::new();
        let mut counts: Vec<Series> = Vec::new();
        for series in all {
            self.budget.work(grid.steps)?;
            for (step, value) in series.values.iter().enumerate().filter(|(_, v)| !is_stale(**v)) {
                let mut labels = series.labels.builder();
                labels.set(&label, &decimal(*value));
                let labels = grouping.of(&labels.build());
                let next = counts.len();
                let place = *places.entry(labels.clone()).or_insert(next);
                if place == next {
                    self.budget.take(grid.steps)?;
                    counts.push(Series { labels, values: empty_column(grid) });
                }
                let before = counts[place].at(step).unwrap_or(0.0);
                counts[place].values[step] = before + 1.0;
            }
        }
        Ok(counts)
    }
}

fn counted_by(grouping: &Grouping, label: &str) -> Grouping {
    match grouping {
        Grouping::Only(names) => {
            Grouping::Only(names.iter().cloned().chain([label.to_owned()]).collect())
        }
        Grouping::Without(names) => Grouping::Without(names.clone()),
    }
}

/// A value as text, without an exponent.
fn decimal(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { value.to_string().replace("inf", "Inf") }
}

fn quantile_column(members: &[&Series], quantiles: &[f64]) -> Vec<f64> {
    let mut values = Vec::with_capacity(members.len());
    let column = quantiles.iter().enumerate().map(|(step, quantile)| {
        values.clear();
        values.extend(members.iter().filter_map(|series| series.at(step)));
        let none = values.is_empty();
        if none { crate::source::STALE } else { statistics::quantile(*quantile, &mut values) }
    });
    column.collect()
}

fn column(aggregator: Aggregator, members: &[&Series], grid: Grid) -> Vec<f64> {
    match aggregator {
        Aggregator::Sum => folded(members, grid, |value| value, |sum, value| sum + value),
        Aggregator::Min => {
            let smaller = |min: f64, v: f64| if v < min || min.is_nan() { v } else { min };
            folded(members, grid, |value| value, smaller)
        }
        Aggregator::Max => {
            let larger = |max: f64, v: f64| if v > max || max.is_nan() { v } else { max };
            folded(members, grid, |value| value, larger)
        }
        Aggregator::Group => folded(members, grid, |_| 1.0, |_, _| 1.0),
        Aggregator::Avg => gathered(members, grid, Mean::add, Mean::value),
        Aggregator::Stdvar => gathered(members, grid, Spread::add, Spread::variance),
        Aggregator::Stddev => gathered(members, grid, Spread::add, |s| s.variance().sqrt()),
        // the others have parameters and are reckoned elsewhere
        _ => folded(members, grid, |_| 1.0, |count, _| count + 1.0),
    }
}

/// One number a step is enough.
fn folded(
    members: &[&Series],
    grid: Grid,
    first: impl Fn(f64) -> f64,
    next: impl Fn(f64, f64) -> f64,
) -> Vec<f64> {
    let mut column = empty_column(grid);
    for series in members {
        for (so_far, value) in column.iter_mut().zip(&series.values) {
            if !is_stale(*value) {
                *so_far = if is_stale(*so_far) { first(*value) } else { next(*so_far, *value) };
            }
        }
    }
    column
}

/// More than one number a step is needed.
fn gathered<State: Default + Copy>(
    members: &[&Series],
    grid: Grid,
    add: impl Fn(&mut State, f64),
    result: impl Fn(State) -> f64,
) -> Vec<f64> {
    let mut states = vec![None; grid.steps];
    for series in members {
        for (state, value) in states.iter_mut().zip(&series.values) {
            if !is_stale(*value) {
                add(state.get_or_insert_with(State::default), *value);
            }
        }
    }
    let mut column = empty_column(grid);
    for (value, state) in column.iter_mut().zip(states) {
        if let Some(state) = state {
            *value = result(state);
        }
    }
    column
}

/// Variance of a group. One member has none, even when it is infinite.
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = value;
            return;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn variance(self) -> f64 {
        self.squares / self.count
    }
}
