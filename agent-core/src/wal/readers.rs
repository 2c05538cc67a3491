//! Sealed generations that are open for reading: few, the least used closed first.

use std::{collections::VecDeque, sync::Arc};

use wire::{EncodedSchema, SchemaId};

use super::{
    generation::{Generation, Schemas},
    limits::READERS_MAX,
};

/// Open generations by their first number, the last used at the end.
#[derive(Default)]
pub(super) struct Readers {
    open: VecDeque<(u64, Generation, Schemas)>,
}

impl Readers {
    /// Keeps a generation open, as the last used.
    pub(super) fn keep(&mut self, first_seq: u64, generation: Generation, schemas: Schemas) {
        self.close(first_seq);
        while self.open.len() >= READERS_MAX {
            self.open.pop_front();
        }
        self.open.push_back((first_seq, generation, schemas));
    }

    /// An open generation.
    pub(super) fn get(&mut self, first_seq: u64) -> Option<(&Generation, &Schemas)> {
        let index = self.open.iter().position(|(first, ..)| *first == first_seq)?;
        let reader = self.open.remove(index)?;
        self.open.push_back(reader);
        self.open.back().map(|(_, generation, schemas)| (generation, schemas))
    }

    /// An open generation, without using it.
    pub(super) fn peek(&self, first_seq: u64) -> Option<&Generation> {
        self.open
            .iter()
            .find(|(first, ..)| *first == first_seq)
            .map(|(_, generation, _)| generation)
    }

    /// A schema of that name, wherever it is.
    pub(super) fn schema(&self, id: SchemaId) -> Option<&Arc<EncodedSchema>> {
        self.open.iter().find_map(|(.., schemas)| schemas.get(&id))
    }

    /// Closes a generation, if it is open.
    pub(super) fn close(&mut self, first_seq: u64) {
        self.open.retain(|(first, ..)| *first != first_seq);
    }
}
