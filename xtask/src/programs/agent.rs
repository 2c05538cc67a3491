//! The real agent as a child process, and what it said is durable.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Result, bail};

use super::{Binaries, Hub, Program, millis, unix_now};

/// What the agent says of itself: what is durable, and what was acknowledged.
const LOG_LEVEL: &str = "info,agent_core::agent=debug,agent_core::shipper=debug";

/// One record that the agent said is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Durable {
    /// Its sequence number.
    pub seq: u64,
    /// Unix milliseconds of what it tells: a tick's time, a gap's end.
    pub time_ms: i64,
    /// Whether it is a gap, not a tick.
    pub is_gap: bool,
}

/// From one start of an agent to its end, and what it said meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Unix milliseconds before it was started.
    pub began_ms: i64,
    /// Unix milliseconds after it was gone; `None` while it runs.
    pub ended_ms: Option<i64>,
    /// Whether it was killed: its last record may be durable and its word of it unheard.
    pub killed: bool,
    /// What it said is durable, in the order of its words.
    pub said: Vec<Durable>,
}

/// What the agent said beside, over all its lives.
#[derive(Default)]
struct Heard {
    /// How often a sink acknowledged.
    acknowledgements: AtomicU64,
    /// How often a sink came back after it had failed.
    returns: AtomicU64,
}

impl Heard {
    fn hear(&self, line: &str) {
        if line.contains("sink acknowledged") {
            self.acknowledgements.fetch_add(1, SeqCst);
        } else if line.contains("sink is back") {
            self.returns.fetch_add(1, SeqCst);
        }
    }
}

/// An agent, and what it said is durable: the witness that the store is held against.
pub struct Agent {
    binary: PathBuf,
    data_dir: PathBuf,
    environment: Vec<(String, OsString)>,
    lives: Arc<Mutex<Vec<Life>>>,
    heard: Arc<Heard>,
    program: Option<Program>,
}

impl Agent {
    /// Starts an agent with its data below `directory`, ticking at `interval`, shipping to `hub`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(
        binaries: &Binaries,
        directory: &Path,
        interval: Duration,
        hub: &Hub,
    ) -> Result<Self> {
        let mut agent = Self::new(binaries, &directory.join("agent"), interval, hub)?;
        agent.restart()?;
        Ok(agent)
    }

    /// An agent with its data in `data_dir`, not started yet.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn new(
        binaries: &Binaries,
        data_dir: &Path,
        interval: Duration,
        hub: &Hub,
    ) -> Result<Self> {
        fs::create_dir_all(data_dir)?;
        let mut agent = Self {
            binary: binaries.agent.clone(),
            data_dir: data_dir.to_owned(),
            environment: Vec::new(),
            lives: Arc::default(),
            heard: Arc::default(),
            program: None,
        };
        agent.set("HOLDFAST_DATA_DIR", data_dir);
        agent.set("HOLDFAST_INTERVAL", format!("{}ms", interval.as_millis()));
        agent.set("HOLDFAST_LOG_LEVEL", LOG_LEVEL);
        agent.set("SERVER_URL", hub.url());
        agent.set("AGENT_TOKEN", hub.token());
        agent.set("NO_COLOR", "1");
        Ok(agent)
    }

    /// Sets a variable of its environment, from its next start.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Starts it again on the same data.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("run").envs(self.environment.iter().map(|(name, value)| (name, value)));
        lock(&self.lives).push(Life { began_ms: millis(unix_now()), ..Life::default() });
        let (lives, heard) = (Arc::clone(&self.lives), Arc::clone(&self.heard));
        let watch = move |line: &str| {
            if let Some(durable) = parse_durable(line)
                && let Some(life) = lock(&lives).last_mut()
            {
                life.said.push(durable);
            }
            heard.hear(line);
        };
        self.program = Some(Program::start("holdfast-agent", &mut command, watch)?);
        Ok(())
    }

    /// The process, while it runs.
    pub fn program(&mut self) -> Option<&mut Program> {
        self.program.as_mut()
    }

    /// Where its log lies.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What it said is durable so far, over all its lives.
    #[must_use]
    pub fn witness(&self) -> Vec<Durable> {
        lock(&self.lives).iter().flat_map(|life| life.said.iter().copied()).collect()
    }

    /// Its lives so far, the present one last.
    #[must_use]
    pub fn lives(&self) -> Vec<Life> {
        lock(&self.lives).clone()
    }

    /// Highest number that it said is durable; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        let last = |life: &Life| life.said.last().map(|durable| durable.seq);
        lock(&self.lives).iter().rev().find_map(last).unwrap_or(0)
    }

    /// Whether it has said anything durable since it was last started.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        lock(&self.lives).last().is_some_and(|life| !life.said.is_empty())
    }

    /// How often it said that a sink is back, over all its lives.
    #[must_use]
    pub fn returns(&self) -> u64 {
        self.heard.returns.load(SeqCst)
    }

    /// How often it said that a sink acknowledged something, over all its lives.
    #[must_use]
    pub fn acknowledgements(&self) -> u64 {
        self.heard.acknowledgements.load(SeqCst)
    }

    /// `kill -9`; one that has ended by itself is taken leave of.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut program) = self.program.take() else { return Ok(()) };
        let killed = program.is_running();
        program.kill()?;
        self.end(killed);
        Ok(())
    }

    /// SIGTERM: it drains.
    ///
    /// # Errors
    /// When it doesn't end well.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut program) = self.program.take() else { return Ok(()) };
        program.stop()?;
        self.end(false);
        Ok(())
    }

    fn end(&self, killed: bool) {
        if let Some(life) = lock(&self.lives).last_mut() {
            life.ended_ms = Some(millis(unix_now()));
            life.killed = killed;
        }
    }

    /// Fails with the end of its log when it is no longer running.
    ///
    /// # Errors
    /// As said.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(program) = &mut self.program
            && !program.is_running()
        {
            bail!("the agent ended by itself\n{}", program.tail());
        }
        Ok(())
    }

    /// The last lines of its log, while it runs.
    #[must_use]
    pub fn tail(&self) -> String {
        self.program.as_ref().map_or_else(String::new, Program::tail)
    }
}

fn lock(lives: &Mutex<Vec<Life>>) -> MutexGuard<'_, Vec<Life>> {
    lives.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads `… record is durable seq=7 time_ms=1700000000000 kind=Metrics` as the agent logs it.
fn parse_durable(line: &str) -> Option<Durable> {
    let (_, fields) = line.split_once("record is durable ")?;
    let field =
        |name: &str| fields.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Some(Durable {
        seq: field("seq")?.parse().ok()?,
        time_ms: field("time_ms")?.parse().ok()?,
        is_gap: field("kind")? == "Gap",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_witness_reads_the_agents_log() {
        let check = |line: &str, expected| assert_eq!(parse_durable(line), expected, "{line}");
        let (seq, time_ms) = (7, 1_700_000_000_000);
        check(
            "2026-01-01T00:00:00.1Z DEBUG agent_core::agent: record is durable seq=7 time_ms=1700000000000 kind=Metrics",
            Some(Durable { seq, time_ms, is_gap: false }),
        );
        check(
            "DEBUG agent_core::agent: record is durable seq=7 time_ms=1700000000000 kind=Gap",
            Some(Durable { seq, time_ms, is_gap: true }),
        );
        check("INFO agent_core::agent: collection stopped how=Drain", None);
    }
}
