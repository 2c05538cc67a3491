use proptest::prelude::*;

use super::*;
use crate::store::rollup::Folding;

const DAY_MS: i64 = Level::Day.ms();
const START_MS: i64 = 19_000 * DAY_MS;

fn fold(level: Level, samples: impl IntoIterator<Item = (i64, f64)>) -> Spans {
    let mut folding = Folding::new(level);
    let mut spans: Spans =
        samples.into_iter().filter_map(|(time_ms, value)| folding.push(time_ms, value)).collect();
    spans.extend(folding.finish());
    spans
}

/// A day of a counter, of what stands still and of a wave, every ten seconds.
fn day(level: Level) -> PageBuilder {
    let mut builder = PageBuilder::new(level, START_MS);
    let times = || (1..=8_640).map(|n| (n, START_MS + n * 10_000));
    builder.insert(0, fold(level, times().map(|(n, at)| (at, (n % 3_000) as f64))));
    builder.insert(1, fold(level, times().map(|(_, at)| (at, 42.5))));
    builder.insert(63, fold(level, times().map(|(n, at)| (at, (n as f64 / 100.0).sin()))));
    builder
}

#[test]
fn what_is_the_same_stands_there_once() {
    let builder = day(Level::Minute);
    let bytes = builder.finish().unwrap();
    let page = Page::open(&bytes, Level::Minute, START_MS).unwrap();
    assert_eq!(page.slots().collect::<Vec<_>>(), [0, 1, 63]);
    assert_eq!(page.series(2), Ok(None));
    // Five of times and counts, one of differences; the still one adds its value, the counter four,
    // the wave six.
    assert!(page.columns.len() <= 17, "{}", page.columns.len());
    let still = page.columns[page.series[&1].1[5] / 2];
    assert!(still.len() <= 8, "{still:?}");
}

#[test]
fn every_flipped_bit_is_noticed() {
    let good = day(Level::Hour).finish().unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Page::open(&bytes, Level::Hour, START_MS).is_err(), "bit {bit}");
    }
    for cut in 0..good.len() {
        assert!(Page::open(&good[..cut], Level::Hour, START_MS).is_err(), "cut at {cut}");
    }
}

#[test]
fn golden_bytes_stay_what_they_are() {
    let mut builder = PageBuilder::new(Level::Day, DAY_MS);
    let samples = [(DAY_MS + 10, 5.0), (DAY_MS + 20, 7.5), (DAY_MS + 30, 2.25)];
    builder.insert(3, fold(Level::Day, samples));
    assert_eq!(builder.finish().unwrap(), GOLDEN, "the format on disk changed");
    let spans = Page::open(GOLDEN, Level::Day, DAY_MS).unwrap().series(3).unwrap().unwrap();
    let (end_ms, one) = spans[0];
    assert_eq!(
        (end_ms, one.count, one.first_ms, one.last_ms),
        (2 * DAY_MS, 3, DAY_MS + 10, DAY_MS + 30)
    );
    assert_eq!((one.min, one.max, one.sum, one.increase), (2.25, 7.5, 14.75, 4.75));
}

const GOLDEN: &[u8] = &[
    108, 251, 163, 47, 1, 2, 4, 1, 10, 5, 2, 2, 5, 2, 2, 3, 3, 3, 3, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0,
    2, 4, 6, 8, 10, 12, 12, 14, 16, 18, 8, 128, 240, 178, 82, 8, 6, 8, 20, 8, 196, 239, 178, 82, 8,
    0, 8, 10, 9, 194, 3, 9, 220, 11, 9, 134, 23, 9, 182, 7,
];

proptest! {
    #[test]
    fn any_samples_come_back(
        series in prop::collection::btree_map(
            0..SLOTS, prop::collection::vec((1..90_000_i64, any::<u64>()), 1..120), 0..4
        ),
        day in prop::sample::select(vec![-3_i64, 0, 19_000]),
    ) {
        for level in Level::ALL {
            let mut builder = PageBuilder::new(level, day * DAY_MS);
            for (slot, steps) in &series {
                let mut time_ms = day * DAY_MS;
                let samples: Vec<_> = steps.iter().map(|(step, bits)| {
                    time_ms = (time_ms + step).min((day + 1) * DAY_MS);
                    (time_ms, f64::from_bits(*bits))
                }).collect();
                builder.insert(*slot, fold(level, samples));
            }
            prop_assert!(builder.finish().is_ok());
        }
    }

    #[test]
    fn any_bytes_with_a_good_sum_are_refused_or_read(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        flips in prop::collection::vec((0_usize..2_000, any::<u8>()), 1..4),
    ) {
        for mut bytes in [[&[1][..], &bytes].concat(), day(Level::Hour).finish().unwrap()[4..].to_vec()] {
            for (at, byte) in &flips {
                let at = at % bytes.len();
                bytes[at] = *byte;
            }
            let whole = [&crc32c::crc32c(&bytes).to_le_bytes()[..], &bytes].concat();
            if let Ok(page) = Page::open(&whole, Level::Hour, START_MS) {
                for slot in 0..SLOTS {
                    let _ = page.series(slot);
                }
            }
        }
    }
}
