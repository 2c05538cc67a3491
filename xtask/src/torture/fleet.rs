//! The hub and the agents that a schedule is carried out on.

use std::{
    ops::Range,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::{
    AGENTS,
    report::{Kills, Report},
    schedule::{Moment, Step, Victim},
    watch::Watch,
};
use crate::{
    busy,
    judge::judge,
    programs::{Agent, Binaries, Hub, Program, millis, unix_now, wait_for},
    store,
};

/// How long to wait for what should take seconds.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a moment is waited for before whoever was to be killed at it is killed anyway.
const MOMENT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a condition is looked at that a kill waits for.
const LOOK_INTERVAL: Duration = Duration::from_micros(100);
/// Network devices of a busy host: a tick of 20 kB, three of which fill a request.
const DEVICES: u64 = 150;

pub(super) struct Fleet {
    hub: Hub,
    agents: Vec<Agent>,
    interval: Duration,
    watch: Watch,
    kills: Kills,
    /// Who was told to stop.
    stopping: Option<Victim>,
}

impl Fleet {
    pub(super) fn start(binaries: &Binaries, directory: &Path, interval: Duration) -> Result<Self> {
        let mut hub = Hub::start_apart(binaries, directory, "torture")?;
        hub.await_listening()?;
        let busy = busy::procfs(directory, DEVICES)?;
        let mut agents = Vec::new();
        for index in 0..AGENTS {
            let data_dir = directory.join(name(index));
            let mut agent = Agent::new(binaries, &data_dir, interval, &hub)?;
            agent.set("HOLDFAST_HOSTNAME", name(index));
            agent.set("HOLDFAST_SINKS_HUB_MAX_BYTES_PER_REQUEST", "64KiB");
            if index % 2 == 1 {
                agent.set("HOLDFAST_PROCFS", &busy);
            }
            agent.restart()?;
            agents.push(agent);
        }
        let watch = Watch::start(hub.api());
        Ok(Self { hub, agents, interval, watch, kills: Kills::default(), stopping: None })
    }

    /// How often something was killed.
    pub(super) const fn kills(&self) -> usize {
        self.kills.all()
    }

    /// Does it, and says what was met.
    pub(super) fn carry_out(&mut self, step: Step) -> Result<&'static str> {
        let done = match step {
            Step::Kill(victim, moment) => {
                let met = self.await_moment(moment);
                self.kill(victim, met)
            }
            Step::Start(victim) => self.start_again(victim).map(|()| ""),
            Step::Stop(victim) => self.tell_to_stop(victim).map(|()| ""),
        };
        done.with_context(|| format!("{step}, after {} kills", self.kills()))
    }

    fn tell_to_stop(&mut self, victim: Victim) -> Result<()> {
        self.stopping = Some(victim);
        self.program(victim).context("it is not running")?.signal(Signal::SIGTERM)
    }

    /// Waits; whether a drain was met.
    fn await_moment(&self, moment: Moment) -> bool {
        let (met, pause) = match moment {
            Moment::After(pause) => (false, pause),
            Moment::Tick(pause) => {
                let interval_ms = millis(self.interval);
                let left = interval_ms - millis(unix_now()) % interval_ms;
                (false, Duration::from_millis(left.unsigned_abs()) + pause)
            }
            Moment::Acknowledged(pause) => {
                self.await_more(0..AGENTS, Agent::acknowledgements);
                (false, pause)
            }
            Moment::Drain(agent, pause) => {
                let agents = agent.map_or(0..AGENTS, |agent| agent..agent + 1);
                (self.await_more(agents, Agent::returns), pause)
            }
        };
        thread::sleep(pause);
        met
    }

    /// Waits until one of these agents has said it once more; not for ever.
    fn await_more(&self, agents: Range<usize>, said: fn(&Agent) -> u64) -> bool {
        let all = || self.agents[agents.clone()].iter().map(said).sum::<u64>();
        let (before, begun) = (all(), Instant::now());
        while all() == before && begun.elapsed() < MOMENT_PATIENCE {
            thread::sleep(LOOK_INTERVAL);
        }
        all() > before
    }

    /// `kill -9`; says what was met.
    fn kill(&mut self, victim: Victim, draining: bool) -> Result<&'static str> {
        let told_to_stop = self.stopping.take() == Some(victim);
        let starting = match victim {
            Victim::Hub => !told_to_stop && !self.hub.is_listening()?,
            Victim::Agent(index) => !self.agents[index].has_spoken(),
        };
        let is_running = self.program(victim).is_some_and(Program::is_running);
        if !is_running && !told_to_stop {
            let tail = self.program(victim).map_or_else(String::new, |program| program.tail());
            bail!("it ended by itself\n{tail}");
        }
        match victim {
            Victim::Hub => self.hub.kill()?,
            Victim::Agent(index) => self.agents[index].kill()?,
        }
        if !is_running {
            return Ok(self.kills.too_late());
        }
        Ok(self.kills.count(victim, starting, draining, told_to_stop))
    }

    fn start_again(&mut self, victim: Victim) -> Result<()> {
        match victim {
            Victim::Hub => self.hub.launch(),
            Victim::Agent(index) => self.agents[index].restart(),
        }
    }

    fn program(&mut self, victim: Victim) -> Option<&mut Program> {
        match victim {
            Victim::Hub => self.hub.program(),
            Victim::Agent(index) => self.agents[index].program(),
        }
    }

    /// Waits until the hub has everything, and stops the agents.
    pub(super) fn drain(&mut self) -> Result<()> {
        self.hub.await_listening()?;
        self.await_everything()?;
        self.agents.iter_mut().try_for_each(Agent::stop)?;
        // The last tick stays in the log if the hub was busy at that very moment.
        while self.behind().is_some() {
            self.agents.iter_mut().try_for_each(Agent::restart)?;
            self.await_everything()?;
            self.agents.iter_mut().try_for_each(Agent::stop)?;
        }
        Ok(())
    }

    /// Waits until each agent has spoken again and the hub has all that was said.
    fn await_everything(&mut self) -> Result<()> {
        wait_for(PATIENCE, || {
            self.agents.iter_mut().try_for_each(Agent::check_running)?;
            let spoken = self.agents.iter().all(Agent::has_spoken);
            Ok((spoken && self.behind().is_none()).then_some(()))
        })
        .with_context(|| {
            let behind = self.behind().unwrap_or_default();
            let tail = self.agents[behind].tail();
            format!("the hub does not get everything of agent {behind}; it said:\n{tail}")
        })
    }

    /// An agent that has said more than the hub has.
    fn behind(&self) -> Option<usize> {
        let said: Vec<u64> = self.agents.iter().map(Agent::last_seq).collect();
        let acked = self.watch.look().acked;
        (0..AGENTS).find(|index| acked.get(&name(*index)).is_none_or(|seq| *seq < said[*index]))
    }

    /// Reads the store and judges; stops the hub.
    pub(super) fn report(mut self) -> Result<Report> {
        let seen = self.watch.look();
        let mut report = Report::new(self.kills, seen.faults.clone());
        let (ticks, gaps) = (store::ticks(&self.hub)?, store::gaps(&self.hub)?);
        let audits = store::audit(&self.hub)?;
        for (index, agent) in self.agents.iter().enumerate() {
            let name = name(index);
            let stored = ticks.get(&name).map_or(&[][..], Vec::as_slice);
            let told: Vec<_> = gaps.iter().filter(|gap| gap.host == name).cloned().collect();
            let lives = agent.lives();
            let mut verdict = judge(&lives, stored, &told, self.interval);
            match audits.iter().find(|audit| audit.host == name) {
                Some(audit) => {
                    verdict.add_audit(audit);
                    report.look_at_audit(audit);
                }
                None => report.faults.push(format!("{name}: the hub knows no such host")),
            }
            report.look_at_data(&name, agent.data_dir());
            report.longest_drain = report.longest_drain.max(seen.longest_drain(&name, &lives));
            report.verdict += verdict;
        }
        self.hub.stop()?;
        Ok(report)
    }
}

fn name(index: usize) -> String {
    format!("agent-{index}")
}
