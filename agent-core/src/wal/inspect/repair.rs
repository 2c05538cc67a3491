//! Repairing a log: what the next start of an agent does, and reading it as sinks would, now.

use std::path::Path;

use super::{InspectError, StoppedLog, Summary, Verdict};
use crate::{
    BatchLimits,
    wal::{SledWal, Wal as _, WalError, WalOptions, fault::Fault},
};

const ALL: BatchLimits = BatchLimits { records: usize::MAX, bytes: usize::MAX };

/// What a repair did.
#[derive(Clone, Debug, PartialEq)]
pub struct Repaired {
    /// What was wrong.
    pub found: Verdict,
    /// How the log stood before.
    pub before: Summary,
    /// How it stands now.
    pub after: Summary,
    /// What is still wrong.
    pub left: Verdict,
}

/// Opens a log for real and reads it from end to end: what is damaged is put into quarantine, what is
/// readable is saved, gaps tell of the rest. What every sink has acknowledged is given back, and bounds
/// that are given are those of the quarantine.
///
/// # Errors
/// [`InspectError`] when there is no log, an agent owns it, or the disk refuses.
pub fn repair(directory: &Path, options: WalOptions) -> Result<Repaired, InspectError> {
    let log = StoppedLog::open(directory)?;
    let (found, before) = (log.verify()?, log.summary()?);
    drop(log);
    let mut wal = SledWal::open(directory, options)?;
    wal.read_through()?;
    wal.flush()?;
    drop(wal);
    let log = StoppedLog::open(directory)?;
    Ok(Repaired { found, before, after: log.summary()?, left: log.verify()? })
}

impl SledWal {
    /// Reads all that a sink waits for, as it would be read for one, which repairs what is damaged.
    fn read_through(&mut self) -> Result<(), WalError> {
        self.check_newest()?;
        for index in 0..self.row.len() {
            // What was repaired is read again.
            if !self.check_entry(index)? && !self.check_entry(index)? {
                return Err(WalError::Database {
                    operation: "read",
                    path: self.row.get(index).map(|entry| entry.path.clone()).unwrap_or_default(),
                    reason: "not readable, even after repair".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether an entry of the row reads; if not, it is now replaced.
    fn check_entry(&mut self, index: usize) -> Result<bool, WalError> {
        let from = self.acked_seq() + 1;
        let Some(entry) = self.row.get(index).filter(|entry| entry.gap.is_none()) else {
            return Ok(true);
        };
        let (first_seq, last_seq) = (entry.first_seq, entry.last_seq);
        if !self.open_reader(index)? {
            return Ok(false);
        }
        let Some(reader) = self.readers.get(first_seq) else { return Ok(false) };
        match reader.read(from.max(first_seq), last_seq, ALL) {
            Ok(_) => Ok(true),
            Err(Fault::Damaged(reason)) => {
                self.repair(index, &reason, None)?;
                Ok(false)
            }
            Err(fault) => Err(fault.into_error("read", reader.path())),
        }
    }

    /// Seals the newest generation if it doesn't read: in the row it is repaired like any other.
    fn check_newest(&mut self) -> Result<(), WalError> {
        let last_seq = self.last_seq;
        let Some(newest) = self.newest.as_ref().filter(|newest| newest.first_seq <= last_seq)
        else {
            return Ok(());
        };
        match newest.generation.read(newest.first_seq, last_seq, ALL) {
            Ok(_) => Ok(()),
            Err(fault @ Fault::Damaged(_)) => {
                self.fail("read", fault);
                Ok(())
            }
            Err(fault) => Err(fault.into_error("read", newest.path())),
        }
    }
}
