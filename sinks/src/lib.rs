//! Where the agent delivers to.
//!
//! - [`http`]: a hub, over HTTP; also presence ([`http::Heartbeats`]).
//! - [`remote_write`](mod@remote_write): any receiver of Prometheus remote write.
//! - [`file`](mod@file): JSON lines in files that are rotated, each record exactly once.
//! - [`prom_file`]: the newest tick as a page for a textfile collector.
//! - [`stdout`]: text for a terminal or a pipe.
//! - [`render`]: a tick or a gap as text, in three formats.
//! - [`Utc`]: a time for people.
//! - [`records`]: records as they lie in the log, decoded and joined with their schemas.
//!
//! Sinks that write to a file descriptor do so on a blocking thread: a reader that stalls or a disk
//! that hangs stops this one sink, never the agent.

pub mod file;
#[cfg(test)]
mod fixture;
pub mod http;
mod intervals;
mod offload;
pub mod prom_file;
pub mod records;
pub mod remote_write;
pub mod render;
pub mod stdout;
mod utc;

pub use self::remote_write::{RemoteWriteConfig, RemoteWriteSink};
pub use file::{FileConfig, FileSink};
pub use http::{Heartbeats, HttpConfig, HttpSink, Identity, addresses};
pub use prom_file::PromFileSink;
pub use render::Format;
pub use stdout::StdoutSink;
pub use utc::Utc;
