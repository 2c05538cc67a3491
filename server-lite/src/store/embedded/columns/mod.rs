//! Sealed samples: columns of values in blocks.
//!
//! - [`runs`]: sequences that repeat, or that go on by the same step.
//! - [`column`]: one series' values, by whichever way is smallest.
//! - [`block`]: the columns of a group of series over some ticks, with their times.
//!
//! Values come back bit for bit: NaN with its payload, infinities, negative zero.

pub(crate) mod block;
pub(crate) mod column;
pub(crate) mod runs;

pub(crate) use block::{Block, BlockBuilder};

/// Bytes that are not what they should be: which part, and how.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

/// For `ok_or_else`.
pub(crate) fn malformed(what: &str) -> impl FnOnce() -> Malformed {
    move || Malformed(what.to_owned())
}
