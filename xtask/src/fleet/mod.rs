//! `cargo xtask fleet`: what a store takes of a fleet, and what that costs.
//!
//! Made-up hosts ([`crate::workload`]) each send one scrape a request, one after the other; as many
//! connections as asked for send at once, as fast as the store answers. All requests are made before the
//! clock runs, so what is measured is the store. The same data goes to every store of a run: to ours as an
//! agent sends it, and by remote write, as to the others. Then each is asked what a dashboard asks.
//!
//! - `load`: the requests, and who sends them.
//! - `store`: the stores: started, measured, stopped. `ask`: what they are asked.
//!
//! The bench `dashboard` of the hub asks them more.

mod ask;
mod load;
mod store;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};

pub use self::{
    ask::{Asker, Question},
    load::{Load, Protocol, Sent},
    store::{Connection, Kind, Sender, Store},
};
use crate::{
    demo::build_release,
    programs::{Binaries, millis, unix_now},
    workload::Host,
};

/// Bytes of requests that may lie in memory, roughly.
const LOAD_MAX: u64 = 8 << 30;
/// Bytes of a sample in a remote write request, roughly.
const REMOTE_WRITE_BYTES: u64 = 24;
/// How often each question is asked.
const ASKED: usize = 9;

/// What is sent, and where to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many hosts.
    pub hosts: u32,
    /// Series of each.
    pub series: usize,
    /// Time between two scrapes of a host.
    pub interval: Duration,
    /// How much time of the hosts is sent.
    pub sent_for: Duration,
    /// Requests under way at one time.
    pub connections: usize,
    /// Which stores; those that are installed, if empty.
    pub stores: Vec<Kind>,
}

impl Plan {
    fn ticks(&self) -> u64 {
        u64::try_from(self.sent_for.as_millis() / self.interval.as_millis().max(1)).unwrap_or(0)
    }

    fn samples(&self) -> u64 {
        u64::from(self.hosts) * self.series as u64 * self.ticks()
    }

    fn check(&self) -> Result<()> {
        ensure!(self.hosts > 0 && self.series > 0, "--hosts and --series: expected at least 1");
        ensure!(self.connections > 0, "--connections: expected at least 1");
        ensure!(!self.interval.is_zero(), "--interval: expected more than nothing");
        ensure!(
            self.ticks() >= 2,
            "--for {:?} holds {} scrapes at --interval {:?}: expected 2 or more",
            self.sent_for,
            self.ticks(),
            self.interval
        );
        let bytes = self.samples() * REMOTE_WRITE_BYTES;
        ensure!(
            bytes <= LOAD_MAX,
            "{} samples are some {} MiB of requests in memory, at most {} MiB: fewer hosts or series, or \
             less time",
            self.samples(),
            bytes >> 20,
            LOAD_MAX >> 20
        );
        Ok(())
    }

    /// The hosts; the same for every store.
    fn fleet(&self, start_ms: i64) -> Vec<Host> {
        let interval_ms = millis(self.interval);
        let host = |number| Host::new(number, self.series, interval_ms).starting_at(start_ms);
        (1..=self.hosts).map(host).collect()
    }
}

/// Sends to each store and prints what it found.
///
/// # Errors
/// When the binaries don't build, or a store doesn't start, or refuses.
pub fn run(plan: &Plan, binaries: Option<&Path>) -> Result<ExitCode> {
    plan.check()?;
    let binaries = binaries.map_or_else(build_release, Binaries::below)?;
    let stores = if plan.stores.is_empty() { Kind::installed() } else { plan.stores.clone() };
    println!(
        "{} hosts × {} series × {} scrapes = {} samples, one scrape a request, {} connections",
        plan.hosts,
        plan.series,
        plan.ticks(),
        plan.samples(),
        plan.connections
    );
    // They end now, as those of a real fleet would.
    let start_ms = millis(unix_now()) - millis(plan.sent_for);
    let start_ms = start_ms - start_ms.rem_euclid(millis(plan.interval));
    let mut measured = Vec::new();
    for kind in stores {
        println!("\n{kind}: making requests …");
        let load = Load::new(plan.fleet(start_ms), plan.ticks(), kind.protocol())?;
        println!("{kind}: sending {:.0} MB …", float(load.bytes()) / 1e6);
        let one = measure(plan, &kind, &binaries, load, start_ms)?;
        println!("{one}");
        measured.push(one);
    }
    println!("\n{}", Measured::HEADER);
    measured.iter().for_each(|one| println!("{}", one.row()));
    Ok(ExitCode::SUCCESS)
}

