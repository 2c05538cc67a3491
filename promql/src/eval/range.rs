//! Range vectors: for each step the samples of a window that ends there.
//!
//! Windows include both their ends. A subquery's values are samples like any others.

use crate::{
    error::Result,
    eval::{Evaluator, Grid, empty_column},
    expr::{Expr, Range, RangeOf},
    functions::Window,
    labels::Labels,
    source::{Matcher, Sample, Selection, is_stale},
};

/// The windows of one series.
pub(crate) struct Windows<'a> {
    evaluator: &'a Evaluator<'a>,
    range: &'a Range,
    grid: Grid,
    /// Without stale markers.
    pub(crate) samples: &'a [Sample],
}

impl Windows<'_> {
    /// Reckons a value for each step whose window isn't empty.
    pub(crate) fn reckon(
        &self,
        mut of: impl FnMut(usize, &Window<'_>) -> Result<Option<f64>>,
    ) -> Result<Vec<f64>> {
        self.evaluator.budget.take(self.grid.steps)?;
        let mut values = empty_column(self.grid);
        let (mut from, mut to) = (0, 0);
        for (step, now_ms) in self.grid.times().enumerate() {
            let end_ms = self.evaluator.shifted(self.range.shift, now_ms);
            let start_ms = end_ms - self.range.range_ms;
            to += self.samples[to..].iter().take_while(|s| s.time_ms <= end_ms).count();
            from += self.samples[from..to].iter().take_while(|s| s.time_ms < start_ms).count();
            let samples = &self.samples[from..to];
            self.evaluator.budget.work(samples.len())?;
            if samples.is_empty() {
                continue;
            }
            let window = Window { samples, start_ms, end_ms, now_ms };
            if let Some(value) = of(step, &window)? {
                values[step] = value;
            }
        }
        Ok(values)
    }
}

/// Gets the windows of one series after the other.
pub(crate) type VisitWindows<'a> = dyn FnMut(&Labels, &Windows<'_>) -> Result<()> + 'a;

impl Evaluator<'_> {
    /// Shows the windows of every series of a range vector.
    pub(crate) fn windows(
        &self,
        range: &Range,
        grid: Grid,
        visit: &mut VisitWindows<'_>,
    ) -> Result<()> {
        if grid.steps == 0 {
            return Ok(());
        }
        let mut visit = |labels: &Labels, samples: &[Sample]| {
            visit(labels, &Windows { evaluator: self, range, grid, samples })
        };
        match &range.of {
            RangeOf::Samples(matchers) => self.raw(matchers, range, grid, &mut visit),
            RangeOf::Subquery { inner, step_ms } => {
                let step_ms = step_ms.unwrap_or(self.subquery_step_ms);
                self.subquery(inner, step_ms, range, grid, &mut visit)
            }
        }
    }

    /// First and last time that any window sees.
    fn seen(&self, range: &Range, grid: Grid) -> (i64, i64) {
        let first = self.shifted(range.shift, grid.start_ms) - range.range_ms;
        (first, self.shifted(range.shift, grid.end_ms()))
    }

    fn raw(
        &self,
        matchers: &[Matcher],
        range: &Range,
        grid: Grid,
        visit: &mut dyn FnMut(&Labels, &[Sample]) -> Result<()>,
    ) -> Result<()> {
        let (start_ms, end_ms) = self.seen(range, grid);
        let selection = Selection { matchers, start_ms, end_ms };
        let mut series = 0;
        let mut without_markers = Vec::new();
        self.source.select(&selection, &mut |labels, samples| {
            series += 1;
            self.budget.series(series)?;
            self.budget.take(samples.len())?;
            if !samples.iter().any(|sample| is_stale(sample.value)) {
                return visit(labels, samples);
            }
            without_markers.clear();
            without_markers.extend(samples.iter().filter(|sample| !is_stale(sample.value)));
            visit(labels, &without_markers)
        })
    }

    /// Evaluates the inner expression on a grid of its own, whose steps are multiples of its step.
    fn subquery(
        &self,
        inner: &Expr,
        step_ms: i64,
        range: &Range,
        grid: Grid,
        visit: &mut dyn FnMut(&Labels, &[Sample]) -> Result<()>,
    ) -> Result<()> {
        let (start_ms, end_ms) = self.seen(range, grid);
        let aligned_ms = start_ms + (-start_ms).rem_euclid(step_ms);
        let inner_grid = Grid::new(aligned_ms, end_ms, step_ms);
        self.budget.take(inner_grid.steps)?;
        if inner_grid.steps == 0 {
            return Ok(());
        }
        for series in self.vector(inner, inner_grid)? {
            let values = inner_grid.times().zip(series.values).filter(|(_, v)| !is_stale(*v));
            let samples: Vec<_> =
                values.map(|(time_ms, value)| Sample { time_ms, value }).collect();
            self.budget.take(samples.len())?;
            visit(&series.labels, &samples)?;
        }
        Ok(())
    }
}
