//! Sealed generations that are open for reading: few, the least used closed first.

use std::{collections::VecDeque, path::Path, sync::Arc};

use wire::{EncodedSchema, SchemaId};

use super::{
    fault::Fault,
    generation::{Generation, Schemas},
    limits::READERS_MAX,
    packed::Packed,
    raw::Raw,
};
use crate::sink::{BatchLimits, LogRecord};

/// An open generation, whatever it lies in.
pub(super) enum Reader {
    /// Not packed yet.
    Sled(Generation, Schemas),
    /// Packed.
    Packed(Box<Packed>),
    /// A database for whose opening there is no space.
    Raw(Raw),
}

impl Reader {
    /// The records from `from` up to `to` that `limits` allow, at least one.
    pub(super) fn read(
        &mut self,
        from: u64,
        to: u64,
        limits: BatchLimits,
    ) -> Result<Vec<LogRecord>, Fault> {
        match self {
            Self::Sled(generation, _) => generation.read(from, to, limits),
            Self::Packed(packed) => packed.read(from, to, limits),
            Self::Raw(raw) => raw.read(from, to, limits),
        }
    }

    /// Its schemas.
    pub(super) fn schemas(&self) -> &Schemas {
        match self {
            Self::Sled(_, schemas) => schemas,
            Self::Packed(packed) => packed.schemas(),
            Self::Raw(raw) => raw.schemas(),
        }
    }

    /// Unix milliseconds of a record, if that is known without much ado.
    pub(super) fn time_of(&self, seq: u64) -> Option<i64> {
        match self {
            Self::Sled(generation, _) => generation.time_of(seq),
            Self::Packed(packed) => packed.time_of(seq),
            Self::Raw(raw) => raw.time_of(seq),
        }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Sled(generation, _) => generation.path(),
            Self::Packed(packed) => packed.path(),
            Self::Raw(raw) => raw.path(),
        }
    }
}

/// Open generations by their first number, the last used at the end.
#[derive(Default)]
pub(super) struct Readers {
    open: VecDeque<(u64, Reader)>,
}

impl Readers {
    /// Keeps a generation open, as the last used.
    pub(super) fn keep(&mut self, first_seq: u64, reader: Reader) {
        self.close(first_seq);
        while self.open.len() >= READERS_MAX {
            self.open.pop_front();
        }
        self.open.push_back((first_seq, reader));
    }

    /// An open generation.
    pub(super) fn get(&mut self, first_seq: u64) -> Option<&mut Reader> {
        let index = self.open.iter().position(|(first, _)| *first == first_seq)?;
        let reader = self.open.remove(index)?;
        self.open.push_back(reader);
        self.open.back_mut().map(|(_, reader)| reader)
    }

    /// An open generation, without using it.
    pub(super) fn peek(&self, first_seq: u64) -> Option<&Reader> {
        self.open.iter().find(|(first, _)| *first == first_seq).map(|(_, reader)| reader)
    }

    /// A schema of that name, wherever it is.
    pub(super) fn schema(&self, id: SchemaId) -> Option<&Arc<EncodedSchema>> {
        self.open.iter().find_map(|(_, reader)| reader.schemas().get(&id))
    }

    /// Closes a generation, if it is open.
    pub(super) fn close(&mut self, first_seq: u64) {
        self.open.retain(|(first, _)| *first != first_seq);
    }
}
