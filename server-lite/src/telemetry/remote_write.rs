//! What the hub counts of remote write.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use remote_write::Version;
use wire::MetricKind;

use super::Page;
use crate::ingest::remote_write::{Fault, Faults};

/// See the module's opening.
#[derive(Debug, Default)]
pub struct RemoteWrite {
    requests: [AtomicU64; 2],
    samples: AtomicU64,
    duplicates: AtomicU64,
    body_bytes: AtomicU64,
    refused: Mutex<BTreeMap<Fault, u64>>,
}

impl RemoteWrite {
    /// Counts what a request brought: samples that were stored, and that were there already.
    pub fn written(&self, version: Version, (samples, duplicates): (u64, u64), body_bytes: usize) {
        let [v1, v2] = &self.requests;
        match version {
            Version::V1 => v1.fetch_add(1, Relaxed),
            Version::V2 => v2.fetch_add(1, Relaxed),
        };
        self.samples.fetch_add(samples, Relaxed);
        self.duplicates.fetch_add(duplicates, Relaxed);
        self.body_bytes.fetch_add(body_bytes as u64, Relaxed);
    }

    /// Counts what a request brought in vain, and says so in the log the first time for each reason.
    pub fn refused(&self, faults: &Faults) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for (fault, count) in faults.counts() {
            let total = refused.entry(fault).or_default();
            if *total == 0 {
                let example = faults.message().unwrap_or_default();
                tracing::warn!(
                    reason = fault.as_str(),
                    count,
                    example,
                    "some of a remote write can't be stored, the rest is; from now on it is only counted"
                );
            }
            *total += count;
        }
    }

    pub(super) fn print(&self, page: &mut Page) {
        let counter = |page: &mut Page, name: &str, help: &str| {
            page.head(name, MetricKind::Counter, help);
        };
        let name = "holdfast_hub_remote_write_requests_total";
        counter(page, name, "Remote writes taken, by version.");
        for (version, count) in ["1.0", "2.0"].iter().zip(&self.requests) {
            page.line(name, &format!("version=\"{version}\""), count.load(Relaxed) as f64);
        }
        let figures = [
            ("samples", "Samples stored of remote writes.", &self.samples),
            ("duplicates", "Samples of remote writes that were there already.", &self.duplicates),
            ("body_bytes", "Bytes of remote writes taken, compressed.", &self.body_bytes),
        ];
        for (name, help, value) in figures {
            let name = format!("holdfast_hub_remote_write_{name}_total");
            page.one(&name, MetricKind::Counter, help, value.load(Relaxed) as f64);
        }
        let name = "holdfast_hub_remote_write_refused_total";
        counter(page, name, "What of remote writes can't be stored, by reason.");
        for (fault, count) in self.refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            page.line(name, &format!("reason=\"{}\"", fault.as_str()), *count as f64);
        }
    }
}
