//! Answers over spans of time are those over samples: random series, many queries, steps and offsets. They
//! differ by no more than the order in which numbers are added up makes: one part in 10⁹.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{cell::Cell, collections::BTreeMap};

use promql::{
    Error, Labels, Memory, Query, STALE_BITS, Sample, Selection, SeriesSamples, Settings, Source,
    Span, Steps, Visit, VisitSpans, is_stale,
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const TOLERANCE: f64 = 1e-9;

/// Makes spans of the samples of another source, and counts how often it was asked for them.
struct Spanned {
    memory: Memory,
    asked: Cell<usize>,
}

impl Source for Spanned {
    fn select(&self, selection: &Selection<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.memory.select(selection, visit)
    }

    fn spans(
        &self,
        selection: &Selection<'_>,
        length_ms: i64,
        visit: &mut VisitSpans<'_>,
    ) -> Result<bool, Error> {
        self.asked.set(self.asked.get() + 1);
        let ends = |time_ms: i64| (time_ms + length_ms - 1).div_euclid(length_ms) * length_ms;
        let wider = Selection { start_ms: selection.start_ms - length_ms, ..*selection };
        self.memory.select(&wider, &mut |labels, samples| {
            let mut by_end = BTreeMap::<i64, Vec<Sample>>::new();
            for sample in samples {
                by_end.entry(ends(sample.time_ms)).or_default().push(*sample);
            }
            by_end.retain(|end_ms, _| (selection.start_ms..=selection.end_ms).contains(end_ms));
            let spans: Vec<Span> = by_end.into_iter().map(|(end, all)| span(end, &all)).collect();
            if spans.is_empty() { Ok(()) } else { visit(labels, &spans) }
        })?;
        Ok(true)
    }
}

fn span(end_ms: i64, all: &[Sample]) -> Span {
    let is_ended = is_stale(all[all.len() - 1].value);
    let samples: Vec<Sample> = all.iter().filter(|s| !is_stale(s.value)).copied().collect();
    let values = || samples.iter().map(|sample| sample.value);
    let growth = samples.windows(2).map(|pair| match (pair[0].value, pair[1].value) {
        (before, after) if after < before => after,
        (before, after) => after - before,
    });
    Span {
        end_ms,
        count: samples.len() as u64,
        first: samples.first().copied().unwrap_or(all[0]),
        last: samples.last().copied().unwrap_or(all[0]),
        min: values().fold(f64::NAN, f64::min),
        max: values().fold(f64::NAN, f64::max),
        sum: values().sum(),
        increase: growth.sum(),
        is_ended,
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Two days of some counters and gauges, with gaps, resets and ends; many samples lie where spans end.
fn memory(seed: u64) -> Memory {
    let mut random = Random(seed);
    let mut memory = Memory::default();
    for n in 0..4_u64 {
        let (mut time_ms, mut counter) = (-HOUR_MS, 0.0);
        let mut samples = Vec::new();
        while time_ms < 48 * HOUR_MS {
            time_ms += match random.below(40) {
                0 => 7 * MINUTE_MS + 13,
                1 => 2 * HOUR_MS,
                2 => 3_333,
                _ => [10_000, 15_000, MINUTE_MS, 5 * MINUTE_MS][n as usize],
            };
            if random.below(3) == 0 {
                time_ms -= time_ms.rem_euclid(10_000);
            }
            counter =
                if random.below(50) == 0 { 0.0 } else { counter + random.below(9) as f64 / 4.0 };
            let value = match random.below(60) {
                0 => f64::from_bits(STALE_BITS),
                1 if n == 3 => f64::NAN,
                _ if n % 2 == 0 => counter,
                _ => random.below(1_000) as f64 / 7.0 - 70.0,
            };
            samples.push(Sample { time_ms, value });
        }
        memory.add(Labels::new([("__name__", "m".to_owned()), ("n", n.to_string())]), samples);
    }
    memory
}

fn is_same(one: &[SeriesSamples], other: &[SeriesSamples]) -> bool {
    let near = |a: f64, b: f64| {
        a.to_bits() == b.to_bits()
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
    };
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            let pairs = || one.samples.iter().zip(&other.samples);
            one.labels == other.labels
                && one.samples.len() == other.samples.len()
                && pairs().all(|(a, b)| a.time_ms == b.time_ms && near(a.value, b.value))
        })
}

/// Whether spans are asked for, which is only where they can say it all.
fn check(source: &Spanned, text: &str, steps: Steps, expected: bool) {
    let (settings, go_on) = (Settings::default(), || Ok(()));
    let query = Query::parse(text).unwrap();
    let from_samples = query.range(&source.memory, steps, &settings, &go_on).unwrap();
    source.asked.set(0);
    let found = query.range(source, steps, &settings, &go_on).unwrap();
    assert_eq!(source.asked.get() > 0, expected, "{text} {steps:?}");
    assert!(is_same(&found, &from_samples), "{text} {steps:?}\n{found:#?}\n{from_samples:#?}");
}

const FUNCTIONS: [&str; 9] = [
    "rate",
    "increase",
    "delta",
    "sum_over_time",
    "count_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "last_over_time",
];

#[test]
fn windows_are_the_same() {
    for seed in 0..3 {
        let source = Spanned { memory: memory(seed), asked: Cell::new(0) };
        for function in FUNCTIONS {
            for (range, offset, start_ms, step_ms) in [
                ("1m", "", 0, MINUTE_MS * 7),
                ("5m", "", 3 * MINUTE_MS, 10 * MINUTE_MS),
                ("1h", "", HOUR_MS, HOUR_MS),
                ("1h", " offset 10m", 0, 10 * MINUTE_MS),
                ("20m", " offset -10m", HOUR_MS, HOUR_MS),
                ("1d", "", 24 * HOUR_MS, 24 * HOUR_MS),
                ("30h", "", 0, HOUR_MS),
            ] {
                let steps = Steps { start_ms, end_ms: 47 * HOUR_MS, step_ms };
                check(&source, &format!("{function}(m[{range}]{offset})"), steps, true);
                let odd = Steps { start_ms: start_ms + 1, ..steps };
                check(&source, &format!("{function}(m[{range}]{offset})"), odd, false);
            }
            let steps = Steps { start_ms: 0, end_ms: 47 * HOUR_MS, step_ms: 90_000 };
            check(&source, &format!("{function}(m[5m])"), steps, false);
            check(&source, &format!("{function}(m[90s])"), steps, false);
            let steps = Steps { start_ms: 0, end_ms: 47 * HOUR_MS, step_ms: HOUR_MS };
            check(&source, &format!("sum({function}(m[1h] @ 36000))"), steps, true);
            check(&source, &format!("{function}(m[1h:10m])"), steps, true);
        }
        let steps = Steps { start_ms: 0, end_ms: 47 * HOUR_MS, step_ms: HOUR_MS };
        check(&source, "changes(m[1h])", steps, false);
        check(&source, "quantile_over_time(0.9, m[1h])", steps, false);
    }
}

#[test]
fn the_newest_samples_are_the_same() {
    for seed in 0..3 {
        let source = Spanned { memory: memory(seed), asked: Cell::new(0) };
        for (offset, start_ms, step_ms) in [
            ("", 0, MINUTE_MS),
            ("", 2 * MINUTE_MS, 10 * MINUTE_MS),
            (" offset 7m", 0, HOUR_MS),
            ("", 0, 24 * HOUR_MS),
        ] {
            let steps = Steps { start_ms, end_ms: 47 * HOUR_MS, step_ms };
            for text in
                [format!("m{offset}"), format!("timestamp(m{offset})"), format!("sum(m{offset})")]
            {
                check(&source, &text, steps, true);
                check(&source, &text, Steps { step_ms: step_ms + 1_000, ..steps }, false);
            }
        }
        let once = Steps { start_ms: HOUR_MS, end_ms: HOUR_MS, step_ms: HOUR_MS };
        check(&source, "m", once, false);
    }
}
