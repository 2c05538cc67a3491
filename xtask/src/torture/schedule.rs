//! Which program is killed when: made from a seed, and nothing else.
//!
//! A schedule says who, in which order, how long after the step before, and what is awaited first. It
//! doesn't say where in its work a program then is: that is up to the machine, and differs from run
//! to run.

use std::{fmt, time::Duration};

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `kill -9`, when its moment has come.
    Kill(Victim, Moment),
    /// Start it again, and wait for nothing.
    Start(Victim),
    /// SIGTERM, and wait for nothing: it drains, and is killed at it.
    Stop(Victim),
}

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The hub.
    Hub,
    /// One of the agents.
    Agent(usize),
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the step before.
    After(Duration),
    /// So long after the next tick is due: it is collected, written or sent.
    Tick(Duration),
    /// So long after the hub has told any agent that it holds something: it had better.
    Acknowledged(Duration),
    /// So long after this agent, or any, has found the hub again and sent a first part of what waits.
    Drain(Option<usize>, Duration),
}

/// Longest pause between two steps.
const PAUSE_MS: u64 = 600;
/// A tick is collected, written and, by some, sent within this time.
const TICK_MS: u64 = 30;
/// A program comes up within this time.
const START_MS: u64 = 120;
/// A program that is told to stop has not always ended within this time.
const STOP_MS: u64 = 15;
/// What a hub that had acknowledged too early would still need to keep its word.
const ACKNOWLEDGED_MS: u64 = 2;
/// What a request of a drain takes.
const DRAIN_MS: u64 = 25;
/// After so many kills while the hub was away, something waits for it.
const BACKLOG_KILLS: u64 = 2;
/// Kills of others for which the hub stays away, at most.
const HUB_AWAY_KILLS: u64 = 6;
/// Kills of others for which an agent stays away, at most.
const AGENT_AWAY_KILLS: u64 = 3;

/// An endless row of kills, and what goes before each.
pub struct Schedule {
    random: Random,
    agents: usize,
    /// Steps of the present round.
    steps: Vec<Step>,
    /// Who is down, and for how many more kills of others.
    away: Vec<(Victim, u64)>,
    last: Option<Victim>,
    /// Kills of others since the hub went down.
    hub_away_kills: u64,
}

impl Schedule {
    /// The schedule of a seed, for a hub and so many agents that all are up.
    #[must_use]
    pub const fn new(seed: u64, agents: usize) -> Self {
        Self {
            random: Random(seed),
            agents,
            steps: Vec::new(),
            away: Vec::new(),
            last: None,
            hub_away_kills: 0,
        }
    }

    /// Steps that end with a kill.
    pub fn round(&mut self) -> Vec<Step> {
        let hub_is_back = self.bring_back();
        let backlog = self.hub_away_kills >= BACKLOG_KILLS;
        let (victim, moment) = match self.random.below(100) {
            0..60 if backlog && hub_is_back => self.draining(),
            0..15 => self.again(),
            15..25 => self.together(),
            25..35 => self.stopping(),
            35..50 if backlog && !self.is_up(Victim::Hub) => self.draining(),
            50..58 => self.acknowledging(),
            58..78 => (self.anyone(), Moment::Tick(self.random.up_to_ms(TICK_MS))),
            _ => (self.anyone(), self.sometime()),
        };
        self.steps.push(Step::Kill(victim, moment));
        self.goes_down(victim);
        std::mem::take(&mut self.steps)
    }

    fn goes_down(&mut self, victim: Victim) {
        let most = if victim == Victim::Hub {
            self.hub_away_kills = 0;
            HUB_AWAY_KILLS
        } else {
            self.hub_away_kills += 1;
            AGENT_AWAY_KILLS
        };
        // Mostly short, at times long.
        let kills = self.random.below(most + 1).min(self.random.below(most + 1));
        self.away.push((victim, kills));
        self.last = Some(victim);
    }

    /// Starts all that are down.
    #[must_use]
    pub fn end(mut self) -> Vec<Step> {
        self.away.sort_unstable();
        self.away.into_iter().map(|(victim, _)| Step::Start(victim)).collect()
    }

    /// Those whose time is over; whether the hub is among them.
    fn bring_back(&mut self) -> bool {
        let (back, away): (Vec<_>, Vec<_>) =
            self.away.iter().copied().partition(|(_, kills)| *kills == 0);
        self.away = away.into_iter().map(|(victim, kills)| (victim, kills - 1)).collect();
        self.steps.extend(back.iter().map(|(victim, _)| Step::Start(*victim)));
        back.iter().any(|(victim, _)| *victim == Victim::Hub)
    }

    /// The last one once more, while it comes up.
    fn again(&mut self) -> (Victim, Moment) {
        let Some(last) = self.last else { return (self.anyone(), self.sometime()) };
        self.start(last);
        (last, Moment::After(self.random.up_to_ms(START_MS)))
    }

    /// The hub with an agent, or an agent with the hub, at one moment.
    fn together(&mut self) -> (Victim, Moment) {
        let other = match self.last {
            Some(Victim::Agent(_)) if self.is_up(Victim::Hub) => Victim::Hub,
            _ => self.an_agent(),
        };
        (other, Moment::After(Duration::ZERO))
    }

