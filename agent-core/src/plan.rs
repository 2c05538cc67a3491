//! What a configuration asks an agent to do.

use std::time::Duration;

use crate::{
    collector::Collector,
    shipper::MAX_BYTES_PER_SECOND,
    sink::{BoxFuture, Delivery, Sink},
    wake::Wake,
};

/// What to do until told to stop.
pub struct Plan {
    /// Time between two ticks; they fall on its multiples by the wall clock.
    pub interval: Duration,
    /// How long one collector may take.
    pub collector_deadline: Duration,
    /// How long stopping may take.
    pub shutdown_deadline: Duration,
    /// What is read, in order.
    pub collectors: Vec<PlannedCollector>,
    /// Where it goes.
    pub sinks: Vec<PlannedSink>,
    /// Runs beside, until the plan ends: heartbeats.
    pub companions: Vec<BoxFuture<'static, ()>>,
}

/// A collector in a plan.
pub struct PlannedCollector {
    /// Labels what the agent says of it.
    pub name: String,
    /// Time between two runs, if it doesn't run in every tick. It runs in the first tick of each of
    /// the multiples by the wall clock, so a multiple of the plan's interval is kept exactly.
    pub interval: Option<Duration>,
    /// What reads.
    pub collector: Box<dyn Collector>,
}

impl PlannedCollector {
    /// A collector that runs in every tick.
    #[must_use]
    pub fn new(name: impl Into<String>, collector: Box<dyn Collector>) -> Self {
        Self { name: name.into(), interval: None, collector }
    }

    /// Runs once in so long.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }
}

/// A sink in a plan.
pub struct PlannedSink {
    /// Name of its cursor: keep it, and it goes on where it was.
    pub name: String,
    /// Where records go.
    pub sink: Box<dyn Sink>,
    /// Whether records wait for it.
    pub delivery: Delivery,
    /// How long a fresh record lies before it is sent.
    pub phase: Duration,
    /// Bytes of records a second while a backlog drains.
    pub max_bytes_per_second: u64,
    /// Says that its far side is back.
    pub wake: Wake,
}

impl PlannedSink {
    /// A required sink that gets records at once, and a backlog at the default rate.
    #[must_use]
    pub fn new(name: impl Into<String>, sink: Box<dyn Sink>) -> Self {
        Self {
            name: name.into(),
            sink,
            delivery: Delivery::Required,
            phase: Duration::ZERO,
            max_bytes_per_second: MAX_BYTES_PER_SECOND,
            wake: Wake::default(),
        }
    }
}
