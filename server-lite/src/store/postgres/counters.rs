//! What the store counts, and what it last heard of the database.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::apply::Batch;
use crate::store::StoreStats;

/// A number that several tasks change.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// See the fields of [`StoreStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: Count,
    commit_nanos: Count,
    commit_nanos_max: AtomicU64,
    pub(crate) failures: Count,
    pub(crate) queued: Count,
    pub(crate) agents: Count,
    pub(crate) series: Count,
    refused_samples: Count,
    pub(crate) disk_bytes: Count,
    /// This hub keeps house and evaluates rules.
    pub(crate) leads: AtomicBool,
}

impl Counters {
    /// Adds what a committed transaction brought.
    pub(crate) fn count(&self, batch: &Batch) {
        self.refused_samples.add(batch.refused);
        self.series.add(batch.series);
    }

    /// Counts a transaction, whichever way it ended.
    pub(crate) fn committed(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.commits.add(1);
        self.commit_nanos.add(nanos);
        self.commit_nanos_max.fetch_max(nanos, Relaxed);
    }

    /// The figures now.
    pub(crate) fn read(&self) -> StoreStats {
        let seconds = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
        StoreStats {
            commits: self.commits.get(),
            commit_seconds: seconds(self.commit_nanos.get()),
            commit_seconds_max: seconds(self.commit_nanos_max.load(Relaxed)),
            failures: self.failures.get(),
            queued: self.queued.get(),
            agents: self.agents.get(),
            series: self.series.get(),
            refused_samples: self.refused_samples.get(),
            disk_bytes: self.disk_bytes.get(),
            ..StoreStats::default()
        }
    }
}
