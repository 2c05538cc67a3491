//! Makes the bytes of a packed generation; see [`packed`](super::packed) for what they are.
//!
//! All of them in memory: a generation is small, and so its length is known before anything of it is
//! written.

use std::sync::Arc;

use wire::{EncodedSchema, EnvelopeError, Kind, StreamId, envelope};

use super::{
    frame::{Framer, What},
    limits::{FRAME_BYTES, FRAME_RECORDS},
    packed::{Head, Item},
    sidecar::{self, Tally},
};

/// Makes the bytes of a packed generation.
pub(super) struct Packer {
    framer: Framer,
    head: Head,
    out: Vec<u8>,
    /// What the next frame of records will hold, how many, and from which number on.
    raw: Vec<u8>,
    records: usize,
    frame_first_seq: u64,
    last_seq: u64,
}

impl Packer {
    /// A packed generation from `first_seq` on. `schemas` is everything its records name.
    pub(super) fn new<'a>(
        stream: StreamId,
        first_seq: u64,
        cursors: impl Iterator<Item = (&'a str, u64)>,
        schemas: &[Arc<EncodedSchema>],
    ) -> Result<Self, EnvelopeError> {
        let cursors = cursors.map(|(sink, seq)| (sink.to_owned(), seq)).collect();
        let last_seq = first_seq - 1;
        let tally = Some(Tally::default());
        let head = Head { stream, first_seq, last_seq, tally, cursors, bytes: 0 };
        let (framer, out, raw) = (Framer::new(stream), Vec::new(), Vec::new());
        let (records, frame_first_seq) = (0, first_seq);
        let mut new = Self { framer, head, out, raw, records, frame_first_seq, last_seq };
        new.put_head();
        new.put_schemas(schemas)?;
        Ok(new)
    }

    /// Adds a record; numbers ascend.
    pub(super) fn put(&mut self, item: Item<'_>) {
        let samples = u32::try_from(item.samples).unwrap_or(u32::MAX);
        self.raw.extend_from_slice(&item.time_ms.to_le_bytes());
        self.raw.extend_from_slice(&samples.to_le_bytes());
        self.raw.extend_from_slice(item.bytes);
        self.records += 1;
        self.last_seq = item.seq;
        if self.records >= FRAME_RECORDS || self.raw.len() >= FRAME_BYTES {
            self.end_frame();
        }
    }

    /// The file.
    pub(super) fn finish(
        mut self,
        tally: Tally,
        schemas: &[Arc<EncodedSchema>],
    ) -> Result<Vec<u8>, EnvelopeError> {
        self.end_frame();
        self.put_schemas(schemas)?;
        self.head.bytes = self.out.len() as u64;
        self.head.last_seq = self.last_seq;
        self.head.tally = Some(tally);
        let rest = std::mem::take(&mut self.out);
        self.put_head();
        let mut out = rest;
        out[..self.out.len()].copy_from_slice(&self.out);
        Ok(out)
    }

    /// The same number of bytes, whatever is known by now.
    fn put_head(&mut self) {
        let raw = [
            &self.head.bytes.to_le_bytes()[..],
            &self.head.tally.unwrap_or_default().encode(),
            &sidecar::encode_cursors(self.head.cursors.iter().map(|(s, seq)| (s.as_str(), *seq))),
        ];
        let seqs = (self.head.first_seq, self.head.last_seq);
        self.framer.put(&mut self.out, What::Head, seqs, &raw.concat());
    }

    fn put_schemas(&mut self, schemas: &[Arc<EncodedSchema>]) -> Result<(), EnvelopeError> {
        let mut raw = Vec::new();
        let seqs = (self.head.first_seq, self.head.first_seq);
        for (index, schema) in schemas.iter().enumerate() {
            envelope::encode_into(&mut raw, Kind::Schema, 0, &schema.payload)?;
            if raw.len() >= FRAME_BYTES || index + 1 == schemas.len() {
                self.framer.put(&mut self.out, What::Schemas, seqs, &raw);
                raw.clear();
            }
        }
        Ok(())
    }

    fn end_frame(&mut self) {
        if self.records > 0 {
            let seqs = (self.frame_first_seq, self.last_seq);
            self.framer.put(&mut self.out, What::Records, seqs, &self.raw);
            self.frame_first_seq = self.last_seq + 1;
            self.records = 0;
            self.raw.clear();
        }
    }
}
