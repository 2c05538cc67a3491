//! The write-ahead log.
//!
//! # What it promises
//!
//! 1. Once [`Wal::append`] has returned, the record survives a kill and a power cut.
//! 2. Numbers begin with 1, go up by 1 and never come again in a stream for another record.
//! 3. Only durable records are read. So a record whose append failed can't have been shipped, and its
//!    number may be given out again.
//! 4. Each sink reads one stream's records in order, from its own cursor. A cursor moves only by
//!    [`Wal::acknowledge`], and is written lazily: after a crash some records are read again.
//! 5. What is dropped or lost is told by a [`wire::Gap`] in its place; what only a best-effort sink
//!    lost, to that sink alone.
//! 6. Damage costs what it hit. A log always opens, unless the disk refuses or another owns it.
//! 7. It keeps within its bounds on disk, and gives back what every required sink has acknowledged, on a
//!    full disk too.
//!
//! # On disk
//!
//! ```text
//! lock                     who owns it
//! last                     highest durable number, its time, and how far sinks had come, told apart
//!                          from the databases
//! lost                     what best-effort sinks lost and have not been told
//! reserve                  space for the day the disk is full
//! <first seq>.gen/         a generation: a small sled database, and beside it
//!     head                 stream and first number; written last at creation
//!     tail                 last number, counts and stream; written when it is sealed
//! <first seq>.pack         a generation that was sealed while records in it waited: one flat file
//! <last seq>.gap           a gap record in the place of a dropped generation
//! quarantine/              damaged generations, for a person to look at
//! *.new *.del *.part       being rebuilt, removed, written; dealt with at the next opening
//! ```
//!
//! sled gives neither disk nor memory back while a database lives, so the log is a row of *generations*:
//! the newest is written, rolled when it holds enough, and removed as a whole when every required sink
//! has acknowledged its last record. If records in it wait when it is sealed, it is *packed*: written
//! once more as a flat file of compressed frames, a quarter of the size and read without a database, in
//! place of the database. So a backlog, however long, is one small database and a row of such files. A
//! generation covers the numbers from its name up to the next one's:
//! what lies in it beyond is never looked at. That is what makes failure simple. After a failed write
//! or sync nothing more is written to a generation; the next one begins right after the last durable
//! record, and its name, once on disk, is what seals the other. So a number is used at most once in a
//! generation, and a raw scan (`carve`) can't take one record for another.
//!
//! Acknowledged records of the newest generation are not removed one by one: the cursor says enough,
//! and a generation in which nothing waits is soon left behind (half full) and removed whole.
//!
//! The order of writing, each step durable before the next: schemas, the record's later parts, its
//! first part, which makes it a record, then cursors; `flush`, `sync_data`; then [`Wal::append`]
//! returns. sled recovers a prefix of that order.
//!
//! # Which file is about what
//!
//! `log` is the log itself, `reading` what it gives to sinks, `rolling` how it leaves a generation behind,
//! `giving_back` what becomes of those that all sinks have. `survey` looks what lies in its directory,
//! `outlook` how sinks stand in it, `open` takes it over in whatever state it was left, `ending` finds
//! where numbers go on. `bounds` drops the oldest, `losses` is what that and giving back cost best-effort
//! sinks; `packing` packs what is sealed; `salvage` replaces what is damaged with what `carve` finds.
//!
//! `generation` is the only one that names sled; `frame`, `packed`, `packer` are the format of a packed
//! generation, how one is read and how it is made. `newest`, `row`, `readers` are the generations being
//! written, sealed and read, `raw` one that a full disk keeps from being opened; `fault` tells damage from
//! refusal; `parts` splits large values, `wholes` reads them back, `counts` is what is known of them.
//! `sidecar`, `lock`, `reserve`, `quarantine` are the files beside; `disk` is where all of these change or
//! sync anything, so that tests can cut the power and let calls fail; `limits` has every bound; `handle`
//! is the asynchronous face; [`inspect`] looks at a stopped agent's log.

mod bounds;
mod carve;
mod counts;
mod disk;
mod ending;
mod fault;
mod frame;
mod generation;
mod giving_back;
mod handle;
pub mod inspect;
mod limits;
mod lock;
mod log;
mod losses;
mod newest;
mod open;
mod outlook;
mod packed;
mod packer;
mod packing;
mod parts;
#[cfg(test)]
mod proof;
mod quarantine;
mod raw;
mod readers;
mod reading;
mod reserve;
mod rolling;
mod row;
mod salvage;
mod sidecar;
mod survey;
mod wholes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use handle::{LogHandle, OwnedRecord, WhatFollows};
pub use limits::{MAX_AGE_DEFAULT, MAX_BYTES_DEFAULT, MAX_BYTES_MIN};
pub use log::SledWal;
pub use outlook::{Outlook, Prospect};
use wire::{EncodedSchema, Kind, StreamId};

use crate::sink::{Batch, BatchLimits, Delivery};

