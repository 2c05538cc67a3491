//! What an expression reads, from any [`Reader`].
//!
//! Which series there are is asked once for each selector; their samples are then read in batches of
//! about [`BATCH_SAMPLES`], so that memory holds one batch and not the fleet. It blocks: evaluation has a
//! thread of its own, and waits there for what the store reads elsewhere.
//!
//! Where samples have been dropped for their age, it shows what rollups know of them ([`super::coarse`]), and
//! says so with the answer.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use promql::{Error, Labels, Sample, Selection, Source, Span, Visit, VisitSpans};
use tokio::runtime::Handle;

use super::{
    coarse::{self, Coarse},
    names::{Group, groups, with_agent},
    stop::Stop,
};
use crate::store::{
    ReadRequest, Reader, RollupRequest, Selector, Series, SeriesId, StoreError,
    rollup::{Level, Rollup},
};

/// Samples in memory at one time, as near as can be told before they are read.
const BATCH_SAMPLES: usize = 500_000;
/// Time between two samples of a series, before any has been seen.
const INTERVAL_MS: i64 = 10_000;
/// Series that are looked at to find out how far rollups reach.
const LOOKED_AT: usize = 64;
/// What is said of an answer that lacks damaged samples.
const DAMAGED: &str = "some stored samples no longer read and are left out";

/// Reads for one query.
pub(crate) struct StoreSource {
    reader: Arc<dyn Reader>,
    handle: Handle,
    stop: Arc<Stop>,
    series_max: usize,
    warnings: RefCell<BTreeSet<String>>,
    /// What was shown in the place of samples that are no longer kept.
    coarse: RefCell<Coarse>,
}

impl StoreSource {
    /// Reads until told to stop; at most so many series for one selector, and one more.
    pub(crate) fn new(reader: Arc<dyn Reader>, stop: Arc<Stop>, series_max: usize) -> Self {
        let handle = Handle::current();
        let (warnings, coarse) = (RefCell::default(), RefCell::default());
        Self { reader, handle, stop, series_max, warnings, coarse }
    }

    /// What an answer made of this may lack.
    pub(crate) fn into_warnings(self) -> Vec<String> {
        let coarse = self.coarse.into_inner();
        self.warnings.into_inner().into_iter().chain(coarse.warnings()).collect()
    }

    /// Waits for the store, unless the query has to end before.
    fn wait<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, Error> {
        self.handle.block_on(async {
            tokio::select! {
                biased;
                ended = self.stop.ended() => Err(ended),
                done = work => done.map_err(failed),
            }
        })
    }

    fn series(&self, selection: &Selection<'_>) -> Result<Vec<Series>, Error> {
        let selector = Selector {
            host: None,
            matchers: selection.matchers.to_vec(),
            span: Some((selection.start_ms, selection.end_ms)),
            limit: Some(self.series_max.saturating_add(1)),
        };
        self.wait(self.reader.series(selector))
    }

