//! An outage with a `kill -9` inside, and the count of what was lost.
//!
//! The real hub and the real agent run on this host's real data. The hub is killed; in the middle of
//! its absence the agent is killed too, and started again; the hub comes back; the agent drains. Then
//! the hub's store is read, as it is on disk, and held against a witness: what the agent itself said
//! is durable, line by line, as it happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::programs::{Agent, Binaries, Durable, Hub, unix_now, wait_for};

/// A series that every tick has exactly one sample of.
const WITNESS_METRIC: &str = "node_time_seconds";
/// Ticks before the outage, and after the drain.
const TICKS_AROUND: usize = 3;
/// How long the agent stays dead, beyond its start.
const AGENT_DOWN: Duration = Duration::from_secs(2);
/// How long to wait for what should take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the drill goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long the hub is away.
    pub outage: Duration,
    /// Time between two ticks.
    pub interval: Duration,
}

/// What the drill found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Ticks that the agent said are durable.
    pub expected: usize,
    /// Of these, the ones in the store.
    pub stored: usize,
    /// Of these, the ones not in the store.
    pub lost: usize,
    /// Samples in the store that are there already, over every series.
    pub doubled: usize,
    /// Samples in the store after a later one of their series, over every series.
    pub out_of_order: usize,
    /// Ticks in the store that nobody said are durable and no kill explains.
    pub unexplained: usize,
    /// Ticks that fell in the time when the agent itself was dead.
    pub agent_down: usize,
    /// Ticks that the running agent should have taken and did not.
    pub missed: usize,
    /// Samples in the store, over every series.
    pub samples: usize,
    /// From the hub's return until it had everything.
    pub drained_after: Duration,
}

impl Report {
    /// Whether the promise was kept: N, N, 0, 0, 0.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.expected > 0
            && self.stored == self.expected
            && [self.lost, self.doubled, self.out_of_order, self.unexplained] == [0; 4]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ticks expected       {:>8}", self.expected)?;
        writeln!(f, "ticks stored         {:>8}", self.stored)?;
        writeln!(f, "lost                 {:>8}", self.lost)?;
        writeln!(f, "doubled              {:>8}", self.doubled)?;
        writeln!(f, "out of order         {:>8}", self.out_of_order)?;
        writeln!(f, "not accounted for    {:>8}", self.unexplained)?;
        writeln!(f, "agent down (ticks)   {:>8}", self.agent_down)?;
        writeln!(f, "missed by scheduler  {:>8}", self.missed)?;
        writeln!(f, "samples stored       {:>8}", self.samples)?;
        write!(f, "drained after        {:>8.1} s", self.drained_after.as_secs_f64())
    }
}

/// Runs the drill with everything below `directory`, and says each step to `say`.
///
/// # Errors
/// When a program doesn't start, stop or drain; a lost tick is no error but a report.
pub fn run(
    binaries: &Binaries,
    directory: &Path,
    plan: &Plan,
    mut say: impl FnMut(&str),
) -> Result<Report> {
    let mut hub = Hub::start(binaries, directory, "drill")?;
    let mut agent = Agent::start(binaries, directory, plan.interval, &hub)?;
    say(&format!("hub at {}, agent ticking every {:?}", hub.url(), plan.interval));
    await_acked(&hub, &mut agent, TICKS_AROUND as u64)?;

    say(&format!("killing the hub (kill -9), away for {:?}", plan.outage));
    let away = Instant::now();
    hub.kill()?;
    thread::sleep(plan.outage / 2);
    say("killing the agent (kill -9) in the middle");
    agent.check_running()?;
    let down_from_ms = millis(unix_now());
    agent.kill()?;
    thread::sleep(AGENT_DOWN);
    say("starting the agent again");
    let lives_before = agent.witness().len();
    agent.restart()?;
    thread::sleep(plan.outage.saturating_sub(away.elapsed()));
    agent.check_running()?;

    say("bringing the hub back");
    let back = Instant::now();
    hub.restart()?;
    let waiting = agent.witness().last().map_or(0, |durable| durable.seq);
    await_acked(&hub, &mut agent, waiting)?;
    let drained_after = back.elapsed();
    say(&format!("drained after {:.1} s", drained_after.as_secs_f64()));
    await_acked(&hub, &mut agent, waiting + TICKS_AROUND as u64)?;
    agent.stop()?;
    let audit = audit(&hub)?;
    let stored = stored_ticks(&hub)?;
    hub.stop()?;

    let witness = agent.witness();
    let lives = witness.split_at(lives_before.min(witness.len()));
    let mut report = judge(lives.0, lives.1, &stored, plan.interval, down_from_ms);
    report.samples = audit.samples;
    report.doubled = report.doubled.max(audit.duplicates);
    report.out_of_order = report.out_of_order.max(audit.out_of_order);
    report.drained_after = drained_after;
    Ok(report)
}

