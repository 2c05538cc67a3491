//! The log: a row of sealed generations and the newest one, with a cursor for each sink.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;
use wire::{EncodedSchema, EnvelopeError, Gap, Kind, StreamId, envelope};

use super::{
    NewRecord, Wal, WalError, WalOptions, WalStats,
    disk::Disk,
    giving_back::Keep,
    limits,
    lock::DirLock,
    losses::Losses,
    newest::{Cursor, Cursors, Newest},
    packing::Attempts,
    quarantine::Quarantine,
    readers::Readers,
    reserve::Reserve,
    row::{self, Entry},
    salvage,
    sidecar::Witness,
};
use crate::sink::{Batch, BatchLimits, Delivery};

/// The log on sled. See [`crate::wal`] for what it promises.
pub struct SledWal {
    pub(super) disk: Disk,
    pub(super) directory: PathBuf,
    pub(super) bounds: Bounds,
    pub(super) stream: StreamId,
    pub(super) last_seq: u64,
    /// Time of the record appended last.
    pub(super) last_ms: Option<i64>,
    pub(super) row: VecDeque<Entry>,
    /// `None` until the first append, and after a failed one.
    pub(super) newest: Option<Newest>,
    pub(super) readers: Readers,
    pub(super) cursors: Cursors,
    pub(super) losses: Losses,
    pub(super) reserve: Reserve,
    pub(super) quarantine: Quarantine,
    pub(super) witness: Witness,
    /// Of packing, when they fail.
    pub(super) attempts: Attempts,
    /// To be told in the stream before the next record.
    pub(super) untold: Option<Gap>,
    pub(super) dropped_records: u64,
    pub(super) dropped_samples: u64,
    /// As last looked at.
    pub(super) blob_bytes: u64,
    /// Number and time of the oldest record that a required sink waits for.
    pub(super) oldest: Option<(u64, i64)>,
    /// Last field: let go of when all else is closed.
    pub(super) _lock: DirLock,
}

/// [`WalOptions`], and what follows from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes_max: u64,
    pub(super) age_ms_max: i64,
    /// Live bytes at which a generation is full.
    pub(super) generation_bytes: u64,
}

impl From<WalOptions> for Bounds {
    fn from(options: WalOptions) -> Self {
        let bytes_max = options.max_bytes.max(limits::MAX_BYTES_MIN);
        Self {
            bytes_max,
            age_ms_max: crate::clock::millis(options.max_age),
            generation_bytes: (bytes_max / limits::GENERATIONS_PER_BOUND)
                .min(limits::GENERATION_BYTES_MAX),
        }
    }
}

impl Wal for SledWal {
    fn stream_id(&self) -> StreamId {
        self.stream
    }

    fn append(&mut self, record: &NewRecord<'_>) -> Result<u64, WalError> {
        if !record.kind.is_record() {
            return Err(EnvelopeError::Kind { found: record.kind as u16 }.into());
        }
        self.tell()?;
        let before = self.last_ms.replace(record.time_ms);
        let appended = self.append_one(record);
        if appended.is_err() {
            self.last_ms = before;
            self.give_back(Keep::Nothing);
        }
        let seq = appended?;
        self.enforce();
        self.pack();
        Ok(seq)
    }

    fn register_as(&mut self, sink: &str, delivery: Delivery) -> Result<u64, WalError> {
        let given_back_to = self.first_seq() - 1;
        let known = self.cursors.get(sink).map(|cursor| cursor.seq);
        let held = (self.stream_from(given_back_to + 1).0, self.oldest_ms());
        // Where its cursor can't be read, what it lost still says where it was at most.
        let found = known.or_else(|| self.losses.seq_before(sink)).unwrap_or(given_back_to);
        let seq = self.losses.go_on(sink, delivery, found, given_back_to, held);
        if known != Some(seq) {
            self.cursors.insert(sink.to_owned(), Cursor { seq, written: false });
            self.note_last(None);
        }
        self.reclaim();
        Ok(seq)
    }

    fn retain_sinks(&mut self, sinks: &[&str]) -> Result<Vec<String>, WalError> {
        let gone = self.cursors.keys().filter(|name| !sinks.contains(&name.as_str()));
        let gone: Vec<String> = gone.cloned().collect();
        for name in &gone {
            self.cursors.remove(name);
            self.losses.remove(name);
            let removed = self.newest.as_ref().map(|newest| newest.generation.remove_cursor(name));
            if let Some(Err(fault)) = removed {
                return Err(self.fail("remove cursor", fault));
            }
        }
        self.note_last(None);
        self.reclaim();
        Ok(gone)
    }

