//! What a seed decides before a run begins: how large everything is, and what goes wrong how often.
//!
//! Each fault is left out of many runs ("swarm testing": Groce et al., 2012): what needs two faults and
//! the absence of a third is found too.

use std::time::Duration;

use crate::random::Random;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Room for two requests at a time: a third is sent away.
const LITTLE_MEMORY_BYTES: u64 = 8 << 10;

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) agents: Vec<AgentPlan>,
    pub(crate) network: NetworkPlan,
    pub(crate) hub: HubPlan,
    /// After that time nothing goes wrong any more.
    pub(crate) trouble: Duration,
}

/// One agent.
#[derive(Clone, Debug)]
pub(crate) struct AgentPlan {
    pub(crate) ticks: u64,
    pub(crate) interval: Duration,
    /// Series of the collector that is always there.
    pub(crate) series: usize,
    /// Chance that a tick sees other devices than the one before.
    pub(crate) change: f64,
    /// How long a fresh record lies before it is sent.
    pub(crate) phase: Duration,
    pub(crate) batch_bytes: usize,
    /// What a backlog drains at.
    pub(crate) max_bytes_per_second: u64,
    /// A generation of the log is sealed every eighth of it.
    pub(crate) max_age: Duration,
    /// Whether a record may reach that age, and be dropped for it.
    pub(crate) drops: bool,
    /// How far off its clock may be; it is set whenever the agent starts.
    pub(crate) skew_max: Duration,
    /// Mean time from a start to the next end.
    pub(crate) life: Option<Duration>,
    /// Chance that this end is a kill.
    pub(crate) kill: f64,
    pub(crate) down_max: Duration,
}

/// What lies between.
#[derive(Clone, Debug)]
pub(crate) struct NetworkPlan {
    pub(crate) delay_max: Duration,
    /// Chance of a delay far beyond that, up to `late_max`.
    pub(crate) late: f64,
    pub(crate) late_max: Duration,
    pub(crate) lose_request: f64,
    pub(crate) lose_reply: f64,
    /// Chance that who sends is told at once that something was lost.
    pub(crate) reset: f64,
    pub(crate) duplicate: f64,
    /// Mean time between two partitions.
    pub(crate) partition: Option<Duration>,
    pub(crate) partition_max: Duration,
    /// Chance that a proxy answers 429, 502 or 503 in the hub's place.
    pub(crate) refuse: f64,
    /// Bytes of records in a request beyond which a proxy answers 413, always.
    pub(crate) bytes_max: Option<usize>,
}

/// The hub.
#[derive(Clone, Debug)]
pub(crate) struct HubPlan {
    /// Mean time from a start to the next end by chance.
    pub(crate) life: Option<Duration>,
    /// Chance that this end is a kill.
    pub(crate) kill: f64,
    pub(crate) down_max: Duration,
    /// Chance, for each group of requests, of a kill before they are stored.
    pub(crate) kill_before_commit: f64,
    /// Chance of a kill when they are stored and not, or not all, answered.
    pub(crate) kill_after_commit: f64,
    /// Time that requests wait, so that more come in: mostly little.
    pub(crate) stall: f64,
    pub(crate) stall_max: Duration,
    pub(crate) memory_bytes: u64,
    /// Chance of housekeeping after a group.
    pub(crate) maintain: f64,
}

/// A chance, or none at all in half of the runs.
fn maybe(random: &mut Random, choices: &[f64]) -> f64 {
    if random.chance(0.5) { random.one_of(choices) } else { 0.0 }
}

fn maybe_every(random: &mut Random, low: Duration, high: Duration) -> Option<Duration> {
    random.chance(0.6).then(|| random.duration(low, high))
}

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let interval = random.one_of(&[SECOND, 5 * SECOND, 10 * SECOND]);
        let ticks = match random.chance(0.05) {
            // Enough that the hub seals.
            true => random.between(500, 700),
            false => random.between(20, 90),
        };
        let agents = if ticks >= 500 { 1 } else { random.between(1, 4) };
        let span = interval * ticks as u32;
        let agents = (0..agents).map(|_| AgentPlan::draw(random, ticks, interval));
        let mut agents: Vec<AgentPlan> = agents.collect();
        let network = NetworkPlan::draw(random, span);
        let hub = HubPlan::draw(random, span);
        if hub.memory_bytes == LITTLE_MEMORY_BYTES {
            // One request has to fit.
            agents.iter_mut().for_each(|agent| agent.batch_bytes = agent.batch_bytes.min(2_000));
        }
        let trouble = span.mul_f64(0.5 + random.unit());
        Self { agents, network, hub, trouble }
    }
}

impl AgentPlan {
    fn draw(random: &mut Random, ticks: u64, interval: Duration) -> Self {
        let span = interval * ticks as u32;
        // More, and a hub refuses tokens made by such a clock.
        let skew_max = random.one_of(&[0, 0, 2, 4]) * MINUTE;
        let drops = random.chance(0.2);
        Self {
            ticks: random.between(ticks / 2, ticks),
            interval,
            series: random.between(1, 40) as usize,
            change: maybe(random, &[0.02, 0.1, 0.5]),
            phase: random.duration(Duration::ZERO, interval / 2),
            // A hub decodes larger ones on other threads, and in no certain order.
            batch_bytes: random.one_of(&[1, 2_000, 20_000, 56_000]),
            max_bytes_per_second: random.one_of(&[500, 5_000, 4 << 20]),
            max_age: if drops { span / 3 } else { 3 * span + 4 * skew_max },
            drops,
            skew_max,
            life: maybe_every(random, span / 10, span),
            kill: random.one_of(&[0.0, 0.5, 1.0]),
            down_max: random.duration(SECOND, SECOND + span / 5),
        }
    }
}

impl NetworkPlan {
    fn draw(random: &mut Random, span: Duration) -> Self {
        Self {
            delay_max: random.duration(2 * MILLISECOND, 2 * SECOND),
            late: maybe(random, &[0.01, 0.1]),
            late_max: random.duration(10 * SECOND, 15 * MINUTE),
            lose_request: maybe(random, &[0.01, 0.1, 0.4]),
            lose_reply: maybe(random, &[0.01, 0.1, 0.4]),
            reset: random.one_of(&[0.0, 0.5, 1.0]),
            duplicate: maybe(random, &[0.02, 0.2, 0.6]),
            partition: maybe_every(random, span / 10, span),
            partition_max: random.duration(SECOND, span),
            refuse: maybe(random, &[0.02, 0.2]),
            bytes_max: random.chance(0.3).then(|| random.between(1_500, 20_000) as usize),
        }
    }
}

impl HubPlan {
    fn draw(random: &mut Random, span: Duration) -> Self {
        Self {
            life: maybe_every(random, span / 10, span),
            kill: random.one_of(&[0.0, 0.5, 1.0]),
            down_max: random.duration(SECOND, 3 * MINUTE),
            kill_before_commit: maybe(random, &[0.01, 0.05]),
            kill_after_commit: maybe(random, &[0.01, 0.05]),
            stall: maybe(random, &[0.05, 0.3]),
            stall_max: random.duration(10 * MILLISECOND, 90 * SECOND),
            memory_bytes: random.one_of(&[LITTLE_MEMORY_BYTES, 64 << 20, 64 << 20]),
            maintain: maybe(random, &[0.02, 0.1]),
        }
    }
}
