//! Where records are kept, and what every implementation promises.
//!
//! - **Acknowledged is committed.** What [`Store::ingest`] says is acknowledged survives `kill -9`
//!   and power loss.
//! - **Exactly once.** `(agent_id, stream_id, seq)` names a record. Its data and the stream's
//!   highest `seq` are committed together, so a record that comes again is skipped.
//! - **One writer a stream.** A number that comes again with other content is no retry: while another
//!   process of the agent is there, nothing of that request is stored or acknowledged, and who sends it
//!   is told ([`IngestError::Conflict`]). Else it goes on, and what the stream has held is kept as a
//!   stream of its own.
//! - **At once, at any age.** What is acknowledged is read by the next query, however old it is.
//! - **Nothing vanishes silently.** Gap records and holes that no gap record explains are in the
//!   ledger.
//!
//! - **By labels alone.** What comes by remote write has no stream and no number: see [`mod@write`].
//!
//! A store knows nothing of HTTP and never asks for the time. One conformance suite runs over every
//! implementation: [`embedded`] is SQLite and compressed columns in one directory, [`mod@postgres`] a
//! database that several hubs may share.

mod admission;
mod columns;
#[cfg(test)]
pub(crate) mod conformance;
mod counts;
pub mod embedded;
mod error;
mod finding;
mod holes;
mod incoming;
pub mod postgres;
mod retention;
pub mod rollup;
mod rows;
mod samples;
mod series;
mod sums;
mod varint;
pub mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use wire::{AgentId, Family, GapReason, SchemaId, StreamId, request::Request};

pub use embedded::Embedded;
pub use error::{IngestError, StoreError};
pub use finding::{Finding, Verdict};
pub use postgres::Postgres;
pub use retention::Retention;
pub use rollup::{RollupRequest, Rollups};
pub use samples::{Chunk, ReadRequest, Readable, Samples};
pub use series::{Host, INSTANCE_LABEL, JOB, JOB_LABEL, Selector, Series, SeriesId};
pub use write::{WriteBatch, Written};

/// What a store's calls return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// Reads samples.
pub trait Reader: Send + Sync {
    /// The series that fit, in a stable order.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    fn series(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Series>, StoreError>>;

    /// The samples of some series in a span of time.
    ///
    /// # Errors
    /// [`StoreError`] when reading can't begin; what fails later comes out of [`Samples`]. Samples that
    /// no longer read back are left out, and the last thing that comes out is
    /// [`StoreError::Damaged`] with the series they are of.
    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<Samples, StoreError>>;

    /// What some series' samples come to in spans of one length: exactly what the samples would give
    /// that are or were stored, whenever they came; sums differ by the order of additions.
    ///
    /// # Errors
    /// As [`Reader::read`].
    fn rollups(&self, request: RollupRequest) -> BoxFuture<'_, Result<Rollups, StoreError>> {
        Box::pin(async move { Ok(Rollups::fold(self.read(request.samples()).await?, &request)) })
    }

    /// The names of the labels that the series that fit have ([`Series::each_label`]), ascending.
    ///
    /// # Errors
    /// As [`Reader::series`].
    fn label_names(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let series = self.series(selector).await?;
            let names: BTreeSet<&str> =
                series.iter().flat_map(|one| one.each_label().map(|(name, _)| name)).collect();
            Ok(names.into_iter().map(str::to_owned).collect())
        })
    }

    /// The values that one label has among the series that fit, ascending; none is empty.
    ///
    /// # Errors
    /// As [`Reader::series`].
    fn label_values(
        &self,
        name: String,
        selector: Selector,
    ) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let series = self.series(selector).await?;
            let values: BTreeSet<&str> = series.iter().map(|one| one.label(&name)).collect();
            let values = values.into_iter().filter(|value| !value.is_empty());
            Ok(values.map(str::to_owned).collect())
        })
    }

    /// The latest time of which samples have been dropped for their age, Unix milliseconds; what they came
    /// to may be there as [`Reader::rollups`]. `None` where none have been, or none are kept any longer.
    fn dropped_ms(&self) -> Option<i64> {
        None
    }

    /// What the metrics of all series say of themselves, by name; a name more than once where senders
    /// differ.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    fn families(&self) -> BoxFuture<'_, Result<Vec<Family>, StoreError>>;
}