/// Holds the store against the witness of the agent's two lives. `stored` is in the order of storage.
fn judge(
    first: &[Durable],
    second: &[Durable],
    stored: &[i64],
    interval: Duration,
    down_from_ms: i64,
) -> Report {
    let interval_ms = millis(interval);
    let mut expected: BTreeSet<i64> =
        first.iter().chain(second).map(|durable| durable.time_ms).collect();
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for time_ms in stored {
        *counts.entry(*time_ms).or_default() += 1;
    }
    // Killed between the write and the word: the tick is durable, and nobody heard it say so.
    let unheard = first.last().map(|last| last.time_ms + interval_ms);
    let up_again_ms = second.first().map_or(i64::MAX, |durable| durable.time_ms);
    if let Some(unheard) = unheard
        && counts.contains_key(&unheard)
        && unheard <= down_from_ms
        && unheard < up_again_ms
    {
        expected.insert(unheard);
    }
    let last_up = expected.range(..up_again_ms).next_back().copied().unwrap_or(up_again_ms);
    let holes = |times: &[i64]| -> i64 {
        times.windows(2).map(|pair| ((pair[1] - pair[0]) / interval_ms - 1).max(0)).sum()
    };
    let times = |life: &[Durable]| life.iter().map(|durable| durable.time_ms).collect::<Vec<_>>();
    Report {
        expected: expected.len(),
        stored: expected.iter().filter(|time_ms| counts.contains_key(time_ms)).count(),
        lost: expected.iter().filter(|time_ms| !counts.contains_key(time_ms)).count(),
        doubled: counts.values().map(|count| count - 1).sum(),
        out_of_order: stored.windows(2).filter(|pair| pair[1] < pair[0]).count(),
        unexplained: counts.keys().filter(|time_ms| !expected.contains(time_ms)).count(),
        agent_down: count((up_again_ms - last_up) / interval_ms - 1),
        missed: count(holes(&times(first)) + holes(&times(second))),
        ..Report::default()
    }
}

/// Waits until the hub has acknowledged `seq`.
fn await_acked(hub: &Hub, agent: &mut Agent, seq: u64) -> Result<()> {
    wait_for(PATIENCE, || {
        agent.check_running()?;
        let hosts = hub.get("/api/v1/hosts").unwrap_or_default();
        let acked = hosts["hosts"][0]["acked_seq"].as_u64().unwrap_or(0);
        Ok((acked >= seq.max(1)).then_some(()))
    })
    .with_context(|| {
        let tail = agent.program().map_or_else(String::new, |program| program.tail());
        format!("the hub never acknowledged record {seq}; the agent said:\n{tail}")
    })
}

/// What `holdfast-hub audit --json` says of every series.
#[derive(Debug, Deserialize)]
struct Audit {
    samples: usize,
    duplicates: usize,
    out_of_order: usize,
}

fn audit(hub: &Hub) -> Result<Audit> {
    #[derive(Deserialize)]
    struct Hosts {
        hosts: Vec<Audit>,
    }
    let text = offline(hub, &["audit", "--json"])?;
    let Hosts { hosts } = serde_json::from_str(&text).with_context(|| format!("audit: {text}"))?;
    hosts.into_iter().next().context("the audit knows no host")
}

/// Times of the ticks in the store, in the order of storage.
fn stored_ticks(hub: &Hub) -> Result<Vec<i64>> {
    #[derive(Deserialize)]
    struct Sample {
        time_ms: i64,
    }
    let text = offline(hub, &["samples", "--metric", WITNESS_METRIC])?;
    text.lines()
        .map(|line| {
            let sample: Sample = serde_json::from_str(line).with_context(|| line.to_owned())?;
            Ok(sample.time_ms)
        })
        .collect()
}

fn offline(hub: &Hub, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(hub.binary());
    command.args(arguments).arg("--data-dir").arg(hub.data_dir());
    let output = command.output().context("run holdfast-hub")?;
    if !output.status.success() {
        bail!("holdfast-hub {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn count(ticks: i64) -> usize {
    usize::try_from(ticks).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn life(times_s: &[i64]) -> Vec<Durable> {
        let durable = |(seq, time_s): (u64, &i64)| Durable { seq, time_ms: time_s * 1000 };
        (1..).zip(times_s).map(durable).collect()
    }

    fn judged(stored_s: &[i64]) -> Report {
        let stored: Vec<i64> = stored_s.iter().map(|time_s| time_s * 1000).collect();
        judge(&life(&[1, 2, 3]), &life(&[7, 8]), &stored, SECOND, 4_500)
    }

    #[test]
    fn a_kept_promise() {
        let clean = Report { expected: 5, stored: 5, agent_down: 3, ..Report::default() };
        assert_eq!(judged(&[1, 2, 3, 7, 8]), clean);
        assert!(clean.is_clean());
    }

    #[test]
    fn a_tick_that_died_before_its_word_is_expected() {
        let report = judged(&[1, 2, 3, 4, 7, 8]);
        assert_eq!((report.expected, report.stored, report.agent_down), (6, 6, 2));
        assert!(report.is_clean());
    }

    #[test]
    fn every_broken_promise_is_counted() {
        let check = |stored_s: &[i64], expected: [usize; 4]| {
            let report = judged(stored_s);
            let found = [report.lost, report.doubled, report.out_of_order, report.unexplained];
            assert_eq!(found, expected, "{stored_s:?}");
            assert!(!report.is_clean());
        };
        check(&[1, 2, 7, 8], [1, 0, 0, 0]);
        check(&[1, 2, 2, 3, 7, 8], [0, 1, 0, 0]);
        check(&[1, 3, 2, 7, 8], [0, 0, 1, 0]);
        check(&[1, 2, 3, 5, 7, 8], [0, 0, 0, 1]);
        check(&[], [5, 0, 0, 0]);
    }

    #[test]
    fn ticks_that_fell_out_are_told_apart() {
        let report = judge(&life(&[1, 2, 5]), &life(&[9]), &[], SECOND, 5_500);
        assert_eq!((report.missed, report.agent_down), (2, 3));
    }
}
