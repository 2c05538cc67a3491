//! One series' values, by whichever way is smallest.
//!
//! ```text
//! tag: scale (bits 0..3) | way (bits 3..5)
//! scale 0..=4: whole numbers, to be divided by 1, 10², 10³, 10⁶, 10⁹; 7: the bits of the values
//! way 0: levels · 1: slopes (see super::runs) · 2: pco · 3: eight bytes each, little endian
//! ```
//!
//! Most of what a kernel counts is a whole number or a decimal with few digits; as whole numbers,
//! differences are exact and small. A scale is used only if it gives back every value's very bits.

use pco::{
    ChunkConfig,
    data_types::Number,
    wrapped::{FileCompressor, FileDecompressor},
};

use super::{Malformed, malformed, runs};

const SCALES: [f64; 5] = [1.0, 1e2, 1e3, 1e6, 1e9];
const BITS: u8 = 7;
/// Integers beyond this don't survive a round trip through f64.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

const LEVELS: u8 = 0;
const SLOPES: u8 = 1;
const PCO: u8 = 2;
const PLAIN: u8 = 3;

/// Runs of so few bytes are taken without asking pco: its own header is longer.
const RUNS_GOOD_BYTES: usize = 16;
/// Runs of more bytes than this a value are not worth finishing.
const RUNS_BYTES_A_VALUE_MAX: usize = 2;

/// Appends the values' encoding to `out`; their number has to be kept beside it.
pub(crate) fn encode(out: &mut Vec<u8>, values: &[f64]) {
    match scaled(values) {
        Some((scale, numbers)) => encode_numbers(out, scale, &numbers, |out| pco(out, &numbers)),
        None => {
            let bits: Vec<i64> = values.iter().map(|v| v.to_bits().cast_signed()).collect();
            encode_numbers(out, BITS, &bits, |out| pco(out, values));
        }
    }
}

fn encode_numbers(
    out: &mut Vec<u8>,
    scale: u8,
    numbers: &[i64],
    pco: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) {
    let runs = shortest_runs(numbers);
    if let Some((way, bytes)) = &runs
        && bytes.len() <= RUNS_GOOD_BYTES
    {
        return put(out, scale, *way, bytes);
    }
    let mut packed = Vec::new();
    let packed = pco(&mut packed).map(|()| (PCO, packed));
    let smallest = runs.into_iter().chain(packed).min_by_key(|(_, bytes)| bytes.len());
    match smallest {
        Some((way, bytes)) if bytes.len() < numbers.len() * 8 => put(out, scale, way, &bytes),
        _ => {
            let plain: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            put(out, scale, PLAIN, &plain);
        }
    }
}

fn put(out: &mut Vec<u8>, scale: u8, way: u8, bytes: &[u8]) {
    out.push(scale | way << 3);
    out.extend_from_slice(bytes);
}

fn shortest_runs(numbers: &[i64]) -> Option<(u8, Vec<u8>)> {
    let most = RUNS_GOOD_BYTES.max(numbers.len() * RUNS_BYTES_A_VALUE_MAX);
    let levels = runs::levels(numbers, most);
    let most = levels.as_ref().map_or(most, Vec::len);
    let slopes = runs::slopes(numbers, most);
    let both = [levels.map(|bytes| (LEVELS, bytes)), slopes.map(|bytes| (SLOPES, bytes))];
    both.into_iter().flatten().min_by_key(|(_, bytes)| bytes.len())
}

