//! Reading what lies after a sink's cursor, wherever it lies; what turns out to be damaged is repaired
//! on the way.

use std::sync::Arc;

use wire::{Kind, envelope};

use super::{WalError, fault::Fault, log::SledWal, row};
use crate::sink::{Batch, BatchLimits, LogRecord};

enum Found {
    Batch(Batch),
    Nothing,
    /// Something damaged was replaced: look again.
    Repaired,
}

impl SledWal {
    /// The durable records from `from` on, for a sink.
    pub(super) fn read_from(
        &mut self,
        from: u64,
        sink: &str,
        limits: BatchLimits,
    ) -> Result<Option<Batch>, WalError> {
        // Damage is found in the newest once, which makes it an entry of the row, and repaired once for
        // each of those; then it reads, or the disk refuses.
        for _ in 0..self.row.len() + 3 {
            let batch = match row::position(&self.row, from) {
                Some(index) => self.read_entry(index, sink, from, limits)?,
                None => self.read_newest(from, limits)?,
            };
            match batch {
                Found::Batch(batch) => return Ok(Some(batch)),
                Found::Nothing => return Ok(None),
                Found::Repaired => {}
            }
        }
        Err(WalError::Database {
            operation: "read",
            path: self.directory.clone(),
            reason: format!("nothing readable from {from} on, even after repair"),
        })
    }

    fn read_newest(&mut self, from: u64, limits: BatchLimits) -> Result<Found, WalError> {
        let Some(newest) = self.newest.as_ref().filter(|_| from <= self.last_seq) else {
            return Ok(Found::Nothing);
        };
        let from = from.max(newest.first_seq);
        match newest.generation.read(from, self.last_seq, limits) {
            Ok(records) => {
                let schemas = Arc::clone(&newest.schemas);
                Ok(Found::Batch(Batch { stream_id: newest.stream, records, schemas }))
            }
            Err(fault @ Fault::Io(_)) => Err(self.fail("read", fault)),
            Err(Fault::Damaged(reason)) => {
                tracing::warn!(reason, "the newest generation of the log is damaged, sealing it");
                // In the row it is repaired like any other.
                self.fail("read", Fault::Damaged(reason));
                Ok(Found::Repaired)
            }
        }
    }

    fn read_entry(
        &mut self,
        index: usize,
        sink: &str,
        from: u64,
        limits: BatchLimits,
    ) -> Result<Found, WalError> {
        let is_required = self.losses.is_required(sink);
        let Some(entry) = self.row.get_mut(index) else { return Ok(Found::Nothing) };
        let (stream_id, first_seq, last_seq) = (entry.stream, entry.first_seq, entry.last_seq);
        if let Some(gap) = &mut entry.gap {
            let told = match is_required {
                true => gap.gap_from(from),
                false => gap.gap_from_best_effort(from.max(first_seq)),
            };
            let bytes = envelope::encode(Kind::Gap, last_seq, &told.encode())?;
            gap.given.insert(sink.to_owned());
            let records = vec![LogRecord { seq: last_seq, bytes }];
            return Ok(Found::Batch(Batch { stream_id, records, schemas: Arc::default() }));
        }
        if !self.open_reader(index)? {
            return Ok(Found::Repaired);
        }
        let Some(reader) = self.readers.get(first_seq) else { return Ok(Found::Repaired) };
        match reader.read(from.max(first_seq), last_seq, limits) {
            Ok(records) => {
                let schemas = Arc::clone(reader.schemas());
                Ok(Found::Batch(Batch { stream_id, records, schemas }))
            }
            Err(Fault::Damaged(reason)) => {
                self.repair(index, &reason, None)?;
                Ok(Found::Repaired)
            }
            Err(fault) => {
                let error = fault.into_error("read", reader.path());
                self.readers.close(first_seq);
                Err(error)
            }
        }
    }
}
