//! The store in one directory: SQLite, samples as compressed columns.
//!
//! ```text
//! request ─▶ writer ─▶ head: bodies as they came ─▶ sealer ─▶ blocks: columns of a group of series
//!              │  one transaction: head row, stream's acked_seq, gaps, new series
//!              └─ answers after the commit
//! ```
//!
//! - `database`: the file, its tables, its version. `lock`: one hub a directory.
//! - `writer`: the one thread that writes, in groups. `apply`: what a request changes.
//! - `catalog`: what the writer remembers. What of a request is new, and who may send it, is said above:
//!   `store/incoming.rs`, `store/admission.rs`.
//! - `write`: what a remote write changes; `targets`, `held`, `written`: whose it is, what is there already,
//!   how it lies in the head.
//! - `registry`, `schemas`: which series and schemas there are. `ledger`: what is missing.
//! - `head`, `seal`, `sealed`, `columns`: from records to columns.
//! - `pages`: rollups, kept. `rollups`: rollups as they are asked for.
//! - `view`, `readers`, `find`, `select`, `read`: queries, each in a read transaction of its own. `head_cache`:
//!   what of the head they have unpacked.
//! - `house`, `retain`: what goes when it is old. `inspect`: the store as it lies there, for drills.
//! - `backup`, `doctor`: for whoever runs a hub.
//!
//! Why it is built this way, and what was measured: `docs/decisions/0005-embedded-store.md`.

mod apply;
pub mod backup;
mod catalog;
mod database;
pub mod doctor;
mod find;
mod head;
mod head_cache;
mod held;
mod house;
pub mod inspect;
mod ledger;
mod lock;
mod pages;
mod read;
mod readers;
mod registry;
mod retain;
mod rollups;
mod schemas;
mod seal;
mod sealed;
mod select;
mod stats;
mod sums;
mod targets;
mod view;
mod write;
mod writer;
mod written;

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
    thread::JoinHandle,
};

use rusqlite::{Connection, params};
use wire::Family;

use self::{
    database::database,
    head_cache::HeadCache,
    lock::DirectoryLock,
    pages::Patience,
    readers::Readers,
    seal::{SealQueue, Sealer},
    stats::{Counters, Tally},
    view::View,
    write::Prepared,
    writer::{NotQueued, Writer, Writing},
};
use super::{
    Agent, BoxFuture, GapEntry, GapFilter, IngestBatch, IngestError, Ingested, ReadRequest, Reader,
    Retention, RollupRequest, Rollups, Samples, Seen, Selector, Series, Store, StoreError,
    StoreStats, WriteBatch, Written, columns, incoming::Incoming,
};

/// Readers at one time beside queries: rules are evaluated one after the other, and so is housekeeping.
const READERS_APART: usize = 2;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it lies; made if it isn't there.
    pub directory: PathBuf,
    /// Series stored of one agent; samples of more are counted and not stored.
    pub series_per_agent: u64,
    /// Queries at one time.
    pub readers: usize,
}

impl Options {
    /// Defaults for a directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), series_per_agent: 100_000, readers: 4 }
    }
}

/// See the module's opening.
pub struct Embedded {
    directory: PathBuf,
    series_per_agent: u64,
    counters: Arc<Counters>,
    queries: View,
    /// For rules and housekeeping.
    apart: Arc<View>,
    seals: Arc<SealQueue>,
    patience: Mutex<Patience>,
    /// Unix milliseconds when texts are to be looked at next.
    texts_due_ms: AtomicI64,
    running: Mutex<Option<Running>>,
}

/// What ends when the store is closed.
struct Running {
    writer: Writer,
    threads: Vec<JoinHandle<()>>,
    _lock: DirectoryLock,
}