/// See the module's opening for what is promised. As a [`Reader`] it is for queries: there are as many
/// at one time as it was opened for, and more wait.
pub trait Store: Reader {
    /// A reader for who must not wait for queries: rules.
    fn apart(&self) -> Arc<dyn Reader>;

    /// Commits a request's records, whole or up to the first whose schemas aren't known.
    ///
    /// # Errors
    /// [`IngestError`]; nothing of the request is stored then.
    fn ingest(&self, batch: IngestBatch) -> BoxFuture<'_, Result<Ingested, IngestError>>;

    /// Commits what came by remote write: all of it that can be stored, or nothing. What the module
    /// [`mod@write`] says holds for it; series that are new get the kind and help that are said of them, or
    /// that another of the same metric has.
    ///
    /// # Errors
    /// [`IngestError::Busy`] and [`IngestError::Store`]; nothing of the batch is stored then, and it may
    /// be sent again.
    fn write(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<Written, IngestError>>;

    /// Notes when agents were last heard of. Need not survive a crash.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    fn note_seen(&self, seen: Vec<Seen>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Every agent there is, by name of host; not what sends by remote write.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    fn agents(&self) -> BoxFuture<'_, Result<Vec<Agent>, StoreError>>;

    /// The gap ledger, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    fn gaps(&self, filter: GapFilter) -> BoxFuture<'_, Result<Vec<GapEntry>, StoreError>>;

    /// Whether a write commits now.
    ///
    /// # Errors
    /// [`StoreError`] says why not.
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Housekeeping that is due: makes rollups, drops samples and rollups that are older than they are
    /// kept. Samples go only when their rollups are there. Called now and then.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be done; it goes on with the next call.
    fn maintain(&self, now_ms: i64, keep: Retention) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether this hub, of all that share the store, keeps house and evaluates rules.
    fn is_leader(&self) -> bool {
        true
    }

    /// Figures for the hub's own metrics.
    fn stats(&self) -> StoreStats;

    /// Finishes what is queued and gives back what it holds; calls fail afterwards.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A request to be stored.
#[derive(Clone, Debug)]
pub struct IngestBatch {
    /// The request, decoded and checked.
    pub request: Request,
    /// The request as it came, compressed.
    pub body: Bytes,
    /// Unix milliseconds when it came.
    pub received_ms: i64,
    /// Whether no other process of this agent was there lately. Then other content under numbers that
    /// are stored means that its log was set back, or another one's has gone: the agent goes on, and
    /// what was stored before is kept as a stream of its own.
    pub is_alone: bool,
    /// Counts requests as they came.
    pub number: u64,
    /// It was sent after all had come whose number is less; 0 if that isn't known. What it says of its
    /// log is the latest word on it if that is so for all that is stored of its stream.
    pub after: u64,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Highest sequence number of the stream that is committed.
    pub acked_seq: u64,
    /// Schemas that records after it need and nobody has sent.
    pub need_schemas: Vec<SchemaId>,
    /// Records stored.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
    /// Records that were already there.
    pub duplicates: u64,
}

/// When an agent was last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub agent_id: AgentId,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// An agent, as its requests have shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its identity.
    pub agent_id: AgentId,
    /// Its host's name, by the latest request.
    pub hostname: String,
    /// Its version, by the latest request.
    pub version: String,
    /// Unix milliseconds of its first request.
    pub first_seen_ms: i64,
    /// Unix milliseconds, as [`Store::note_seen`] was last told.
    pub last_seen_ms: i64,
    /// Series registered for it.
    pub series: u64,
    /// Its streams, the one written last at the end.
    pub streams: Vec<StreamState>,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// Which stream.
    pub stream_id: StreamId,
    /// Highest sequence number committed.
    pub acked_seq: u64,
    /// Unix milliseconds of its latest tick, if it had one.
    pub last_tick_ms: Option<i64>,
}

/// Which gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapFilter {
    /// Of which hosts; `None` for all.
    pub host: Option<Host>,
    /// Those that reach beyond this time, Unix milliseconds.
    pub from_ms: i64,
    /// Those that begin before this time.
    pub to_ms: i64,
    /// At most so many, the oldest.
    pub limit: usize,
}

