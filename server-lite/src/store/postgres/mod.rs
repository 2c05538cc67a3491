//! The store in PostgreSQL, with TimescaleDB where it is there and its licence allows it.
//!
//! ```text
//! request ─▶ writer of its agent ─▶ one transaction a group: agents locked, acked_seq, ledger, series,
//!                                   ticks and samples by COPY ─▶ answers after the commit
//! ```
//!
//! Several hubs may share one database. What makes that right is the row of the agent: whoever stores
//! something of it locks that row, and what a hub remembers holds only while the row's count of changes is
//! the same. One hub leads: it keeps house.
//!
//! - `address`, `tls`, `connect`: where the database is, and what kind it is. `migrate`: its tables.
//! - `writer`: groups of requests. `records`, `apply`: what an agent's change. `flush`: how it is written.
//!   `fault`: why it isn't. `state`: what is remembered of agents. `series`, `schemas`, `sums`, `ledger`:
//!   parts of that. `days`: partitions.
//! - `written`: what a remote write changes. `targets`, `resolve`, `held`, `families`: whose it is, which
//!   series, what is there already, what is said of metrics.
//! - `view`, `read`, `select`, `stored`: queries. `pages`: rollups, kept. `rollups`: rollups as they are asked for.
//! - `retain`: what goes when it is old. `leader`: which hub does that, and makes rollups.
//! - `shared`: for what else hubs keep in it: states of alerts (`rules/alert_store`).
//! - `doctor`: for whoever runs a hub.
//! - `inspect`: the store as it lies there, for drills.
//!
//! A database that goes away fails what is under way, and no more: every call asks for a connection anew. One
//! that says nothing is waited for so long, and no longer: see `connect::within`.

mod address;
mod apply;
mod change;
mod connect;
mod counters;
mod days;
mod doctor;
mod families;
mod fault;
mod flush;
mod held;
pub mod inspect;
mod leader;
mod ledger;
mod migrate;
mod pages;
mod read;
mod records;
mod resolve;
mod retain;
mod rollups;
mod schemas;
mod select;
mod series;
mod shared;
mod state;
mod stored;
mod sums;
mod targets;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod view;
mod writer;
mod written;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use deadpool_postgres::Pool;
use settings::Secret;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use wire::Family;

use self::{
    connect::{ANSWER_TIME_MAX, Purpose, Server, database, get, pool, within},
    counters::Counters,
    days::Days,
    families::Families,
    leader::Leader,
    migrate::{Layout, Migrated},
    records::Records,
    retain::House,
    state::Known,
    view::View,
    writer::{Job, QUEUE_MAX, Work, Writer},
    written::Writes,
};
pub use self::{doctor::examine, shared::Shared};
use super::{
    Agent, BoxFuture, GapEntry, GapFilter, IngestBatch, IngestError, Ingested, ReadRequest, Reader,
    Retention, RollupRequest, Rollups, Samples, Seen, Selector, Series, Store, StoreError,
    StoreStats, WriteBatch, Written,
};

/// Readers at one time beside queries: rules are evaluated one after the other.
const READERS_APART: usize = 2;
/// Connections for housekeeping and small changes.
const BESIDE: usize = 2;
/// Connections for what else is kept here.
const SHARED: usize = 2;
/// Whoever asks whether a write commits is told within this.
const CHECK_TIME_MAX: Duration = Duration::from_secs(10);
/// Housekeeping that takes longer has lost its database.
const KEEP_TIME_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// How a database is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is: `postgres://user@host/database`.
    pub url: Secret,
    /// Series stored of one agent; samples of more are counted and not stored.
    pub series_per_agent: u64,
    /// Queries at one time.
    pub readers: usize,
    /// Transactions at one time that store requests.
    pub writers: usize,
}

impl Options {
    /// Defaults for a database.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: Secret::new(url), series_per_agent: 100_000, readers: 4, writers: 2 }
    }
}

/// What is wrong with the address of a database, if anything is.
///
/// # Errors
/// What was found and what would be right; never its password.
pub fn check_url(url: &str) -> Result<(), String> {
    address::read(url).map(|_| ())
}

/// Brings a database's tables up to date; says what was found and done.
///
/// # Errors
/// [`StoreError`]: it can't be reached or used, or its tables are of a newer hub.
pub async fn migrate(url: &str) -> Result<String, StoreError> {
    let address = address::read(url).map_err(unusable)?;
    let pool = pool(&address, Purpose::Keep, 1)?;
    let (server, Migrated { from, to, layout }) = prepare(&pool).await?;
    let layout = match layout {
        Layout::Partitions => "partitions by day",
        Layout::Hypertable => "a hypertable in columns",
    };
    let done = if from == to {
        format!("tables are up to date (version {to})")
    } else {
        format!("tables were brought from version {from} to {to}")
    };
    Ok(format!("PostgreSQL {}: {done}; samples lie in {layout}", server.version))
}

