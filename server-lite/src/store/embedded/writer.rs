//! The one thread that writes.
//!
//! It takes what is queued, as much as fits in one transaction, commits, and only then answers. An
//! idle writer commits at once; while it commits, more is queued: groups form by themselves. A
//! change that fails is rolled back alone; the others of its group are not touched by it.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    catalog::Catalog,
    seal::SealQueue,
    stats::{Counters, Tally},
};
use crate::store::StoreError;

/// Samples in one transaction.
const GROUP_SAMPLES_MAX: usize = 50_000;
/// Time spent filling one transaction.
const GROUP_TIME_MAX: Duration = Duration::from_millis(50);
/// Changes that may wait.
const QUEUE_MAX: usize = 4_096;

/// What a change works on.
pub(crate) struct Writing<'a> {
    /// Inside the transaction.
    pub(crate) connection: &'a Connection,
    /// What is remembered of agents.
    pub(crate) catalog: &'a mut Catalog,
    /// What follows from it once it is committed.
    pub(crate) after: &'a mut AfterCommit,
}

/// What follows from changes once they are committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct AfterCommit {
    /// Rows of streams that are due to be sealed.
    pub(crate) due: Vec<i64>,
    /// To be added to the counters.
    pub(crate) tally: Tally,
}

/// Tells who waits what became of it: committed, or why not.
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;
/// Applies itself, if there is something to work on; gives the answer to be made, and whether the
/// change is to be kept.
type Change = Box<dyn FnOnce(Option<&mut Writing<'_>>) -> (Answer, bool) + Send>;

struct Queued {
    samples: usize,
    change: Change,
}

/// The queue of the writer.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: SyncSender<Queued>,
    counters: Arc<Counters>,
}

/// Why a change was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// Too many changes wait.
    Full,
    /// The writer has ended.
    Closed,
}

impl Writer {
    /// Starts the writer. It ends when every clone of the handle is gone and the queue is empty.
    pub(crate) fn start(
        connection: Connection,
        counters: Arc<Counters>,
        seals: Arc<SealQueue>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, queued) = sync_channel(QUEUE_MAX);
        let writer = Self { queue, counters: Arc::clone(&counters) };
        let mut thread =
            Thread { connection, catalog: Catalog::default(), queued, counters, seals };
        let handle =
            thread::Builder::new().name("store-writer".into()).spawn(move || thread.run())?;
        Ok((writer, handle))
    }

    /// Queues a change that weighs so many samples. What it returns comes out of the receiver once
    /// it is committed; what it fails with, once it is rolled back.
    pub(crate) fn queue<T, E>(
        &self,
        samples: usize,
        change: impl FnOnce(&mut Writing<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, E>>, NotQueued>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let change = move |writing: Option<&mut Writing<'_>>| {
            let result = writing.map(change);
            let keep = matches!(result, Some(Ok(_)));
            let answer = move |committed: Result<(), String>| {
                let committed = committed.map_err(|reason| {
                    E::from(StoreError::Database { operation: "commit", source: reason.into() })
                });
                let result = match (result, committed) {
                    // What the change itself says is nearer to the cause.
                    (Some(Err(error)), _) | (_, Err(error)) => Err(error),
                    (Some(Ok(value)), Ok(())) => Ok(value),
                    (None, Ok(())) => Err(StoreError::Closed.into()),
                };
                // Whoever asked may have gone away; the change stands all the same.
                let _ = sender.send(result);
            };
            (Box::new(answer) as Answer, keep)
        };
        let queued = Queued { samples, change: Box::new(change) };
        self.counters.queued.add(1);
        self.queue.try_send(queued).map(|()| receiver).map_err(|error| {
            self.counters.queued.sub(1);
            match error {
                TrySendError::Full(_) => NotQueued::Full,
                TrySendError::Disconnected(_) => NotQueued::Closed,
            }
        })
    }
}

/// The changes of one transaction.
#[derive(Default)]
struct Group {
    answers: Vec<Answer>,
    after: AfterCommit,
}

struct Thread {
    connection: Connection,
    catalog: Catalog,
    queued: Receiver<Queued>,
    counters: Arc<Counters>,
    seals: Arc<SealQueue>,
}

impl Thread {
    fn run(&mut self) {
        while let Ok(first) = self.queued.recv() {
            self.group(first);
        }
        // Copies the log into the database, so that what is left behind is one file.
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "final checkpoint of the store failed; nothing is lost by it");
        }
    }

    /// One transaction: the first change and what is queued behind it.
    fn group(&mut self, first: Queued) {
        let started = Instant::now();
        let mut group = Group::default();
        let outcome = self.connection.execute_batch("BEGIN IMMEDIATE");
        let outcome = match outcome {
            Ok(()) => self.fill(first, &mut group, started).and_then(|()| self.commit()),
            Err(error) => {
                self.counters.queued.sub(1);
                group.answers.push((first.change)(None).0);
                Err(error)
            }
        };
        if outcome.is_err() {
            self.roll_back();
        }
        self.counters.commits.add(started.elapsed());
        self.answer(group, outcome.map_err(|error| error.to_string()));
    }

    fn answer(&self, group: Group, outcome: Result<(), String>) {
        match &outcome {
            Ok(()) => {
                self.counters.count(&group.after.tally);
                self.seals.add(group.after.due);
            }
            Err(error) => {
                let changes = group.answers.len();
                self.counters.failures.add(1);
                tracing::error!(error, changes, "store could not commit");
            }
        }
        for answer in group.answers {
            answer(outcome.clone());
        }
    }

    fn commit(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch("COMMIT")?;
        self.catalog.commit();
        Ok(())
    }

    fn fill(&mut self, first: Queued, group: &mut Group, started: Instant) -> rusqlite::Result<()> {
        let mut samples = first.samples;
        self.apply(first, group)?;
        while samples < GROUP_SAMPLES_MAX && started.elapsed() < GROUP_TIME_MAX {
            let Ok(next) = self.queued.try_recv() else { break };
            samples += next.samples;
            self.apply(next, group)?;
        }
        Ok(())
    }

    /// Applies a change inside a savepoint of its own. Fails when the savepoint does: then nothing
    /// is known of the transaction any more.
    fn apply(&mut self, queued: Queued, group: &mut Group) -> rusqlite::Result<()> {
        self.counters.queued.sub(1);
        self.catalog.begin_job();
        let before = group.after.clone();
        let begun = self.savepoint("SAVEPOINT change");
        let mut writing = Writing {
            connection: &self.connection,
            catalog: &mut self.catalog,
            after: &mut group.after,
        };
        let (answer, keep) = (queued.change)(begun.is_ok().then_some(&mut writing));
        group.answers.push(answer);
        begun?;
        if keep {
            return self.savepoint("RELEASE change");
        }
        self.catalog.roll_back_job();
        group.after = before;
        self.savepoint("ROLLBACK TO change")?;
        self.savepoint("RELEASE change")
    }

    fn savepoint(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(|_| ())
    }

    fn roll_back(&mut self) {
        self.catalog.roll_back();
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "store could not roll back");
        }
    }
}
