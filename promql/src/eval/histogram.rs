//! Functions on classic histograms: the buckets of each histogram found again by their labels.

use crate::{
    error::Result,
    eval::{Evaluator, Grid, Series, empty_column, groups::Groups, has_values, series::merged},
    expr::Expr,
    functions::histogram::{Bucket, fraction, quantile},
    labels::BUCKET,
};

impl Evaluator<'_> {
    pub(super) fn histogram_quantile(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let quantiles = self.scalar(Self::argument(arguments, 0)?, grid)?;
        let all = self.vector(Self::argument(arguments, 1)?, grid)?;
        self.histograms(&all, grid, |step, buckets| quantile(quantiles[step], buckets))
    }

    pub(super) fn histogram_fraction(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let lower = self.scalar(Self::argument(arguments, 0)?, grid)?;
        let upper = self.scalar(Self::argument(arguments, 1)?, grid)?;
        let all = self.vector(Self::argument(arguments, 2)?, grid)?;
        self.histograms(&all, grid, |step, buckets| fraction(lower[step], upper[step], buckets))
    }

    /// A value for each histogram at each step at which it has buckets.
    fn histograms(
        &self,
        all: &[Series],
        grid: Grid,
        of: impl Fn(usize, Vec<Bucket>) -> f64,
    ) -> Result<Vec<Series>> {
        let bounds: Vec<_> = all.iter().map(|series| bound(series.labels.get(BUCKET))).collect();
        let mut groups = Groups::default();
        for (place, series) in all.iter().enumerate().filter(|(place, _)| bounds[*place].is_some())
        {
            groups.add(series.labels.filtered(|name| name != BUCKET), place);
        }
        self.budget.take(groups.groups.len().saturating_mul(grid.steps))?;
        let mut results = Vec::with_capacity(groups.groups.len());
        for group in &groups.groups {
            let mut values = empty_column(grid);
            for (step, value) in values.iter_mut().enumerate() {
                self.budget.work(group.members.len())?;
                let buckets = group.members.iter().filter_map(|place| {
                    Some(Bucket { upper_bound: bounds[*place]?, count: all[*place].at(step)? })
                });
                let buckets: Vec<_> = buckets.collect();
                if !buckets.is_empty() {
                    *value = of(step, buckets);
                }
            }
            if has_values(&values) {
                results.push(Series { labels: group.labels.without_name(), values });
            }
        }
        merged(results)
    }
}

/// A bucket's bound as exporters write it; what isn't one makes the series no bucket.
fn bound(text: &str) -> Option<f64> {
    text.parse().ok()
}
