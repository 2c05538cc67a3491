//! The columns of a group of series over some ticks of one stream, with their times.
//!
//! ```text
//! CRC32C over all that follows, u32 little endian
//! version u8, 1
//! pco's header: length, bytes
//! number of ticks
//! sequence numbers, then times in Unix milliseconds: slopes (see super::runs)
//! number of patterns; each: (ticks skipped, ticks taken)* until all ticks are told
//! slots: u64 little endian, one bit a column
//! for each column: pattern (0 = every tick, n = the n-th above), length
//! the columns, one after the other (see super::column)
//! ```
//!
//! Numbers without a type are LEB128. Ticks stand in the order of their sequence numbers; times need
//! not ascend, since a host's clock may be set back. The directory comes before the data, so that
//! one column is read without the others.

use std::collections::BTreeMap;

use super::{Malformed, column, malformed, runs};
use crate::store::varint::{put, take, take_at_most, take_bytes};

/// Series of one group, thus columns of one block.
pub(crate) const SLOTS: u8 = 64;
/// Ticks of one block.
pub(crate) const TICKS_MAX: usize = 960;

const VERSION: u8 = 1;

/// Collects the samples of one block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    seqs: Vec<i64>,
    times: Vec<i64>,
    columns: BTreeMap<u8, Column>,
}

/// One series' samples: at which of the block's ticks, and the values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Column {
    /// Indices into the block's ticks, ascending.
    pub(crate) ticks: Vec<usize>,
    /// A value for each.
    pub(crate) values: Vec<f64>,
}

impl BlockBuilder {
    /// Adds a sample; ticks come in order. A series that comes twice in one tick keeps the later.
    pub(crate) fn push(&mut self, seq: u64, time_ms: i64, slot: u8, value: f64) {
        let seq = seq.cast_signed();
        if self.seqs.last() != Some(&seq) {
            self.seqs.push(seq);
            self.times.push(time_ms);
        }
        let tick = self.seqs.len() - 1;
        let column = self.columns.entry(slot).or_default();
        match (column.ticks.last(), column.values.last_mut()) {
            (Some(last), Some(before)) if *last == tick => *before = value,
            _ => {
                column.ticks.push(tick);
                column.values.push(value);
            }
        }
    }

    /// Time of the earliest and of the latest tick; `None` if there is none.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        Some((*self.times.iter().min()?, *self.times.iter().max()?))
    }

    /// Times of its ticks.
    pub(crate) fn times(&self) -> &[i64] {
        &self.times
    }

    /// Lowest and highest sequence number; `None` if there is no tick.
    pub(crate) fn seqs(&self) -> Option<(u64, u64)> {
        Some((self.seqs.first()?.cast_unsigned(), self.seqs.last()?.cast_unsigned()))
    }

    /// The slots that have a column.
    pub(crate) fn slots(&self) -> Vec<u8> {
        self.columns.keys().copied().collect()
    }

    /// Samples added.
    pub(crate) fn samples(&self) -> usize {
        self.columns.values().map(|column| column.values.len()).sum()
    }

    /// The block, read back and compared before it is given out.
    pub(crate) fn finish(&self) -> Result<Vec<u8>, Malformed> {
        let bytes = self.encode();
        if self.is_in(&Block::open(&bytes)?)? {
            Ok(bytes)
        } else {
            Err(Malformed("block doesn't read back as it was written".into()))
        }
    }

    fn is_in(&self, block: &Block<'_>) -> Result<bool, Malformed> {
        for (slot, column) in &self.columns {
            let read = block.column(*slot)?.unwrap_or_default();
            let same_bits = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
            let same = read.ticks == column.ticks
                && read.values.len() == column.values.len()
                && read.values.iter().zip(&column.values).all(same_bits);
            if !same {
                return Ok(false);
            }
        }
        Ok(block.seqs == self.seqs && block.times == self.times)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.push(VERSION);
        let header = column::pco_header();
        put(&mut out, header.len() as u64);
        out.extend_from_slice(&header);
        put(&mut out, self.seqs.len() as u64);
        for numbers in [&self.seqs, &self.times] {
            out.extend(runs::slopes(numbers, usize::MAX).unwrap_or_default());
        }
        self.put_columns(&mut out);
        let sum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&sum.to_le_bytes());
        out
    }

    fn put_columns(&self, out: &mut Vec<u8>) {
        let (mut patterns, mut directory, mut data) =
            (Vec::<&[usize]>::new(), Vec::new(), Vec::new());
        for column in self.columns.values() {
            put(&mut directory, self.pattern(&mut patterns, &column.ticks) as u64);
            let start = data.len();
            column::encode(&mut data, &column.values);
            put(&mut directory, (data.len() - start) as u64);
        }
        put(out, patterns.len() as u64);
        for pattern in patterns {
            put_pattern(out, pattern, self.seqs.len());
        }
        let slots = self.columns.keys().fold(0_u64, |bits, slot| bits | 1 << slot);
        out.extend_from_slice(&slots.to_le_bytes());
        out.extend_from_slice(&directory);
        out.extend_from_slice(&data);
    }

    fn pattern<'a>(&self, patterns: &mut Vec<&'a [usize]>, ticks: &'a [usize]) -> usize {
        if ticks.len() == self.seqs.len() {
            return 0;
        }
        // Series of one collector come and go together: there are few patterns.
        let known = patterns.iter().rposition(|pattern| *pattern == ticks);
        known.map_or_else(
            || {
                patterns.push(ticks);
                patterns.len()
            },
            |index| index + 1,
        )
    }
}

