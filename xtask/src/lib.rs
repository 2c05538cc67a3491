//! Project chores, in Rust: `cargo xtask <command>`.
//!
//! - [`mod@test`]: everything that has to pass before a change lands.
//! - [`demo`]: the main job on this host, as a live table.
//! - [`drill`]: an outage with a `kill -9` inside, and the count of what was lost. The end-to-end
//!   tests run the same drill.
//! - [`footprint`]: what a host pays for the agent.
//! - [`programs`]: the real binaries as child processes.
//! - [`workload`]: hosts that are not there, with the values that real ones have.
//! - [`chore`]: what chores share.

pub mod chore;
pub mod demo;
pub mod drill;
pub mod footprint;
pub mod programs;
pub mod test;
pub mod workload;
