//! The checksums of a stream's records: what tells a retry from another record under its number.
//!
//! A record that is sent again has the checksum it had. Two hosts that go on with one copied log give
//! the same numbers to different records, and so does a log that was set back: from the first such
//! number on all of them differ. So one record that is the same vouches for those before it.
//!
//! The latest lie with their stream; whenever there are [`PART`] of them, they go to a row of their own
//! in the table `sums`, five bytes a record, for as long as samples are kept. A log that was away for
//! long sends what lies far back; without its checksum, what a second host has written there would pass
//! for a retry.
//!
//! What isn't known here is no evidence: records older than that, and gaps that stand for their own
//! number. An agent puts such a gap in the place of a record that was refused, dropped or damaged,
//! whether or not a hub had stored that record before its reply was lost; after a crash it may send the
//! record again in the place of the gap.

use super::varint;

/// Records of a row.
pub(crate) const PART: usize = 64;
pub(crate) const SUM_BYTES: usize = 4;

/// The latest, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) latest: Vec<Known>,
}

/// A number and its checksum; `None` where it may change its content.
pub(crate) type Known = (u64, Option<u32>);

/// What a request's records say about those stored under their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// They are the same.
    Same,
    /// There are none, or none that would tell.
    Nothing,
    /// They lie too far back to be known.
    Unknown,
    /// This one is another.
    Differs(u64),
}

enum Look {
    Equal,
    Different,
    NoEvidence,
    TooFarBack,
}

impl Sums {
    /// Remembers a record that comes after all others. Gives the part that is then full, as bytes, and
    /// its first number: it is to be written down.
    pub(crate) fn push(&mut self, record: Known) -> Option<(u64, Vec<u8>)> {
        let is_full = self.latest.len() >= PART;
        let full = is_full.then(|| (self.latest.first().map_or(0, |first| first.0), self.encode()));
        if is_full {
            self.latest.clear();
        }
        self.latest.push(record);
        full
    }

    /// For a column of the database: for each record, how far its number lies beyond the one before and
    /// whether a checksum follows (`distance << 1 | 1`, as a varint), then that, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before = 0;
        for (seq, sum) in &self.latest {
            varint::put(&mut out, (seq - before) << 1 | u64::from(sum.is_some()));
            out.extend(sum.iter().flat_map(|sum| sum.to_le_bytes()));
            before = *seq;
        }
        out
    }

    /// What [`Sums::encode`] wrote; what can't be read is as if it had never been known.
    pub(crate) fn decode(mut bytes: &[u8]) -> Self {
        let mut sums = Self::default();
        let mut seq = 0_u64;
        while !bytes.is_empty() {
            let Some((distance, sum)) = take(&mut bytes) else { return Self::default() };
            let Some(next) = seq.checked_add(distance) else { return Self::default() };
            seq = next;
            sums.latest.push((seq, sum));
        }
        sums
    }
}

/// What known records say about others under their numbers; `known` is ascending.
pub(crate) fn compare(known: &[Known], again: &[Known]) -> Comparison {
    let (mut is_same, mut is_far_back) = (false, false);
    for (seq, sum) in again {
        match look(known, *seq, *sum) {
            Look::Different => return Comparison::Differs(*seq),
            Look::Equal => is_same = true,
            Look::TooFarBack => is_far_back = true,
            Look::NoEvidence => {}
        }
    }
    match (is_same, is_far_back) {
        (true, _) => Comparison::Same,
        (false, true) => Comparison::Unknown,
        (false, false) => Comparison::Nothing,
    }
}

fn look(known: &[Known], seq: u64, sum: Option<u32>) -> Look {
    let index = known.partition_point(|(known, _)| *known < seq);
    match known.get(index) {
        None => Look::TooFarBack,
        Some((known, stored)) if *known == seq => match (stored, sum) {
            (Some(stored), Some(sum)) if *stored == sum => Look::Equal,
            (Some(_), Some(_)) => Look::Different,
            _ => Look::NoEvidence,
        },
        Some(_) if index == 0 => Look::TooFarBack,
        // A gap may stand for it; without one it was never stored.
        Some((_, None)) => Look::NoEvidence,
        Some((_, Some(_))) => Look::Different,
    }
}

fn take(bytes: &mut &[u8]) -> Option<(u64, Option<u32>)> {
    let head = varint::take(bytes)?;
    if head & 1 == 0 {
        return Some((head >> 1, None));
    }
    let sum = varint::take_bytes(bytes, SUM_BYTES)?.try_into().ok()?;
    Some((head >> 1, Some(u32::from_le_bytes(sum))))
}
