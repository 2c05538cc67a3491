//! What the store counts, shared by its threads.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::store::{
    StoreStats,
    counts::{Commits, Count},
};

/// The latest of some times, Unix milliseconds.
#[derive(Debug)]
pub(crate) struct Latest(AtomicI64);

impl Default for Latest {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Latest {
    pub(crate) fn note(&self, time_ms: i64) {
        self.0.fetch_max(time_ms, Relaxed);
    }

    /// `None` where none was noted.
    pub(crate) fn get(&self) -> Option<i64> {
        Some(self.0.load(Relaxed)).filter(|time_ms| *time_ms > i64::MIN)
    }
}

/// See the fields of [`StoreStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: Commits,
    pub(crate) failures: Count,
    pub(crate) queued: Count,
    pub(crate) agents: Count,
    pub(crate) targets: Count,
    pub(crate) series: Count,
    pub(crate) refused_samples: Count,
    pub(crate) unsealed_samples: Count,
    pub(crate) sealed_samples: Count,
    pub(crate) sealed_bytes: Count,
    pub(crate) pages: Count,
    pub(crate) page_bytes: Count,
    pub(crate) seal_failures: Count,
    pub(crate) damaged: Count,
    /// Of which times samples have been dropped for their age.
    pub(crate) dropped: Latest,
}

/// What a change adds to the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) agents: u64,
    pub(crate) targets: u64,
    pub(crate) targets_gone: u64,
    pub(crate) series: u64,
    pub(crate) series_gone: u64,
    pub(crate) refused_samples: u64,
    pub(crate) samples: u64,
    pub(crate) sealed_samples: u64,
    pub(crate) sealed_bytes: u64,
    pub(crate) pages: u64,
    pub(crate) page_bytes: u64,
    /// The latest sample dropped for its age.
    pub(crate) dropped_ms: Option<i64>,
}

impl Counters {
    /// Adds what a committed transaction brought.
    pub(crate) fn count(&self, tally: &Tally) {
        self.agents.add(tally.agents);
        self.targets.add(tally.targets);
        self.targets.sub(tally.targets_gone);
        self.series.add(tally.series);
        self.series.sub(tally.series_gone);
        self.refused_samples.add(tally.refused_samples);
        self.unsealed_samples.add(tally.samples);
        self.unsealed_samples.sub(tally.sealed_samples);
        self.sealed_samples.add(tally.sealed_samples);
        self.sealed_bytes.add(tally.sealed_bytes);
        self.pages.add(tally.pages);
        self.page_bytes.add(tally.page_bytes);
        if let Some(dropped_ms) = tally.dropped_ms {
            self.dropped.note(dropped_ms);
        }
    }

    /// The figures now, with those that are not counted here.
    pub(crate) fn read(&self, sealing: u64, disk_bytes: u64) -> StoreStats {
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
            unsealed_samples: self.unsealed_samples.get(),
            sealing,
            sealed_samples: self.sealed_samples.get(),
            sealed_bytes: self.sealed_bytes.get(),
            rollup_pages: self.pages.get(),
            rollup_bytes: self.page_bytes.get(),
            seal_failures: self.seal_failures.get(),
            damaged: self.damaged.get(),
            disk_bytes,
        }
    }
}
