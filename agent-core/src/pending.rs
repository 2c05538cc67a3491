//! Records that wait in memory while the log refuses them (a full disk stops nothing).
//!
//! Bounded in bytes; the oldest tick goes first, and a gap stands in its place once the log takes
//! records again. Gaps that wait with the ticks keep theirs: what they tell is not lost with a tick.

use std::{collections::VecDeque, sync::Arc};

use wire::{EncodedSchema, Gap, GapReason, Kind};

use crate::{gaps, wal::OwnedRecord};

/// A bounded queue of records in order.
#[derive(Debug)]
pub struct Pending {
    queue: VecDeque<Waiting>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
enum Waiting {
    /// A record, and the bytes it holds.
    Record(Arc<OwnedRecord>, usize),
    /// What stands for records that had to go.
    Lost(Gap),
}

impl Waiting {
    fn record(&self) -> Option<&Arc<OwnedRecord>> {
        match self {
            Self::Record(record, _) => Some(record),
            Self::Lost(_) => None,
        }
    }

    fn is_tick(&self) -> bool {
        self.record().is_some_and(|record| record.kind == Kind::Metrics)
    }
}

impl Pending {
    /// An empty queue that holds at most `bytes_max` bytes of payloads and of schemas that change, and
    /// always one record.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds a record at the end; returns how many had to go from the front.
    pub fn push(&mut self, record: OwnedRecord) -> u64 {
        let before = self.queue.iter().rfind(|waiting| waiting.is_tick());
        let bytes = bytes(&record, before.and_then(Waiting::record).map(AsRef::as_ref));
        self.bytes += bytes;
        self.queue.push_back(Waiting::Record(Arc::new(record), bytes));
        let mut dropped = 0;
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.oldest()
        {
            dropped += u64::from(self.queue[oldest].is_tick());
            self.drop_at(oldest);
        }
        dropped
    }

    /// Place of what goes first: never the newest record.
    fn oldest(&self) -> Option<usize> {
        let all_but_newest = || self.queue.range(..self.queue.len().saturating_sub(1));
        // Only a clock set over and over leaves nothing but gaps to drop.
        let any = || all_but_newest().position(|waiting| waiting.record().is_some());
        all_but_newest().position(Waiting::is_tick).or_else(any)
    }

    /// What is to be appended next.
    #[must_use]
    pub fn front(&self) -> Option<Arc<OwnedRecord>> {
        Some(match self.queue.front()? {
            Waiting::Record(record, _) => Arc::clone(record),
            Waiting::Lost(gap) => Arc::new(gaps::record(gap)),
        })
    }

    /// Removes what [`Pending::front`] gave: it is in the log.
    pub fn pop(&mut self) {
        if let Some(Waiting::Record(_, bytes)) = self.queue.pop_front() {
            self.bytes -= bytes;
        }
    }

    /// Gives up the oldest record, which the log will never take; a gap stands for it.
    pub fn give_up(&mut self) {
        self.drop_at(0);
    }

    /// Ticks that wait.
    #[must_use]
    pub fn ticks(&self) -> usize {
        self.queue.iter().filter(|waiting| waiting.is_tick()).count()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts what stands for a record in its place, together with what stands for those right before it.
    fn drop_at(&mut self, index: usize) {
        let Some(Waiting::Record(record, bytes)) = self.queue.get(index) else { return };
        let (record, bytes) = (Arc::clone(record), *bytes);
        self.bytes -= bytes;
        if let Some(Waiting::Lost(gap)) = index.checked_sub(1).and_then(|at| self.queue.get_mut(at))
        {
            add(gap, &record);
            self.queue.remove(index);
        } else if let Some(place) = self.queue.get_mut(index) {
            let mut gap = Gap {
                reason: GapReason::LogOverflow,
                from_ms: record.time_ms,
                to_ms: record.time_ms,
                first_seq: 0,
                last_seq: 0,
                records: 0,
                samples: 0,
                detail: "the log refused records and memory for them ran out".to_owned(),
            };
            add(&mut gap, &record);
            *place = Waiting::Lost(gap);
        }
    }
}

fn add(gap: &mut Gap, record: &OwnedRecord) {
    gap.to_ms = record.time_ms;
    gap.records += 1;
    gap.samples += record.samples;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time_ms: i64) -> OwnedRecord {
        let payload = vec![0; 10];
        OwnedRecord { kind: Kind::Metrics, time_ms, samples: 5, payload, schemas: Vec::new() }
    }

