//! The generation that is written.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use wire::{EncodedSchema, Kind, StreamId};

use super::{
    NewRecord,
    counts::Counts,
    fault::Fault,
    generation::{Generation, Schemas},
    limits::COUNTS_EVERY,
    row::Entry,
    sidecar,
};

/// How far a sink has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// The highest number it has acknowledged.
    pub(super) seq: u64,
    /// Whether the newest generation says so too, as of its last sync.
    pub(super) written: bool,
}

/// Cursors by sink.
pub(super) type Cursors = BTreeMap<String, Cursor>;

/// The generation that is written, and what is known of it.
pub(super) struct Newest {
    pub(super) generation: Generation,
    pub(super) first_seq: u64,
    pub(super) stream: StreamId,
    pub(super) counts: Counts,
    pub(super) schemas: Schemas,
    /// Number up to which counts are on disk.
    counted_seq: u64,
    /// Bytes on disk of everything but the data file, which is asked each time.
    beside_bytes: u64,
}

impl Newest {
    /// One that was just created.
    pub(super) fn empty(generation: Generation, stream: StreamId, first_seq: u64) -> Self {
        Self::found(generation, stream, first_seq, Counts::default(), Schemas::default())
    }

    /// One that was opened.
    pub(super) fn found(
        generation: Generation,
        stream: StreamId,
        first_seq: u64,
        counts: Counts,
        schemas: Schemas,
    ) -> Self {
        let all = sidecar::disk_bytes(generation.path());
        let beside_bytes = all.saturating_sub(generation.data_bytes());
        let counted_seq = counts.seq;
        Self { generation, first_seq, stream, counts, schemas, counted_seq, beside_bytes }
    }

    /// Writes a record with its schemas, and cursors that have moved; durable when it returns.
    pub(super) fn append(
        &mut self,
        seq: u64,
        whole: &[u8],
        record: &NewRecord<'_>,
        cursors: &mut Cursors,
    ) -> Result<(), Fault> {
        let before = self.counts;
        self.write(seq, whole, record)
            .and_then(|()| self.sync(cursors))
            .inspect_err(|_| self.counts = before)
    }

    fn write(&mut self, seq: u64, whole: &[u8], record: &NewRecord<'_>) -> Result<(), Fault> {
        self.put_schemas(record.schemas)?;
        self.put_record(seq, whole, record.kind, record.time_ms, record.samples)?;
        if seq - self.counted_seq.max(self.first_seq) >= COUNTS_EVERY {
            self.put_counts()?;
        }
        Ok(())
    }

    /// Writes schemas that are not there yet; not durable yet.
    pub(super) fn put_schemas<'a>(
        &mut self,
        schemas: impl IntoIterator<Item = &'a Arc<EncodedSchema>>,
    ) -> Result<(), Fault> {
        for schema in schemas {
            if !self.schemas.contains_key(&schema.id) {
                self.counts.bytes += self.generation.put_schema(schema)?;
                Arc::make_mut(&mut self.schemas).insert(schema.id, Arc::clone(schema));
            }
        }
        Ok(())
    }

    /// Writes a record and counts it; not durable yet.
    pub(super) fn put_record(
        &mut self,
        seq: u64,
        whole: &[u8],
        kind: Kind,
        time_ms: i64,
        samples: u64,
    ) -> Result<(), Fault> {
        self.generation.put_record(seq, kind, whole, time_ms, samples)?;
        self.counts.seq = seq;
        self.counts.bytes += whole.len() as u64;
        self.counts.tally.add(time_ms, samples);
        Ok(())
    }

    /// Writes what is counted; not durable yet.
    pub(super) fn put_counts(&mut self) -> Result<(), Fault> {
        self.generation.put_counts(&self.counts)?;
        self.counted_seq = self.counts.seq;
        Ok(())
    }

    /// Makes everything durable, cursors too.
    pub(super) fn sync(&mut self, cursors: &mut Cursors) -> Result<(), Fault> {
        for (sink, cursor) in cursors.iter().filter(|(_, cursor)| !cursor.written) {
            self.generation.put_cursor(sink, cursor.seq)?;
        }
        self.generation.sync()?;
        cursors.values_mut().for_each(|cursor| cursor.written = true);
        Ok(())
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.beside_bytes + self.generation.data_bytes()
    }

    /// Bytes in sled's blob files.
    pub(super) fn blob_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.path().join("blobs")).into_iter().flatten().flatten();
        files.map(|file| sidecar::disk_bytes(&file.path())).sum()
    }

    /// Whether no record is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.counts.tally.records == 0
    }

    /// What it is in the row once it is no longer written: everything up to `last_seq`.
    pub(super) fn entry(&self, last_seq: u64) -> Entry {
        Entry {
            first_seq: self.first_seq,
            last_seq,
            stream: self.stream,
            tally: self.counts.tally,
            path: self.path().to_owned(),
            disk_bytes: sidecar::disk_bytes(self.path()),
            gap: None,
        }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        self.generation.path()
    }
}