fn put_pattern(out: &mut Vec<u8>, ticks: &[usize], all: usize) {
    let mut told = 0;
    for run in ticks.chunk_by(|a, b| a + 1 == *b) {
        put(out, (run[0] - told) as u64);
        put(out, run.len() as u64);
        told = run[0] + run.len();
    }
    if told < all {
        put(out, (all - told) as u64);
        put(out, 0);
    }
}

fn take_pattern(bytes: &mut &[u8], all: usize) -> Option<Vec<usize>> {
    let (mut ticks, mut told) = (Vec::new(), 0);
    while told < all {
        let start = told + take_at_most(bytes, all - told)?;
        let end = start + take_at_most(bytes, all - start)?;
        if end == told {
            return None;
        }
        ticks.extend(start..end);
        told = end;
    }
    Some(ticks)
}

/// A block as it is read.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// Sequence numbers of its ticks.
    pub(crate) seqs: Vec<i64>,
    /// Their times, Unix milliseconds.
    pub(crate) times: Vec<i64>,
    decoder: column::Decoder,
    patterns: Vec<Vec<usize>>,
    /// By slot: pattern and data.
    columns: BTreeMap<u8, (usize, &'a [u8])>,
}

impl<'a> Block<'a> {
    /// Checks the sum and reads all but the columns.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (sum, mut rest) = bytes.split_first_chunk().ok_or_else(malformed("block cut short"))?;
        if u32::from_le_bytes(*sum) != crc32c::crc32c(rest) {
            return Err(Malformed("block checksum mismatch".into()));
        }
        match take_bytes(&mut rest, 1) {
            Some([VERSION]) => Self::read(rest).ok_or_else(malformed("block of wrong lengths"))?,
            Some([newer]) => Err(Malformed(format!("block of unsupported version {newer}"))),
            _ => Err(Malformed("block cut short".into())),
        }
    }

    fn read(mut rest: &'a [u8]) -> Option<Result<Self, Malformed>> {
        let most = rest.len();
        let length = take_at_most(&mut rest, most)?;
        let header = take_bytes(&mut rest, length)?;
        let count = take_at_most(&mut rest, TICKS_MAX)?;
        let seqs = runs::take_slopes(&mut rest, count)?;
        let times = runs::take_slopes(&mut rest, count)?;
        let patterns = take_at_most(&mut rest, SLOTS.into())?;
        let patterns =
            (0..patterns).map(|_| take_pattern(&mut rest, count)).collect::<Option<_>>()?;
        let columns = take_directory(&mut rest)?;
        let open = |decoder| Self { seqs, times, decoder, patterns, columns };
        Some(column::Decoder::new(header).map(open))
    }

    /// One series' samples; `None` if the block has none of it.
    pub(crate) fn column(&self, slot: u8) -> Result<Option<Column>, Malformed> {
        let Some((pattern, data)) = self.columns.get(&slot) else { return Ok(None) };
        let ticks = match pattern.checked_sub(1) {
            None => (0..self.times.len()).collect(),
            Some(index) => {
                self.patterns.get(index).ok_or_else(malformed("no such pattern"))?.clone()
            }
        };
        let values = self.decoder.decode(data, ticks.len())?;
        Ok(Some(Column { ticks, values }))
    }
}