fn measure(
    plan: &Plan,
    kind: &Kind,
    binaries: &Binaries,
    load: Load,
    start_ms: i64,
) -> Result<Measured> {
    let directory = tempfile::tempdir()?;
    let mut store = Store::start(kind, binaries, directory.path())?;
    let bytes = load.bytes();
    // The first scrape of each host registers its series: another thing than those that follow.
    let (first, rest) = load.split();
    let connections = store.connections(plan.connections)?;
    let registered = first.send(&connections)?;
    let before = store.usage()?;
    let sent = rest.send(&connections)?;
    let while_sending = store.usage()?;
    store.settle()?;
    let after = store.usage()?;
    let end_ms = start_ms + millis(plan.interval) * i64::try_from(plan.ticks())?;
    let questions = [Question::host_range("host-1", start_ms, end_ms), Question::fleet_now(end_ms)];
    let answers = questions
        .iter()
        .map(|question| store.ask(question, ASKED))
        .collect::<Result<Vec<Duration>>>()?;
    store.stop()?;
    let per_tick = u64::from(plan.hosts) * plan.series as u64;
    Ok(Measured {
        store: kind.to_string(),
        series_a_second: rate(per_tick, registered.took),
        samples_a_second: rate(plan.samples() - per_tick, sent.took),
        cpu: (while_sending.cpu - before.cpu, after.cpu - before.cpu),
        samples: plan.samples(),
        resident_max_bytes: after.resident_max_bytes,
        disk_bytes: store.disk_bytes()?,
        wire_bytes: bytes,
        pushed_back: registered.pushed_back + sent.pushed_back,
        slowest: sent.slowest,
        answers,
    })
}

fn rate(count: u64, took: Duration) -> f64 {
    float(count) / took.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn float(n: u64) -> f64 {
    n as f64
}

/// What one store did.
#[derive(Clone, Debug)]
struct Measured {
    store: String,
    series_a_second: f64,
    samples_a_second: f64,
    /// While requests were sent, and until all was settled.
    cpu: (Duration, Duration),
    samples: u64,
    resident_max_bytes: f64,
    disk_bytes: u64,
    wire_bytes: u64,
    pushed_back: u64,
    slowest: Duration,
    answers: Vec<Duration>,
}

impl Measured {
    const HEADER: &str = "| store | samples/s | new series/s | CPU a sample (settled) | memory | bytes a \
                          sample: wire, disk | slowest request | told to wait | range of a host | fleet now |\n\
                          |---|---|---|---|---|---|---|---|---|---|";

    fn row(&self) -> String {
        let samples = float(self.samples);
        let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / samples;
        let ms = |took: &Duration| format!("{:.1} ms", took.as_secs_f64() * 1e3);
        let answers: Vec<String> = self.answers.iter().map(ms).collect();
        format!(
            "| {} | {:.0} | {:.0} | {:.2} ({:.2}) µs | {:.0} MB | {:.2}, {:.2} | {} | {} | {} |",
            self.store,
            self.samples_a_second,
            self.series_a_second,
            micros(self.cpu.0),
            micros(self.cpu.1),
            self.resident_max_bytes / 1e6,
            float(self.wire_bytes) / samples,
            float(self.disk_bytes) / samples,
            ms(&self.slowest),
            self.pushed_back,
            answers.join(" | "),
        )
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:.0} samples/s", self.store, self.samples_a_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_checked() {
        let plan = Plan {
            hosts: 10,
            series: 100,
            interval: Duration::from_secs(10),
            sent_for: Duration::from_secs(60),
            connections: 4,
            stores: vec![],
        };
        assert_eq!((plan.ticks(), plan.samples()), (6, 6_000));
        plan.check().unwrap();
        let check = |plan: Plan, expected: &str| {
            let said = plan.check().unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        };
        check(Plan { hosts: 0, ..plan.clone() }, "--hosts");
        check(Plan { sent_for: Duration::from_secs(19), ..plan.clone() }, "holds 1 scrapes");
        check(Plan { hosts: 100_000, series: 10_000, ..plan }, "in memory");
    }

    #[test]
    fn every_host_is_the_same_for_every_store() {
        let plan = Plan {
            hosts: 2,
            series: 60,
            interval: Duration::from_secs(10),
            sent_for: Duration::from_secs(60),
            connections: 1,
            stores: vec![],
        };
        let bodies = || Load::new(plan.fleet(0), 3, Protocol::RemoteWrite).unwrap();
        assert_eq!(bodies(), bodies());
    }
}