/// The smallest scale that gives every value back, and the whole numbers.
fn scaled(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut numbers = Vec::with_capacity(values.len());
    SCALES.iter().zip(0_u8..).find_map(|(scale, index)| {
        numbers.clear();
        for value in values {
            numbers.push(whole(*value, *scale)?);
        }
        Some((index, std::mem::take(&mut numbers)))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "checked against the bits it gives back")]
fn whole(value: f64, scale: f64) -> Option<i64> {
    let scaled = (value * scale).round();
    let number = scaled as i64;
    let exact = scaled.abs() <= EXACT_MAX && unscaled(number, scale).to_bits() == value.to_bits();
    exact.then_some(number)
}

#[expect(clippy::cast_precision_loss, reason = "what was written is within ±2^53")]
fn unscaled(number: i64, scale: f64) -> f64 {
    number as f64 / scale
}

/// What pco says of its format, once for all columns of a block: [`Decoder`] needs it again.
pub(crate) fn pco_header() -> Vec<u8> {
    // Writing into memory doesn't fail.
    FileCompressor::default().write_header(Vec::new()).unwrap_or_default()
}

/// Decodes columns that were written with one [`pco_header`].
#[derive(Debug)]
pub(crate) struct Decoder(FileDecompressor);

impl Decoder {
    /// A decoder for what was written with this header.
    pub(crate) fn new(pco_header: &[u8]) -> Result<Self, Malformed> {
        FileDecompressor::new(pco_header).map(|(file, _)| Self(file)).map_err(pco_error)
    }

    /// Decodes `count` values from all of `bytes`.
    pub(crate) fn decode(&self, bytes: &[u8], count: usize) -> Result<Vec<f64>, Malformed> {
        let (tag, rest) = bytes.split_first().ok_or_else(malformed("column without a tag"))?;
        let (scale, way) = (tag & 7, tag >> 3);
        if scale == BITS && way == PCO {
            return self.unpco(rest, count);
        }
        let numbers = self.decode_numbers(way, rest, count)?;
        if scale == BITS {
            return Ok(numbers.iter().map(|n| f64::from_bits(n.cast_unsigned())).collect());
        }
        let scale = SCALES.get(scale as usize).ok_or_else(malformed("column of unknown scale"))?;
        Ok(numbers.iter().map(|number| unscaled(*number, *scale)).collect())
    }

    fn decode_numbers(&self, way: u8, bytes: &[u8], count: usize) -> Result<Vec<i64>, Malformed> {
        let mut rest = bytes;
        let numbers = match way {
            LEVELS => runs::take_levels(&mut rest, count),
            SLOPES => runs::take_slopes(&mut rest, count),
            PCO => return self.unpco(bytes, count),
            PLAIN => return plain(bytes, count).ok_or_else(malformed("column of wrong length")),
            _ => return Err(Malformed(format!("column of unknown way {way}"))),
        };
        numbers.filter(|_| rest.is_empty()).ok_or_else(malformed("column whose runs don't add up"))
    }

    fn unpco<T: Number>(&self, bytes: &[u8], count: usize) -> Result<Vec<T>, Malformed> {
        let (mut chunk, rest) = self.0.chunk_decompressor::<T, _>(bytes).map_err(pco_error)?;
        let mut numbers = vec![T::default(); count];
        let mut page = chunk.page_decompressor(rest, count).map_err(pco_error)?;
        let progress = page.read(&mut numbers).map_err(pco_error)?;
        let whole = progress.finished && progress.n_processed == count;
        match whole && page.into_src().is_empty() {
            true => Ok(numbers),
            false => Err(Malformed("column of the wrong length".into())),
        }
    }
}

fn pco_error(error: pco::errors::PcoError) -> Malformed {
    Malformed(format!("column: {error}"))
}

fn plain(bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    let (numbers, rest) = bytes.as_chunks();
    let whole = numbers.len() == count && rest.is_empty();
    whole.then(|| numbers.iter().map(|number| i64::from_le_bytes(*number)).collect())
}

/// pco's chunk, without the header that [`pco_header`] keeps for the whole block.
fn pco<T: Number>(out: &mut Vec<u8>, numbers: &[T]) -> Option<()> {
    let mut chunk =
        FileCompressor::default().chunk_compressor(numbers, &ChunkConfig::default()).ok()?;
    chunk.write_meta(&mut *out).ok()?;
    // At most super::block::TICKS_MAX numbers: one page.
    chunk.write_page(0, &mut *out).ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoder() -> Decoder {
        Decoder::new(&pco_header()).unwrap()
    }

    fn round_trip(values: &[f64]) -> usize {
        let (mut bytes, decoder) = (Vec::new(), decoder());
        encode(&mut bytes, values);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&decoder.decode(&bytes, values.len()).unwrap()), bits(values));
        for cut in 0..bytes.len() {
            // pco pads its last byte: what matters is that nothing panics, and nothing is invented.
            let _ = decoder.decode(&bytes[..cut], values.len());
        }
        bytes.len()
    }

    fn check(name: &str, most: usize, value: impl Fn(u32) -> f64) {
        let values: Vec<f64> = (0..240).map(value).collect();
        let bytes = round_trip(&values);
        assert!(bytes <= most, "{name}: {bytes} bytes of 240 values, expected at most {most}");
    }

    #[test]
    fn what_hosts_measure_is_small() {
        check("constant", 8, |_| 8_216_342_528.0);
        check("a counter at rest, then one step", 10, |n| if n < 100 { 5.0 } else { 6.0 });
        check("seconds since boot", 8, |n| 1_000.25 + 10.0 * f64::from(n));
        check("nan", 16, |_| f64::NAN);
        check("cpu seconds", 200, |n| (93_811.0 + f64::from(n * n % 7 + n * 3)) / 100.0);
        check("microseconds", 400, |n| f64::from(n * 7_919 % 1_000_003) / 1e6);
    }

    #[test]
    fn awkward_values_come_back_bit_for_bit() {
        round_trip(&[]);
        round_trip(&[0.0]);
        round_trip(&[-0.0, 0.0, -0.0]);
        let awkward = [
            f64::NAN,
            -f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0002),
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            EXACT_MAX,
            EXACT_MAX + 2.0,
            1.0 / 3.0,
            0.1 + 0.2,
        ];
        round_trip(&awkward);
        let many: Vec<f64> = awkward.iter().cycle().take(240).copied().collect();
        round_trip(&many);
    }

    proptest! {
        #[test]
        fn any_bits_come_back(bits in proptest::collection::vec(any::<u64>(), 0..300)) {
            round_trip(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }

        #[test]
        fn any_decimals_come_back(
            numbers in proptest::collection::vec(any::<i32>(), 0..300),
            scale in 0_usize..SCALES.len(),
        ) {
            let values = numbers.into_iter().map(|n| f64::from(n) / SCALES[scale]);
            round_trip(&values.collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_refused_or_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0_usize..300,
        ) {
            let _ = decoder().decode(&bytes, count);
        }
    }
}