fn unusable(problem: String) -> StoreError {
    StoreError::Unusable(format!("database.url: {problem}"))
}

async fn prepare(pool: &Pool) -> Result<(Server, Migrated), StoreError> {
    let mut client = get(pool).await?;
    let server = Server::of(&client).await?;
    let migrated = migrate::migrate(&mut client, &server).await?;
    Ok((server, migrated))
}

/// See the module's opening.
pub struct Postgres {
    counters: Arc<Counters>,
    queries: View,
    /// For rules.
    apart: Arc<View>,
    /// For what isn't a request or a query.
    beside: Pool,
    write: Pool,
    lead: Pool,
    shared: Pool,
    house: House,
    running: Mutex<Option<Running>>,
}

/// What ends when the store is closed.
struct Running {
    queues: Vec<mpsc::Sender<Job<Records>>>,
    /// Of remote write: one request has series of many targets, so there is one writer for all.
    written: mpsc::Sender<Job<Writes>>,
    writers: Vec<JoinHandle<()>>,
    leader: JoinHandle<()>,
}

impl Postgres {
    /// Connects, and brings the tables up to date.
    ///
    /// # Errors
    /// [`StoreError`]: it can't be reached or used, or its tables are of a newer hub.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        let address = address::read(options.url.expose()).map_err(unusable)?;
        let beside = pool(&address, Purpose::Keep, BESIDE)?;
        let (server, migrated) = prepare(&beside).await?;
        say(&server, migrated);
        let counters = Arc::new(Counters::default());
        let days = Arc::new(Days::new(migrated.layout));
        let write = pool(&address, Purpose::Write, options.writers.max(1) + 2)?;
        let lead = pool(&address, Purpose::Write, 1)?;
        let mut leader = Leader::new(lead.clone(), Arc::clone(&counters));
        leader.round().await;
        let (mut queues, mut writers) = (Vec::new(), Vec::new());
        let begin = Begin { pool: &write, days: &days, counters: &counters };
        let series_max = options.series_per_agent;
        for _ in 0..options.writers.max(1) {
            let (queue, writer) = begin.writer(Records { series_max });
            queues.push(queue);
            writers.push(writer);
        }
        let (written, writer) = begin.writer(Writes { series_max, families: Families::default() });
        writers.push(writer);
        let leader = tokio::spawn(leader.run());
        let view = |readers| {
            let counters = Arc::clone(&counters);
            pool(&address, Purpose::Read, readers).map(|pool| View { pool, counters })
        };
        Ok(Self {
            queries: view(options.readers)?,
            apart: Arc::new(view(READERS_APART)?),
            house: House::new(migrated.layout),
            counters,
            beside,
            write,
            lead,
            shared: pool(&address, Purpose::Write, SHARED)?,
            running: Mutex::new(Some(Running { queues, written, writers, leader })),
        })
    }

    /// For what else is kept in the same database.
    #[must_use]
    pub fn shared(&self) -> Shared {
        Shared { pool: self.shared.clone(), counters: Arc::clone(&self.counters) }
    }

    fn queue(&self, batch: IngestBatch) -> Result<Waiting<Ingested>, IngestError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_ref().ok_or(StoreError::Closed)?;
        let agent = batch.request.header.agent_id;
        let hash = crc32c::crc32c(agent.as_bytes()) as usize;
        let queue = &running.queues[hash % running.queues.len()];
        self.put(queue, batch.into())
    }

    fn queue_written(&self, batch: Arc<WriteBatch>) -> Result<Waiting<Written>, IngestError> {
        let prepared = batch.into();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_ref().ok_or(StoreError::Closed)?;
        self.put(&running.written, prepared)
    }

    fn put<W: Work>(
        &self,
        queue: &mpsc::Sender<Job<W>>,
        request: W::Request,
    ) -> Result<Waiting<W::Answer>, IngestError> {
        let (answer, answered) = oneshot::channel();
        self.counters.queued.add(1);
        queue.try_send(Job { request, answer }).map_err(|refused| {
            self.counters.queued.sub(1);
            match refused {
                mpsc::error::TrySendError::Full(_) => {
                    IngestError::Busy("too many requests wait to be written")
                }
                mpsc::error::TrySendError::Closed(_) => StoreError::Closed.into(),
            }
        })?;
        Ok(answered)
    }

    /// Takes out what ends; no request is taken from then on.
    fn stop(&self) -> Option<Running> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        for pool in [&self.queries.pool, &self.apart.pool, &self.beside, &self.lead, &self.shared] {
            pool.close();
        }
        running.leader.abort();
        Some(running)
    }
}

type Waiting<A> = oneshot::Receiver<Result<A, IngestError>>;

/// What writers begin with.
struct Begin<'a> {
    pool: &'a Pool,
    days: &'a Arc<Days>,
    counters: &'a Arc<Counters>,
}

