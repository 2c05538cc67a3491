//! What the store counts, and what it last heard of the database.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use super::{apply::Batch, days::DAY_MS};
use crate::store::{
    StoreStats,
    counts::{Commits, Count},
};

/// See the fields of [`StoreStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: Commits,
    pub(crate) failures: Count,
    pub(crate) queued: Count,
    pub(crate) agents: Count,
    pub(crate) targets: Count,
    pub(crate) series: Count,
    refused_samples: Count,
    pub(crate) disk_bytes: Count,
    pub(crate) rollup_pages: Count,
    pub(crate) rollup_bytes: Count,
    /// This hub keeps house and evaluates rules.
    pub(crate) leads: AtomicBool,
    /// As which of all that ever did.
    pub(crate) epoch: AtomicI64,
    /// Samples of days before this one have been dropped, counted from 1970.
    dropped_before: AtomicI64,
}

impl Counters {
    /// Notes that samples of days before one have been dropped.
    pub(crate) fn note_dropped(&self, before: i64) {
        self.dropped_before.fetch_max(before, Relaxed);
    }

    /// The latest time of which samples have been dropped.
    pub(crate) fn dropped_ms(&self) -> Option<i64> {
        let before = self.dropped_before.load(Relaxed);
        (before > 0).then(|| before.saturating_mul(DAY_MS) - 1)
    }

    /// Adds what a committed transaction brought.
    pub(crate) fn count(&self, batch: &Batch) {
        self.refused_samples.add(batch.refused);
        self.series.add(batch.series);
        self.targets.add(batch.targets);
    }

    /// The figures now.
    pub(crate) fn read(&self) -> StoreStats {
        StoreStats {
            commits: self.commits.count(),
            commit_seconds: self.commits.seconds(),
            commit_seconds_max: self.commits.seconds_max(),
            failures: self.failures.get(),
            queued: self.queued.get(),
            agents: self.agents.get(),
            targets: self.targets.get(),
            series: self.series.get(),
            refused_samples: self.refused_samples.get(),
            disk_bytes: self.disk_bytes.get(),
            rollup_pages: self.rollup_pages.get(),
            rollup_bytes: self.rollup_bytes.get(),
            ..StoreStats::default()
        }
    }
}
