//! What the agent says of itself: `holdfast_agent_…`, and node_exporter's `node_scrape_collector_…`.
//!
//! It is the last collector of every tick, run in line: it reads counters that the scheduler, the log
//! and the shippers keep, so it shows how things stood when the tick began.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt as _,
    rc::Rc,
    time::Duration,
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use tokio::time::Instant;

use crate::{
    runner::Outcome,
    samples::{Metric, Samples},
    wal::WalStats,
};

/// Name of the pseudo collector in schemas.
pub const COLLECTOR: &str = "agent";

/// Counters of the whole agent; shared by reference on its one thread.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Ticks taken.
    pub ticks: Counter,
    /// Ticks that fell out because the one before took too long.
    pub ticks_missed: Counter,
    /// Times the wall clock was set.
    pub clock_jumps: Counter,
    /// Appends that the log refused.
    pub append_failures: Counter,
    /// Ticks that wait in memory because the log refuses them.
    pub pending_ticks: Cell<u64>,
    /// Ticks dropped from memory because the log refused for too long.
    pub pending_dropped: Counter,
    collectors: RefCell<BTreeMap<String, CollectorStats>>,
    intervals: RefCell<BTreeMap<String, Duration>>,
    sinks: RefCell<BTreeMap<String, Rc<SinkStats>>>,
    /// `/proc/self/statm`, open: always the agent's own `/proc`, whatever root the collectors read.
    statm: OnceCell<Option<File>>,
}

/// A count that goes up, on one thread.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get().saturating_add(n));
    }

    /// What it counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

#[derive(Debug, Default)]
struct CollectorStats {
    duration: Duration,
    success: bool,
    stuck: bool,
    failures: u64,
    timeouts: u64,
    /// Of one that gives way.
    left_out: Option<usize>,
}

/// Counters of one sink.
#[derive(Debug, Default)]
pub struct SinkStats {
    /// Highest sequence number acknowledged.
    pub acked_seq: Cell<u64>,
    /// Batches sent and acknowledged, wholly or in part.
    pub sends: Counter,
    /// Sends that failed and are tried again.
    pub retries: Counter,
    /// Records acknowledged.
    pub records: Counter,
    /// Bytes of records acknowledged, as they lie in the log.
    pub bytes: Counter,
    /// Records the far side refused for good; each is quarantined.
    pub rejected: Counter,
    /// Records it lost because nothing waits for a best-effort sink.
    pub lost: Cell<u64>,
    /// Unix milliseconds of the oldest record it waits for, if it is behind.
    pub oldest_ms: Cell<Option<i64>>,
    /// When it acknowledged something last.
    pub acked_at: Cell<Option<Instant>>,
    /// Whether the last send succeeded.
    pub up: Cell<bool>,
    /// Whether the far side says that another agent uses this one's identity.
    pub identity_conflict: Cell<bool>,
}