    /// Reads all series that fit, in batches by how much each may have, and shows them.
    fn show_all<T>(
        &self,
        selection: &Selection<'_>,
        expected: usize,
        read: impl Fn(Vec<SeriesId>) -> Result<Vec<Vec<T>>, Error>,
        visit: &mut Show<'_, T>,
    ) -> Result<(), Error> {
        let series = self.series(selection)?;
        let groups = groups(&series);
        let mut rest = groups.as_slice();
        let mut each = expected;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((BATCH_SAMPLES / each).clamp(1, rest.len()));
            let members: Vec<&Series> =
                batch.iter().flat_map(|group| &group.members).map(|at| &series[*at]).collect();
            let found = read(members.iter().map(|one| one.id).collect())?;
            each = found.iter().map(Vec::len).fold(each, usize::max);
            show(batch, &members, &found, visit)?;
            rest = after;
        }
        Ok(())
    }

    /// The samples of some series, in their order.
    fn samples(
        &self,
        series: Vec<SeriesId>,
        selection: &Selection<'_>,
    ) -> Result<Vec<Vec<Sample>>, Error> {
        let mut all = vec![Vec::new(); series.len()];
        let (from_ms, to_ms) = (selection.start_ms, selection.end_ms);
        let request = ReadRequest { series, from_ms, to_ms };
        self.wait(async {
            let mut samples = self.reader.read(request).await?;
            while let Some(chunk) = self.unless_damaged(samples.next().await)? {
                let Some(one) = all.get_mut(chunk.series) else { continue };
                let values = chunk.times.iter().zip(&chunk.values);
                one.extend(values.map(|(t, v)| Sample { time_ms: *t, value: *v }));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// The latest of the times looked at of which samples have been dropped.
    fn dropped_ms(&self, selection: &Selection<'_>) -> Option<i64> {
        let dropped_ms = self.reader.dropped_ms().filter(|ms| selection.start_ms <= *ms)?;
        Some(dropped_ms.min(selection.end_ms))
    }

    /// The samples of some series, in their order; of spans that have lost some, the first and the last. The
    /// finest rollups that are kept of a time are taken.
    fn kept(
        &self,
        series: &[SeriesId],
        selection: &Selection<'_>,
        dropped_ms: i64,
    ) -> Result<Vec<Vec<Sample>>, Error> {
        let mut all = self.samples(series.to_vec(), selection)?;
        let mut until_ms = dropped_ms;
        for level in Level::ALL {
            // An instant before the first looks back into it.
            let start_ms = selection.start_ms.saturating_sub(level.ms());
            let part = Selection { start_ms, end_ms: level.end_of(until_ms), ..*selection };
            let spans = self.rollups(series.to_vec(), &part, level)?;
            let filled =
                |(samples, spans): (&mut Vec<_>, &Vec<_>)| coarse::fill(samples, spans, level);
            if all.iter_mut().zip(&spans).map(filled).fold(false, |any, one| any | one) {
                self.coarse.borrow_mut().note(until_ms, level);
            }
            until_ms = earliest_ms(&spans, level).map_or(until_ms, |ms| ms.min(until_ms));
            if until_ms <= selection.start_ms {
                break;
            }
        }
        Ok(all)
    }

    /// Whether rollups of a longer level are kept of times of which there are none of this one: looked up
    /// for some of the series.
    fn reaches_further(&self, selection: &Selection<'_>, level: Level) -> Result<bool, Error> {
        let series = self.series(selection)?;
        let some = series.iter().step_by(series.len().div_ceil(LOOKED_AT).max(1));
        let some: Vec<SeriesId> = some.map(|one| one.id).collect();
        let found = self.rollups(some.clone(), selection, level)?;
        let end_ms = earliest_ms(&found, level).unwrap_or(selection.end_ms);
        let Some(longest) = Level::ALL.last().filter(|longest| **longest != level) else {
            return Ok(false);
        };
        let before = Selection { end_ms, ..*selection };
        let further = self.rollups(some, &before, *longest)?;
        Ok(further.iter().any(|spans| !spans.is_empty()))
    }

    /// What some series' samples come to, in their order.
    fn rollups(
        &self,
        series: Vec<SeriesId>,
        selection: &Selection<'_>,
        level: Level,
    ) -> Result<Vec<Vec<Span>>, Error> {
        let mut all = vec![Vec::new(); series.len()];
        let (from_ms, to_ms) = (selection.start_ms, selection.end_ms);
        let request = RollupRequest { series, level, from_ms, to_ms };
        self.wait(async {
            let mut rollups = self.reader.rollups(request).await?;
            while let Some(chunk) = self.unless_damaged(rollups.next().await)? {
                let Some(one) = all.get_mut(chunk.series) else { continue };
                one.extend(chunk.rollups.iter().map(|(end_ms, rollup)| span(*end_ms, rollup)));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// What is damaged is said with the answer, after all that could be read.
    fn unless_damaged<T>(
        &self,
        read: Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match read {
            Err(StoreError::Damaged { .. }) => {
                self.warnings.borrow_mut().insert(DAMAGED.to_owned());
                Ok(None)
            }
            read => read,
        }
    }
}

const fn span(end_ms: i64, of: &Rollup) -> Span {
    Span {
        end_ms,
        count: of.count,
        first: Sample { time_ms: of.first_ms, value: of.first },
        last: Sample { time_ms: of.last_ms, value: of.last },
        min: of.min,
        max: of.max,
        sum: of.sum,
        increase: of.increase,
        is_ended: of.is_ended,
    }
}

fn failed(error: StoreError) -> Error {
    tracing::error!(error = &error as &dyn std::error::Error, "store failed under a query");
    Error::Source(error.to_string())
}

impl Source for StoreSource {
    fn select(&self, selection: &Selection<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
        let expected = expected(selection, INTERVAL_MS);
        let dropped_ms = self.dropped_ms(selection);
        let read = |series: Vec<SeriesId>| match dropped_ms {
            None => self.samples(series, selection),
            Some(dropped_ms) => self.kept(&series, selection, dropped_ms),
        };
        self.show_all(selection, expected, read, visit)
    }

    fn resolution_ms(&self, time_ms: i64) -> i64 {
        self.coarse.borrow().resolution_ms(time_ms)
    }

    /// Rollups of a minute hold as much as the samples they are made of, and take longer to read: they are
    /// for times of which there are no samples any more.
    fn spans(
        &self,
        selection: &Selection<'_>,
        length_ms: i64,
        visit: &mut VisitSpans<'_>,
    ) -> Result<bool, Error> {
        let level = Level::ALL.into_iter().find(|level| level.ms() == length_ms);
        let is_dropped = self.dropped_ms(selection).is_some();
        let level = level.filter(|level| *level != Level::Minute || is_dropped);
        let Some(level) = level else { return Ok(false) };
        if is_dropped && self.reaches_further(selection, level)? {
            return Ok(false);
        }
        let expected = expected(selection, length_ms);
        let read = |series| self.rollups(series, selection, level);
        self.show_all(selection, expected, read, visit)?;
        Ok(true)
    }
}

/// Where the earliest of some spans begins.
fn earliest_ms(spans: &[Vec<Span>], level: Level) -> Option<i64> {
    let ends = spans.iter().filter_map(|spans| Some(spans.first()?.end_ms));
    ends.min().map(|end_ms| end_ms - level.ms())
}

/// How many a series may have that come at such an interval.
fn expected(selection: &Selection<'_>, interval_ms: i64) -> usize {
    let span_ms = selection.end_ms.saturating_sub(selection.start_ms).max(0);
    usize::try_from(span_ms / interval_ms).unwrap_or(usize::MAX).max(1)
}

/// Takes a series and what was read of it.
type Show<'a, T> = dyn FnMut(&Labels, &[T]) -> Result<(), Error> + 'a;

/// Shows what was read of some groups: `members` and `found` are theirs, one after the other.
fn show<T>(
    groups: &[Group],
    members: &[&Series],
    found: &[Vec<T>],
    visit: &mut Show<'_, T>,
) -> Result<(), Error> {
    let mut start = 0;
    for group in groups {
        let own = start..start + group.members.len();
        start = own.end;
        let there = || own.clone().filter(|at| !found[*at].is_empty());
        let is_one = there().nth(1).is_none();
        for at in there() {
            if is_one {
                visit(&group.labels, &found[at])?;
            } else {
                visit(&with_agent(&group.labels, members[at]), &found[at])?;
            }
        }
    }
    Ok(())
}