impl Begin<'_> {
    fn writer<W: Work>(&self, work: W) -> (mpsc::Sender<Job<W>>, JoinHandle<()>) {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            work,
            pool: self.pool.clone(),
            days: Arc::clone(self.days),
            counters: Arc::clone(self.counters),
            known: Known::default(),
            is_failing: false,
        };
        (queue, tokio::spawn(writer.run(jobs)))
    }
}

/// Which features of the database are used.
fn say(server: &Server, Migrated { from, to, layout }: Migrated) {
    let version = &server.version;
    let (timescale, licence) = server.timescale.clone().unwrap_or_default();
    if from != to {
        tracing::info!(from, to, "the database's tables were brought up to date");
    }
    match layout {
        Layout::Hypertable => tracing::info!(
            version,
            timescale,
            licence,
            "samples lie in a hypertable of TimescaleDB, in columns when their day is over"
        ),
        Layout::Partitions => {
            tracing::info!(version, "samples lie in PostgreSQL's own partitions by day");
        }
    }
    if layout == Layout::Partitions && server.has_columns() {
        tracing::info!(timescale, "TimescaleDB came after the tables were made, and is not used");
    } else if layout == Layout::Partitions && server.timescale.is_some() {
        tracing::info!(
            timescale,
            licence,
            "TimescaleDB is here, but not its columns (timescaledb.license, or it is older than 2.18): it is \
             not used"
        );
    } else if server.timescale.is_none() && server.could_have_timescale && from == 0 {
        tracing::info!(
            "TimescaleDB is installed on this server, but not in this database: with CREATE EXTENSION \
             timescaledb before the hub's first start, samples would take a fraction of the space"
        );
    }
    if !server.flushes {
        tracing::warn!("fsync is off on this server: a power cut loses what was acknowledged");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Without a runtime to wait in: what is queued is still stored if the runtime goes on.
        drop(self.stop());
    }
}

impl Reader for Postgres {
    fn series(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Series>, StoreError>> {
        self.queries.series(selector)
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<Samples, StoreError>> {
        self.queries.read(request)
    }

    fn rollups(&self, request: RollupRequest) -> BoxFuture<'_, Result<Rollups, StoreError>> {
        self.queries.rollups(request)
    }

    fn dropped_ms(&self) -> Option<i64> {
        self.queries.dropped_ms()
    }

    fn families(&self) -> BoxFuture<'_, Result<Vec<Family>, StoreError>> {
        self.queries.families()
    }
}

impl Store for Postgres {
    fn apart(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.apart) as _
    }

    fn ingest(&self, batch: IngestBatch) -> BoxFuture<'_, Result<Ingested, IngestError>> {
        Box::pin(async move {
            let answered = self.queue(batch)?;
            answered.await.unwrap_or(Err(StoreError::Closed.into()))
        })
    }

    fn write(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<Written, IngestError>> {
        Box::pin(async move {
            let answered = self.queue_written(batch)?;
            answered.await.unwrap_or(Err(StoreError::Closed.into()))
        })
    }

    fn note_seen(&self, seen: Vec<Seen>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let note = async { select::note_seen(&*get(&self.beside).await?, &seen).await };
            within(&self.beside, ANSWER_TIME_MAX, "note who was seen", note).await
        })
    }

    fn agents(&self) -> BoxFuture<'_, Result<Vec<Agent>, StoreError>> {
        Box::pin(async move {
            let pool = &self.queries.pool;
            let find = async { select::agents(&*get(pool).await?).await };
            within(pool, ANSWER_TIME_MAX, "read agents", find).await
        })
    }

    fn gaps(&self, filter: GapFilter) -> BoxFuture<'_, Result<Vec<GapEntry>, StoreError>> {
        Box::pin(async move {
            let pool = &self.queries.pool;
            let find = async { select::gaps(&*get(pool).await?, &filter).await };
            within(pool, ANSWER_TIME_MAX, "read gaps", find).await
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.running.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                return Err(StoreError::Closed);
            }
            let write = async {
                let client = get(&self.write).await?;
                let written = client.batch_execute("UPDATE checks SET count = count + 1").await;
                written.map_err(database("write"))
            };
            within(&self.write, CHECK_TIME_MAX, "write", write).await
        })
    }

    fn maintain(&self, now_ms: i64, keep: Retention) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if !self.is_leader() {
                return Ok(());
            }
            let keep = self.house.keep(&self.beside, &self.counters, now_ms, keep);
            within(&self.beside, KEEP_TIME_MAX, "keep house", keep).await
        })
    }

    fn is_leader(&self) -> bool {
        self.counters.leads.load(Relaxed)
    }

    fn stats(&self) -> StoreStats {
        self.counters.read()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let running = self.stop();
        Box::pin(async move {
            let Some(Running { queues, written, writers, leader: _ }) = running else { return };
            drop((queues, written));
            for writer in writers {
                if let Err(error) = writer.await {
                    tracing::error!(%error, "a writer of the store ended early");
                }
            }
            self.write.close();
        })
    }
}
