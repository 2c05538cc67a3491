//! Sequences of whole numbers that repeat, or that go on by the same step.
//!
//! `levels`: (difference from the level before, how often − 1)*. `slopes`: first number, then (step,
//! how often − 1)*. Differences wrap, so any 64-bit numbers come back.

use crate::store::varint::{put, put_signed, take, take_signed};

/// Encodes as levels; `None` if that takes more than `most` bytes.
pub(crate) fn levels(numbers: &[i64], most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut before = 0_i64;
    for run in numbers.chunk_by(|a, b| a == b) {
        put_signed(&mut out, run[0].wrapping_sub(before));
        put(&mut out, run.len() as u64 - 1);
        before = run[0];
        if out.len() > most {
            return None;
        }
    }
    Some(out)
}

/// Encodes as slopes; `None` if that takes more than `most` bytes.
pub(crate) fn slopes(numbers: &[i64], most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (first, rest) = numbers.split_first()?;
    put_signed(&mut out, *first);
    let (mut before, mut index) = (*first, 0);
    while index < rest.len() {
        let step = rest[index].wrapping_sub(before);
        let start = index;
        while index < rest.len() && rest[index].wrapping_sub(before) == step {
            before = rest[index];
            index += 1;
        }
        put_signed(&mut out, step);
        put(&mut out, (index - start) as u64 - 1);
        if out.len() > most {
            return None;
        }
    }
    Some(out)
}

/// Takes `count` numbers encoded as levels off the front.
pub(crate) fn take_levels(bytes: &mut &[u8], count: usize) -> Option<Vec<i64>> {
    let mut numbers = Vec::with_capacity(count);
    let mut level = 0_i64;
    while numbers.len() < count {
        level = level.wrapping_add(take_signed(bytes)?);
        let run = run_length(bytes, count - numbers.len())?;
        numbers.resize(numbers.len() + run, level);
    }
    Some(numbers)
}

/// Takes `count` numbers encoded as slopes off the front.
pub(crate) fn take_slopes(bytes: &mut &[u8], count: usize) -> Option<Vec<i64>> {
    let mut numbers = Vec::with_capacity(count);
    if count == 0 {
        return Some(numbers);
    }
    let mut number = take_signed(bytes)?;
    numbers.push(number);
    while numbers.len() < count {
        let step = take_signed(bytes)?;
        for _ in 0..run_length(bytes, count - numbers.len())? {
            number = number.wrapping_add(step);
            numbers.push(number);
        }
    }
    Some(numbers)
}

fn run_length(bytes: &mut &[u8], most: usize) -> Option<usize> {
    let run = usize::try_from(take(bytes)?).ok()?.checked_add(1)?;
    (run <= most).then_some(run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(numbers: &[i64]) -> (usize, usize) {
        let level = levels(numbers, usize::MAX).unwrap();
        let mut rest = level.as_slice();
        assert_eq!(take_levels(&mut rest, numbers.len()).as_deref(), Some(numbers));
        assert!(rest.is_empty());
        let slope = slopes(numbers, usize::MAX).unwrap_or_default();
        let mut rest = slope.as_slice();
        assert_eq!(take_slopes(&mut rest, numbers.len()).as_deref(), Some(numbers));
        assert!(rest.is_empty());
        (level.len(), slope.len())
    }

    #[test]
    fn regular_sequences_are_tiny() {
        let times: Vec<i64> = (0..240).map(|n| 1_700_000_000_000 + n * 10_000).collect();
        assert_eq!(round_trip(&times).1, 11);
        assert_eq!(round_trip(&[42; 240]).0, 3);
        assert_eq!(round_trip(&[i64::MIN, i64::MAX, 0, -1]), (26, 25));
        round_trip(&[]);
    }

    #[test]
    fn what_would_be_too_long_is_given_up() {
        let numbers: Vec<i64> = (0..100).map(|n| n * n).collect();
        assert_eq!(levels(&numbers, 50), None);
        assert_eq!(slopes(&numbers, 50), None);
    }

    #[test]
    fn hostile_counts_are_refused() {
        let mut bytes = Vec::new();
        put_signed(&mut bytes, 1);
        put(&mut bytes, u64::MAX);
        assert_eq!(take_levels(&mut bytes.as_slice(), 10), None);
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(numbers in proptest::collection::vec(any::<i64>(), 0..60)) {
            round_trip(&numbers);
        }

        #[test]
        fn few_levels_come_back(numbers in proptest::collection::vec(0_i64..3, 0..60)) {
            round_trip(&numbers);
        }
    }
}
