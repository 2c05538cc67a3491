//! Columns of values, and putting together those that are one series.

use std::collections::HashMap;

use crate::{
    error::{Result, same_labels},
    labels::Labels,
    limits::Budget,
    source::is_stale,
};

/// One series of an instant vector: a value for each step, or the stale marker.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) values: Vec<f64>,
}

impl Series {
    /// The value at a step, if there is one.
    pub(crate) fn at(&self, step: usize) -> Option<f64> {
        self.values.get(step).copied().filter(|value| !is_stale(*value))
    }

    /// Changes every value that is there.
    pub(crate) fn change(&mut self, to: impl Fn(f64) -> f64) {
        self.values.iter_mut().filter(|value| !is_stale(**value)).for_each(|v| *v = to(*v));
    }

    fn overlaps(&self, other: &Self) -> bool {
        let pairs = self.values.iter().zip(&other.values);
        pairs.into_iter().any(|(one, other)| !is_stale(*one) && !is_stale(*other))
    }

    fn fill_from(&mut self, other: &Self) {
        for (value, other) in self.values.iter_mut().zip(&other.values) {
            if is_stale(*value) {
                *value = *other;
            }
        }
    }
}

/// What an expression is, over all steps.
#[derive(Debug, Clone)]
pub(crate) enum Columns {
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<Series>),
}

impl Columns {
    /// The same at every step, from one step.
    pub(crate) fn repeated(self, steps: usize, budget: &Budget<'_>) -> Result<Self> {
        let repeat = |values: Vec<f64>| values.first().map_or_else(Vec::new, |v| vec![*v; steps]);
        Ok(match self {
            Self::Scalar(values) => {
                budget.take(steps)?;
                Self::Scalar(repeat(values))
            }
            Self::Text(text) => Self::Text(text),
            Self::Vector(all) => {
                budget.take(all.len().saturating_mul(steps))?;
                let all = all.into_iter().map(|s| Series { values: repeat(s.values), ..s });
                Self::Vector(all.collect())
            }
        })
    }
}

/// Puts series with the same labels together; that two of them have a value at one step is an error.
pub(crate) fn merged(all: Vec<Series>) -> Result<Vec<Series>> {
    merged_or(all, same_labels)
}

/// The same with an error of one's own.
pub(crate) fn merged_or(
    all: Vec<Series>,
    conflict: impl Fn() -> Result<()>,
) -> Result<Vec<Series>> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(all.len());
    let mut kept: Vec<Series> = Vec::with_capacity(all.len());
    for series in all {
        match places.get(&series.labels) {
            None => {
                places.insert(series.labels.clone(), kept.len());
                kept.push(series);
            }
            Some(place) => {
                if kept[*place].overlaps(&series) {
                    conflict()?;
                }
                kept[*place].fill_from(&series);
            }
        }
    }
    Ok(kept)
}

/// Refuses two series with the same labels, even at different steps.
pub(crate) fn unique(all: Vec<Series>) -> Result<Vec<Series>> {
    let mut seen = std::collections::HashSet::with_capacity(all.len());
    if all.iter().all(|series| seen.insert(&series.labels)) {
        drop(seen);
        return Ok(all);
    }
    same_labels()
}
