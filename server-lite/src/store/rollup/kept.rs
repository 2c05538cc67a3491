//! What stores that keep rollups have in common: a page for each day of UTC, and which days are answered from
//! their pages.

use std::collections::{BTreeMap, BTreeSet};

use super::{Folding, Level, Rollup};
use crate::store::columns::page::Spans;

const DAY_MS: i64 = Level::Day.ms();

/// The day whose page a sample belongs to, counted from 1970; a day's last sample is that of midnight.
pub(crate) const fn day_of(time_ms: i64) -> i64 {
    time_ms.saturating_sub(1).div_euclid(DAY_MS)
}

/// The time after which a day begins.
pub(crate) const fn start_of(day: i64) -> i64 {
    day.saturating_mul(DAY_MS)
}

/// The number that stands for a level in the database.
pub(crate) const fn level_number(level: Level) -> i64 {
    match level {
        Level::Minute => 1,
        Level::TenMinutes => 2,
        Level::Hour => 3,
        Level::Day => 4,
    }
}

/// Minutes as spans of a level.
pub(crate) fn longer(level: Level, minutes: &Spans) -> Spans {
    if level == Level::Minute {
        return minutes.clone();
    }
    let mut folding = Folding::new(level);
    let mut spans: Spans =
        minutes.iter().filter_map(|(end_ms, one)| folding.push_rollup(*end_ms, *one)).collect();
    spans.extend(folding.finish());
    spans
}

/// Spans of what was kept and of what came when the samples had gone.
pub(crate) fn merge(kept: Spans, late: Spans) -> Spans {
    if late.is_empty() {
        return kept;
    }
    let mut all: BTreeMap<i64, Rollup> = kept.into_iter().collect();
    for (end_ms, one) in late {
        all.entry(end_ms).and_modify(|kept| *kept = kept.together(one)).or_insert(one);
    }
    all.into_iter().collect()
}

/// What is done for some days of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// This day's page is right.
    Page(i64),
    /// From the first of these days to the last, samples are all there is.
    Fold(i64, i64),
    /// From the first of these days to the last, samples are missing: they come on top of the pages.
    Add(i64, i64),
}

/// What is known of a group's days.
#[derive(Debug, Default)]
pub(crate) struct Days {
    /// With a page of the level.
    pub(crate) pages: BTreeSet<i64>,
    /// With samples that aren't in their page.
    pub(crate) unpaged: BTreeSet<i64>,
    /// First and last days of what is in the head.
    pub(crate) heads: Vec<(i64, i64)>,
    /// Up to this one samples have been dropped.
    pub(crate) dropped: Option<i64>,
}

impl Days {
    fn is_right(&self, day: i64) -> bool {
        let in_head = |(first, last): &(i64, i64)| (*first..=*last).contains(&day);
        !self.unpaged.contains(&day) && !self.heads.iter().any(in_head)
    }

    /// The steps from one day to another, in order.
    pub(crate) fn steps(&self, from: i64, to: i64) -> Vec<Step> {
        let last_dropped = self.dropped.unwrap_or(i64::MIN);
        let mut steps = Vec::new();
        if from <= last_dropped {
            let to = to.min(last_dropped);
            self.between(from, to, Step::Add, &mut steps);
            // Without pages or late samples there is nothing to add.
            steps.retain(|step| !matches!(step, Step::Add(a, b) if !self.has_any(*a, *b)));
        }
        if to > last_dropped {
            self.between(from.max(last_dropped.saturating_add(1)), to, Step::Fold, &mut steps);
        }
        steps
    }

    fn between(&self, from: i64, to: i64, gap: fn(i64, i64) -> Step, steps: &mut Vec<Step>) {
        let mut next = from;
        for day in self.pages.range(from..=to).filter(|day| self.is_right(**day)) {
            if next < *day {
                steps.push(gap(next, day - 1));
            }
            steps.push(Step::Page(*day));
            next = day + 1;
        }
        if next <= to {
            steps.push(gap(next, to));
        }
    }

    fn has_any(&self, from: i64, to: i64) -> bool {
        let in_head = |(first, last): &(i64, i64)| *first <= to && *last >= from;
        self.pages.range(from..=to).next().is_some()
            || self.unpaged.range(from..=to).next().is_some()
            || self.heads.iter().any(in_head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_taken_from_where_they_are_right() {
        use Step::{Add, Fold, Page};
        let days = |pages: &[i64], unpaged: &[i64], heads: &[(i64, i64)], dropped| Days {
            pages: pages.iter().copied().collect(),
            unpaged: unpaged.iter().copied().collect(),
            heads: heads.to_vec(),
            dropped,
        };
        let check = |days: Days, expected: &[Step]| assert_eq!(days.steps(1, 9), expected);
        check(days(&[], &[], &[], None), &[Fold(1, 9)]);
        check(
            days(&[2, 3, 4, 5], &[3], &[(5, 5)], None),
            &[Fold(1, 1), Page(2), Fold(3, 3), Page(4), Fold(5, 9)],
        );
        check(days(&[2, 3], &[], &[], Some(4)), &[Page(2), Page(3), Fold(5, 9)]);
        check(days(&[2, 3], &[3, 4], &[], Some(4)), &[Page(2), Add(3, 4), Fold(5, 9)]);
        check(days(&[2], &[], &[(-9, 40)], Some(4)), &[Add(1, 4), Fold(5, 9)]);
        check(days(&[2, 9], &[], &[], Some(20)), &[Page(2), Page(9)]);
        check(days(&[0, 10], &[], &[], Some(0)), &[Fold(1, 9)]);
    }
}
