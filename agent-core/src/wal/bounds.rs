//! Keeping within the bounds: the oldest goes first, and a gap stands where it lay.
//!
//! What goes is a whole generation, without opening it. The gap takes the *last* number that was
//! lost and the place of the generation in the row, so that each sink that had not come past it reads
//! the gap first and then what is left, in order. It lies in a small file of its own
//! (`<last seq>.gap`), written durably before the generation goes: opening an old database only to put
//! a record in it would need space, just when there is none.
//!
//! Gaps that follow each other become one as long as no sink has been given the first: a long outage
//! is told as one hole. What the slowest sink had acknowledged is not counted as lost.

use wire::{Gap, GapReason};

use super::{
    giving_back::Keep,
    limits::{AGE_ROLL_PART, HEADROOM_BYTES},
    log::SledWal,
    row::Entry,
    sidecar::{self, StandIn, Tally},
};

impl SledWal {
    /// Drops what is beyond the bounds. What lies in quarantine goes before any record does.
    pub(super) fn enforce(&mut self) {
        if self.is_beyond_bytes() {
            self.give_back(Keep::Nothing);
        }
        while self.is_beyond_bytes() {
            let detail = "the log reached its bound in bytes";
            if !self.quarantine.remove_oldest() && !self.drop_oldest(detail) {
                break;
            }
        }
        while self.oldest_generation().is_some_and(|index| self.is_too_old(index)) {
            if !self.drop_oldest("records reached their greatest age") {
                break;
            }
        }
    }

    fn is_beyond_bytes(&self) -> bool {
        self.disk_bytes() + HEADROOM_BYTES > self.bounds.bytes_max
    }

    fn oldest_generation(&self) -> Option<usize> {
        self.row.iter().position(|entry| entry.gap.is_none())
    }

    fn is_too_old(&self, index: usize) -> bool {
        let generations = self.row.iter().skip(index).filter(|entry| entry.gap.is_none());
        age_ms(generations.map(|entry| &entry.tally), self.bounds.age_ms_max)
            > self.bounds.age_ms_max
    }

    /// Drops the oldest generation, if need be the newest; false if there is nothing to drop.
    fn drop_oldest(&mut self, detail: &str) -> bool {
        if self.oldest_generation().is_none() && self.newest.as_ref().is_some_and(|n| !n.is_empty())
        {
            self.roll();
        }
        self.oldest_generation().is_some_and(|index| self.drop_entry(index, detail))
    }

    fn drop_entry(&mut self, index: usize, detail: &str) -> bool {
        let acked_seq = self.acked_seq();
        // What every required sink has is not lost; that it is still there is the disk's fault.
        let Some(entry) = self.row.get(index).filter(|entry| entry.last_seq > acked_seq) else {
            return false;
        };
        let lost = entry.after(acked_seq);
        let gap = Gap {
            reason: GapReason::LogOverflow,
            from_ms: lost.first_ms,
            to_ms: lost.last_ms,
            first_seq: entry.first_seq.max(acked_seq + 1),
            last_seq: entry.last_seq,
            records: lost.records,
            samples: lost.samples,
            detail: detail.to_owned(),
        };
        let last_seq = entry.last_seq;
        let stand_in = StandIn { stream: entry.stream, first_seq: entry.first_seq, gap };
        let mut written = sidecar::write_gap(&self.disk, &self.directory, &stand_in);
        if written.is_err() && self.reserve.release() {
            written = sidecar::write_gap(&self.disk, &self.directory, &stand_in);
        }
        let path = match written {
            Ok(path) => path,
            Err(error) => {
                tracing::warn!(%error, "can't note a gap, so nothing is dropped");
                // What may be there of it would be believed when the log is next opened.
                let _ = sidecar::remove(&self.disk, &sidecar::gap_path(&self.directory, last_seq));
                return false;
            }
        };
        let (records, samples) = (lost.records, lost.samples);
        tracing::warn!(records, samples, detail, "dropped the oldest records of the log");
        self.dropped_records += records;
        self.dropped_samples += samples;
        let gone = std::mem::replace(&mut self.row[index], Entry::of_gap(stand_in, path));
        if !self.has_generation() {
            // No other says how far sinks have come. If this fails, some gaps are told again.
            let _ = self.note_end(self.first_seq());
        }
        if let Err(error) = self.remove(&gone) {
            // The gap covers it: it goes when the log is next opened.
            tracing::warn!(path = %gone.path.display(), %error, "can't remove a dropped generation");
        }
        self.lose(&gone, acked_seq);
        self.coalesce();
        self.find_oldest();
        true
    }