fn take_directory<'a>(rest: &mut &'a [u8]) -> Option<BTreeMap<u8, (usize, &'a [u8])>> {
    let (slots, after) = rest.split_first_chunk()?;
    *rest = after;
    let slots = u64::from_le_bytes(*slots);
    let mut entries = Vec::new();
    for slot in (0..SLOTS).filter(|slot| slots & 1 << slot != 0) {
        entries.push((slot, take_at_most(rest, SLOTS.into())?, usize::try_from(take(rest)?).ok()?));
    }
    let column = |(slot, pattern, length)| Some((slot, (pattern, take_bytes(rest, length)?)));
    let columns = entries.into_iter().map(column).collect::<Option<_>>()?;
    rest.is_empty().then_some(columns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steady(ticks: u32, slots: u8) -> BlockBuilder {
        let mut builder = BlockBuilder::default();
        for tick in 0..ticks {
            for slot in 0..slots {
                let value = f64::from(tick * u32::from(slot) % 97);
                builder.push(tick.into(), i64::from(tick) * 10_000, slot, value);
            }
        }
        builder
    }

    #[test]
    fn columns_come_and_go() {
        let mut builder = BlockBuilder::default();
        for tick in 0..100_u64 {
            let time = tick.cast_signed() * 1_000;
            builder.push(tick * 2, time, 0, tick as f64);
            for slot in [1, 63] {
                if (10..90).contains(&tick) && tick % 7 != 0 {
                    builder.push(tick * 2, time, slot, f64::NAN);
                }
            }
        }
        builder.push(500, 99_000, 5, 1.0);
        builder.push(500, 99_000, 5, 2.0);
        let bytes = builder.finish().unwrap();
        let block = Block::open(&bytes).unwrap();
        assert_eq!(block.columns.keys().copied().collect::<Vec<_>>(), [0, 1, 5, 63]);
        assert_eq!(block.patterns.len(), 3, "slots 1 and 63 share one");
        assert_eq!(block.column(5), Ok(Some(Column { ticks: vec![100], values: vec![2.0] })));
        assert_eq!(block.column(2), Ok(None));
        assert_eq!(builder.seqs(), Some((0, 500)));
        assert_eq!(builder.span(), Some((0, 99_000)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = steady(20, 5).finish().unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::open(&bytes).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(Block::open(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn golden_bytes_stay_readable() {
        let block = Block::open(GOLDEN).unwrap();
        assert_eq!(
            (block.seqs.as_slice(), block.times.as_slice()),
            (&[7, 8, 9][..], &[0, 10, 20][..])
        );
        assert_eq!(block.column(0).unwrap().unwrap().values, [0.5, 0.75, 0.25]);
        assert_eq!(block.column(3).unwrap().unwrap().ticks, [1, 2]);
    }

    #[test]
    fn golden_bytes_are_still_written() {
        let mut builder = BlockBuilder::default();
        for (seq, value) in [(7, 0.5), (8, 0.75), (9, 0.25)] {
            builder.push(seq, (seq as i64 - 7) * 10, 0, value);
            if seq > 7 {
                builder.push(seq, (seq as i64 - 7) * 10, 3, f64::NAN);
            }
        }
        assert_eq!(builder.finish().unwrap(), GOLDEN, "the format on disk changed");
    }

    const GOLDEN: &[u8] = &[
        216, 65, 85, 155, 1, 2, 4, 1, 3, 14, 2, 1, 0, 20, 1, 1, 1, 2, 9, 0, 0, 0, 0, 0, 0, 0, 0, 6,
        1, 12, 9, 100, 50, 0, 99, 0, 7, 128, 128, 128, 128, 128, 128, 128, 248, 255, 1, 1,
    ];

    proptest! {
        #[test]
        fn any_samples_come_back(
            samples in proptest::collection::vec((0_u8..3, any::<i64>(), 0..SLOTS, any::<u64>()), 0..200)
        ) {
            let mut builder = BlockBuilder::default();
            let mut seq = 0;
            for (step, time, slot, bits) in samples {
                seq += u64::from(step);
                builder.push(seq, time, slot, f64::from_bits(bits));
            }
            prop_assert!(builder.finish().is_ok());
        }

        #[test]
        fn any_bytes_with_a_good_sum_are_refused_or_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), flips in proptest::collection::vec((0_usize..400, any::<u8>()), 1..4),
        ) {
            for mut bytes in [[&[1][..], &bytes].concat(), steady(20, 5).finish().unwrap()[4..].to_vec()] {
                for (at, byte) in &flips {
                    let at = at % bytes.len();
                    bytes[at] = *byte;
                }
                let whole = [&crc32c::crc32c(&bytes).to_le_bytes()[..], &bytes].concat();
                if let Ok(block) = Block::open(&whole) {
                    for slot in 0..SLOTS {
                        let _ = block.column(slot);
                    }
                }
            }
        }
    }
}
