//! A sealed database read from its raw bytes, without opening it.
//!
//! sled needs space to open one. On a disk that is full to the last byte what lies in it could not be
//! read, shipped and given back, and the disk would stay as full as it is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{carve::Carved, fault::Fault, generation::Schemas, salvage, wholes::check_record_of};
use crate::sink::{BatchLimits, LogRecord};

/// All that a sealed database holds, in memory: it is small.
#[derive(Debug)]
pub(super) struct Raw {
    path: PathBuf,
    records: BTreeMap<u64, Vec<u8>>,
    schemas: Schemas,
}

impl Raw {
    /// What was carved of a generation from `first_seq` to `last_seq`, if that is all of it.
    pub(super) fn of(path: &Path, carved: Carved, first_seq: u64, last_seq: u64) -> Option<Self> {
        let Carved { mut records, schemas, .. } = carved;
        // What lies beyond the last was never promised.
        drop(records.split_off(&(last_seq + 1)));
        let raw = Self { path: path.to_owned(), records, schemas: Arc::new(schemas) };
        let all = BatchLimits { records: usize::MAX, bytes: usize::MAX };
        raw.read(first_seq, last_seq, all).is_ok().then_some(raw)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its schemas.
    pub(super) const fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// The records from `from` up to `to` that `limits` allow, at least one. Every number in between
    /// is there or covered by a gap.
    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        limits: BatchLimits,
    ) -> Result<Vec<LogRecord>, Fault> {
        let (mut records, mut bytes, mut expected) = (Vec::new(), 0, from);
        for (&seq, whole) in self.records.range(from..=to) {
            let is_full = records.len() >= limits.records || bytes + whole.len() > limits.bytes;
            if is_full && !records.is_empty() {
                return Ok(records);
            }
            check_record_of(seq, expected, whole)?;
            bytes += whole.len();
            expected = seq + 1;
            records.push(LogRecord { seq, bytes: whole.clone() });
        }
        match expected > to {
            true => Ok(records),
            false => Err(Fault::Damaged(format!("record {expected} is missing"))),
        }
    }

    /// Unix milliseconds of a record.
    pub(super) fn time_of(&self, seq: u64) -> Option<i64> {
        let bytes = self.records.get(&seq)?;
        Some(salvage::piece(seq, bytes.clone()).time_ms)
    }
}
