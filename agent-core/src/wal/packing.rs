//! When a sealed generation is packed, and how that survives a crash.
//!
//! A generation that is sealed while records in it wait is written once more as one flat file
//! ([`packed`](super::packed)), a quarter of its size and read without a database. It is not worth it
//! for one that is as good as taken: if only its end waits, it is left alone until more was appended,
//! and by then it is mostly given back as a whole.
//!
//! Nothing waits for packing. It comes after the record of an [`append`](super::Wal::append) is durable,
//! one generation at a time, and what keeps it from being done, a full disk or the bound on bytes, costs
//! nothing but space: the database stays, and it is tried again later.
//!
//! | step | a crash behind it leaves | next opening |
//! |---|---|---|
//! | 1. write `<first seq>.new`, sync it | the database; maybe part of a file | removes the file |
//! | 2. rename it to `<first seq>.pack`, sync the directory | both | removes the database if every frame of the file is whole, else the file |
//! | 3. remove the database | the file | – |

use std::io::ErrorKind;

use super::{
    WalError,
    fault::Fault,
    generation::{Generation, Schemas},
    limits::{
        FRAME_BYTES, FRAME_RECORDS, PACK_AGAIN_RECORDS, PACK_TAIL_PART, PACK_TAIL_RECORDS,
        PACKED_BYTES_MAX,
    },
    log::SledWal,
    packed::{self, Item},
    packer::Packer,
    readers::Reader,
    row::Entry,
    sidecar,
};
use crate::{shipper::error_chain, sink::BatchLimits};

/// What is read at once from a database.
const CHUNK: BatchLimits = BatchLimits { records: FRAME_RECORDS, bytes: FRAME_BYTES };

/// When to try again, and whether it has been told that it fails.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    again_seq: u64,
    is_told: bool,
}

impl SledWal {
    /// Packs a sealed generation, if one is worth it.
    pub(super) fn pack(&mut self) {
        if self.last_seq < self.attempts.again_seq {
            return;
        }
        let Some(index) = (0..self.row.len()).rev().find(|index| self.is_worth_packing(*index))
        else {
            return;
        };
        let first_seq = self.row.get(index).map(|entry| entry.first_seq);
        match self.pack_entry(index) {
            Ok(()) => self.attempts = Attempts::default(),
            Err(error) => {
                self.put_off(&error);
                // Open, it takes memory.
                first_seq.into_iter().for_each(|first_seq| self.readers.close(first_seq));
            }
        }
    }

    fn put_off(&mut self, error: &WalError) {
        let reason = error_chain(error);
        if self.attempts.is_told {
            tracing::debug!(reason, "a generation of the log still can't be packed");
        } else {
            tracing::warn!(reason, "can't pack a generation of the log, it takes more space");
        }
        let again_seq = self.last_seq + PACK_AGAIN_RECORDS;
        self.attempts = Attempts { again_seq, is_told: true };
    }

    fn is_worth_packing(&self, index: usize) -> bool {
        let Some(entry) = self.row.get(index).filter(|entry| entry.is_database()) else {
            return false;
        };
        let covered = entry.last_seq + 1 - entry.first_seq;
        let waiting = entry.last_seq.saturating_sub(self.acked_seq()).min(covered);
        let newest = self.newest.as_ref().map_or(0, |newest| newest.counts.tally.records);
        let is_left = newest >= PACK_TAIL_RECORDS || index + 1 < self.row.len();
        waiting > covered / PACK_TAIL_PART || (waiting > 0 && is_left)
    }

    fn pack_entry(&mut self, index: usize) -> Result<(), WalError> {
        let first_seq = self.row.get(index).map_or(0, |entry| entry.first_seq);
        if let Some(Reader::Raw(_)) = self.readers.peek(first_seq) {
            // Since then there may be space for opening it.
            self.readers.close(first_seq);
        }
        if !self.open_reader(index)? {
            // It was damaged, and what was saved of it is packed.
            return Ok(());
        }
        let Some(entry) = self.row.get(index) else { return Ok(()) };
        let Some(Reader::Sled(generation, schemas)) = self.readers.peek(first_seq) else {
            let source = ErrorKind::StorageFull.into();
            return Err(WalError::Io { operation: "open", path: entry.path.clone(), source });
        };
        let cursors = self.cursors.iter().map(|(sink, cursor)| (sink.as_str(), cursor.seq));
        let bytes = match bytes_of(entry, generation, schemas, cursors) {
            Ok(bytes) => bytes,
            Err(Fault::Damaged(reason)) => return self.repair(index, &reason, None),
            Err(fault) => return Err(fault.into_error("read", &entry.path)),
        };
        let room = self.bounds.bytes_max.saturating_sub(self.disk_bytes());
        let size = bytes.len() as u64;
        if size > room.min(PACKED_BYTES_MAX) {
            let reason = format!("{size} bytes for a while, where the bound leaves {room}");
            return Err(WalError::Database { operation: "pack", path: entry.path.clone(), reason });
        }
        self.replace_database(index, &bytes)
    }

    fn replace_database(&mut self, index: usize, bytes: &[u8]) -> Result<(), WalError> {
        let Some(entry) = self.row.get_mut(index) else { return Ok(()) };
        let (database, aside) = (entry.path.clone(), entry.path.with_extension("new"));
        let place = database.with_extension(packed::EXTENSION);
        let io = |operation, source| WalError::Io { operation, path: place.clone(), source };
        let disk = &self.disk;
        sidecar::write_aside(disk, &aside, bytes).map_err(|source| io("write", source))?;
        disk.rename(&aside, &place).map_err(|source| io("rename", source))?;
        disk.sync_directory(&self.directory).map_err(|source| io("sync", source))?;
        entry.path.clone_from(&place);
        entry.disk_bytes = sidecar::disk_bytes(&place);
        self.readers.close(entry.first_seq);
        let packed_bytes = entry.disk_bytes;
        tracing::debug!(path = %place.display(), packed_bytes, "packed a generation of the log");
        if let Err(error) = sidecar::remove(disk, &database) {
            // It goes when the log is next opened.
            tracing::warn!(path = %database.display(), %error, "can't remove what was packed");
        }
        Ok(())
    }
}

/// A database's records and schemas as one packed file.
fn bytes_of<'a>(
    entry: &Entry,
    generation: &Generation,
    schemas: &Schemas,
    cursors: impl Iterator<Item = (&'a str, u64)>,
) -> Result<Vec<u8>, Fault> {
    let mut schemas: Vec<_> = schemas.values().cloned().collect();
    schemas.sort_by_key(|schema| schema.id);
    let record = |error: wire::EnvelopeError| Fault::Io(error.into());
    let mut packer =
        Packer::new(entry.stream, entry.first_seq, cursors, &schemas).map_err(record)?;
    let mut from = entry.first_seq;
    while from <= entry.last_seq {
        for (seq, whole) in generation.wholes(from, entry.last_seq, CHUNK)? {
            let (time_ms, samples) = (whole.time_ms, whole.samples);
            packer.put(Item { seq, time_ms, samples, bytes: &whole.bytes });
            from = seq + 1;
        }
    }
    packer.finish(entry.tally, &schemas).map_err(record)
}
