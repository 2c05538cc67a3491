//! What a group of series comes to in spans of one length, over one day.
//!
//! ```text
//! CRC32C over all that follows, u32 little endian
//! version u8, 1
//! pco's header: length, bytes
//! number of columns; the length of each
//! slots: u64 little endian, one bit a series
//! for each series: number of spans; for each field: way, and which column
//! the columns, one after the other (see super::column)
//! ```
//!
//! Numbers without a type are LEB128. Fields: see [`FIELDS`]; ways: see [`expected`]. Columns that are the
//! same stand there once: of a counter the least is the first and the greatest the last, what stands still
//! is all of these, and times are those of every other series of the collector.

use std::collections::{BTreeMap, HashMap};

use super::{Malformed, block::SLOTS, column, malformed};
use crate::store::{
    rollup::{Level, Rollup},
    varint::{put, take_at_most, take_bytes},
};

const VERSION: u8 = 1;
/// End of the span from the page's beginning; count; time of the first from the span's beginning; time from
/// the last to the span's end; whether it ended; first, last, least, greatest; sum; increase.
const FIELDS: usize = 11;
const SUM: usize = 9;
const INCREASE: usize = 10;
/// Whole numbers beyond this don't fit into an f64.
const EXACT_MAX: u64 = 1 << 53;

/// Spans of one series: their ends, ascending, and what is in them.
pub(crate) type Spans = Vec<(i64, Rollup)>;

/// Collects the spans of one page.
#[derive(Debug)]
pub(crate) struct PageBuilder {
    level: Level,
    start_ms: i64,
    series: BTreeMap<u8, Spans>,
}

impl PageBuilder {
    /// A page of spans that end after `start_ms`, at most a day later.
    pub(crate) const fn new(level: Level, start_ms: i64) -> Self {
        Self { level, start_ms, series: BTreeMap::new() }
    }

