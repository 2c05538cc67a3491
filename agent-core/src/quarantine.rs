//! Where records lie that a sink refused for good, for a person to look at.
//!
//! One file a record, `<sink>-<stream>-<seq>.record`: its envelope as it lay in the log. Bounded by
//! [`FILES_MAX`] and [`BYTES_MAX`]: the oldest goes first, and that is said.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Serialize;
use wire::StreamId;

use crate::sink::LogRecord;

/// Records kept.
pub const FILES_MAX: usize = 1_000;

/// Bytes kept.
pub const BYTES_MAX: u64 = 16 << 20;

/// A directory of refused records.
#[derive(Debug)]
pub struct Quarantine {
    directory: PathBuf,
    files_max: usize,
}

impl Quarantine {
    /// Below the agent's data directory; made when it is first needed.
    #[must_use]
    pub fn below(data_dir: &Path) -> Self {
        Self { directory: data_dir.join("quarantine"), files_max: FILES_MAX }
    }

    /// Keeps a record; returns where. Keeping it again changes nothing.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(&self, sink: &str, stream: StreamId, record: &LogRecord) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(format!("{sink}-{stream}-{:020}.record", record.seq));
        let mut file = File::create(&path)?;
        file.write_all(&record.bytes)?;
        file.sync_all()?;
        self.trim()?;
        Ok(path)
    }

    fn trim(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            files.push((
                entry.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                entry.path(),
            ));
        }
        files.sort();
        let excess = files.len().saturating_sub(self.files_max);
        for (_, path) in files.drain(..excess) {
            tracing::warn!(path = %path.display(), "quarantine is full, removing its oldest record");
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// What lies in a quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// Where.
    pub directory: PathBuf,
    /// Records.
    pub records: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Refusals {
    /// What lies below an agent's data directory; `None` if there is no quarantine.
    #[must_use]
    pub fn below(data_dir: &Path) -> Option<Self> {
        let Quarantine { directory, .. } = Quarantine::below(data_dir);
        let entries = fs::read_dir(&directory).ok()?;
        let mut refusals = Self { directory, records: 0, bytes: 0 };
        for entry in entries.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "record") {
                refusals.records += 1;
                refusals.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Some(refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let quarantine = Quarantine { files_max: 3, ..Quarantine::below(directory.path()) };
        let stream = StreamId::from_bytes([1; 16]);
        let put = |seq| {
            let record = LogRecord { seq, bytes: vec![7; 3] };
            quarantine.put("hub", stream, &record).unwrap()
        };
        let path = put(1);
        assert_eq!(fs::read(&path).unwrap(), [7; 3]);
        assert_eq!(put(1), path);
        for seq in 2..=4 {
            assert!(put(seq).exists());
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
        assert!(!path.exists());
    }
}
