//! `holdfast-agent wal` as a person uses it: on logs that are sound, damaged, in use, foreign or another's.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod damaged;
mod log;
mod others;
mod sound;
