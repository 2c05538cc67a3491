//! One tick's values, columnar.
//!
//! A tick names its schemas and carries one value for each of their series, in order. Values are
//! f64; most of what a kernel counts is an integer, or a decimal with two or three digits (CPU time
//! in hundredths of a second, disk time in thousandths), so each value is put in the narrowest
//! *class* that gives back the very same bits:
//!
//! | class | value | column |
//! |---|---|---|
//! | 0 | `n` | `decimals`, zigzag LEB128 |
//! | 1 | `n / 100` | `decimals`, zigzag LEB128 |
//! | 2 | `n / 1000` | `decimals`, zigzag LEB128 |
//! | 3 | anything else | `floats`, 8 bytes little endian |
//!
//! Classes are two bits a value, four to a byte, lowest bits first. Why not one bit, and what it
//! saves: `docs/decisions/0004-decimal-classes.md`.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    limits,
    schema::SchemaId,
};

const SCALES: [f64; 3] = [1.0, 100.0, 1000.0];
const RAW: u8 = 3;
/// Integers beyond this don't survive a round trip through f64.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
const VARINT_BYTES_MAX: usize = 10;

/// One tick: one time, and a value for every series of the schemas it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Unix milliseconds, aligned to the interval.
    pub time_ms: i64,
    /// Which schemas the values follow, in order.
    pub schemas: Vec<SchemaId>,
    /// The values of all schemas, one after the other.
    pub values: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct Encoded<'a> {
    time_ms: i64,
    schemas: Vec<SchemaId>,
    count: u32,
    #[serde(borrow, with = "serde_bytes")]
    classes: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    decimals: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    floats: &'a [u8],
}

/// Encodes ticks; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct TickEncoder {
    schemas: Vec<SchemaId>,
    count: u32,
    classes: Vec<u8>,
    decimals: Vec<u8>,
    floats: Vec<u8>,
}

impl TickEncoder {
    /// An encoder with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one schema's values, in the order of its series.
    pub fn push(&mut self, schema: SchemaId, values: &[f64]) {
        self.schemas.push(schema);
        for &value in values {
            self.push_value(value);
        }
    }

    /// Values added since the last [`TickEncoder::finish`].
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing was added since the last [`TickEncoder::finish`].
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.schemas.is_empty()
    }

    /// The payload of the tick at `time_ms`; the encoder is empty afterwards.
    #[must_use]
    pub fn finish(&mut self, time_ms: i64) -> Vec<u8> {
        let payload = codec::encode(&Encoded {
            time_ms,
            schemas: std::mem::take(&mut self.schemas),
            count: self.count,
            classes: &self.classes,
            decimals: &self.decimals,
            floats: &self.floats,
        });
        self.count = 0;
        self.classes.clear();
        self.decimals.clear();
        self.floats.clear();
        payload
    }

    fn push_value(&mut self, value: f64) {
        let class = match narrow(value) {
            Some((class, decimal)) => {
                push_varint(&mut self.decimals, decimal);
                class
            }
            None => {
                self.floats.extend_from_slice(&value.to_le_bytes());
                RAW
            }
        };
        let shift = (self.count % 4) * 2;
        match self.classes.last_mut() {
            Some(last) if shift > 0 => *last |= class << shift,
            _ => self.classes.push(class),
        }
        self.count += 1;
    }
}

impl Tick {
    /// Encodes a whole tick: [`TickEncoder`] in one call. `blocks` are schemas and their values.
    #[must_use]
    pub fn encode(time_ms: i64, blocks: &[(SchemaId, &[f64])]) -> Vec<u8> {
        let mut encoder = TickEncoder::new();
        for (schema, values) in blocks {
            encoder.push(*schema, values);
        }
        encoder.finish(time_ms)
    }

    /// Decodes a payload.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are malformed or a bound of [`limits`] is broken. Whether the
    /// number of values fits the schemas only someone who has the schemas can check.
    pub fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        let encoded = decode_columns(payload)?;
        let values = decode_values(&encoded)?;
        Ok(Self { time_ms: encoded.time_ms, schemas: encoded.schemas, values })
    }
}

fn decode_columns(payload: &[u8]) -> Result<Encoded<'_>, CodecError> {
    let encoded: Encoded<'_> = codec::decode_borrowed("tick", payload)?;
    let invalid = |detail: String| Err(CodecError::invalid("tick", detail));
    let (count, schemas) = (encoded.count as usize, encoded.schemas.len());
    if count > limits::TICK_SERIES_MAX {
        return invalid(format!("{count} values, at most {}", limits::TICK_SERIES_MAX));
    }
    if schemas > limits::TICK_SCHEMAS_MAX {
        return invalid(format!("{schemas} schemas, at most {}", limits::TICK_SCHEMAS_MAX));
    }
    if encoded.classes.len() != count.div_ceil(4) {
        return invalid(format!("{} class bytes for {count} values", encoded.classes.len()));
    }
    Ok(encoded)
}

