//! Numbers that a store's threads and tasks count.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that several change.
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

/// Transactions, and how long they took.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    count: Count,
    nanos: Count,
    nanos_max: AtomicU64,
}

impl Commits {
    /// Counts one, whichever way it ended.
    pub(crate) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count.add(1);
        self.nanos.add(nanos);
        self.nanos_max.fetch_max(nanos, Relaxed);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// How long all took, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanos.get()).as_secs_f64()
    }

    /// How long the longest took, in seconds.
    pub(crate) fn seconds_max(&self) -> f64 {
        Duration::from_nanos(self.nanos_max.load(Relaxed)).as_secs_f64()
    }
}