    /// Makes one gap of those that follow each other, where that tells no sink anything twice.
    fn coalesce(&mut self) {
        let mut index = 0;
        while index + 1 < self.row.len() {
            let merged = self.merged(&self.row[index], &self.row[index + 1]);
            if !merged.is_some_and(|merged| self.replace_two(index, merged)) {
                index += 1;
            }
        }
    }

    fn merged(&self, first: &Entry, second: &Entry) -> Option<StandIn> {
        let (a, b) = (first.gap.as_ref()?, second.gap.as_ref()?);
        let overflow = |gap: &Gap| gap.reason == GapReason::LogOverflow;
        let adjacent = first.stream == second.stream && first.last_seq + 1 == second.first_seq;
        let is_news = self.cursors.iter().all(|(sink, cursor)| {
            let unread = cursor.seq < first.last_seq;
            let given = a.given.contains(sink) || b.given.contains(sink);
            cursor.seq >= second.last_seq || (unread && !given)
        });
        let gap = Gap {
            to_ms: b.gap.to_ms,
            last_seq: b.gap.last_seq,
            records: a.gap.records + b.gap.records,
            samples: a.gap.samples + b.gap.samples,
            ..a.gap.clone()
        };
        let stand_in = StandIn { stream: first.stream, first_seq: first.first_seq, gap };
        (overflow(&a.gap) && overflow(&b.gap) && adjacent && is_news).then_some(stand_in)
    }

    /// The second's file is written over; the first's goes. A crash in between leaves a gap within
    /// another, which is noticed when the log is opened.
    fn replace_two(&mut self, index: usize, stand_in: StandIn) -> bool {
        let written = sidecar::write_gap(&self.disk, &self.directory, &stand_in);
        let Ok(path) = written else { return false };
        self.row[index + 1] = Entry::of_gap(stand_in, path);
        if let Some(first) = self.row.remove(index) {
            let _ = self.remove(&first);
        }
        true
    }
}

/// How old the end of the first of several generations is, by what was recorded since and not by the
/// clock: a clock that is set wrong must not cost a backlog. So no step from one record to the next
/// counts for more than a generation may span, whether the clock was set then or the host was off, and a
/// step back counts for nothing. Times that aren't known don't count.
fn age_ms<'a>(generations: impl Iterator<Item = &'a Tally>, age_ms_max: i64) -> i64 {
    let step_ms_max = age_ms_max / AGE_ROLL_PART;
    let step = |from_ms: i64, to_ms: i64| to_ms.saturating_sub(from_ms).clamp(0, step_ms_max);
    let mut known = generations.filter(|tally| tally.first_ms > 0 && tally.last_ms > 0);
    let Some(oldest) = known.next() else { return 0 };
    let mut age_ms = 0_i64;
    let mut before_ms = oldest.last_ms;
    for Tally { first_ms, last_ms, .. } in known {
        let more_ms = step(before_ms, *first_ms) + step(*first_ms, *last_ms);
        age_ms = age_ms.saturating_add(more_ms);
        before_ms = *last_ms;
    }
    age_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_what_was_recorded_since() {
        let check = |generations: &[(i64, i64)], expected: i64| {
            let tally = |&(first_ms, last_ms)| Tally { records: 9, samples: 9, first_ms, last_ms };
            let tallies: Vec<Tally> = generations.iter().map(tally).collect();
            assert_eq!(age_ms(tallies.iter(), 800), expected, "{generations:?}");
        };
        check(&[], 0);
        check(&[(1_000, 1_090)], 0);
        check(&[(1_000, 1_090), (1_100, 1_190), (1_200, 1_290)], 200);
        // Off for a long time; set ahead, and back; set back, and ahead.
        check(&[(1_000, 1_090), (9_000, 9_090)], 100 + 90);
        check(&[(1_000, 1_090), (900_000, 900_090), (1_300, 1_390)], 100 + 90 + 90);
        check(&[(1_000, 1_090), (100, 190), (1_300, 1_390)], 90 + 100 + 90);
        // Set ahead within a generation that was not left behind for it.
        check(&[(1_000, 1_090), (1_100, 900_000)], 10 + 100);
        // Times that nobody knows.
        check(&[(0, 0), (1_100, 1_190)], 0);
        check(&[(1_000, 1_090), (0, 0), (1_200, 1_290)], 100 + 90);
    }
}