fn decode_values(encoded: &Encoded<'_>) -> Result<Vec<f64>, CodecError> {
    let (mut decimals, mut floats) = (encoded.decimals, encoded.floats);
    let mut values = Vec::with_capacity(encoded.count as usize);
    for index in 0..encoded.count as usize {
        let class = (encoded.classes[index / 4] >> ((index % 4) * 2)) & 3;
        let value =
            if class == RAW { take_float(&mut floats) } else { take_decimal(&mut decimals, class) };
        values.push(value.ok_or_else(|| {
            CodecError::invalid("tick", format!("value {index} of {} is missing", encoded.count))
        })?);
    }
    match (decimals.len(), floats.len()) {
        (0, 0) => Ok(values),
        (d, f) => {
            Err(CodecError::invalid("tick", format!("{d} and {f} bytes of columns left over")))
        }
    }
}

/// The narrowest class and its integer; `None` if only the raw bits give the value back.
#[expect(clippy::cast_possible_truncation, reason = "checked against the bits it gives back")]
fn narrow(value: f64) -> Option<(u8, i64)> {
    SCALES.iter().zip(0_u8..).find_map(|(scale, class)| {
        let scaled = (value * scale).round();
        let decimal = scaled as i64;
        let exact = scaled.abs() <= EXACT_MAX
            && (from_decimal(decimal, *scale)).to_bits() == value.to_bits();
        exact.then_some((class, decimal))
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what we write is within ±2^53; the rest is rounded"
)]
fn from_decimal(decimal: i64, scale: f64) -> f64 {
    decimal as f64 / scale
}

#[expect(clippy::cast_sign_loss, reason = "zigzag moves the sign to the lowest bit")]
fn push_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[expect(clippy::cast_possible_wrap, reason = "zigzag moves the sign back")]
fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for index in 0..VARINT_BYTES_MAX {
        let byte = *bytes.get(index)?;
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn take_decimal(bytes: &mut &[u8], class: u8) -> Option<f64> {
    let scale = SCALES.get(class as usize)?;
    take_varint(bytes).map(|decimal| from_decimal(decimal, *scale))
}

fn take_float(bytes: &mut &[u8]) -> Option<f64> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(f64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: SchemaId = SchemaId([1, 2, 3, 4, 5, 6, 7, 8]);

    fn round_trip(values: &[f64]) -> Vec<u8> {
        let payload = Tick::encode(1_700_000_000_000, &[(ID, values)]);
        let tick = Tick::decode(&payload).unwrap();
        assert_eq!((tick.time_ms, tick.schemas.as_slice()), (1_700_000_000_000, &[ID][..]));
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tick.values), bits(values));
        payload
    }

    #[test]
    fn awkward_values_come_back_bit_for_bit() {
        round_trip(&[]);
        round_trip(&[
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.01,
            12_345.67,
            0.001,
            1.0 / 3.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            EXACT_MAX,
            -EXACT_MAX,
            EXACT_MAX + 2.0,
            1e300,
            f64::from_bits(0x7ff0_0000_0000_0002),
        ]);
    }

    #[test]
    fn golden_bytes_stay_readable() {
        let payload = round_trip(&[3.0, -2.0, 0.25, 0.005, 0.1 + 0.2]);
        assert_eq!(payload, GOLDEN, "ticks in old logs would be lost: {payload:?}");
    }

    const GOLDEN: &[u8] = &[
        253, 0, 208, 202, 159, 23, 3, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 5, 2, 144, 3, 4, 6, 3, 50,
        10, 8, 52, 51, 51, 51, 51, 51, 211, 63,
    ];

    #[test]
    fn broken_columns_are_named() {
        let good = Tick::encode(0, &[(ID, &[1.0, 0.3, 0.1 + 0.2])]);
        for cut in 0..good.len() {
            assert!(Tick::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        let more = [good.as_slice(), &[0]].concat();
        assert_eq!(Tick::decode(&more), Err(CodecError::Trailing { what: "tick", left: 1 }));
    }

    proptest! {
        #[test]
        fn any_values_come_back(values in proptest::collection::vec(any::<u64>(), 0..50)) {
            round_trip(&values.iter().map(|bits| f64::from_bits(*bits)).collect::<Vec<_>>());
        }

        #[test]
        fn any_decimals_come_back(values in proptest::collection::vec(any::<i32>(), 0..50), scale in 0_usize..3) {
            round_trip(&values.iter().map(|v| f64::from(*v) / SCALES[scale]).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tick::decode(&bytes);
        }
    }
}
