//! The checksums of a stream's latest records: what tells a retry from another record under its number.
//!
//! A record that is sent again has the checksum it had. Two hosts that go on with one copied log give
//! the same numbers to different records, and so does a log that was set back: from the first such
//! number on all of them differ. So one record that is the same vouches for those before it.
//!
//! What isn't known here is no evidence: what lies before the latest [`KEPT`] records, and gaps that
//! stand for their own number. An agent puts such a gap in the place of a record that was refused,
//! dropped or damaged, whether or not a hub had stored that record before its reply was lost; after a
//! crash it may send the record again in the place of the gap.

use std::collections::VecDeque;

use super::columns::varint;

/// Records remembered of a stream. An agent that lost its cursor's last moves sends more than that
/// again, but its first request reaches into them or is told apart by whether the agent is alone.
const KEPT: usize = 64;
const SUM_BYTES: usize = 4;

/// Numbers and checksums, ascending; `None` where a number may change its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    latest: VecDeque<(u64, Option<u32>)>,
}

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
    /// Remembers a record that comes after all others.
    pub(crate) fn push(&mut self, seq: u64, sum: Option<u32>) {
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back((seq, sum));
    }

    /// Compares records that are there already.
    pub(crate) fn compare(&self, again: impl Iterator<Item = (u64, Option<u32>)>) -> Comparison {
        let (mut is_same, mut is_far_back) = (false, false);
        for (seq, sum) in again {
            match self.look(seq, sum) {
                Look::Different => return Comparison::Differs(seq),
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

    fn look(&self, seq: u64, sum: Option<u32>) -> Look {
        let index = self.latest.partition_point(|(known, _)| *known < seq);
        match self.latest.get(index) {
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
            sums.push(seq, sum);
        }
        sums
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Records `from` to `to`; the checksum of each is its number plus `more`.
    fn records(from: u64, to: u64, more: u32) -> Vec<(u64, Option<u32>)> {
        (from..=to).map(|seq| (seq, Some(seq as u32 + more))).collect()
    }

    fn sums(records: &[(u64, Option<u32>)]) -> Sums {
        let mut sums = Sums::default();
        records.iter().for_each(|(seq, sum)| sums.push(*seq, *sum));
        sums
    }

    fn check(stored: &[(u64, Option<u32>)], again: &[(u64, Option<u32>)], expected: Comparison) {
        let stored = sums(stored);
        assert_eq!(stored.compare(again.iter().copied()), expected, "{stored:?} {again:?}");
        let bytes = stored.encode();
        assert_eq!(Sums::decode(&bytes), stored);
        assert!(bytes.len() <= KEPT * (SUM_BYTES + 2) + 8, "{} bytes", bytes.len());
    }

    #[test]
    fn a_retry_is_the_same_and_anything_else_differs() {
        use Comparison::{Differs, Nothing, Same};
        let stored = records(101, 150, 0);
        check(&[], &[], Nothing);
        check(&stored, &[], Nothing);
        check(&stored, &records(101, 150, 0), Same);
        check(&stored, &records(140, 150, 0), Same);
        check(&stored, &records(140, 150, 1), Differs(140));
        check(&stored, &[(149, Some(149)), (150, Some(1))], Differs(150));
    }

    #[test]
    fn one_that_is_the_same_vouches_for_those_before_it() {
        use Comparison::{Differs, Same, Unknown};
        let stored = records(1, 1_000, 0);
        check(&stored, &records(1, 1_000, 0), Same);
        check(&stored, &records(1, 937, 0), Same);
        check(&stored, &records(1, 936, 0), Unknown);
        check(&stored, &records(1, 936, 7), Unknown);
        check(&stored, &records(1, 937, 7), Differs(937));
        check(&[], &records(1, 9, 0), Unknown);
    }

    #[test]
    fn gaps_that_stand_for_their_number_are_no_evidence() {
        use Comparison::{Differs, Nothing};
        let stored = [(1, Some(1)), (2, None), (5, Some(5)), (9, None)];
        check(&stored, &[(2, Some(7))], Nothing);
        check(&stored, &[(5, None)], Nothing);
        // Lost before the gap that tells of it; not told of by any.
        check(&stored, &[(7, Some(7))], Nothing);
        check(&stored, &[(4, Some(4))], Differs(4));
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let bytes = sums(&records(1, 3, 0)).encode();
        for cut in 1..bytes.len() {
            let read = Sums::decode(&bytes[..cut]);
            assert!(read.latest.len() < 3, "{cut}: {read:?}");
        }
        assert_eq!(Sums::decode(&[0xff; 40]), Sums::default());
    }
}
