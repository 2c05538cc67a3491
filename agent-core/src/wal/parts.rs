//! Values larger than [`PART_BYTES`], split over consecutive keys.
//!
//! A *whole* is an envelope, optionally with a few bytes of ours before it. Its first value holds
//! them and the beginning of the envelope, whose header says how long it is. Each later value is an
//! envelope of its own, of kind [`Kind::Part`] and with the number of the whole, so that a scan of
//! the raw file finds it and can tell that it is undamaged:
//!
//! ```text
//! part 0      lead bytes · first bytes of the envelope
//! part n ≥ 1  envelope(Part, number, kind of the whole u8 · n u16 little endian · next bytes)
//! ```

use wire::{
    Kind,
    envelope::{self, HEADER_BYTES},
};

use super::limits::PART_BYTES;

/// Bytes of ours before a record's envelope.
pub(super) const RECORD_LEAD_BYTES: usize = 12;

/// Bytes of a part's payload before its slice.
const PART_LEAD_BYTES: usize = 3;
/// Bytes of the whole in each later part.
const SLICE_BYTES: usize = PART_BYTES - HEADER_BYTES - PART_LEAD_BYTES;

/// Splits `lead` and an envelope into values.
pub(super) fn split(kind: Kind, number: u64, lead: &[u8], whole: &[u8]) -> Vec<Vec<u8>> {
    let (first, mut rest) = whole.split_at(whole.len().min(PART_BYTES - lead.len()));
    let mut values = vec![[lead, first].concat()];
    let mut index = 1_u16;
    while !rest.is_empty() {
        let (slice, after) = rest.split_at(rest.len().min(SLICE_BYTES));
        let payload = [&[kind as u8], &index.to_le_bytes()[..], slice].concat();
        // A part is far shorter than the longest payload: it always has an envelope.
        values.push(envelope::encode(Kind::Part, number, &payload).unwrap_or_default());
        rest = after;
        index += 1;
    }
    values
}

/// A later part, found on its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// The byte of the whole's kind.
    pub(super) kind: u8,
    /// The whole's number.
    pub(super) number: u64,
    /// Place in the whole, from 1.
    pub(super) index: u16,
    /// Its bytes of the whole.
    pub(super) slice: &'a [u8],
}

/// Reads the envelope of a later part.
pub(super) fn part<'a>(found: &envelope::Envelope<'a>) -> Option<Part<'a>> {
    let (lead, slice) = found.payload.split_first_chunk::<PART_LEAD_BYTES>()?;
    let index = u16::from_le_bytes([lead[1], lead[2]]);
    let part = Part { kind: lead[0], number: found.seq, index, slice };
    (found.kind == Kind::Part && index > 0).then_some(part)
}

/// How many values a whole takes, from its first one without the lead; `None` if no envelope begins
/// there.
pub(super) fn count(first: &[u8], lead_bytes: usize) -> Option<u16> {
    let total = envelope::total_len(first).ok()?;
    let rest = total.saturating_sub(PART_BYTES - lead_bytes);
    u16::try_from(1 + rest.div_ceil(SLICE_BYTES)).ok()
}

/// Joins the first value, without the lead, with the later ones in order; `None` unless that gives
/// an undamaged envelope with nothing after it.
pub(super) fn join<V: AsRef<[u8]>>(first: &[u8], later: &[V]) -> Option<Vec<u8>> {
    let mut whole = first.to_vec();
    for (index, value) in (1..).zip(later) {
        let (found, _) = envelope::split_first(value.as_ref()).ok()?;
        let part = part(&found).filter(|part| part.index == index)?;
        whole.extend_from_slice(part.slice);
    }
    let intact = envelope::split_first(&whole).is_ok_and(|(_, rest)| rest.is_empty());
    intact.then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_comes_back() {
        let check = |bytes: usize, lead: &[u8], values: usize| {
            let whole = envelope::encode(Kind::Metrics, 7, &vec![3; bytes - HEADER_BYTES]).unwrap();
            let split = split(Kind::Metrics, 7, lead, &whole);
            assert_eq!(split.len(), values, "{bytes} bytes");
            assert!(split.iter().all(|value| value.len() <= PART_BYTES), "{bytes} bytes");
            let first = &split[0][lead.len()..];
            assert_eq!(count(first, lead.len()), Some(values as u16), "{bytes} bytes");
            assert_eq!(join(first, &split[1..]), Some(whole), "{bytes} bytes");
        };
        check(HEADER_BYTES, b"", 1);
        check(1_000, b"lead", 1);
        check(PART_BYTES, b"", 1);
        check(PART_BYTES + 1, b"", 2);
        check(PART_BYTES - 4, b"lead", 1);
        check(PART_BYTES - 3, b"lead", 2);
        check(PART_BYTES + SLICE_BYTES, b"", 2);
        check(PART_BYTES + SLICE_BYTES + 1, b"", 3);
        check(1 << 20, b"lead", 294);
    }

    #[test]
    fn what_is_missing_swapped_or_damaged_is_not_joined() {
        let whole = envelope::encode(Kind::Metrics, 7, &vec![3; 3 * PART_BYTES]).unwrap();
        let good = split(Kind::Metrics, 7, b"", &whole);
        assert_eq!(good.len(), 4);
        assert_eq!(join(&good[0], &good[1..3]), None);
        assert_eq!(join(&good[0], &[&good[1], &good[3], &good[2]]), None);
        let mut bad = good.clone();
        bad[2][100] ^= 1;
        assert_eq!(join(&bad[0], &bad[1..]), None);
        assert_eq!(join(&good[0], &[&good[1..], &good[1..2]].concat()), None);
    }
}