    fn read(&mut self, sink: &str, limits: BatchLimits) -> Result<Option<Batch>, WalError> {
        let from = self.cursor(sink)? + 1;
        if let Some(gap) = self.losses.tell(sink, from - 1)? {
            return Ok(Some(gap));
        }
        self.read_from(from, sink, limits)
    }

    fn acknowledge(&mut self, sink: &str, seq: u64) -> Result<(), WalError> {
        let before = self.cursor(sink)?;
        let held = self.stream_from(before + 1);
        let lost = self.losses.stream_of(sink).filter(|(stream, _)| *stream != held.0);
        let (stream, end) = lost.unwrap_or(held);
        if seq > end && stream == self.stream {
            self.leave_stream(sink, seq);
        }
        // The far side may hold more of a stream than is left of it here; the numbers behind it belong
        // to another one.
        let seq = seq.min(end);
        if seq > before {
            self.cursors.insert(sink.to_owned(), Cursor { seq, written: false });
            self.losses.forget(sink, seq);
            self.reclaim();
        }
        Ok(())
    }

    fn lost(&self) -> &BTreeMap<String, u64> {
        self.losses.counted()
    }

    fn stats(&self) -> WalStats {
        let acked_seq = self.acked_seq();
        let sealed: u64 = self.row.iter().map(|entry| entry.after(acked_seq).records).sum();
        let newest = self.newest.as_ref().filter(|newest| !newest.is_empty());
        let newest = newest.map_or(0, |newest| {
            (self.last_seq + 1).saturating_sub(newest.first_seq.max(acked_seq + 1))
        });
        WalStats {
            disk_bytes: self.disk_bytes(),
            records: sealed + newest,
            generations: (self.row.iter().filter(|entry| entry.gap.is_none()).count()
                + usize::from(self.newest.is_some())) as u64,
            last_seq: self.last_seq,
            last_ms: self.last_ms,
            oldest_ms: self.oldest.map(|(_, time_ms)| time_ms),
            dropped_records: self.dropped_records,
            dropped_samples: self.dropped_samples,
            blob_bytes: self.blob_bytes,
        }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        if self.cursors.values().all(|cursor| cursor.written) {
            return Ok(());
        }
        self.make_newest()?;
        let Some(newest) = &mut self.newest else { return Ok(()) };
        let flushed = newest.put_counts().and_then(|()| newest.sync(&mut self.cursors));
        flushed.map_err(|fault| self.fail("flush", fault))?;
        self.note_last(None);
        Ok(())
    }
}

impl SledWal {
    /// The lowest number that is held, or the next one.
    pub(super) fn first_seq(&self) -> u64 {
        let newest = self.newest.as_ref().map_or(self.last_seq + 1, |newest| newest.first_seq);
        self.row.front().map_or(newest, |entry| entry.first_seq)
    }

    /// The highest number that every required sink has acknowledged; 0 without one.
    pub(super) fn acked_seq(&self) -> u64 {
        let required = self.cursors.iter().filter(|(sink, _)| self.losses.is_required(sink));
        required.map(|(_, cursor)| cursor.seq).min().unwrap_or(0)
    }

    /// The highest number that no sink reads any more; 0 without sinks.
    pub(super) fn unread_seq(&self) -> u64 {
        self.cursors.values().map(|cursor| cursor.seq).min().unwrap_or(0)
    }

    fn cursor(&self, sink: &str) -> Result<u64, WalError> {
        let cursor = self.cursors.get(sink).map(|cursor| cursor.seq);
        cursor.ok_or_else(|| WalError::UnknownSink(sink.to_owned()))
    }

    /// The stream that `seq` belongs to, and its last number here.
    fn stream_from(&self, seq: u64) -> (StreamId, u64) {
        let index = row::position(&self.row, seq).unwrap_or(self.row.len());
        let stream = self.row.get(index).map_or(self.stream, |entry| entry.stream);
        let rest = self.row.iter().skip(index).take_while(|entry| entry.stream == stream);
        let end = rest.last().map_or(0, |entry| entry.last_seq);
        (stream, if stream == self.stream { self.last_seq } else { end })
    }

