//! `cargo xtask torture`: one hub and several agents, killed with `kill -9` again and again, and the
//! count of what was lost.
//!
//! Everything is real: programs, log, disk, store, sockets, this host's data. A [`schedule`] made from
//! a seed says who is killed when: at any moment, at a tick, while coming up, while draining after an
//! outage, while stopping, two at once. Whoever is away comes back while others are killed. In the end
//! all are up, drain, and stop; then the hub's store is read as it lies on disk, and the [`judge`]
//! holds it against what the agents said is durable.
//!
//! The same seed gives the same kills in the same order with the same pauses. It doesn't give the same
//! run: where a program is when it is hit is up to the machine.
//!
//! [`judge`]: mod@crate::judge

mod fleet;
mod report;
pub mod schedule;
mod watch;

use std::{
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

pub use self::report::Report;
use self::{
    fleet::Fleet,
    schedule::{Schedule, Step},
};
use crate::{demo::build_release, programs::Binaries};

/// Agents, each with data and a name of its own: more of them make more of each second.
pub const AGENTS: usize = 6;

/// How to torture.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often something is killed.
    pub kills: usize,
    /// What the schedule is made from.
    pub seed: u64,
    /// Time between two ticks.
    pub interval: Duration,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs the chore and prints its report; the exit code says whether the promise was kept.
///
/// # Errors
/// When a program doesn't build, start or stop, or ends by itself.
pub fn main(plan: &Plan, binaries: Option<&Path>) -> Result<ExitCode> {
    let binaries = binaries.map_or_else(build_release, Binaries::below)?;
    ctrlc::set_handler(|| INTERRUPTED.store(true, SeqCst)).context("listen for Ctrl-C")?;
    let directory = tempfile::Builder::new().prefix("torture-").tempdir()?;
    println!("{} kills, seed {}", plan.kills, plan.seed);
    let outcome = run(&binaries, directory.path(), plan, |step| println!("· {step}"));
    if let Ok(report) = &outcome {
        println!("\n{report}\n");
        if report.is_clean() {
            println!("nothing lost, nothing doubled, nothing out of order");
            return Ok(ExitCode::SUCCESS);
        }
        println!("the promise is broken");
    }
    println!("seed {}; data is kept in {}", plan.seed, directory.keep().display());
    outcome.map(|_| ExitCode::FAILURE)
}

/// A seed nobody has asked for.
#[must_use]
pub fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

/// Tortures with everything below `directory`, and says each step to `say`.
///
/// # Errors
/// When a program doesn't start, stop or drain, or ends by itself; a lost tick is no error but a
/// report.
pub fn run(
    binaries: &Binaries,
    directory: &Path,
    plan: &Plan,
    mut say: impl FnMut(&str),
) -> Result<Report> {
    let mut fleet = Fleet::start(binaries, directory, plan.interval)?;
    let mut schedule = Schedule::new(plan.seed, AGENTS);
    while fleet.kills() < plan.kills {
        if INTERRUPTED.load(SeqCst) {
            bail!("interrupted after {} kills", fleet.kills());
        }
        for step in schedule.round() {
            let done = fleet.carry_out(step)?;
            if matches!(step, Step::Kill(..)) {
                say(&format!("{:>4} {step}{done}", fleet.kills()));
            }
        }
    }
    for step in schedule.end() {
        fleet.carry_out(step)?;
    }
    say("all are up again, waiting until the hub has everything");
    fleet.drain()?;
    fleet.report()
}
