//! What a sink is.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde::Deserialize;
use wire::{EncodedSchema, SchemaId, StreamId};

/// A future that a sink returns; the agent runs on one thread, so it needs no `Send`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Records in order, as they lie in the log, with every schema they name.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The stream they belong to.
    pub stream_id: StreamId,
    /// Whole envelopes with their sequence numbers, ascending; never empty when given to a sink.
    pub records: Vec<LogRecord>,
    /// The schemas that the records name, and maybe more.
    pub schemas: Arc<HashMap<SchemaId, Arc<EncodedSchema>>>,
}

impl Batch {
    /// Bytes of its records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.bytes.len()).sum()
    }
}

/// One record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its place in the stream.
    pub seq: u64,
    /// Its envelope, whole: see [`wire::envelope`].
    pub bytes: Vec<u8>,
}

/// Whether records wait for a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Records are given back only when it has acknowledged them, or at the log's bounds.
    #[default]
    Required,
    /// It reads what is still there, and a gap for what went before it came.
    BestEffort,
}

/// How much a sink takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records.
    pub records: usize,
    /// Bytes of envelopes; a single larger record is still given alone.
    pub bytes: usize,
}

/// Delivers records somewhere and says what is durably there.
pub trait Sink {
    /// How much it takes at once.
    fn limits(&self) -> BatchLimits;

    /// Delivers a batch. Returns the highest sequence number that the far side durably holds; it may
    /// lie before the batch's last (the rest is sent again), before its first (nothing was taken yet)
    /// or beyond its last (it knows the rest already). Given the same records again it must not double what it holds, as far as its far side
    /// can tell.
    ///
    /// # Errors
    /// [`SinkError`] says who should react.
    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>>;

    /// Called once when the agent stops, after the last send.
    fn close<'a>(&'a mut self) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Try again later: the far side is away, busy or full. Never drops data.
    #[error("{reason}")]
    Transient {
        /// What happened.
        reason: String,
        /// The far side's own word on when.
        retry_after: Option<Duration>,
    },
    /// A person has to change something (the key, the address) before it can work; the agent keeps
    /// everything and tries again slowly.
    #[error("{reason}")]
    Refused {
        /// What happened, and what would be right.
        reason: String,
    },
    /// Another agent uses this one's identity, or its records. A person has to give one of the two an
    /// identity of its own; the agent keeps everything and tries again.
    #[error("{reason}")]
    Conflict {
        /// Who the other is as far as the far side knows, and what to do.
        reason: String,
    },
    /// This one record will never be taken: it is quarantined, a gap stands for it, the rest goes on.
    #[error("record {seq} rejected: {reason}")]
    Rejected {
        /// Which one.
        seq: u64,
        /// What was wrong with it.
        reason: String,
    },
    /// The batch is too large for the far side: send less at once.
    #[error("too large for the far side: {reason}")]
    TooLarge {
        /// What it said.
        reason: String,
    },
}
