//! Samples as they are read.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::{SeriesId, StoreError};

/// Which samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// Of which series; an unknown one has no samples.
    pub series: Vec<SeriesId>,
    /// From this time on, Unix milliseconds.
    pub from_ms: i64,
    /// Up to and including this time.
    pub to_ms: i64,
}

/// Samples as they are read; dropping it ends the reading.
#[derive(Debug)]
pub struct Samples {
    chunks: mpsc::Receiver<Result<Chunk, StoreError>>,
}

/// Some samples of one series. A series' chunks come in order of time and don't overlap; no time is
/// there twice (of several samples at one time, the one sent last counts).
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Place of the series in [`ReadRequest::series`].
    pub series: usize,
    /// Unix milliseconds, ascending; never empty.
    pub times: Vec<i64>,
    /// A value for each time.
    pub values: Vec<f64>,
}

impl Samples {
    /// Samples that come through a channel; a bounded one keeps memory bounded.
    #[must_use]
    pub const fn new(chunks: mpsc::Receiver<Result<Chunk, StoreError>>) -> Self {
        Self { chunks }
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// [`StoreError`] when reading fails; nothing more comes then.
    pub async fn next(&mut self) -> Result<Option<Chunk>, StoreError> {
        self.chunks.recv().await.transpose()
    }

    /// All there is, a vector for each of `series` asked for. For small requests: what a rule looks
    /// at, what a test compares.
    ///
    /// # Errors
    /// As [`Samples::next`].
    pub async fn collect(mut self, series: usize) -> Result<Vec<Vec<(i64, f64)>>, StoreError> {
        let mut all = vec![Vec::new(); series];
        while let Some(chunk) = self.next().await? {
            chunk.add_to(&mut all);
        }
        Ok(all)
    }

    /// As [`Samples::collect`], but what no longer reads back fails only the series that it is of.
    ///
    /// # Errors
    /// As [`Samples::next`], but for [`StoreError::Damaged`].
    pub async fn collect_readable(mut self, series: usize) -> Result<Readable, StoreError> {
        let mut readable = Readable { samples: vec![Vec::new(); series], unread: BTreeMap::new() };
        loop {
            match self.next().await {
                Ok(Some(chunk)) => chunk.add_to(&mut readable.samples),
                Ok(None) => return Ok(readable),
                Err(StoreError::Damaged { what, detail, series }) => {
                    let reason = format!("damaged {what}: {detail}");
                    readable.unread.extend(series.into_iter().map(|one| (one, reason.clone())));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Samples of which some may not be readable any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readable {
    /// A vector for each series asked for.
    pub samples: Vec<Vec<(i64, f64)>>,
    /// The series that lack some, by their places, and why.
    pub unread: BTreeMap<usize, String>,
}

impl Chunk {
    fn add_to(self, all: &mut [Vec<(i64, f64)>]) {
        if let Some(one) = all.get_mut(self.series) {
            one.extend(self.times.into_iter().zip(self.values));
        }
    }
}
