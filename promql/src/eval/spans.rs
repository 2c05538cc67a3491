//! Selectors answered from spans of time instead of samples, where the answer is the same.
//!
//! Windows that begin and end where spans do hold whole spans, and besides them only what lies exactly at
//! their beginning: windows include both their ends, spans only the later one. That sample is the last of
//! the span before. The newest sample at a time where spans end is the last of the newest span by then.

use crate::{
    error::Result,
    eval::{Evaluator, Grid, Series, empty_column, has_values},
    expr::{Range, RangeOf, Selector},
    functions::spans::{OfSpan, at_its_end, joined},
    source::{Sample, Selection, Span},
};

/// Lengths of spans that a source may have, the longest first: a day, an hour, ten minutes, one.
const LENGTHS_MS: [i64; 4] = [86_400_000, 3_600_000, 600_000, 60_000];

impl Evaluator<'_> {
    /// A function's values in each window of a range vector; `None` if they have to come from samples.
    pub(super) fn of_spans(
        &self,
        of: OfSpan,
        range: &Range,
        grid: Grid,
        keeps_name: bool,
    ) -> Result<Option<Vec<Series>>> {
        let RangeOf::Samples(matchers) = &range.of else { return Ok(None) };
        if grid.steps == 0 {
            return Ok(None);
        }
        let first_ms = self.shifted(range.shift, grid.start_ms) - range.range_ms;
        let end_ms = self.shifted(range.shift, grid.end_ms());
        let selection = Selection { matchers, start_ms: first_ms, end_ms };
        let fits = |length_ms: i64| {
            first_ms % length_ms == 0
                && range.range_ms % length_ms == 0
                && steps_on(grid, length_ms)
        };
        let (mut all, mut is_all) = (Vec::new(), true);
        let is_done = self.spans(&selection, fits, &mut |labels, spans| {
            let Some(values) = self.reckon_spans(of, range, grid, spans)? else {
                is_all = false;
                return Ok(());
            };
            if has_values(&values) {
                let labels = if keeps_name { labels.clone() } else { labels.without_name() };
                all.push(Series { labels, values });
            }
            Ok(())
        })?;
        Ok((is_done && is_all).then_some(all))
    }

    /// `None` where spans don't say it all: between values that are no numbers, nothing is known of what
    /// lies beside them.
    fn reckon_spans(
        &self,
        of: OfSpan,
        range: &Range,
        grid: Grid,
        spans: &[Span],
    ) -> Result<Option<Vec<f64>>> {
        self.budget.take(grid.steps)?;
        let mut values = empty_column(grid);
        let (mut from, mut to) = (0, 0);
        for (value, now_ms) in values.iter_mut().zip(grid.times()) {
            let end_ms = self.shifted(range.shift, now_ms);
            let start_ms = end_ms - range.range_ms;
            to += spans[to..].iter().take_while(|span| span.end_ms <= end_ms).count();
            from += spans[from..to].iter().take_while(|span| span.end_ms <= start_ms).count();
            let before = spans[..from].last().filter(|span| span.end_ms == start_ms);
            let inside = spans[from..to].iter().filter(|span| span.count > 0);
            self.budget.work(to - from)?;
            let all = inside.fold(before.and_then(at_its_end), |all, span| match all {
                Some(all) => Some(joined(all, span)),
                None => Some(*span),
            });
            let Some(all) = all else { continue };
            let Some(found) = of(&all, (start_ms, end_ms)) else { continue };
            let is_of_ends = all.first.value.is_nan() || all.last.value.is_nan();
            if found.is_nan() && all.increase.is_nan() && !is_of_ends {
                return Ok(None);
            }
            *value = found;
        }
        Ok(Some(values))
    }

    /// At each step the newest sample that isn't too old; `None` if that has to come from samples.
    pub(super) fn newest_of_spans(
        &self,
        selector: &Selector,
        grid: Grid,
        of: &impl Fn(&Sample) -> f64,
    ) -> Result<Option<Vec<Series>>> {
        // A single step needs few samples.
        if grid.steps < 2 || selector.shift.at.is_some() {
            return Ok(None);
        }
        let first_ms = self.shifted(selector.shift, grid.start_ms);
        let selection = Selection {
            matchers: &selector.matchers,
            start_ms: first_ms - self.lookback_ms,
            end_ms: self.shifted(selector.shift, grid.end_ms()),
        };
        let fits = |length_ms: i64| first_ms % length_ms == 0 && grid.step_ms % length_ms == 0;
        let mut all = Vec::new();
        let is_done = self.spans(&selection, fits, &mut |labels, spans| {
            self.budget.take(grid.steps)?;
            let mut values = empty_column(grid);
            let mut passed = 0;
            for (value, step_ms) in values.iter_mut().zip(grid.times()) {
                let time_ms = self.shifted(selector.shift, step_ms);
                passed += spans[passed..].iter().take_while(|span| span.end_ms <= time_ms).count();
                let newest = spans[..passed].last().filter(|span| !span.is_ended && span.count > 0);
                let newest = newest.map(|span| span.last);
                if let Some(newest) = newest.filter(|s| s.time_ms >= time_ms - self.lookback_ms) {
                    *value = of(&newest);
                }
            }
            if has_values(&values) {
                all.push(Series { labels: labels.clone(), values });
            }
            Ok(())
        })?;
        Ok(is_done.then_some(all))
    }

    /// Shows spans of the longest length that fits and that the source has.
    fn spans(
        &self,
        selection: &Selection<'_>,
        fits: impl Fn(i64) -> bool,
        visit: &mut dyn FnMut(&crate::labels::Labels, &[Span]) -> Result<()>,
    ) -> Result<bool> {
        let Some(length_ms) = LENGTHS_MS.into_iter().find(|length_ms| fits(*length_ms)) else {
            return Ok(false);
        };
        let mut series = 0;
        self.source.spans(selection, length_ms, &mut |labels, spans| {
            series += 1;
            self.budget.series(series)?;
            self.budget.take(spans.len())?;
            visit(labels, spans)
        })
    }
}

fn steps_on(grid: Grid, length_ms: i64) -> bool {
    grid.steps == 1 || grid.step_ms % length_ms == 0
}