/// A line of the gap ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapEntry {
    /// Name of the agent's host.
    pub host: String,
    /// Whose stream.
    pub agent_id: AgentId,
    /// Which stream.
    pub stream_id: StreamId,
    /// Why.
    pub reason: LedgerReason,
    /// Unix milliseconds of the first thing missing, as near as is known.
    pub from_ms: i64,
    /// Unix milliseconds of the last thing missing, as near as is known.
    pub to_ms: i64,
    /// First lost sequence number; 0 when no record was lost.
    pub first_seq: u64,
    /// Last lost sequence number; 0 as above.
    pub last_seq: u64,
    /// Records lost.
    pub records: u64,
    /// Samples lost, if known; 0 otherwise.
    pub samples: u64,
    /// More for people.
    pub detail: String,
    /// Unix milliseconds when the hub learnt of it.
    pub received_ms: i64,
}

/// Why something is missing, as the hub sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LedgerReason {
    /// The agent says so.
    Agent(GapReason),
    /// Sequence numbers are missing and no gap record explains them.
    Unexplained,
    /// The agent has more series than a hub takes from one.
    SeriesLimit,
    /// They were stored, and the store no longer reads them.
    StoreDamaged,
}

impl LedgerReason {
    /// The word used in JSON, labels and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent(reason) => reason.as_str(),
            Self::Unexplained => "unexplained",
            Self::SeriesLimit => "series_limit",
            Self::StoreDamaged => "store_damaged",
        }
    }

    /// The reason of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        use GapReason::{AgentDown, ClockJump, HostOff, LogDamaged, LogOverflow, Rejected};
        [HostOff, AgentDown, LogOverflow, Rejected, LogDamaged, ClockJump]
            .map(Self::Agent)
            .into_iter()
            .chain([Self::Unexplained, Self::SeriesLimit, Self::StoreDamaged])
            .find(|reason| reason.as_str() == word)
    }
}

impl Serialize for LedgerReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Figures for the hub's own metrics, since the store was opened where they count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StoreStats {
    /// Transactions committed.
    pub commits: u64,
    /// Time spent in them, in seconds.
    pub commit_seconds: f64,
    /// The longest of them, in seconds.
    pub commit_seconds_max: f64,
    /// Of these, how many failed: nothing of them is stored.
    pub failures: u64,
    /// Requests waiting to be written.
    pub queued: u64,
    /// Agents known.
    pub agents: u64,
    /// Targets known whose series come by remote write.
    pub targets: u64,
    /// Series registered.
    pub series: u64,
    /// Samples not stored because their agent or target had too many series.
    pub refused_samples: u64,
    /// Samples that wait to be sealed into columns.
    pub unsealed_samples: u64,
    /// Streams whose samples are due to be sealed, or being sealed.
    pub sealing: u64,
    /// Samples sealed.
    pub sealed_samples: u64,
    /// Bytes of the columns they became.
    pub sealed_bytes: u64,
    /// Pages of rollups made, or made again.
    pub rollup_pages: u64,
    /// Bytes of these.
    pub rollup_bytes: u64,
    /// Attempts to seal that failed.
    pub seal_failures: u64,
    /// Rows that no longer read back, counted each time they are met.
    pub damaged: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}
