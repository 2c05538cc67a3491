//! Records that wait in memory while the log refuses them (a full disk stops nothing).
//!
//! Bounded in bytes; the oldest goes first, and a gap stands for what went once the log takes
//! records again.

use std::{collections::VecDeque, sync::Arc};

use wire::{EncodedSchema, Gap, GapReason, Kind};

use crate::wal::OwnedRecord;

/// A bounded queue of records in order.
#[derive(Debug)]
pub struct Pending {
    /// Records, and the bytes each holds.
    queue: VecDeque<(Arc<OwnedRecord>, usize)>,
    bytes: usize,
    bytes_max: usize,
    lost: Option<Gap>,
}

impl Pending {
    /// An empty queue that holds at most `bytes_max` bytes of payloads and of schemas that change, and
    /// always one record.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, bytes_max, lost: None }
    }

    /// Adds a record at the end; returns how many had to go from the front.
    pub fn push(&mut self, record: OwnedRecord) -> u64 {
        let bytes = bytes(&record, self.queue.back().map(|(before, _)| before.as_ref()));
        self.bytes += bytes;
        self.queue.push_back((Arc::new(record), bytes));
        let mut dropped = 0;
        while self.bytes > self.bytes_max && self.queue.len() > 1 {
            dropped += u64::from(self.drop_oldest());
        }
        dropped
    }

    /// What is to be appended next: the gap for what was lost, then the records in order.
    #[must_use]
    pub fn front(&self) -> Option<Arc<OwnedRecord>> {
        let gap = self.lost.as_ref().map(|gap| Arc::new(gap_record(gap)));
        gap.or_else(|| self.queue.front().map(|(record, _)| Arc::clone(record)))
    }

    /// Removes what [`Pending::front`] gave: it is in the log.
    pub fn pop(&mut self) {
        if self.lost.take().is_none()
            && let Some((_, bytes)) = self.queue.pop_front()
        {
            self.bytes -= bytes;
        }
    }

    /// Gives up the oldest record, which the log will never take; a gap stands for it.
    pub fn give_up(&mut self) {
        self.drop_oldest();
    }

    /// Records that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.lost.is_none()
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((record, bytes)) = self.queue.pop_front() else { return false };
        self.bytes -= bytes;
        let gap = self.lost.get_or_insert_with(|| Gap {
            reason: GapReason::LogOverflow,
            from_ms: record.time_ms,
            to_ms: record.time_ms,
            first_seq: 0,
            last_seq: 0,
            records: 0,
            samples: 0,
            detail: "the log refused records and memory for them ran out".to_owned(),
        });
        gap.to_ms = record.time_ms;
        gap.records += 1;
        gap.samples += record.samples;
        true
    }
}

/// What a record holds in memory beyond the one before it: a steady host shares its schemas, one
/// whose devices come and go doesn't.
fn bytes(record: &OwnedRecord, before: Option<&OwnedRecord>) -> usize {
    let is_new = |schema: &&Arc<EncodedSchema>| {
        !before.is_some_and(|before| before.schemas.iter().any(|old| Arc::ptr_eq(old, schema)))
    };
    let schemas: usize = record.schemas.iter().filter(is_new).map(|new| new.payload.len()).sum();
    record.payload.len() + schemas
}

fn gap_record(gap: &Gap) -> OwnedRecord {
    OwnedRecord {
        kind: Kind::Gap,
        time_ms: gap.from_ms,
        samples: 0,
        payload: gap.encode(),
        schemas: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time_ms: i64) -> OwnedRecord {
        let payload = vec![0; 10];
        OwnedRecord { kind: Kind::Metrics, time_ms, samples: 5, payload, schemas: Vec::new() }
    }

    #[test]
    fn the_oldest_goes_and_a_gap_stands_for_it() {
        let mut pending = Pending::new(30);
        let dropped: Vec<u64> = (1..=5).map(|time_ms| pending.push(record(time_ms))).collect();
        assert_eq!(dropped, [0, 0, 0, 1, 1]);

        let front = pending.front().unwrap();
        let gap = Gap::decode(&front.payload).unwrap();
        assert_eq!((gap.from_ms, gap.to_ms, gap.records, gap.samples), (1, 2, 2, 10));
        let mut times = Vec::new();
        while let Some(front) = pending.front() {
            times.push((front.kind, front.time_ms));
            pending.pop();
        }
        let metrics = |time_ms| (Kind::Metrics, time_ms);
        assert_eq!(times, [(Kind::Gap, 1), metrics(3), metrics(4), metrics(5)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn one_record_always_fits() {
        let mut pending = Pending::new(1);
        assert_eq!(pending.push(record(1)), 0);
        assert_eq!(pending.len(), 1);
    }
}