macro_rules! metrics {
    ($($id:ident: $make:ident $name:literal, $help:literal;)*) => {
        $(const $id: Metric<'static> = Metric::$make($name, $help);)*
    };
}

metrics! {
    SCRAPE_DURATION: gauge "node_scrape_collector_duration_seconds",
        "node_exporter: Duration of a collector scrape.";
    SCRAPE_SUCCESS: gauge "node_scrape_collector_success",
        "node_exporter: Whether a collector succeeded.";
    COLLECTOR_STUCK: gauge "holdfast_collector_stuck",
        "Whether the collector is beyond its deadline and skipped until it returns.";
    COLLECTOR_INTERVAL: gauge "holdfast_collector_interval_seconds",
        "Time between two runs of a collector that has an interval of its own; in between, what is told of it is told of its last run.";
    COLLECTOR_FAILURES: counter "holdfast_agent_collector_failures_total",
        "Runs of the collector that failed.";
    COLLECTOR_LEFT_OUT: gauge "holdfast_collector_series_left_out",
        "Series of the collector that are left out because another collector has them too.";
    COLLECTOR_TIMEOUTS: counter "holdfast_agent_collector_timeouts_total",
        "Ticks that went without the collector because it was beyond its deadline.";
    BUILD_INFO: gauge "holdfast_agent_build_info",
        "A constant 1, labeled with the version of the agent.";
    TICKS: counter "holdfast_agent_ticks_total", "Ticks taken since the agent started.";
    TICKS_MISSED: counter "holdfast_agent_ticks_missed_total",
        "Ticks that fell out because the one before took too long.";
    CLOCK_JUMPS: counter "holdfast_agent_clock_jumps_total",
        "Times the wall clock was set, as told by gaps.";
    APPEND_FAILURES: counter "holdfast_agent_wal_append_failures_total",
        "Appends that the log refused; the ticks wait in memory.";
    PENDING: gauge "holdfast_agent_pending_ticks",
        "Ticks that wait in memory because the log refuses them.";
    PENDING_DROPPED: counter "holdfast_agent_pending_dropped_total",
        "Ticks dropped from memory because the log refused for too long.";
    WAL_BYTES: gauge "holdfast_agent_wal_bytes", "Bytes of the log on disk.";
    WAL_RECORDS: gauge "holdfast_agent_wal_records", "Records in the log that wait for a required sink.";
    WAL_GENERATIONS: gauge "holdfast_agent_wal_generations", "Generations in the log.";
    WAL_LAST_SEQ: counter "holdfast_agent_wal_last_seq",
        "Sequence number of the record appended last.";
    WAL_OLDEST: gauge "holdfast_agent_wal_oldest_age_seconds",
        "Age of the oldest record that waits for a required sink; 0 if none.";
    WAL_DROPPED_RECORDS: counter "holdfast_agent_wal_dropped_records_total",
        "Records dropped because the log reached its bounds.";
    WAL_DROPPED_SAMPLES: counter "holdfast_agent_wal_dropped_samples_total",
        "Samples dropped because the log reached its bounds.";
    WAL_BLOBS: gauge "holdfast_agent_wal_blob_bytes",
        "Bytes in blob files, which are not synced: anything but 0 is a fault.";
    SINK_UP: gauge "holdfast_agent_sink_up", "Whether the last send to the sink succeeded.";
    SINK_CONFLICT: gauge "holdfast_agent_sink_identity_conflict",
        "Whether the sink says that another agent uses this one's identity.";
    SINK_ACKED: counter "holdfast_agent_sink_acked_seq",
        "Highest sequence number that the sink acknowledged.";
    SINK_PENDING: gauge "holdfast_agent_sink_pending_records",
        "Records that wait for the sink.";
    SINK_OLDEST: gauge "holdfast_agent_sink_oldest_age_seconds",
        "Age of the oldest record that waits for the sink while it is away or behind; 0 otherwise.";
    SINK_LOST: counter "holdfast_agent_sink_lost_records_total",
        "Records that went before the sink, which is best_effort, had them.";
    SINK_SENDS: counter "holdfast_agent_sink_sends_total", "Batches that the sink acknowledged.";
    SINK_RETRIES: counter "holdfast_agent_sink_retries_total",
        "Sends that failed and are tried again.";
    SINK_RECORDS: counter "holdfast_agent_sink_records_total",
        "Records that the sink acknowledged.";
    SINK_BYTES: counter "holdfast_agent_sink_bytes_total",
        "Bytes of records that the sink acknowledged, as they lie in the log.";
    SINK_REJECTED: counter "holdfast_agent_sink_rejected_records_total",
        "Records that the sink refused for good; each lies in quarantine.";
    CPU: counter "holdfast_agent_cpu_seconds_total", "CPU time of the agent, user and system.";
    RSS: gauge "holdfast_agent_resident_memory_bytes", "Resident memory of the agent.";
}

impl Telemetry {
    /// Counts a collector's run; returns what to log, if this is news.
    pub fn record(&self, name: &str, outcome: &Outcome, duration: Duration) {
        let mut collectors = self.collectors.borrow_mut();
        if !collectors.contains_key(name) {
            collectors.insert(name.to_owned(), CollectorStats::default());
        }
        let Some(stats) = collectors.get_mut(name) else { return };
        stats.duration = duration;
        stats.success = matches!(outcome, Outcome::Collected);
        stats.stuck = matches!(outcome, Outcome::Stuck);
        stats.failures += u64::from(matches!(outcome, Outcome::Failed(_)));
        stats.timeouts += u64::from(stats.stuck);
    }

    /// So many series of a collector were left out because another one has them too.
    pub fn left_out(&self, name: &str, series: usize) {
        if let Some(stats) = self.collectors.borrow_mut().get_mut(name) {
            stats.left_out = Some(series);
        }
    }

    /// The counters of a sink, made on first use and kept over reloads.
    pub fn sink(&self, name: &str) -> Rc<SinkStats> {
        Rc::clone(self.sinks.borrow_mut().entry(name.to_owned()).or_default())
    }

    /// Forgets collectors and sinks that are not among these, after a reload.
    pub fn retain(&self, collectors: &[&str], sinks: &[&str]) {
        self.collectors.borrow_mut().retain(|name, _| collectors.contains(&name.as_str()));
        self.sinks.borrow_mut().retain(|name, _| sinks.contains(&name.as_str()));
    }

    /// Which collectors have an interval of their own.
    pub fn set_intervals<'a>(&self, intervals: impl Iterator<Item = (&'a str, Duration)>) {
        let intervals = intervals.map(|(name, interval)| (name.to_owned(), interval));
        *self.intervals.borrow_mut() = intervals.collect();
    }

    /// Adds everything to the tick at `now_ms`.
    pub fn collect(&self, version: &str, wal: &WalStats, now_ms: i64, out: &mut Samples) {
        self.collect_collectors(out);
        out.push(&BUILD_INFO, &[("version", version)], 1.0);
        out.push(&TICKS, &[], count(self.ticks.get()));
        out.push(&TICKS_MISSED, &[], count(self.ticks_missed.get()));
        out.push(&CLOCK_JUMPS, &[], count(self.clock_jumps.get()));
        out.push(&APPEND_FAILURES, &[], count(self.append_failures.get()));
        out.push(&PENDING, &[], count(self.pending_ticks.get()));
        out.push(&PENDING_DROPPED, &[], count(self.pending_dropped.get()));
        collect_wal(wal, now_ms, out);
        self.collect_sinks(wal.last_seq, now_ms, out);
        self.collect_process(out);
    }

    /// Adds how each collector did.
    pub fn collect_collectors(&self, out: &mut Samples) {
        let collectors = self.collectors.borrow();
        let mut each = |metric: &Metric<'_>, value: fn(&CollectorStats) -> f64| {
            for (name, stats) in collectors.iter() {
                out.push(metric, &[("collector", name)], value(stats));
            }
        };
        each(&SCRAPE_DURATION, |stats| stats.duration.as_secs_f64());
        each(&SCRAPE_SUCCESS, |stats| flag(stats.success));
        each(&COLLECTOR_STUCK, |stats| flag(stats.stuck));
        each(&COLLECTOR_FAILURES, |stats| count(stats.failures));
        each(&COLLECTOR_TIMEOUTS, |stats| count(stats.timeouts));
        for (name, stats) in collectors.iter() {
            if let Some(series) = stats.left_out {
                out.push(&COLLECTOR_LEFT_OUT, &[("collector", name)], count(series as u64));
            }
        }
        for (name, interval) in self.intervals.borrow().iter() {
            out.push(&COLLECTOR_INTERVAL, &[("collector", name)], interval.as_secs_f64());
        }
    }

    fn collect_sinks(&self, last_seq: u64, now_ms: i64, out: &mut Samples) {
        let sinks = self.sinks.borrow();
        let mut each = |metric: &Metric<'_>, value: &dyn Fn(&SinkStats) -> f64| {
            for (name, stats) in sinks.iter() {
                out.push(metric, &[("sink", name)], value(stats));
            }
        };
        each(&SINK_UP, &|stats| flag(stats.up.get()));
        each(&SINK_CONFLICT, &|stats| flag(stats.identity_conflict.get()));
        each(&SINK_ACKED, &|stats| count(stats.acked_seq.get()));
        each(&SINK_PENDING, &|stats| count(last_seq.saturating_sub(stats.acked_seq.get())));
        each(&SINK_OLDEST, &|stats| age_s(stats.oldest_ms.get(), now_ms));
        each(&SINK_LOST, &|stats| count(stats.lost.get()));
        each(&SINK_SENDS, &|stats| count(stats.sends.get()));
        each(&SINK_RETRIES, &|stats| count(stats.retries.get()));
        each(&SINK_RECORDS, &|stats| count(stats.records.get()));
        each(&SINK_BYTES, &|stats| count(stats.bytes.get()));
        each(&SINK_REJECTED, &|stats| count(stats.rejected.get()));
    }

    fn collect_process(&self, out: &mut Samples) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros =
                usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            out.push(&CPU, &[], count(micros.unsigned_abs()) / 1e6);
        }
        if let Some(bytes) = self.resident_bytes() {
            out.push(&RSS, &[], count(bytes));
        }
    }

    /// The second field of `statm`, in bytes.
    fn resident_bytes(&self) -> Option<u64> {
        let statm = self.statm.get_or_init(|| File::open("/proc/self/statm").ok()).as_ref()?;
        // seven numbers
        let mut text = [0; 256];
        let length = statm.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
        pages.checked_mul(u64::try_from(page).ok()?)
    }
}

