//! Instant vectors from samples: at each step the newest sample that isn't too old.

use crate::{
    error::Result,
    eval::{Evaluator, Grid, Series, empty_column, has_values},
    expr::Selector,
    source::{Sample, Selection, is_stale},
};

impl Evaluator<'_> {
    /// The selected series' values.
    pub(super) fn select(&self, selector: &Selector, grid: Grid) -> Result<Vec<Series>> {
        self.newest(selector, grid, |sample| sample.value)
    }

    /// The times of the selected series' samples, in seconds.
    pub(super) fn select_times(&self, selector: &Selector, grid: Grid) -> Result<Vec<Series>> {
        self.newest(selector, grid, |sample| sample.time_ms as f64 / 1000.0)
    }

    fn newest(
        &self,
        selector: &Selector,
        grid: Grid,
        of: impl Fn(&Sample) -> f64,
    ) -> Result<Vec<Series>> {
        if grid.steps == 0 {
            return Ok(Vec::new());
        }
        let selection = Selection {
            matchers: &selector.matchers,
            start_ms: self.shifted(selector.shift, grid.start_ms) - self.lookback_ms,
            end_ms: self.shifted(selector.shift, grid.end_ms()),
        };
        if let Some(all) = self.newest_of_spans(selector, grid, &of)? {
            return Ok(all);
        }
        let mut all = Vec::new();
        self.source.select(&selection, &mut |labels, samples| {
            self.budget.take(samples.len().saturating_add(grid.steps))?;
            let values = self.column(selector, grid, samples, &of);
            if has_values(&values) {
                all.push(Series { labels: labels.clone(), values });
            }
            self.budget.series(all.len())
        })?;
        Ok(all)
    }

    fn column(
        &self,
        selector: &Selector,
        grid: Grid,
        samples: &[Sample],
        of: &impl Fn(&Sample) -> f64,
    ) -> Vec<f64> {
        let mut values = empty_column(grid);
        let mut passed = 0;
        for (value, step_ms) in values.iter_mut().zip(grid.times()) {
            let time_ms = self.shifted(selector.shift, step_ms);
            let later = samples[passed..].iter().take_while(|sample| sample.time_ms <= time_ms);
            passed += later.count();
            let Some(newest) = samples[..passed].last() else { continue };
            let lookback_ms = self.lookback_ms.max(self.source.resolution_ms(time_ms));
            if newest.time_ms >= time_ms - lookback_ms && !is_stale(newest.value) {
                *value = of(newest);
            }
        }
        values
    }
}