    /// Begins another stream, since a sink holds more of this one than was written here: the log was
    /// set back, by a restored snapshot or a disk that lied. Numbers were given out twice, and the far
    /// side took the second for the first.
    fn leave_stream(&mut self, sink: &str, seq: u64) {
        let last_seq = self.last_seq;
        tracing::error!(
            sink,
            seq,
            last_seq,
            "a sink holds more than was ever written, the log was set back"
        );
        let from_ms = self.newest.as_ref().map_or(0, |newest| newest.counts.tally.last_ms);
        let reason =
            format!("{sink} holds up to {seq}, the log ends with {last_seq}: it was set back");
        self.seal_or_replace();
        self.stream = Self::new_stream();
        self.untold = Some(salvage::uncertain(&reason, from_ms, from_ms));
    }

    /// Appends the gap that is not told yet, if there is one.
    pub(super) fn tell(&mut self) -> Result<(), WalError> {
        let Some(gap) = &self.untold else { return Ok(()) };
        let (payload, time_ms) = (gap.encode(), gap.from_ms);
        let record =
            NewRecord { kind: Kind::Gap, time_ms, samples: 0, payload: &payload, schemas: &[] };
        self.append_one(&record)?;
        self.untold = None;
        Ok(())
    }

    /// Appends one record. After a failure the newest generation is sealed before it, whatever of it
    /// may be on disk, and the number is given out again in the next one: nobody has read the record,
    /// since only what is durable is read.
    fn append_one(&mut self, record: &NewRecord<'_>) -> Result<u64, WalError> {
        let seq = self.last_seq + 1;
        let whole = envelope::encode(record.kind, seq, record.payload)?;
        if self.is_full(record.time_ms) {
            self.roll();
        }
        self.make_newest()?;
        let Some(newest) = &mut self.newest else { return Err(WalError::Closed) };
        if let Err(fault) = newest.append(seq, &whole, record, &mut self.cursors) {
            return Err(self.fail("append", fault));
        }
        self.last_seq = seq;
        self.note_last(Some(record.time_ms));
        if seq.is_multiple_of(limits::BLOBS_EVERY) {
            self.look_for_blobs();
        }
        if self.oldest.is_none() {
            self.find_oldest();
        }
        Ok(seq)
    }

    /// Notes beside the databases where the log ends, at what time if nothing else says it, and how far
    /// sinks have come.
    pub(super) fn note_last(&self, time_ms: Option<i64>) {
        let known_ms = self.last_ms.or(time_ms).filter(|_| self.last_seq > 0);
        // Without a generation it is all there is, and must stay whole.
        let Some(last_ms) = known_ms.filter(|_| self.has_generation()) else { return };
        if let Err(error) = self.say_last((self.first_seq(), self.last_seq), last_ms) {
            tracing::debug!(%error, "can't note the last record beside the log");
        }
    }

    /// Notes it durably, for the last generation goes and there is no other to say it: what is held
    /// then begins with `first_seq`.
    pub(super) fn note_end(&self, first_seq: u64) -> std::io::Result<()> {
        self.say_last((first_seq, self.last_seq), self.last_ms.unwrap_or(0))?;
        self.witness.sync()
    }

    fn say_last(&self, held: (u64, u64), last_ms: i64) -> std::io::Result<()> {
        let cursors = self.cursors.iter().map(|(sink, cursor)| (sink.as_str(), cursor.seq));
        self.witness.say(self.stream, held, last_ms, cursors)
    }

    pub(super) fn has_generation(&self) -> bool {
        self.newest.is_some() || self.row.iter().any(|entry| entry.gap.is_none())
    }

    /// Bytes on disk of all that lies below the directory.
    pub(super) fn disk_bytes(&self) -> u64 {
        let sealed: u64 = self.row.iter().map(|entry| entry.disk_bytes).sum();
        sealed
            + self.newest.as_ref().map_or(0, Newest::disk_bytes)
            + self.reserve.disk_bytes()
            + self.quarantine.disk_bytes()
    }

    /// A stream of its own: for when a number might otherwise be given out twice.
    pub(super) fn new_stream() -> StreamId {
        StreamId::from(Uuid::new_v4())
    }

    /// Any open generation's schema of that name.
    pub(super) fn known_schema(&self, id: wire::SchemaId) -> Option<Arc<EncodedSchema>> {
        let newest = self.newest.as_ref().and_then(|newest| newest.schemas.get(&id));
        newest.or_else(|| self.readers.schema(id)).cloned()
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
