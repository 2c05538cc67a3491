//! What an expression reads, from any [`Reader`].
//!
//! Which series there are is asked once for each selector; their samples are then read in batches of
//! about [`BATCH_SAMPLES`], so that memory holds one batch and not the fleet. It blocks: evaluation has a
//! thread of its own, and waits there for what the store reads elsewhere.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use promql::{Error, Sample, Selection, Source, Visit};
use tokio::runtime::Handle;

use super::{
    names::{Group, groups, with_agent},
    stop::Stop,
};
use crate::store::{ReadRequest, Reader, Selector, Series, StoreError};

/// Samples in memory at one time, as near as can be told before they are read.
const BATCH_SAMPLES: usize = 500_000;
/// Time between two samples of a series, before any has been seen.
const INTERVAL_MS: i64 = 10_000;
/// What is said of an answer that lacks damaged samples.
const DAMAGED: &str = "some stored samples no longer read and are left out";

/// Reads for one query.
pub(crate) struct StoreSource {
    reader: Arc<dyn Reader>,
    handle: Handle,
    stop: Arc<Stop>,
    series_max: usize,
    warnings: RefCell<BTreeSet<String>>,
}

impl StoreSource {
    /// Reads until told to stop; at most so many series for one selector, and one more.
    pub(crate) fn new(reader: Arc<dyn Reader>, stop: Arc<Stop>, series_max: usize) -> Self {
        let handle = Handle::current();
        Self { reader, handle, stop, series_max, warnings: RefCell::default() }
    }

    /// What an answer made of this may lack.
    pub(crate) fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner().into_iter().collect()
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

    /// The samples of some series, in their order.
    fn samples(
        &self,
        series: &[&Series],
        selection: &Selection<'_>,
    ) -> Result<Vec<Vec<Sample>>, Error> {
        let request = ReadRequest {
            series: series.iter().map(|one| one.id).collect(),
            from_ms: selection.start_ms,
            to_ms: selection.end_ms,
        };
        let mut all = vec![Vec::new(); series.len()];
        self.wait(async {
            let mut samples = self.reader.read(request).await?;
            loop {
                match samples.next().await {
                    Ok(None) => return Ok(()),
                    Ok(Some(chunk)) => {
                        let Some(one) = all.get_mut(chunk.series) else { continue };
                        let values = chunk.times.iter().zip(&chunk.values);
                        one.extend(values.map(|(t, v)| Sample { time_ms: *t, value: *v }));
                    }
                    // Said with the answer, after all that could be read.
                    Err(StoreError::Damaged { .. }) => {
                        self.warnings.borrow_mut().insert(DAMAGED.to_owned());
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        })?;
        Ok(all)
    }
}

fn failed(error: StoreError) -> Error {
    tracing::error!(error = &error as &dyn std::error::Error, "store failed under a query");
    Error::Source(error.to_string())
}

impl Source for StoreSource {
    fn select(&self, selection: &Selection<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
        let series = self.series(selection)?;
        let groups = groups(&series);
        let mut rest = groups.as_slice();
        let mut each = expected(selection);
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((BATCH_SAMPLES / each).clamp(1, rest.len()));
            let members: Vec<&Series> =
                batch.iter().flat_map(|group| &group.members).map(|at| &series[*at]).collect();
            let samples = self.samples(&members, selection)?;
            each = samples.iter().map(Vec::len).fold(each, usize::max);
            show(batch, &members, &samples, visit)?;
            rest = after;
        }
        Ok(())
    }
}

/// Samples that a series may have.
fn expected(selection: &Selection<'_>) -> usize {
    let span_ms = selection.end_ms.saturating_sub(selection.start_ms).max(0);
    usize::try_from(span_ms / INTERVAL_MS).unwrap_or(usize::MAX).max(1)
}

/// Shows what was read of some groups: `members` and `samples` are theirs, one after the other.
fn show(
    groups: &[Group],
    members: &[&Series],
    samples: &[Vec<Sample>],
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let mut start = 0;
    for group in groups {
        let own = start..start + group.members.len();
        start = own.end;
        let there = || own.clone().filter(|at| !samples[*at].is_empty());
        let is_one = there().nth(1).is_none();
        for at in there() {
            if is_one {
                visit(&group.labels, &samples[at])?;
            } else {
                visit(&with_agent(&group.labels, members[at]), &samples[at])?;
            }
        }
    }
    Ok(())
}
