//! What is proven of the log where it touches the disk: power cuts and failing calls, at every step.

mod faults;
mod full;
mod known;
mod medium;
mod power_cut;
#[path = "../../../tests/wal_support/mod.rs"]
mod support;
