//! An outage with a `kill -9` inside, and the count of what was lost.
//!
//! The real hub and the real agent run on this host's real data. The hub is killed; in the middle of
//! its absence the agent is killed too, and started again; the hub comes back; the agent drains. Then
//! the hub's store is read, as it is on disk, and the [`judge`] holds it against what the agent itself
//! said is durable, line by line, as it happened.
//!
//! [`judge`]: mod@crate::judge

use std::{
    fmt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    judge::{Verdict, judge},
    programs::{Agent, Binaries, Hub, wait_for},
    store,
};

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
    /// Whether the promise was kept.
    pub verdict: Verdict,
    /// From the hub's return until it had everything.
    pub drained_after: Duration,
}

impl Report {
    /// Whether the promise was kept: N, N, 0, 0, 0.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
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
    agent.kill()?;
    thread::sleep(AGENT_DOWN);
    say("starting the agent again");
    agent.restart()?;
    thread::sleep(plan.outage.saturating_sub(away.elapsed()));
    agent.check_running()?;

    say("bringing the hub back");
    let back = Instant::now();
    hub.restart()?;
    let waiting = agent.last_seq();
    await_acked(&hub, &mut agent, waiting)?;
    let drained_after = back.elapsed();
    say(&format!("drained after {:.1} s", drained_after.as_secs_f64()));
    await_acked(&hub, &mut agent, waiting + TICKS_AROUND as u64)?;
    agent.stop()?;
    let verdict = verdict(&hub, &agent, plan)?;
    hub.stop()?;
    Ok(Report { verdict, drained_after })
}

fn verdict(hub: &Hub, agent: &Agent, plan: &Plan) -> Result<Verdict> {
    let stored = store::ticks(hub)?.into_values().next().unwrap_or_default();
    let mut verdict = judge(&agent.lives(), &stored, &store::gaps(hub)?, plan.interval);
    let audits = store::audit(hub)?;
    verdict.add_audit(audits.first().context("the audit knows no host")?);
    Ok(verdict)
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
        format!("the hub never acknowledged record {seq}; the agent said:\n{}", agent.tail())
    })
}