impl Embedded {
    /// Opens the store, and begins to seal what was left to be sealed.
    ///
    /// # Errors
    /// [`StoreError`]: the directory is another hub's, or of a newer one, or not to be used.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let directory = options.directory.clone();
        make_directory(&directory)?;
        let lock = DirectoryLock::take(&directory)?;
        let connection = database::open_writer(&directory)?;
        let counters = Arc::new(Counters::default());
        counters.count(&tally(&connection).map_err(database("count what is there"))?);
        let seals = Arc::new(SealQueue::default());
        seals.add(retain::due(&connection, i64::MIN).map_err(database("look for what is due"))?);
        let spawned = |source| StoreError::Io {
            operation: "start thread for",
            path: directory.clone(),
            source,
        };
        let (writer, writing) =
            Writer::start(connection, Arc::clone(&counters), Arc::clone(&seals))
                .map_err(spawned)?;
        let sealing = Sealer::start(
            database::open_reader(&directory)?,
            writer.clone(),
            Arc::clone(&counters),
            Arc::clone(&seals),
        );
        let threads = vec![sealing.map_err(spawned)?, writing];
        let cache = Arc::<HeadCache>::default();
        let view = |most| View {
            cache: Arc::clone(&cache),
            readers: Arc::new(Readers::new(&directory, most)),
            counters: Arc::clone(&counters),
        };
        Ok(Self {
            queries: view(options.readers),
            apart: Arc::new(view(READERS_APART)),
            directory,
            series_per_agent: options.series_per_agent,
            counters,
            seals,
            patience: Mutex::default(),
            texts_due_ms: AtomicI64::new(i64::MIN),
            running: Mutex::new(Some(Running { writer, threads, _lock: lock })),
        })
    }

    /// Brings a store that no hub runs on up to date. Returns the format it had, and the one it has.
    ///
    /// # Errors
    /// [`StoreError`]: there is none, or it is a newer hub's, or in use.
    pub fn migrate(directory: &Path) -> Result<(i32, i32), StoreError> {
        database::found(directory)?;
        let _lock = DirectoryLock::take(directory)?;
        database::migrate(directory)
    }

    fn writer(&self) -> Result<Writer, StoreError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(|running| running.writer.clone()).ok_or(StoreError::Closed)
    }

    /// A change that isn't a request.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = self.writer()?.queue(0, change).map_err(|refused| match refused {
            NotQueued::Closed => StoreError::Closed,
            NotQueued::Full => StoreError::Database {
                operation: "write",
                source: "too many changes wait to be written".into(),
            },
        })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn ingest_batch(&self, batch: IngestBatch) -> Result<Ingested, IngestError> {
        let incoming = Incoming::from(batch);
        let series_max = self.series_per_agent;
        let samples = incoming.samples();
        let change = move |writing: &mut Writing<'_>| apply::apply(writing, &incoming, series_max);
        self.queue(samples, change).await
    }

    async fn write_batch(&self, batch: Arc<WriteBatch>) -> Result<Written, IngestError> {
        let prepared = Prepared::from(batch);
        let (samples, series_max) = (prepared.samples(), self.series_per_agent);
        let change = move |writing: &mut Writing<'_>| write::apply(writing, &prepared, series_max);
        self.queue(samples, change).await
    }

    /// Queues what came from outside, and waits for what becomes of it.
    async fn queue<T: Send + 'static>(
        &self,
        samples: usize,
        change: impl FnOnce(&mut Writing<'_>) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<T, IngestError> {
        let answer = self.writer()?.queue(samples, change).map_err(|refused| match refused {
            NotQueued::Closed => StoreError::Closed.into(),
            NotQueued::Full => IngestError::Busy("too many requests wait to be written"),
        })?;
        answer.await.unwrap_or(Err(StoreError::Closed.into()))
    }

    /// Takes out what ends; no call succeeds from then on.
    fn stop(&self) -> Option<Running> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.seals.close();
        self.queries.readers.close();
        self.apart.readers.close();
        running
    }
}

impl Running {
    /// Blocks until what is queued is committed.
    fn end(self) {
        let Self { writer, threads, _lock } = self;
        drop(writer);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(running) = self.stop() {
            running.end();
        }
    }
}

impl Reader for Embedded {
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

    fn label_names(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.queries.label_names(selector)
    }

    fn label_values(
        &self,
        name: String,
        selector: Selector,
    ) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.queries.label_values(name, selector)
    }

    fn families(&self) -> BoxFuture<'_, Result<Vec<Family>, StoreError>> {
        self.queries.families()
    }
}

impl Store for Embedded {
    fn apart(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.apart) as _
    }

    fn ingest(&self, batch: IngestBatch) -> BoxFuture<'_, Result<Ingested, IngestError>> {
        Box::pin(self.ingest_batch(batch))
    }

    fn write(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<Written, IngestError>> {
        Box::pin(self.write_batch(batch))
    }

    fn note_seen(&self, seen: Vec<Seen>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(move |writing| {
            note_seen(writing.connection, &seen).map_err(database("note who was seen"))
        }))
    }

    fn agents(&self) -> BoxFuture<'_, Result<Vec<Agent>, StoreError>> {
        Box::pin(
            self.queries
                .readers
                .with(|connection| select::agents(connection).map_err(database("read agents"))),
        )
    }

    fn gaps(&self, filter: GapFilter) -> BoxFuture<'_, Result<Vec<GapEntry>, StoreError>> {
        Box::pin(self.queries.readers.with(move |connection| {
            select::gaps(connection, &filter).map_err(database("read gaps"))
        }))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(|writing| {
            let written = writing.connection.execute("UPDATE checks SET count = count + 1", []);
            written.map(|_| ()).map_err(database("write"))
        }))
    }

    fn maintain(&self, now_ms: i64, keep: Retention) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.maintain_now(now_ms, keep))
    }

    fn stats(&self) -> StoreStats {
        self.counters.read(self.seals.waiting(), disk_bytes(&self.directory))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let running = self.stop();
        Box::pin(async move {
            let ended = running.map(|running| tokio::task::spawn_blocking(|| running.end()));
            if let Some(ended) = ended {
                // It logs what goes wrong itself.
                let _ = ended.await;
            }
        })
    }
}

/// Makes the directory, and the entry of it in its parent, last.
fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let io = |operation, source| StoreError::Io { operation, path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(|source| io("create data directory", source))?;
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let synced = File::open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all());
    synced.map_err(|source| io("sync the parent of", source))
}

fn tally(connection: &Connection) -> rusqlite::Result<Tally> {
    let count = |sql: &str| connection.query_row(sql, [], |row| catalog::unsigned(row, 0));
    let targets = count("SELECT count(*) FROM targets")?;
    let dropped = "SELECT max(dropped_ms) FROM groups";
    Ok(Tally {
        dropped_ms: connection.query_row(dropped, [], |row| row.get(0))?,
        agents: count("SELECT count(*) FROM agents")? - targets,
        targets,
        series: count("SELECT coalesce(sum(series), 0) FROM agents")?,
        samples: count("SELECT coalesce(sum(head_samples), 0) FROM streams")?,
        ..Tally::default()
    })
}

fn note_seen(connection: &Connection, seen: &[Seen]) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE agents SET last_seen_ms = ?2 WHERE uuid = ?1 AND last_seen_ms < ?2",
    )?;
    seen.iter().try_for_each(|seen| {
        update.execute(params![seen.agent_id.as_bytes().as_slice(), seen.at_ms]).map(|_| ())
    })
}

fn disk_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
