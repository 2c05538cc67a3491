//! The hub's own metrics, in Prometheus's text format.

mod remote_write;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use wire::MetricKind;

pub use self::remote_write::RemoteWrite;
use crate::{
    rules::RuleMetrics,
    store::{Ingested, StoreStats},
};

/// Ticks a second of the times in `/proc/self/stat`: fixed for user space on Linux.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// What the hub counts of itself.
#[derive(Debug, Default)]
pub struct Telemetry {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    records: AtomicU64,
    samples: AtomicU64,
    duplicates: AtomicU64,
    body_bytes: AtomicU64,
    schema_requests: AtomicU64,
    /// Of remote write.
    pub remote_write: RemoteWrite,
}

/// How the agents stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Agents whose heartbeat is recent.
    pub online: usize,
    /// Identities that two agents use now.
    pub conflicts: usize,
    /// Times that this began.
    pub conflicts_begun: u64,
    /// Whether this hub, of all that share a store, keeps house and evaluates rules.
    pub leads: bool,
}

impl Telemetry {
    /// Counts an answered request.
    pub fn answered(&self, endpoint: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((endpoint, status)).or_default() += 1;
    }

    /// Counts what a request brought.
    pub fn ingested(&self, stored: &Ingested, body_bytes: usize) {
        self.records.fetch_add(stored.records, Relaxed);
        self.samples.fetch_add(stored.samples, Relaxed);
        self.duplicates.fetch_add(stored.duplicates, Relaxed);
        self.body_bytes.fetch_add(body_bytes as u64, Relaxed);
        self.schema_requests.fetch_add(u64::from(!stored.need_schemas.is_empty()), Relaxed);
    }

    /// Everything, in Prometheus's text format.
    #[must_use]
    pub fn page(&self, store: &StoreStats, fleet: Fleet, rules: &RuleMetrics) -> String {
        let mut page = Page::default();
        self.requests_to(&mut page);
        self.ingest_to(&mut page);
        self.remote_write.print(&mut page);
        store_to(store, &mut page);
        fleet_to(fleet, &mut page);
        for figure in rules.figures() {
            page.one(figure.name, figure.kind, figure.help, figure.value as f64);
        }
        process_to(&mut page);
        page.text
    }

    fn requests_to(&self, page: &mut Page) {
        let (name, help) =
            ("holdfast_hub_http_requests_total", "Requests answered, by endpoint and status.");
        page.head(name, MetricKind::Counter, help);
        for ((endpoint, status), count) in
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            page.line(name, &format!("endpoint=\"{endpoint}\",status=\"{status}\""), *count as f64);
        }
    }

    fn ingest_to(&self, page: &mut Page) {
        let figures = [
            ("records", "Records stored.", &self.records),
            ("samples", "Samples stored.", &self.samples),
            ("duplicates", "Records that came again and were skipped.", &self.duplicates),
            ("body_bytes", "Bytes of stored requests, compressed.", &self.body_bytes),
            (
                "schema_requests",
                "Requests answered with a request for schemas.",
                &self.schema_requests,
            ),
        ];
        for (name, help, value) in figures {
            let name = format!("holdfast_hub_ingest_{name}_total");
            page.one(&name, MetricKind::Counter, help, value.load(Relaxed) as f64);
        }
    }
}

