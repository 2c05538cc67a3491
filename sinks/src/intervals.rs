//! Collectors that run less often than the agent ticks: between two runs their absence says nothing.

use std::{collections::BTreeMap, time::Duration};

/// How often those collectors run that don't run in every tick, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals(BTreeMap<String, Duration>);

impl Intervals {
    pub(crate) const fn new(intervals: BTreeMap<String, Duration>) -> Self {
        Self(intervals)
    }

    /// Whether a collector that last ran at one time would run at another. One with an interval of its
    /// own runs in the first tick of each of its multiples, the others in every tick.
    pub(crate) fn was_due(&self, collector: &str, last_ms: i64, now_ms: i64) -> bool {
        let Some(interval) = self.0.get(collector) else { return true };
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        last_ms.div_euclid(interval_ms) != now_ms.div_euclid(interval_ms)
    }
}
