//! The agent as a library.
//!
//! Every tick, [`Collector`]s fill [`Samples`]; the tick becomes one record in the [`wal`]; a shipper
//! replays the log in order to each [`Sink`], which acknowledges what it durably holds.
//!
//! - [`collector`], [`samples`], [`roots`]: what a collector is, what it fills, where it reads.
//! - [`runner`], [`ticker`], [`doubles`]: collectors in isolation, on time, and no series twice.
//! - [`wal`], [`pending`]: the write-ahead log, and what waits while it refuses.
//! - [`sink`], [`shipper`], [`quarantine`]: what a sink is, and how records reach it; [`rate`],
//!   [`retry`], [`wake`]: how fast, and when again after a failure.
//! - [`agent`], [`plan`]: all of it put together: [`Agent`] and [`Plan`]; [`builder`] does it for any
//!   program.
//! - [`config`]: the configuration file.
//! - [`gaps`], [`life`], [`lives`]: what only the agent knows to be missing: when it didn't run, when
//!   its host was off or asleep, when the clock was set.
//! - [`identity`], [`telemetry`], [`clock`]: who it is, what it says of itself, what time it is.

// Unit tests share what the tests of the log have, which know the crate by its name.
#[cfg(test)]
extern crate self as agent_core;

pub mod agent;
pub mod builder;
pub mod clock;
pub mod collector;
pub mod config;
pub mod doubles;
pub mod gaps;
pub mod identity;
pub mod life;
pub mod lives;
mod news;
pub mod pending;
pub mod plan;
pub mod quarantine;
pub mod rate;
pub mod retry;
pub mod roots;
pub mod runner;
pub mod samples;
pub mod shipper;
pub mod sink;
pub mod telemetry;
pub mod ticker;
pub mod wake;
pub mod wal;

pub use agent::{Agent, AgentError, AgentOptions, Status};
pub use builder::Builder;
pub use collector::{CollectError, Collector, Registration};
pub use plan::{Plan, PlannedCollector, PlannedSink};
pub use roots::Roots;
pub use samples::{Metric, Samples};
pub use sink::{Batch, BatchLimits, Delivery, Sink, SinkError};
pub use wire::MetricKind;