    /// While it drains because it was told to stop.
    fn stopping(&mut self) -> (Victim, Moment) {
        let victim = self.anyone();
        self.steps.push(Step::Stop(victim));
        (victim, Moment::After(self.random.up_to_ms(STOP_MS)))
    }

    /// The hub as soon as it has acknowledged.
    fn acknowledging(&mut self) -> (Victim, Moment) {
        self.start(Victim::Hub);
        (Victim::Hub, Moment::Acknowledged(self.random.up_to_ms(ACKNOWLEDGED_MS)))
    }

    /// While an agent that was up all the time sends what has waited for the hub.
    fn draining(&mut self) -> (Victim, Moment) {
        self.start(Victim::Hub);
        let up = (0..self.agents).filter(|agent| self.is_up(Victim::Agent(*agent)));
        let up: Vec<usize> = up.collect();
        if up.is_empty() {
            return (self.anyone(), self.sometime());
        }
        let agent = up[self.random.below_usize(up.len())];
        let pause = self.random.up_to_ms(DRAIN_MS);
        if self.random.below(2) == 0 {
            (Victim::Hub, Moment::Drain(None, pause))
        } else {
            (Victim::Agent(agent), Moment::Drain(Some(agent), pause))
        }
    }

    fn sometime(&mut self) -> Moment {
        Moment::After(self.random.up_to_ms(PAUSE_MS))
    }

    /// Somebody who is up: the hub as often as not, for it is away at times.
    fn anyone(&mut self) -> Victim {
        if self.random.below(2) == 0 && self.is_up(Victim::Hub) {
            Victim::Hub
        } else {
            self.an_agent()
        }
    }

    /// An agent that is up.
    fn an_agent(&mut self) -> Victim {
        let agent = Victim::Agent(self.random.below_usize(self.agents));
        self.start(agent);
        agent
    }

    fn start(&mut self, victim: Victim) {
        if !self.is_up(victim) {
            self.away.retain(|(away, _)| *away != victim);
            self.steps.push(Step::Start(victim));
        }
    }

    fn is_up(&self, victim: Victim) -> bool {
        self.away.iter().all(|(away, _)| *away != victim)
    }
}

/// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn below_usize(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    const fn up_to_ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(victim, Moment::After(pause)) => write!(f, "kill {victim} after {pause:?}"),
            Self::Kill(victim, Moment::Tick(pause)) => {
                write!(f, "kill {victim} at tick + {pause:?}")
            }
            Self::Kill(victim, Moment::Acknowledged(pause)) => {
                write!(f, "kill {victim} at acknowledgement + {pause:?}")
            }
            Self::Kill(victim, Moment::Drain(None, pause)) => {
                write!(f, "kill {victim} when an agent drains + {pause:?}")
            }
            Self::Kill(victim, Moment::Drain(Some(agent), pause)) => {
                write!(f, "kill {victim} when agent {agent} drains + {pause:?}")
            }
            Self::Start(victim) => write!(f, "start {victim}"),
            Self::Stop(victim) => write!(f, "stop {victim}"),
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub => f.write_str("hub"),
            Self::Agent(index) => write!(f, "agent {index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const AGENTS: usize = 5;

    /// The steps with so many kills in them.
    fn steps(seed: u64, kills: usize) -> Vec<Step> {
        let mut schedule = Schedule::new(seed, AGENTS);
        let mut steps: Vec<Step> = (0..kills).flat_map(|_| schedule.round()).collect();
        steps.extend(schedule.end());
        steps
    }

    #[test]
    fn a_seed_gives_one_schedule() {
        assert_eq!(steps(7, 200), steps(7, 200));
        assert_ne!(steps(7, 200), steps(8, 200));
    }

    /// Nobody is killed or stopped who is down, nobody started who is up, and all are up at the end.
    #[test]
    fn a_schedule_makes_sense() {
        for seed in 0..50 {
            let mut down = BTreeSet::new();
            let mut kills = 0;
            for step in steps(seed, 200) {
                let sensible = match step {
                    Step::Kill(victim, _) => {
                        kills += 1;
                        down.insert(victim)
                    }
                    Step::Start(victim) => down.remove(&victim),
                    Step::Stop(victim) => !down.contains(&victim),
                };
                assert!(sensible, "seed {seed}: {step}");
            }
            assert_eq!((kills, down.len()), (200, 0), "seed {seed}");
        }
    }

    #[test]
    fn a_schedule_has_something_of_everything() {
        let schedule = steps(1, 200);
        let count = |wanted: fn(&Step) -> bool| schedule.iter().filter(|step| wanted(step)).count();
        assert!(count(|step| matches!(step, Step::Kill(Victim::Hub, _))) >= 50);
        assert!(count(|step| matches!(step, Step::Kill(_, Moment::Tick(_)))) >= 30);
        assert!(count(|step| matches!(step, Step::Kill(_, Moment::Drain(..)))) >= 15);
        assert!(count(|step| matches!(step, Step::Kill(_, Moment::Acknowledged(_)))) >= 10);
        assert!(count(|step| matches!(step, Step::Stop(_))) >= 10);
    }
}
