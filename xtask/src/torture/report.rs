//! What was killed, and what became of the promise.

use std::{fmt, fs, path::Path, time::Duration};

use super::schedule::Victim;
use crate::{judge::Verdict, store::Audit};

/// Where a log and an agent move what is damaged or refused; there must be nothing.
const QUARANTINES: [&str; 2] = ["wal/quarantine", "quarantine"];

/// What was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Of the hub.
    pub hub: usize,
    /// Of agents.
    pub agents: usize,
    /// Of these: a hub before it listened, an agent before its first tick.
    pub starting: usize,
    /// Of these: in the first requests of a drain after an outage.
    pub draining: usize,
    /// Of these: told to stop, and not there yet.
    pub stopping: usize,
    /// Had stopped before they could be killed; not counted above.
    pub too_late: usize,
}

impl Kills {
    pub(super) const fn count(
        &mut self,
        victim: Victim,
        starting: bool,
        draining: bool,
        stopping: bool,
    ) -> &'static str {
        match victim {
            Victim::Hub => self.hub += 1,
            Victim::Agent(_) => self.agents += 1,
        }
        self.starting += starting as usize;
        self.draining += draining as usize;
        self.stopping += stopping as usize;
        match (starting, draining, stopping) {
            (_, true, _) => ": draining",
            (_, _, true) => ": stopping",
            (true, ..) => ": starting",
            _ => "",
        }
    }

    pub(super) const fn too_late(&mut self) -> &'static str {
        self.too_late += 1;
        ": had stopped"
    }

    /// All of them.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.hub + self.agents
    }
}

/// What torturing found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was killed.
    pub kills: Kills,
    /// Of all agents together.
    pub verdict: Verdict,
    /// What must not be, beside what the verdict counts.
    pub faults: Vec<String>,
    /// From a return of the hub until it had all that an agent had waiting, kills in between included.
    pub longest_drain: Duration,
}

impl Report {
    pub(super) fn new(kills: Kills, faults: Vec<String>) -> Self {
        Self { kills, faults, ..Self::default() }
    }

    /// Whether the promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.faults.is_empty()
    }

    /// A kill is no damage: the stream goes on, and every row reads back.
    pub(super) fn look_at_audit(&mut self, audit: &Audit) {
        if audit.streams.len() != 1 {
            self.faults.push(format!("{}: {} streams", audit.host, audit.streams.len()));
        }
        if audit.damaged > 0 {
            self.faults.push(format!("{}: {} rows damaged", audit.host, audit.damaged));
        }
    }

    /// A kill is no damage: nothing is quarantined.
    pub(super) fn look_at_data(&mut self, name: &str, data_dir: &Path) {
        for quarantine in QUARANTINES {
            let entries = fs::read_dir(data_dir.join(quarantine)).map_or(0, Iterator::count);
            if entries > 0 {
                self.faults.push(format!("{name}: {entries} entries in {quarantine}"));
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kills { hub, agents, starting, draining, stopping, too_late } = self.kills;
        writeln!(f, "kills of the hub     {hub:>8}")?;
        writeln!(f, "kills of agents      {agents:>8}")?;
        writeln!(f, "  while starting     {starting:>8}")?;
        writeln!(f, "  while draining     {draining:>8}")?;
        writeln!(f, "  while stopping     {stopping:>8}")?;
        writeln!(f, "stopped before kill  {too_late:>8}")?;
        writeln!(f, "{}", self.verdict)?;
        write!(f, "longest drain        {:>8.1} s", self.longest_drain.as_secs_f64())?;
        for fault in &self.faults {
            write!(f, "\nfault: {fault}")?;
        }
        Ok(())
    }
}