fn collect_wal(wal: &WalStats, now_ms: i64, out: &mut Samples) {
    out.push(&WAL_BYTES, &[], count(wal.disk_bytes));
    out.push(&WAL_RECORDS, &[], count(wal.records));
    out.push(&WAL_GENERATIONS, &[], count(wal.generations));
    out.push(&WAL_LAST_SEQ, &[], count(wal.last_seq));
    out.push(&WAL_OLDEST, &[], age_s(wal.oldest_ms, now_ms));
    out.push(&WAL_DROPPED_RECORDS, &[], count(wal.dropped_records));
    out.push(&WAL_DROPPED_SAMPLES, &[], count(wal.dropped_samples));
    out.push(&WAL_BLOBS, &[], count(wal.blob_bytes));
}

/// Seconds since then; 0 if there is no then, or it is yet to come.
fn age_s(oldest_ms: Option<i64>, now_ms: i64) -> f64 {
    let age_ms = oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms).max(0));
    count(age_ms.unsigned_abs()) / 1000.0
}

/// Exact up to 2^53, as every number in this field's systems.
#[expect(clippy::cast_precision_loss, reason = "samples are f64")]
fn count(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_in_the_tick() {
        let telemetry = Telemetry::default();
        telemetry.record("cpu", &Outcome::Collected, Duration::from_millis(2));
        telemetry.record("pressure", &Outcome::Stuck, Duration::ZERO);
        telemetry.record("pressure", &Outcome::Failed("x".into()), Duration::ZERO);
        let hub = telemetry.sink("hub");
        hub.acked_seq.set(7);
        hub.lost.set(3);
        hub.oldest_ms.set(Some(5_000));
        let wal = WalStats { last_seq: 9, oldest_ms: Some(4_000), ..WalStats::default() };
        let mut samples = Samples::new(COLLECTOR);
        telemetry.collect("1.2.3", &wal, 5_500, &mut samples);

        let (schema, values) = samples.finish();
        let rows: Vec<String> = schema
            .schema
            .iter()
            .zip(values)
            .map(|((family, labels), value)| format!("{} {labels:?} {value}", family.name))
            .collect();
        let has = |row: &str| assert!(rows.iter().any(|r| r == row), "{row} not in {rows:#?}");
        has(r#"node_scrape_collector_success [("collector", "cpu")] 1"#);
        has(r#"holdfast_agent_collector_timeouts_total [("collector", "pressure")] 1"#);
        has(r#"holdfast_agent_collector_failures_total [("collector", "pressure")] 1"#);
        has(r#"holdfast_collector_stuck [("collector", "pressure")] 0"#);
        has(r#"holdfast_agent_sink_pending_records [("sink", "hub")] 2"#);
        has(r#"holdfast_agent_sink_lost_records_total [("sink", "hub")] 3"#);
        has(r#"holdfast_agent_sink_oldest_age_seconds [("sink", "hub")] 0.5"#);
        has("holdfast_agent_wal_oldest_age_seconds [] 1.5");
        let rss = rows.iter().find(|row| row.starts_with("holdfast_agent_resident_memory_bytes"));
        assert!(rss.is_some_and(|row| !row.ends_with(" 0")), "{rss:?}");
    }
}