    /// Puts a series in.
    pub(crate) fn insert(&mut self, slot: u8, spans: Spans) {
        if !spans.is_empty() {
            self.series.insert(slot, spans);
        }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The page, read back and compared before it is given out.
    pub(crate) fn finish(&self) -> Result<Vec<u8>, Malformed> {
        let bytes = self.encode();
        let page = Page::open(&bytes, self.level, self.start_ms)?;
        for (slot, spans) in &self.series {
            let read = page.series(*slot)?.unwrap_or_default();
            let same = read.len() == spans.len()
                && read.iter().zip(spans).all(|(a, b)| a.0 == b.0 && bits(&a.1) == bits(&b.1));
            if !same {
                return Err(Malformed("page doesn't read back as it was written".into()));
            }
        }
        Ok(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut columns = Columns::default();
        let mut directory = Vec::new();
        for spans in self.series.values() {
            put(&mut directory, spans.len() as u64);
            for field in 0..FIELDS {
                let (way, column) = self.column(&mut columns, field, spans);
                put(&mut directory, (column * 2 + way) as u64);
            }
        }
        let mut out = vec![0; 4];
        out.push(VERSION);
        let header = column::pco_header();
        put(&mut out, header.len() as u64);
        out.extend_from_slice(&header);
        put(&mut out, columns.encoded.len() as u64);
        columns.encoded.iter().for_each(|column| put(&mut out, column.len() as u64));
        let slots = self.series.keys().fold(0_u64, |bits, slot| bits | 1 << slot);
        out.extend_from_slice(&slots.to_le_bytes());
        out.extend_from_slice(&directory);
        columns.encoded.iter().for_each(|column| out.extend_from_slice(column));
        let sum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The way and the column of a field, whichever is shorter.
    fn column(&self, columns: &mut Columns, field: usize, spans: &Spans) -> (usize, usize) {
        let values: Vec<f64> = spans.iter().map(|span| self.field(field, span)).collect();
        match beside(field, &values, spans) {
            Some(difference) if columns.is_shorter(&difference, &values) => {
                (1, columns.index(difference))
            }
            _ => (0, columns.index(values)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "spans are short; finish() compares")]
    fn field(&self, field: usize, (end_ms, one): &(i64, Rollup)) -> f64 {
        let from_start = one.first_ms.wrapping_sub(end_ms.wrapping_sub(self.level.ms()));
        match field {
            0 => end_ms.wrapping_sub(self.start_ms) as f64,
            1 => one.count as f64,
            2 => from_start as f64,
            3 => end_ms.wrapping_sub(one.last_ms) as f64,
            4 => f64::from(u8::from(one.is_ended)),
            5 => one.first,
            6 => one.last,
            7 => one.min,
            8 => one.max,
            SUM => one.sum,
            _ => one.increase,
        }
    }
}

/// What a field is expected to be: the sum as if all were like the last, the increase as if there were no
/// reset. Where that is so or nearly so, what is written is how many steps of a double lie between.
fn expected(field: usize, count: f64, first: f64, last: f64) -> Option<f64> {
    match field {
        SUM => Some(count * last),
        INCREASE => Some(last - first),
        _ => None,
    }
}

/// A field as its distance from what is expected; `None` where that is no small number.
#[expect(clippy::cast_precision_loss, reason = "no more than EXACT_MAX")]
fn beside(field: usize, values: &[f64], spans: &Spans) -> Option<Vec<f64>> {
    let distance = |(value, (_, one)): (&f64, &(i64, Rollup))| {
        let expected = expected(field, one.count as f64, one.first, one.last)?;
        let steps = value.to_bits().wrapping_sub(expected.to_bits()).cast_signed();
        (steps.unsigned_abs() <= EXACT_MAX).then_some(steps as f64)
    };
    values.iter().zip(spans).map(distance).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "whole, and no more than EXACT_MAX")]
fn beside_expected(expected: f64, steps: f64) -> f64 {
    f64::from_bits(expected.to_bits().wrapping_add((steps as i64).cast_unsigned()))
}

/// Columns of a page, each once.
#[derive(Default)]
struct Columns {
    known: HashMap<Vec<u64>, usize>,
    encoded: Vec<Vec<u8>>,
}

impl Columns {
    fn index(&mut self, values: Vec<f64>) -> usize {
        let key: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
        *self.known.entry(key).or_insert_with(|| {
            let mut bytes = Vec::new();
            column::encode(&mut bytes, &values);
            self.encoded.push(bytes);
            self.encoded.len() - 1
        })
    }

    /// What the first would add, against what the second would.
    fn is_shorter(&self, first: &[f64], second: &[f64]) -> bool {
        let cost = |values: &[f64]| {
            let key: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
            if self.known.contains_key(&key) {
                return 0;
            }
            let mut bytes = Vec::new();
            column::encode(&mut bytes, values);
            bytes.len()
        };
        // What is all zero is told by a few bytes, once for all.
        first.iter().all(|steps| steps.to_bits() == 0) || cost(first) < cost(second)
    }
}

fn bits(one: &Rollup) -> [u64; 10] {
    let Rollup { min, max, sum, count, first, first_ms, last, last_ms, increase, is_ended } = one;
    let times = [first_ms.cast_unsigned(), last_ms.cast_unsigned(), *count, u64::from(*is_ended)];
    let values = [min, max, sum, first, last, increase].map(|value| value.to_bits());
    let mut all = [0; 10];
    all[..4].copy_from_slice(&times);
    all[4..].copy_from_slice(&values);
    all
}

/// A page as it is read.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    level: Level,
    start_ms: i64,
    decoder: column::Decoder,
    columns: Vec<&'a [u8]>,
    /// By slot: number of spans, and for each field the way and the column.
    series: BTreeMap<u8, (usize, [usize; FIELDS])>,
}

impl<'a> Page<'a> {
    /// Checks the sum and reads all but the columns.
    pub(crate) fn open(bytes: &'a [u8], level: Level, start_ms: i64) -> Result<Self, Malformed> {
        let (sum, mut rest) = bytes.split_first_chunk().ok_or_else(malformed("page cut short"))?;
        if u32::from_le_bytes(*sum) != crc32c::crc32c(rest) {
            return Err(Malformed("page checksum mismatch".into()));
        }
        match take_bytes(&mut rest, 1) {
            Some([VERSION]) => {
                Self::read(rest, level, start_ms).ok_or_else(malformed("page of wrong lengths"))?
            }
            Some([newer]) => Err(Malformed(format!("page of unsupported version {newer}"))),
            _ => Err(Malformed("page cut short".into())),
        }
    }

    fn read(mut rest: &'a [u8], level: Level, start_ms: i64) -> Option<Result<Self, Malformed>> {
        let most = rest.len();
        let length = take_at_most(&mut rest, most)?;
        let header = take_bytes(&mut rest, length)?;
        let count = take_at_most(&mut rest, usize::from(SLOTS) * FIELDS)?;
        let lengths =
            (0..count).map(|_| take_at_most(&mut rest, most)).collect::<Option<Vec<_>>>()?;
        let series = take_directory(&mut rest, level, count)?;
        let columns = lengths.into_iter().map(|length| take_bytes(&mut rest, length));
        let columns = columns.collect::<Option<Vec<_>>>()?;
        let open = |decoder| Self { level, start_ms, decoder, columns, series };
        rest.is_empty().then(|| column::Decoder::new(header).map(open))
    }

    /// The slots that have spans.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u8> {
        self.series.keys().copied()
    }

    /// One series' spans; `None` if the page has none of it.
    pub(crate) fn series(&self, slot: u8) -> Result<Option<Spans>, Malformed> {
        let Some((count, fields)) = self.series.get(&slot) else { return Ok(None) };
        let mut decoded: Vec<(usize, Vec<f64>)> = Vec::with_capacity(FIELDS);
        let mut places = [0; FIELDS];
        for (field, place) in fields.iter().zip(&mut places) {
            let index = field / 2;
            let known = decoded.iter().position(|(known, _)| *known == index);
            *place = known.unwrap_or(decoded.len());
            if known.is_none() {
                let bytes = self.columns.get(index).ok_or_else(malformed("no such column"))?;
                decoded.push((index, self.decoder.decode(bytes, *count)?));
            }
        }
        let value = |field: usize, at: usize| decoded[places[field]].1[at];
        Ok(Some((0..*count).map(|at| self.span(fields, |field| value(field, at))).collect()))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole numbers that were written as such; a cast of others is none that panics"
    )]
    fn span(&self, fields: &[usize; FIELDS], value: impl Fn(usize) -> f64) -> (i64, Rollup) {
        let end_ms = self.start_ms.wrapping_add(value(0) as i64);
        let (count, first, last) = (value(1), value(5), value(6));
        let expected_or = |field: usize| match expected(field, count, first, last) {
            Some(expected) if fields[field] % 2 == 1 => beside_expected(expected, value(field)),
            _ => value(field),
        };
        let one = Rollup {
            min: value(7),
            max: value(8),
            sum: expected_or(SUM),
            count: count as u64,
            first,
            first_ms: end_ms.wrapping_sub(self.level.ms()).wrapping_add(value(2) as i64),
            last,
            last_ms: end_ms.wrapping_sub(value(3) as i64),
            increase: expected_or(INCREASE),
            is_ended: value(4) > 0.0,
        };
        (end_ms, one)
    }
}

fn take_directory(
    rest: &mut &[u8],
    level: Level,
    columns: usize,
) -> Option<BTreeMap<u8, (usize, [usize; FIELDS])>> {
    let (slots, after) = rest.split_first_chunk()?;
    *rest = after;
    let slots = u64::from_le_bytes(*slots);
    let spans_max = usize::try_from(Level::Day.ms() / level.ms()).ok()?;
    let mut series = BTreeMap::new();
    for slot in (0..SLOTS).filter(|slot| slots & 1 << slot != 0) {
        let count = take_at_most(rest, spans_max)?;
        let mut fields = [0; FIELDS];
        for field in &mut fields {
            *field = take_at_most(rest, (columns * 2).checked_sub(1)?)?;
        }
        series.insert(slot, (count, fields));
    }
    Some(series)
}

#[cfg(test)]
mod tests;
