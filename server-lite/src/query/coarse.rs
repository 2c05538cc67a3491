//! What stands for samples that are no longer kept: of each span of time the first and the last, which rollups
//! know.
//!
//! They are true samples, fewer of them. So an instant shows a value that was measured, if an older one than
//! with all samples, and a rate over several spans is that between their ends. A mean, a quantile, the least
//! and the greatest are those of fewer samples; the engine counts and adds none up. Answers that need no such
//! thing are made of whole rollups and are exact: steps and ranges on the ends of spans. So each answer
//! says what was done, and which steps and ranges would do without.

use std::collections::BTreeMap;

use promql::{STALE_BITS, Sample, Span, is_stale};

use crate::{calendar::rfc3339, store::rollup::Level};

/// Which rollups were shown, up to which times.
#[derive(Debug, Default)]
pub(super) struct Coarse(BTreeMap<Level, i64>);

impl Coarse {
    /// Notes that samples up to a time come from rollups of a level, or of longer ones.
    pub(super) fn note(&mut self, until_ms: i64, level: Level) {
        let latest = self.0.entry(level).or_insert(until_ms);
        *latest = until_ms.max(*latest);
    }

    /// How far apart samples may lie at a time, or just before it.
    pub(super) fn resolution_ms(&self, time_ms: i64) -> i64 {
        let covers = |(level, until_ms): &(&Level, &i64)| time_ms <= **until_ms + level.ms();
        self.0.iter().rev().find(covers).map_or(0, |(level, _)| level.ms())
    }

    /// What is to be said of it.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(level, until_ms)| {
            let (until, of) = (rfc3339(*until_ms), level.as_str());
            let twice = level.ms() / 30_000;
            format!(
                "samples up to {until} are kept as rollups of {of} only; the first and the last sample of each \
                 were taken. Steps and ranges that are multiples of {of}, at multiples of it, are answered from \
                 all that rollups say; ranges below {twice}m find too little, and count_over_time, \
                 sum_over_time, changes and resets nothing"
            )
        })
    }
}

/// Adds to some samples, in order of time, the first and the last of each span that has more than are there.
/// Whether it added any.
pub(super) fn fill(samples: &mut Vec<Sample>, spans: &[Span], level: Level) -> bool {
    let mut found = Vec::new();
    let mut rest = samples.as_slice();
    for span in spans {
        let before = rest.partition_point(|sample| sample.time_ms <= span.end_ms - level.ms());
        let (_, after) = rest.split_at(before);
        let (inside, after) =
            after.split_at(after.partition_point(|sample| sample.time_ms <= span.end_ms));
        rest = after;
        let there = inside.iter().filter(|sample| !is_stale(sample.value)).count() as u64;
        let is_there = |one: &Sample| inside.iter().any(|sample| sample.time_ms == one.time_ms);
        if there < span.count {
            let ends = [span.first, span.last];
            let one = usize::from(span.first.time_ms == span.last.time_ms);
            found.extend(ends[one..].iter().filter(|end| !is_there(end)));
        }
        // The marker of an end lies somewhere between the last sample and the end of the span.
        if span.is_ended && !inside.last().is_some_and(|sample| is_stale(sample.value)) {
            let time_ms = span.last.time_ms.saturating_add(i64::from(span.count > 0));
            found.push(Sample { time_ms, value: f64::from_bits(STALE_BITS) });
        }
    }
    if found.is_empty() {
        return false;
    }
    samples.extend(found);
    samples.sort_by_key(|sample| sample.time_ms);
    samples.dedup_by_key(|sample| sample.time_ms);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn sample(minute: i64, value: f64) -> Sample {
        Sample { time_ms: minute * MINUTE_MS, value }
    }

    /// Of ten minutes.
    fn span(end: i64, count: u64, first: Sample, last: Sample, is_ended: bool) -> Span {
        let (min, max) = (first.value, last.value);
        let end_ms = end * MINUTE_MS;
        Span { end_ms, count, first, last, min, max, sum: 0.0, increase: 0.0, is_ended }
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let check = |samples: &[Sample], spans: &[Span], expected: &[(i64, f64)]| {
            let mut all = samples.to_vec();
            let is_filled = fill(&mut all, spans, Level::TenMinutes);
            let minutes: Vec<(i64, f64)> = all
                .iter()
                .filter(|sample| !is_stale(sample.value))
                .map(|sample| (sample.time_ms / MINUTE_MS, sample.value))
                .collect();
            assert_eq!(minutes, expected);
            assert_eq!(is_filled, all.len() > samples.len());
            assert!(all.is_sorted_by(|a, b| a.time_ms < b.time_ms));
            all.len() - minutes.len()
        };
        let gone = span(10, 10, sample(1, 1.0), sample(10, 10.0), false);
        let kept = span(20, 2, sample(12, 12.0), sample(20, 20.0), false);
        let ended = span(30, 5, sample(21, 21.0), sample(25, 25.0), true);
        check(&[], &[gone], &[(1, 1.0), (10, 10.0)]);
        check(
            &[sample(12, 12.0), sample(20, 20.0)],
            &[gone, kept],
            &[(1, 1.0), (10, 10.0), (12, 12.0), (20, 20.0)],
        );
        // One that came when the others had gone.
        check(&[sample(10, 10.0)], &[gone], &[(1, 1.0), (10, 10.0)]);
        check(&[sample(5, 5.0)], &[gone], &[(1, 1.0), (5, 5.0), (10, 10.0)]);
        assert_eq!(check(&[], &[ended], &[(21, 21.0), (25, 25.0)]), 1, "marker");
        let one = span(40, 1, sample(31, 31.0), sample(31, 31.0), false);
        check(&[], &[one], &[(31, 31.0)]);
        check(&[sample(31, 31.0)], &[one], &[(31, 31.0)]);
    }

    #[test]
    fn the_finest_that_is_kept_counts() {
        let mut coarse = Coarse::default();
        assert_eq!(coarse.resolution_ms(0), 0);
        let (hour_ms, day_ms) = (Level::Hour.ms(), Level::Day.ms());
        coarse.note(10 * day_ms, Level::TenMinutes);
        coarse.note(4 * day_ms, Level::Hour);
        let check = |time_ms, expected: i64| assert_eq!(coarse.resolution_ms(time_ms), expected);
        check(day_ms, hour_ms);
        check(4 * day_ms + hour_ms, hour_ms);
        check(5 * day_ms, Level::TenMinutes.ms());
        check(11 * day_ms, 0);
        let said: Vec<String> = coarse.warnings().collect();
        assert_eq!(said.len(), 2);
        assert!(
            said[0]
                .starts_with("samples up to 1970-01-11T00:00:00.000Z are kept as rollups of 10m")
        );
        assert!(said[1].contains("ranges below 120m"));
    }
}
