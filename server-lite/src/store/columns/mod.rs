//! Sealed samples: columns of values in blocks.
//!
//! - [`runs`]: sequences that repeat, or that go on by the same step.
//! - [`column`]: one series' values, by whichever way is smallest.
//! - [`block`]: the columns of a group of series over some ticks, with their times.
//! - [`page`]: what a group of series comes to in spans of one length, over a day.
//!
//! Values come back bit for bit: NaN with its payload, infinities, negative zero.

pub(crate) mod block;
pub(crate) mod column;
pub(crate) mod page;
pub(crate) mod runs;

pub(crate) use block::{Block, BlockBuilder};
pub(crate) use page::{Page, PageBuilder};

/// Bytes that are not what they should be: which part, and how.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

/// For `ok_or_else`.
pub(crate) fn malformed(what: &str) -> impl FnOnce() -> Malformed {
    move || Malformed(what.to_owned())
}
