//! Project chores, in Rust: `cargo xtask <command>`.
//!
//! - [`mod@test`]: everything that has to pass before a change lands.
//! - [`demo`]: the main job on this host, as a live table.
//! - [`drill`]: an outage with a `kill -9` inside, and the count of what was lost. The end-to-end
//!   tests run the same drill.
//! - [`torture`]: hub and agents killed again and again, with the same count; a test runs a short one.
//! - [`mod@judge`], [`store`]: what a hub has stored, held against what agents said is durable.
//! - [`fleet`]: what a store takes of a fleet of made-up hosts, beside other stores.
//! - [`footprint`]: what a host pays for the agent.
//! - [`mod@promql`]: test scripts of the query language.
//! - [`programs`]: the real binaries as child processes.
//! - [`big_host`]: a `/proc` and `/sys` of a host of any size.
//! - [`busy`]: a host whose ticks are large.
//! - [`workload`]: hosts that are not there, with the values that real ones have.
//! - [`cluster`]: a PostgreSQL cluster of its own, for tests.
//! - [`chore`]: what chores share.

pub mod big_host;
pub mod busy;
pub mod chore;
pub mod cluster;
pub mod demo;
pub mod drill;
pub mod fleet;
pub mod footprint;
pub mod judge;
pub mod programs;
pub mod promql;
pub mod store;
pub mod test;
pub mod torture;
pub mod workload;