    fn gap(time_ms: i64) -> OwnedRecord {
        let detail = "the clock was set".to_owned();
        let (first_seq, last_seq, records, samples) = (0, 0, 0, 0);
        let (from_ms, to_ms, reason) = (0, time_ms, GapReason::ClockJump);
        gaps::record(&Gap { reason, from_ms, to_ms, first_seq, last_seq, records, samples, detail })
    }

    /// What waits, in order: `t3` a tick, `j3` a gap that was put in, `lost 1-2 (2, 10)` what stands
    /// for so many records and samples.
    fn drain(pending: &mut Pending) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(front) = pending.front() {
            all.push(match (front.kind, Gap::decode(&front.payload)) {
                (Kind::Gap, Ok(gap)) if gap.reason == GapReason::LogOverflow => {
                    let Gap { from_ms, to_ms, records, samples, .. } = gap;
                    format!("lost {from_ms}-{to_ms} ({records}, {samples})")
                }
                (Kind::Gap, _) => format!("j{}", front.time_ms),
                _ => format!("t{}", front.time_ms),
            });
            pending.pop();
        }
        assert!(pending.is_empty() && pending.bytes == 0, "{pending:?}");
        all
    }

    #[test]
    fn the_oldest_goes_and_a_gap_stands_for_it() {
        let mut pending = Pending::new(30);
        let dropped: Vec<u64> = (1..=5).map(|time_ms| pending.push(record(time_ms))).collect();
        assert_eq!((dropped.as_slice(), pending.ticks()), (&[0, 0, 0, 1, 1][..], 3));
        assert_eq!(drain(&mut pending), ["lost 1-2 (2, 10)", "t3", "t4", "t5"]);
    }

    #[test]
    fn gaps_that_wait_keep_their_place() {
        let room = 2 * record(0).payload.len() + 2 * gap(1).payload.len();
        let mut pending = Pending::new(room);
        for time_ms in 1..=6 {
            if time_ms % 3 == 0 {
                pending.push(gap(time_ms));
            }
            pending.push(record(time_ms));
        }
        assert_eq!(pending.ticks(), 2);
        let expected = ["lost 1-2 (2, 10)", "j3", "lost 3-4 (2, 10)", "t5", "j6", "t6"];
        assert_eq!(drain(&mut pending), expected);
    }

    #[test]
    fn even_gaps_are_bounded() {
        let room = 3 * gap(1).payload.len();
        let mut pending = Pending::new(room);
        (1..=5).for_each(|time_ms| assert_eq!(pending.push(gap(time_ms)), 0));
        assert_eq!(drain(&mut pending), ["lost 1-2 (2, 0)", "j3", "j4", "j5"]);
    }

    #[test]
    fn what_is_given_up_is_told_in_its_place() {
        let mut pending = Pending::new(100);
        (1..=3).for_each(|time_ms| assert_eq!(pending.push(record(time_ms)), 0));
        pending.pop();
        pending.give_up();
        assert_eq!(drain(&mut pending), ["lost 2-2 (1, 5)", "t3"]);
    }

    #[test]
    fn one_record_always_fits() {
        let mut pending = Pending::new(1);
        assert_eq!(pending.push(record(1)), 0);
        assert_eq!(pending.push(record(2)), 1);
        assert_eq!(pending.ticks(), 1);
    }
}
