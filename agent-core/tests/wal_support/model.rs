//! What a log must hold, kept in memory: the reference of the model test.
//!
//! A number of a record stands for what was appended under it, until a gap says that it is gone: that
//! may happen only after damage, and never the other way round. After an append that failed it isn't
//! known whether it stays until the next one, or an opening, decides it.

use std::{collections::BTreeMap, ops::RangeInclusive};

use agent_core::{
    Batch, BatchLimits,
    wal::{SledWal, Wal, WalError},
};
use wire::{GapReason, StreamId};

use super::wal_support::{Seen, TICK_MS, append, payload, seen, time_ms};

pub(crate) const SINKS: [&str; 2] = ["a", "b"];

/// Seed and length of a record's payload.
type Written = (u64, usize);

/// What a number stands for.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// What may have been written; nothing if the log took the number for a gap of its own.
    written: Vec<Written>,
    /// A gap said that it is gone.
    is_gone: bool,
    /// The stream that it was read in.
    stream: Option<StreamId>,
}

/// What may have happened to the log by now, besides what was asked of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Harm {
    /// The disk takes only so much: calls may fail.
    pub(crate) is_full: bool,
    /// It was so before.
    pub(crate) was_full: bool,
    /// A file was damaged: records may be gone, for which a gap stands.
    pub(crate) is_damaged: bool,
    /// The same, and it may still have to begin another stream for it.
    pub(crate) is_hit: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    slots: BTreeMap<u64, Slot>,
    /// What was tried since an append went well.
    tried: Vec<Written>,
    appends: u64,
    cursors: [u64; 2],
    /// Cursors may come back as any from here on,
    durable: [u64; 2],
    /// up to the furthest they have been.
    furthest: [u64; 2],
    stream: Option<StreamId>,
    pub(crate) harm: Harm,
}

