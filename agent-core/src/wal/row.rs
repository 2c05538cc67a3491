//! The row of what is no longer written: sealed generations, and gaps in the place of dropped ones.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
};

use wire::{Gap, GapReason, StreamId};

use super::{
    packed,
    sidecar::{self, StandIn, Tally},
};

/// One stretch of the log.
#[derive(Debug)]
pub(super) struct Entry {
    /// First number it covers.
    pub(super) first_seq: u64,
    /// Last number it covers.
    pub(super) last_seq: u64,
    /// The stream its records belong to.
    pub(super) stream: StreamId,
    /// What lies in it.
    pub(super) tally: Tally,
    /// Where: a generation's directory, or the file of a packed one or of a gap.
    pub(super) path: PathBuf,
    /// Bytes on disk.
    pub(super) disk_bytes: u64,
    /// Set if it is a gap.
    pub(super) gap: Option<OpenGap>,
}

/// A gap that stands for dropped generations.
#[derive(Debug)]
pub(super) struct OpenGap {
    /// The record; its number is the last one lost, so that it comes where the hole is.
    pub(super) gap: Gap,
    /// Sinks that have been given it: for them it can't grow any more.
    pub(super) given: BTreeSet<String>,
}

impl OpenGap {
    /// What of it a sink lost that had taken everything before `seq`. What damage took is told to each
    /// in the same words.
    pub(super) fn gap_from(&self, seq: u64) -> Gap {
        let gap = &self.gap;
        if gap.reason != GapReason::LogOverflow {
            return gap.clone();
        }
        let Gap { first_seq, last_seq, records, samples, .. } = *gap;
        let lost = Tally { records, samples, first_ms: gap.from_ms, last_ms: gap.to_ms };
        let left = lost.after(first_seq, last_seq, seq.saturating_sub(1));
        Gap {
            first_seq: first_seq.max(seq).min(last_seq),
            from_ms: left.first_ms,
            records: left.records,
            samples: left.samples,
            ..gap.clone()
        }
    }

    /// The same for a sink that nothing waited for. What required sinks had taken before it is no part of
    /// the gap; that this sink lost it too is noted elsewhere ([`losses`](super::losses)), but after a power cut
    /// maybe nowhere.
    pub(super) fn gap_from_best_effort(&self, seq: u64) -> Gap {
        let gap = self.gap_from(seq);
        if gap.reason != GapReason::LogOverflow || seq == 0 {
            return gap;
        }
        let untold = gap.first_seq.saturating_sub(seq);
        Gap { first_seq: gap.first_seq - untold, records: gap.records + untold, ..gap }
    }
}

impl Entry {
    /// An entry for a gap whose file was written.
    pub(super) fn of_gap(stand_in: StandIn, path: PathBuf) -> Self {
        let StandIn { stream, first_seq, gap } = stand_in;
        let mut tally = Tally::default();
        tally.add(gap.from_ms, 0);
        Self {
            first_seq,
            last_seq: gap.last_seq,
            stream,
            tally,
            disk_bytes: sidecar::disk_bytes(&path),
            path,
            gap: Some(OpenGap { gap, given: BTreeSet::new() }),
        }
    }

    /// Whether it is a generation that was not packed.
    pub(super) fn is_database(&self) -> bool {
        self.gap.is_none() && !packed::is_packed(&self.path)
    }

    /// Records and samples after `acked_seq`, as [`Tally::after`] has them; a gap is there as a whole.
    pub(super) fn after(&self, acked_seq: u64) -> Tally {
        if self.gap.is_some() && acked_seq < self.last_seq {
            return self.tally;
        }
        self.tally.after(self.first_seq, self.last_seq, acked_seq)
    }
}

impl Tally {
    /// Of a stretch from `first_seq` to `last_seq`, records and samples after `acked_seq`. Where only a
    /// part lies after it, ticks are taken to be alike and evenly spaced: counting them would mean
    /// opening the generation.
    pub(super) fn after(self, first_seq: u64, last_seq: u64, acked_seq: u64) -> Self {
        if acked_seq < first_seq {
            return self;
        }
        let left = last_seq.saturating_sub(acked_seq);
        if left == 0 {
            return Self::default();
        }
        let covered = last_seq + 1 - first_seq;
        let part = |of: u64| share(of, left, covered);
        let span = self.last_ms.abs_diff(self.first_ms);
        let later = share(span, covered - left, covered - 1);
        let later = i64::try_from(later).unwrap_or(0);
        Self {
            records: part(self.records),
            samples: part(self.samples),
            first_ms: self.first_ms.saturating_add(later),
            last_ms: self.last_ms,
        }
    }
}

/// `of * part / whole`, to the nearest.
fn share(of: u64, part: u64, whole: u64) -> u64 {
    let (of, part, whole) = (u128::from(of), u128::from(part), u128::from(whole.max(1)));
    u64::try_from((of * part + whole / 2) / whole).unwrap_or(u64::MAX)
}

/// Index of the first entry that holds anything from `seq` on.
pub(super) fn position(row: &VecDeque<Entry>, seq: u64) -> Option<usize> {
    let index = row.partition_point(|entry| entry.last_seq < seq);
    (index < row.len()).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(first_seq: u64, last_seq: u64) -> Entry {
        let records = last_seq + 1 - first_seq;
        Entry {
            first_seq,
            last_seq,
            stream: StreamId::from_bytes([0; 16]),
            tally: Tally { records, samples: records * 7, first_ms: 1_000, last_ms: 1_900 },
            path: PathBuf::new(),
            disk_bytes: 0,
            gap: None,
        }
    }

    #[test]
    fn finds_by_number() {
        let row = VecDeque::from([entry(5, 9), entry(10, 10), entry(11, 20)]);
        for (seq, expected) in
            [(1, Some(0)), (9, Some(0)), (10, Some(1)), (11, Some(2)), (20, Some(2)), (21, None)]
        {
            assert_eq!(position(&row, seq), expected, "{seq}");
        }
    }

    #[test]
    fn counts_what_is_left() {
        let check = |acked_seq, records, samples, first_ms| {
            let left = entry(11, 20).after(acked_seq);
            assert_eq!((left.records, left.samples, left.first_ms), (records, samples, first_ms));
        };
        check(0, 10, 70, 1_000);
        check(10, 10, 70, 1_000);
        check(15, 5, 35, 1_500);
        check(19, 1, 7, 1_900);
        check(20, 0, 0, 0);
    }
}
