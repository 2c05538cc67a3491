//! JSON lines in a file that is rotated by size and by age.
//!
//! The lines are those of [`render::json`](crate::render::json), with stream and number. A batch is
//! acknowledged once it is synced; what comes again is skipped, also after a crash: each record is in
//! the files once, in order. `metrics.jsonl` becomes `metrics-20260102T030405.678Z.jsonl`, after the
//! time of its last record; the oldest files are removed.
//!
//! - `lines`: appending, and what stays true while any step may fail.
//! - `opening`, `recover`: what a file holds after a crash.
//! - `rotation`: names of rotated files.
//! - `disk`: what is asked of the file system.

mod disk;
mod lines;
mod opening;
mod recover;
mod rotation;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_core::{Batch, BatchLimits, Sink, SinkError, sink::BoxFuture};

use self::{
    disk::{Disk, RealDisk},
    lines::Lines,
    rotation::Names,
};
use crate::offload;

/// A sync for each batch: many records at once when there is a backlog. Lines are a hundred times the
/// size of their records, but only one is in memory at a time.
const LIMITS: BatchLimits = BatchLimits { records: 512, bytes: 256 << 10 };

/// Which file, and when it is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// The file that is written; its directory must be there.
    pub path: PathBuf,
    /// Bytes after which it is rotated; a single longer line has a file of its own.
    pub max_bytes: u64,
    /// Time between a file's first and last record after which it is rotated; `None`: never.
    pub max_age: Option<Duration>,
    /// Rotated files that are kept.
    pub keep: usize,
    /// Bytes of all files together, at least `max_bytes`; `None`: unbounded.
    pub max_total_bytes: Option<u64>,
    /// The host's name to write into each line, if any.
    pub host: Option<String>,
}

impl FileConfig {
    /// The defaults around a path: 64 MiB or a day a file, 7 rotated files.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 64 << 20,
            max_age: Some(Duration::from_secs(24 * 60 * 60)),
            keep: 7,
            max_total_bytes: None,
            host: None,
        }
    }
}

/// A configuration that can't work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileConfigError {
    /// The path doesn't end in a name.
    #[error("path {0:?} has no file name: expected something like /var/log/holdfast/metrics.jsonl")]
    Path(PathBuf),
    /// The bounds contradict each other.
    #[error("max_total_bytes is {total}, less than max_bytes, {one}: make it at least that")]
    Total {
        /// All files together.
        total: u64,
        /// One file.
        one: u64,
    },
}

/// Writes records as JSON lines.
pub struct FileSink {
    lines: Arc<Mutex<Lines>>,
}

impl FileSink {
    /// A sink to a file, which is opened with the first batch.
    ///
    /// # Errors
    /// [`FileConfigError`].
    pub fn new(config: FileConfig) -> Result<Self, FileConfigError> {
        Self::on(Box::new(RealDisk), config)
    }

    fn on(disk: Box<dyn Disk>, config: FileConfig) -> Result<Self, FileConfigError> {
        let names = Names::of(&config.path);
        let names = names.ok_or_else(|| FileConfigError::Path(config.path.clone()))?;
        let one = config.max_bytes;
        if let Some(total) = config.max_total_bytes.filter(|total| *total < one) {
            return Err(FileConfigError::Total { total, one });
        }
        Ok(Self { lines: Arc::new(Mutex::new(Lines::new(config, names, disk))) })
    }
}

impl Sink for FileSink {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        let batch = batch.clone();
        Box::pin(offload::run(&self.lines, move |lines| lines.append(&batch)))
    }
}