fn store_to(store: &StoreStats, page: &mut Page) {
    let counters = [
        ("commits", "Transactions.", store.commits as f64),
        ("failures", "Transactions that failed: nothing of them is stored.", store.failures as f64),
        ("commit_seconds", "Time spent in transactions.", store.commit_seconds),
        ("sealed_samples", "Samples sealed into columns.", store.sealed_samples as f64),
        ("sealed_bytes", "Bytes of the columns they became.", store.sealed_bytes as f64),
        ("rollup_pages", "Pages of rollups made.", store.rollup_pages as f64),
        ("rollup_bytes", "Bytes of the pages made.", store.rollup_bytes as f64),
        ("seal_failures", "Attempts to seal that failed.", store.seal_failures as f64),
        (
            "refused_samples",
            "Samples not stored because their agent has too many series.",
            store.refused_samples as f64,
        ),
        ("damaged", "Stored rows met that no longer read back.", store.damaged as f64),
    ];
    for (name, help, value) in counters {
        page.one(&format!("holdfast_hub_store_{name}_total"), MetricKind::Counter, help, value);
    }
    let gauges = [
        (
            "commit_seconds_max",
            "The longest transaction since the start.",
            store.commit_seconds_max,
        ),
        ("queued", "Changes that wait to be written.", store.queued as f64),
        ("agents", "Agents known.", store.agents as f64),
        ("targets", "Targets known whose series come by remote write.", store.targets as f64),
        ("series", "Series registered.", store.series as f64),
        ("unsealed_samples", "Samples that wait to be sealed.", store.unsealed_samples as f64),
        ("sealing", "Streams that are due to be sealed, or being sealed.", store.sealing as f64),
        ("disk_bytes", "Bytes on disk.", store.disk_bytes as f64),
    ];
    for (name, help, value) in gauges {
        page.gauge(&format!("holdfast_hub_store_{name}"), help, value);
    }
}

fn fleet_to(fleet: Fleet, page: &mut Page) {
    let Fleet { online, conflicts, conflicts_begun, leads } = fleet;
    let help = "1 on the hub that evaluates rules, notifies and keeps house; of all that share a store, one.";
    page.gauge("holdfast_hub_leader", help, f64::from(u8::from(leads)));
    let help = "Agents whose heartbeat is recent.";
    page.gauge("holdfast_hub_agents_online", help, online as f64);
    let help = "Identities that two agents use, as seen in the last two minutes.";
    page.gauge("holdfast_hub_identities_in_conflict", help, conflicts as f64);
    let help = "Times that two agents were found to use one identity.";
    let name = "holdfast_hub_identity_conflicts_total";
    page.one(name, MetricKind::Counter, help, conflicts_begun as f64);
}

/// What the kernel says of this process; absent where it says nothing.
fn process_to(page: &mut Page) {
    if let Some((user, system)) = cpu_seconds() {
        let help = "CPU time of this process.";
        page.one("process_cpu_seconds_total", MetricKind::Counter, help, user + system);
    }
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Resident memory of this process.", bytes);
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        page.gauge(
            "process_open_fds",
            "File descriptors of this process.",
            descriptors.count() as f64,
        );
    }
}

/// Fields 14 and 15 of proc(5)'s `/proc/pid/stat`; the name before them may hold anything but its
/// closing parenthesis is the last.
fn cpu_seconds() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / CLOCK_TICKS_PER_SECOND);
    Some((seconds()?, seconds()?))
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1_024.0)
}

/// A page in Prometheus's text format, version 0.0.4.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: MetricKind, help: &str) {
        // Writing into memory doesn't fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: MetricKind, help: &str, value: f64) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.one(name, MetricKind::Gauge, help, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_as_prometheus_wants_it() {
        let telemetry = Telemetry::default();
        telemetry.answered("ingest", 200);
        telemetry.answered("ingest", 200);
        telemetry.answered("ingest", 413);
        let stored = Ingested { samples: 7, records: 2, ..Ingested::default() };
        telemetry.ingested(&stored, 100);
        let fleet = Fleet { online: 3, conflicts: 1, conflicts_begun: 2, leads: true };
        let page = telemetry.page(&StoreStats::default(), fleet, &RuleMetrics::default());
        for line in [
            "holdfast_hub_http_requests_total{endpoint=\"ingest\",status=\"200\"} 2",
            "holdfast_hub_http_requests_total{endpoint=\"ingest\",status=\"413\"} 1",
            "# TYPE holdfast_hub_ingest_samples_total counter\nholdfast_hub_ingest_samples_total 7",
            "holdfast_hub_agents_online 3",
            "holdfast_hub_leader 1",
            "holdfast_hub_identities_in_conflict 1",
            "holdfast_hub_identity_conflicts_total 2",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0);
        let families: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut distinct = families.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(families.len(), distinct.len(), "each family once");
    }
}
