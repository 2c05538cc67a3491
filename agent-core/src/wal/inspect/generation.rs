//! One generation, read as an agent would read it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use wire::StreamId;

use super::scratch::Scratch;
use crate::{
    BatchLimits,
    sink::LogRecord,
    wal::{
        WalError,
        carve::{self, Carved},
        disk::Disk,
        fault::Fault,
        generation::{End, Generation, Schemas},
        packed::{self, Packed},
        salvage::check_end,
    },
};

const ALL: BatchLimits = BatchLimits { records: usize::MAX, bytes: usize::MAX };

/// The whole records and schemas in a generation's bytes, from number `from` on.
pub(super) fn raw(path: &Path, from: u64) -> Result<Carved, WalError> {
    let path = path.to_owned();
    carve::of(&path, from).map_err(|source| WalError::Io { operation: "scan", path, source })
}

/// Everything that a sealed generation was made to hold, or why it doesn't give that.
pub(super) fn sealed(
    path: &Path,
    first_seq: u64,
    last_seq: u64,
) -> Result<(Vec<LogRecord>, Schemas), Fault> {
    if packed::is_packed(path) {
        // It lies in one file, which reading doesn't change.
        let mut packed = Packed::open(path)?;
        check_end(packed.head().last_seq, last_seq)?;
        return Ok((packed.read(first_seq, last_seq, ALL)?, Arc::clone(packed.schemas())));
    }
    on_copy(path, |generation| {
        check_end(generation.end()?.last_seq.unwrap_or(0), last_seq)?;
        let schemas = generation.schemas()?;
        Ok((generation.read(first_seq, last_seq, ALL)?, schemas))
    })
}

/// Everything that the newest generation gives.
pub(super) fn readable(path: &Path, first_seq: u64) -> Result<(Vec<LogRecord>, Schemas), Fault> {
    on_copy(path, |generation| {
        let schemas = generation.schemas()?;
        let records = match generation.end()?.last_seq {
            Some(last_seq) => generation.read(first_seq, last_seq, ALL)?,
            None => Vec::new(),
        };
        Ok((records, schemas))
    })
}

/// What is asked of the newest generation when it is taken over.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) stream: StreamId,
    pub(super) cursors: BTreeMap<String, u64>,
    pub(super) end: End,
}

/// How the newest generation stands.
pub(super) fn newest(path: &Path, first_seq: u64) -> Result<Newest, Fault> {
    on_copy(path, |generation| {
        let (stream, end) = (generation.stream()?, generation.end()?);
        generation.counts(end.last_seq.unwrap_or(first_seq - 1))?;
        let cursors = generation.cursors()?;
        generation.schemas()?;
        Ok(Newest { stream, cursors, end })
    })
}

/// The stream that a generation's database names.
pub(super) fn stream(path: &Path) -> Result<StreamId, Fault> {
    on_copy(path, Generation::stream)
}

/// The cursors that a generation's database has.
pub(super) fn cursors(path: &Path) -> Result<BTreeMap<String, u64>, Fault> {
    on_copy(path, Generation::cursors)
}

fn on_copy<T>(path: &Path, ask: impl FnOnce(&Generation) -> Result<T, Fault>) -> Result<T, Fault> {
    let copy = Scratch::copy(path).map_err(Fault::Io)?;
    let generation = Generation::open(&Disk::default(), copy.path())?;
    ask(&generation)
}
