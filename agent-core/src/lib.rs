//! The agent as a library.
//!
//! Every tick, [`Collector`]s fill [`Samples`]; the tick becomes one record in the [`wal`]; a shipper
//! replays the log in order to each [`Sink`], which acknowledges what it durably holds.
//!
//! - [`collector`], [`samples`], [`roots`]: what a collector is, what it fills, where it reads.
//! - [`wal`]: the write-ahead log: its promise, and its implementation on sled.
//! - [`sink`]: what a sink is, and who should react to its errors.

pub mod collector;
pub mod roots;
pub mod samples;
pub mod sink;
pub mod wal;

pub use collector::{CollectError, Collector, Registration};
pub use roots::Roots;
pub use samples::{Metric, Samples};
pub use sink::{Batch, BatchLimits, Sink, SinkError};
