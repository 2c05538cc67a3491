//! The body of a head row that holds what came by remote write: the hub's own words for it, since a
//! request mixes the series of many targets.
//!
//! ```text
//! "HFrw"
//! CRC32C over all that follows, u32 little endian
//! version u8, 1
//! number of ticks; each: number of series, differences between their ids, length, values
//! values: the payload of a wire::Tick with the time, and one schema, named 0
//! ```
//!
//! Numbers without a type are LEB128, differences zigzag. Ticks stand in the order of their times, the
//! series of a tick in the order of their ids, each once.

use wire::{SchemaId, Tick, limits::TICK_SERIES_MAX};

use super::columns::{Malformed, malformed};
use crate::store::varint;

const MAGIC: &[u8; 4] = b"HFrw";
const VERSION: u8 = 1;
const NO_SCHEMA: SchemaId = SchemaId([0; 8]);
/// Bytes before the first tick.
const HEAD_BYTES: usize = MAGIC.len() + 4 + 1;

/// Samples of one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WrittenTick {
    /// Unix milliseconds.
    pub(crate) time_ms: i64,
    /// Ids of series, ascending.
    pub(crate) series: Vec<i64>,
    /// A value for each.
    pub(crate) values: Vec<f64>,
}

/// Whether a head row's body is one of these; others are zstd frames, which begin with another byte.
pub(crate) fn is_written(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Puts samples into ticks that fit the format: of one time, so many at once. They have to be in the order
/// of time, then series: `(time_ms, series, value)`.
pub(crate) fn ticks(samples: impl Iterator<Item = (i64, i64, f64)>) -> Vec<WrittenTick> {
    let mut ticks: Vec<WrittenTick> = Vec::new();
    for (time_ms, series, value) in samples {
        let open = ticks.last_mut();
        let open =
            open.filter(|tick| tick.time_ms == time_ms && tick.series.len() < TICK_SERIES_MAX);
        if let Some(tick) = open {
            tick.series.push(series);
            tick.values.push(value);
        } else {
            ticks.push(WrittenTick { time_ms, series: vec![series], values: vec![value] });
        }
    }
    ticks
}

/// The body that holds these ticks.
pub(crate) fn encode(ticks: &[WrittenTick]) -> Vec<u8> {
    let mut out = vec![0; HEAD_BYTES];
    out[..MAGIC.len()].copy_from_slice(MAGIC);
    out[HEAD_BYTES - 1] = VERSION;
    varint::put(&mut out, ticks.len() as u64);
    for tick in ticks {
        varint::put(&mut out, tick.series.len() as u64);
        let mut before = 0;
        for series in &tick.series {
            varint::put_signed(&mut out, series.wrapping_sub(before));
            before = *series;
        }
        let values = Tick::encode(tick.time_ms, &[(NO_SCHEMA, &tick.values)]);
        varint::put(&mut out, values.len() as u64);
        out.extend_from_slice(&values);
    }
    let (head, rest) = out.split_at_mut(MAGIC.len() + 4);
    head[MAGIC.len()..].copy_from_slice(&crc32c::crc32c(rest).to_le_bytes());
    out
}

/// Reads a body; checks its sum first.
pub(crate) fn decode(body: &[u8]) -> Result<Vec<WrittenTick>, Malformed> {
    let rest = body.strip_prefix(MAGIC).and_then(<[u8]>::split_first_chunk);
    let (sum, rest) = rest.ok_or_else(malformed("written samples cut short"))?;
    if u32::from_le_bytes(*sum) != crc32c::crc32c(rest) {
        return Err(Malformed("checksum mismatch of written samples".into()));
    }
    match rest.split_first() {
        Some((&VERSION, rest)) => decode_ticks(rest),
        Some((newer, _)) => {
            Err(Malformed(format!("written samples of unsupported version {newer}")))
        }
        None => Err(Malformed("written samples cut short".into())),
    }
}

fn decode_ticks(mut rest: &[u8]) -> Result<Vec<WrittenTick>, Malformed> {
    let wrong = || malformed("written samples of wrong lengths");
    let most = rest.len();
    let count = varint::take_at_most(&mut rest, most).ok_or_else(wrong())?;
    let ticks = (0..count).map(|_| {
        let (series, values) = take_tick(&mut rest).ok_or_else(wrong())?;
        let tick = Tick::decode(values).map_err(|error| Malformed(error.to_string()))?;
        if tick.values.len() != series.len() {
            let (values, series) = (tick.values.len(), series.len());
            return Err(Malformed(format!("{values} values for {series} series")));
        }
        Ok(WrittenTick { time_ms: tick.time_ms, series, values: tick.values })
    });
    let ticks = ticks.collect::<Result<_, _>>()?;
    if rest.is_empty() { Ok(ticks) } else { Err(wrong()()) }
}

fn take_tick<'a>(rest: &mut &'a [u8]) -> Option<(Vec<i64>, &'a [u8])> {
    let most = rest.len();
    let count = varint::take_at_most(rest, most)?;
    let mut series = Vec::with_capacity(count);
    let mut before = 0_i64;
    for _ in 0..count {
        before = before.wrapping_add(varint::take_signed(rest)?);
        series.push(before);
    }
    let length = usize::try_from(varint::take(rest)?).ok()?;
    Some((series, varint::take_bytes(rest, length)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(ticks: &[WrittenTick]) -> Vec<(i64, Vec<i64>, Vec<u64>)> {
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect();
        ticks.iter().map(|one| (one.time_ms, one.series.clone(), bits(&one.values))).collect()
    }

    fn some() -> Vec<WrittenTick> {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let samples = [(10, 64, 0.5), (10, 65, stale), (20, -3, 7.0), (20, i64::MAX, -0.0)];
        ticks(samples.into_iter())
    }

    #[test]
    fn golden_bytes_stay_readable_and_are_still_written() {
        assert_eq!(encode(&some()), GOLDEN, "the format on disk changed");
        assert_eq!(bits(&decode(GOLDEN).unwrap()), bits(&some()));
    }

    const GOLDEN: &[u8] = &[
        72, 70, 114, 119, 165, 75, 62, 237, 1, 2, 2, 128, 1, 2, 24, 20, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        2, 1, 13, 1, 100, 8, 2, 0, 0, 0, 0, 0, 240, 127, 2, 5, 251, 255, 255, 255, 255, 255, 255,
        255, 255, 1, 24, 40, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 12, 1, 14, 8, 0, 0, 0, 0, 0, 0, 0,
        128,
    ];

    #[test]
    fn a_time_with_too_many_series_is_split() {
        let most = TICK_SERIES_MAX as i64;
        let ticks = ticks((0..most + 2).map(|series| (5, series, series as f64)));
        assert_eq!(ticks.iter().map(|tick| tick.series.len()).collect::<Vec<_>>(), [100_000, 2]);
        assert_eq!(decode(&encode(&ticks)), Ok(ticks));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encode(&some());
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_written(&bytes) || decode(&bytes).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn any_samples_come_back(
            mut samples in proptest::collection::vec((any::<i64>(), any::<i64>(), any::<u64>()), 0..60)
        ) {
            samples.sort_unstable();
            let before = ticks(samples.iter().map(|(time, id, bits)| (*time, *id, f64::from_bits(*bits))));
            prop_assert_eq!(bits(&decode(&encode(&before)).unwrap()), bits(&before));
        }

        #[test]
        fn any_bytes_with_a_good_sum_are_refused_or_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            flips in proptest::collection::vec((0_usize..400, any::<u8>()), 1..4),
        ) {
            for mut bytes in [[&[VERSION][..], &bytes].concat(), encode(&some())[8..].to_vec()] {
                for (at, byte) in &flips {
                    let at = at % bytes.len();
                    bytes[at] = *byte;
                }
                let sum = crc32c::crc32c(&bytes).to_le_bytes();
                let _ = decode(&[MAGIC, &sum[..], &bytes].concat());
            }
        }
    }
}
