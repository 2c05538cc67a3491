//! Keys, and how values under consecutive keys make wholes again. Knows nothing of the database that
//! they lie in but that it gives entries in order.

use std::convert::Infallible;

use wire::{Gap, Kind, envelope};

use super::{fault::Fault, parts};

/// What goes wrong while reading from a database.
pub(super) enum Trouble<E> {
    /// The database says so.
    Database(E),
    /// It gave what was never written.
    Damaged(String),
}

/// Damage of that kind.
pub(super) fn damaged<E>(what: impl Into<String>) -> Trouble<E> {
    Trouble::Damaged(what.into())
}

/// The key of a part: number and place, big endian.
pub(super) fn key_of(number: u64, part: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Number and place from a key.
pub(super) fn split_key<E>(key: &[u8]) -> Result<(u64, u16), Trouble<E>> {
    let split = key.split_first_chunk().and_then(|(number, part)| {
        let part = u16::from_be_bytes(part.try_into().ok()?);
        Some((u64::from_be_bytes(*number), part))
    });
    split.ok_or_else(|| damaged("key"))
}

/// An envelope with what was noted before it.
pub(super) struct Whole {
    /// Unix milliseconds of a record.
    pub(super) time_ms: i64,
    /// Samples in a record.
    pub(super) samples: u64,
    /// The envelope.
    pub(super) bytes: Vec<u8>,
}

/// The next whole and its number; it has to begin right there.
pub(super) fn next_whole<E, K: AsRef<[u8]>, V: AsRef<[u8]>>(
    entries: &mut impl Iterator<Item = Result<(K, V), E>>,
    lead_bytes: usize,
) -> Result<Option<(u64, Whole)>, Trouble<E>> {
    match entries.next().transpose().map_err(Trouble::Database)? {
        Some((key, value)) => whole(key.as_ref(), value.as_ref(), entries, lead_bytes).map(Some),
        None => Ok(None),
    }
}

/// The next whole without a lead and its number. Parts without their first are passed over: they were
/// being written when the process was killed, and nothing that was written since needs them.
pub(super) fn next_whole_after_torn<E, K: AsRef<[u8]>, V: AsRef<[u8]>>(
    entries: &mut impl Iterator<Item = Result<(K, V), E>>,
) -> Result<Option<(u64, Whole)>, Trouble<E>> {
    while let Some((key, value)) = entries.next().transpose().map_err(Trouble::Database)? {
        if split_key(key.as_ref())?.1 == 0 {
            return whole(key.as_ref(), value.as_ref(), entries, 0).map(Some);
        }
    }
    Ok(None)
}

fn whole<E, K: AsRef<[u8]>, V: AsRef<[u8]>>(
    key: &[u8],
    value: &[u8],
    entries: &mut impl Iterator<Item = Result<(K, V), E>>,
    lead_bytes: usize,
) -> Result<(u64, Whole), Trouble<E>> {
    let (number, part) = split_key(key)?;
    let (lead, first) = value.split_at_checked(lead_bytes).ok_or_else(|| damaged("record"))?;
    let count = parts::count(first, lead_bytes).filter(|_| part == 0);
    let count = count.ok_or_else(|| damaged(format!("no record begins at {number}")))?;
    let mut later = Vec::new();
    for part in 1..count {
        let missing = || damaged(format!("part {part} of {number} is missing"));
        let entry = entries.next().transpose().map_err(Trouble::Database)?;
        let (key, value) = entry.ok_or_else(missing)?;
        if split_key::<E>(key.as_ref())? != (number, part) {
            return Err(missing());
        }
        later.push(value);
    }
    let bytes = parts::join(first, &later);
    let bytes = bytes.ok_or_else(|| damaged(format!("{number} has a wrong checksum")))?;
    let time_ms = lead.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
    let samples = lead.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    Ok((number, Whole { time_ms, samples: u64::from(samples), bytes }))
}

/// Whether a record may stand where `expected` was to come: its number, or a gap from there on.
pub(super) fn check_record<E>(seq: u64, expected: u64, bytes: &[u8]) -> Result<(), Trouble<E>> {
    let (found, _) = envelope::split_first(bytes).map_err(|error| damaged(error.to_string()))?;
    if found.seq != seq || !found.kind.is_record() {
        return Err(damaged(format!("{:?} {} lies at {seq}", found.kind, found.seq)));
    }
    let covers = || {
        let gap = Gap::decode(found.payload).ok().filter(|_| found.kind == Kind::Gap);
        gap.is_some_and(|gap| gap.first_seq <= expected && gap.last_seq == seq)
    };
    match seq == expected || covers() {
        true => Ok(()),
        false => Err(damaged(format!("record {expected} is missing"))),
    }
}

/// As [`check_record`], of what no database gave.
pub(super) fn check_record_of(seq: u64, expected: u64, bytes: &[u8]) -> Result<(), Fault> {
    match check_record::<Infallible>(seq, expected, bytes) {
        Ok(()) => Ok(()),
        Err(Trouble::Damaged(reason)) => Err(Fault::Damaged(reason)),
        Err(Trouble::Database(never)) => match never {},
    }
}