/// What is to be appended: a payload, encoded once. The log gives it its sequence number.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// What the payload is; one for which [`Kind::is_record`] holds.
    pub kind: Kind,
    /// Unix milliseconds of what it tells.
    pub time_ms: i64,
    /// Samples in it, for counting what a drop costs.
    pub samples: u64,
    /// The encoded value.
    pub payload: &'a [u8],
    /// Every schema it names.
    pub schemas: &'a [Arc<EncodedSchema>],
}

/// How much a log may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Bytes on disk; less than [`MAX_BYTES_MIN`] is raised to it.
    pub max_bytes: u64,
    /// Age at which records go even if nobody has taken them, reckoned by what was recorded since, up to
    /// the end of the newest sealed generation. A time without records counts for an eighth at most, for
    /// it may be a clock that was set.
    pub max_age: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { max_bytes: MAX_BYTES_DEFAULT, max_age: MAX_AGE_DEFAULT }
    }
}

/// How the log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Bytes on disk, as the file system counts them.
    pub disk_bytes: u64,
    /// Records that wait for a required sink.
    pub records: u64,
    /// Generations held.
    pub generations: u64,
    /// Highest sequence number written; 0 before the first.
    pub last_seq: u64,
    /// Unix milliseconds of the record appended last, given back or not; `None` before the first.
    pub last_ms: Option<i64>,
    /// Unix milliseconds of the oldest record held that waits for a required sink.
    pub oldest_ms: Option<i64>,
    /// Records dropped because of the bounds, since this process opened the log.
    pub dropped_records: u64,
    /// Samples in them.
    pub dropped_samples: u64,
    /// Bytes in sled's blob files: anything but 0 breaks the promise of durability.
    pub blob_bytes: u64,
}

/// A durable, ordered log with one cursor a sink. See the module's opening for its promise.
pub trait Wal: Send {
    /// The stream that new records belong to.
    fn stream_id(&self) -> StreamId;

    /// Appends one record and returns its sequence number once it is durable.
    ///
    /// # Errors
    /// [`WalError`]; nothing is promised of this record then, and the log goes on in another
    /// generation with the next call.
    fn append(&mut self, record: &NewRecord<'_>) -> Result<u64, WalError>;

    /// Registers a sink that records wait for. A new one begins at the oldest record held; a known one
    /// where it was. Returns its cursor: the highest sequence number it has acknowledged.
    ///
    /// # Errors
    /// [`WalError`] when the cursor can't be read or written.
    fn register(&mut self, sink: &str) -> Result<u64, WalError> {
        self.register_as(sink, Delivery::Required)
    }

    /// As [`Wal::register`]; records need not wait for it. A known sink may change between both.
    ///
    /// # Errors
    /// As [`Wal::register`].
    fn register_as(&mut self, sink: &str, delivery: Delivery) -> Result<u64, WalError>;

    /// Forgets the cursors of all sinks but these, and returns whose they were: records don't wait for
    /// a sink that is no longer configured.
    ///
    /// # Errors
    /// [`WalError`] when the cursors can't be removed.
    fn retain_sinks(&mut self, sinks: &[&str]) -> Result<Vec<String>, WalError>;

    /// The durable records after the sink's cursor, in order, within `limits`; `None` if there are
    /// none. A batch never mixes streams.
    ///
    /// # Errors
    /// [`WalError`] when the log can't be read, or the sink isn't registered.
    fn read(&mut self, sink: &str, limits: BatchLimits) -> Result<Option<Batch>, WalError>;

    /// Moves a sink's cursor to `seq`; moving it back is ignored, and so is what lies beyond the end of
    /// the stream the sink is in. If that is the current one, the far side holds more than was ever
    /// written here: the log was set back, and goes on in another stream. What every required sink has
    /// acknowledged is given back. Lazy: it becomes durable with the next append or [`Wal::flush`].
    ///
    /// # Errors
    /// [`WalError`] when the sink isn't registered or the cursor can't be written.
    fn acknowledge(&mut self, sink: &str, seq: u64) -> Result<(), WalError>;

    /// How the log stands.
    fn stats(&self) -> WalStats;

    /// Records that best-effort sinks lost since this process opened the log, by sink.
    fn lost(&self) -> &BTreeMap<String, u64>;

    /// Makes cursors durable.
    ///
    /// # Errors
    /// [`WalError`] when the disk refuses.
    fn flush(&mut self) -> Result<(), WalError>;
}

/// Why the log can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried: `open WAL at`, `sync`.
        operation: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// sled refused.
    #[error("{operation} {path}: {reason}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// The generation.
        path: std::path::PathBuf,
        /// What sled said, or how it panicked.
        reason: String,
    },
    /// Another process owns the log.
    #[error(
        "WAL at {path} is in use by {holder}: stop it first, or give this agent a `data_dir` of its own"
    )]
    Locked {
        /// The log's directory.
        path: std::path::PathBuf,
        /// Who holds it: process id and name.
        holder: String,
    },
    /// No sink of that name was registered.
    #[error("sink {0:?} is not registered with the log")]
    UnknownSink(String),
    /// The log was closed, or its thread is gone.
    #[error("the log is closed")]
    Closed,
    /// The record can't be put in an envelope.
    #[error("append record: {0}")]
    Record(#[from] wire::EnvelopeError),
}