impl Model {
    pub(crate) fn last_seq(&self) -> u64 {
        self.slots.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Numbers of which a gap said that they are gone.
    pub(crate) fn gone(&self) -> usize {
        self.slots.values().filter(|slot| slot.is_gone).count()
    }

    /// The log was opened: it says which of what was possible is so.
    pub(crate) fn opened(&mut self, wal: &mut SledWal) {
        let (stream, last_seq) = (wal.stream_id(), wal.stats().last_seq);
        // Before the first record nothing of a stream is promised.
        let known = self.stream.filter(|_| !self.slots.is_empty());
        let is_same = known.is_none_or(|known| known == stream);
        assert!(is_same || self.harm.is_hit, "begins another stream without damage");
        assert!(last_seq >= self.last_seq(), "ends with {last_seq} of {}", self.last_seq());
        self.stream = Some(stream);
        let tried = std::mem::take(&mut self.tried);
        if last_seq > self.last_seq() {
            assert!(self.harm.is_hit || !tried.is_empty(), "{last_seq} was never tried");
            self.slots.insert(self.last_seq() + 1, Slot { written: tried, ..Slot::default() });
            self.own_up_to(last_seq);
        }
        for (index, sink) in SINKS.iter().enumerate() {
            let cursor = wal.register(sink).unwrap();
            let is_lazy = self.harm.is_hit || self.harm.is_full;
            let allowed = if is_lazy { 0 } else { self.durable[index] }..=self.furthest[index];
            assert!(allowed.contains(&cursor), "{sink}: {cursor} not in {allowed:?}");
            self.cursors[index] = cursor;
            self.durable[index] = self.durable[index].min(cursor);
        }
        // What damage leads to comes on disk when there is room.
        self.harm.is_hit &= self.harm.is_full;
    }

    /// The log took numbers up to that one for gaps of its own.
    fn own_up_to(&mut self, last_seq: u64) {
        for seq in self.last_seq() + 1..=last_seq {
            assert!(self.harm.is_damaged, "{seq} was taken for nothing");
            self.slots.insert(seq, Slot::default());
        }
    }

    pub(crate) fn append(&mut self, wal: &mut SledWal, bytes: usize) {
        let is_taken = self.try_append(wal, bytes);
        // Damage that it comes upon may cost it a try; the next goes elsewhere.
        assert!(is_taken || self.harm.is_full || self.try_append(wal, bytes), "twice");
    }

    fn try_append(&mut self, wal: &mut SledWal, bytes: usize) -> bool {
        self.appends += 1;
        let written = (self.appends, bytes);
        self.tried.push(written);
        match append(wal, self.last_seq() + 1, &payload(written.0, bytes)) {
            Ok(seq) => {
                self.own_up_to(seq - 1);
                assert_eq!(seq, self.last_seq() + 1);
                self.slots.insert(seq, Slot { written: vec![written], ..Slot::default() });
                self.tried.clear();
                self.harm.is_hit = false;
                self.durable = self.cursors;
                true
            }
            Err(error) => {
                self.excuse(&error);
                self.own_up_to(wal.stats().last_seq);
                false
            }
        }
    }

    pub(crate) fn read(
        &mut self,
        wal: &mut SledWal,
        sink: usize,
        limits: BatchLimits,
    ) -> Option<u64> {
        match wal.read(SINKS[sink], limits) {
            Ok(Some(batch)) => Some(self.check(self.cursors[sink] + 1, &batch, limits)),
            Ok(None) => {
                assert_eq!(self.cursors[sink], self.last_seq(), "nothing to read");
                None
            }
            Err(error) => {
                assert!(self.harm.is_full, "reading repairs: {error:?}");
                self.excuse(&error);
                None
            }
        }
    }

    /// A batch begins where the sink stands and goes on without a hole. It may be shorter than asked for,
    /// but never empty. Returns the number of its end.
    fn check(&mut self, from: u64, batch: &Batch, limits: BatchLimits) -> u64 {
        let bytes: usize = batch.records.iter().map(|record| record.bytes.len()).sum();
        let is_small = batch.records.len() <= limits.records && bytes <= limits.bytes;
        assert!(is_small || batch.records.len() == 1, "{} records", batch.records.len());
        let mut next = from;
        for (seq, seen) in seen(batch) {
            // What every sink has taken may be gone, though one comes back for it.
            let taken = self.furthest.iter().min().map_or(0, |seq| *seq);
            self.check_one(next..=next.max(taken + 1), seq, &seen, batch.stream_id);
            next = seq + 1;
        }
        assert!(next > from && next <= self.last_seq() + 1, "{from} to {next}");
        next - 1
    }

    fn check_one(&mut self, next: RangeInclusive<u64>, seq: u64, found: &Seen, stream: StreamId) {
        match found {
            Seen::Payload(found) => {
                assert!(next.contains(&seq), "{seq} in place of {next:?}");
                let slot = self.slots.get_mut(&seq).unwrap();
                assert!(!slot.is_gone, "{seq} came back from the dead");
                let is_it = |written: &Written| payload(written.0, written.1) == *found;
                slot.written.retain(is_it);
                assert!(!slot.written.is_empty(), "{seq} came back wrong");
            }
            Seen::Gap(gap) => {
                assert!(self.harm.is_damaged, "{gap:?} without damage");
                assert_eq!(gap.reason, GapReason::LogDamaged);
                let is_own = (gap.first_seq, gap.last_seq, gap.records) == (0, 0, 0);
                let covers = gap.first_seq <= *next.end() && gap.last_seq == seq;
                assert!(seq >= *next.start(), "{seq} in place of {next:?}");
                assert!(covers || is_own && next.contains(&seq), "{gap:?} in place of {next:?}");
                for seq in *next.start()..=seq {
                    self.slots.get_mut(&seq).unwrap().is_gone = true;
                }
            }
        }
        if matches!(found, Seen::Payload(_)) {
            self.check_stream(seq, stream);
        }
    }

    /// A record stays in its stream, and one begins only behind a gap.
    fn check_stream(&mut self, seq: u64, stream: StreamId) {
        let known = *self.slots.get_mut(&seq).unwrap().stream.get_or_insert(stream);
        assert_eq!(known, stream, "{seq} went to another stream");
        if let Some(before) = self.slots.get(&(seq - 1)) {
            let goes_on = before.stream.is_none_or(|before| before == stream);
            assert!(goes_on || before.is_gone, "{seq} begins a stream");
        }
    }

    pub(crate) fn acknowledge(&mut self, wal: &mut SledWal, sink: usize, seq: u64) {
        let seq = seq.min(self.last_seq());
        wal.acknowledge(SINKS[sink], seq).unwrap();
        let cursor = wal.register(SINKS[sink]).unwrap();
        let before = self.cursors[sink];
        let is_moved = cursor == seq.max(before);
        // What lies behind the end of its stream is another stream's.
        let is_at_end = self.harm.is_damaged && (before..=seq).contains(&cursor);
        assert!(is_moved || is_at_end, "from {before} to {seq} it came to {cursor}");
        self.cursors[sink] = cursor;
        self.furthest[sink] = self.furthest[sink].max(cursor);
    }

    pub(crate) fn flush(&mut self, wal: &mut SledWal) {
        match wal.flush() {
            Ok(()) => self.durable = self.cursors,
            Err(error) => self.excuse(&error),
        }
    }

    /// A call may fail because the disk is full, or comes upon damage.
    fn excuse(&self, error: &WalError) {
        let is_known = match error {
            WalError::Io { .. } => self.harm.is_full,
            WalError::Database { .. } => self.harm.is_full || self.harm.is_damaged,
            _ => false,
        };
        assert!(is_known, "{error:?}");
    }

    pub(crate) fn check_stats(&self, wal: &SledWal) {
        let stats = wal.stats();
        assert_eq!(stats.last_seq, self.last_seq());
        assert_eq!((stats.dropped_records, stats.blob_bytes), (0, 0));
        if self.harm.is_damaged {
            return;
        }
        let acked_seq = *self.cursors.iter().min().unwrap();
        let waiting = self.slots.range(acked_seq + 1..);
        assert_eq!(stats.records, waiting.clone().count() as u64);
        let oldest_ms = waiting.map(|(seq, _)| time_ms(*seq)).next();
        assert!((stats.oldest_ms.is_some()) == oldest_ms.is_some());
        if let (Some(found), Some(expected)) = (stats.oldest_ms, oldest_ms) {
            // A generation that couldn't be opened tells times by its ticks, and these records are none.
            let is_carved = self.harm.was_full && found == 0;
            let is_near = (found - expected).abs() <= 20 * TICK_MS;
            assert!(is_near || is_carved, "{found} {expected}");
        }
    }
}
