//! Stores requests: as many as wait become one transaction. While it commits, more come: groups form by
//! themselves.
//!
//! A request that is refused leaves no trace in its group. When the database refuses a transaction, what
//! can be tried again is tried again, and what only one request can be at fault for is tried with each
//! alone. A transaction of which nobody knows whether it was committed is answered as failed: what comes
//! again then is compared with what is stored.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::{Object, Pool};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use wire::AgentId;

use super::{
    apply::Batch,
    change::Change,
    connect::{get, give_up_unused, silent, within},
    counters::Counters,
    days::{self, Days},
    fault::{Fault, chain},
    flush,
    state::{AgentState, Known},
};
use crate::store::{BoxFuture, IngestError, StoreError};

/// Samples in one transaction.
const GROUP_SAMPLES_MAX: usize = 50_000;
/// Requests in one transaction.
const GROUP_REQUESTS_MAX: usize = 1_000;
/// Requests that may wait for one writer.
pub(crate) const QUEUE_MAX: usize = 4_096;
/// A transaction that takes longer has lost its database.
const GROUP_TIME_MAX: Duration = Duration::from_secs(30);
/// How often a transaction is tried that the database has broken off for reasons of its own.
const TRIES: usize = 3;

/// What requests of one kind bring, and how it is decided what becomes of it.
pub(crate) trait Work: Send + 'static {
    /// What one brings. It may be applied more than once, if a transaction has to be begun again.
    type Request: Send + Sync + 'static;
    /// What it is answered.
    type Answer: Send + 'static;

    /// Samples in it.
    fn samples(request: &Self::Request) -> usize;

    /// The times of its samples, each with when it came; no time has to be there twice.
    fn times(request: &Self::Request) -> Vec<(i64, i64)>;

    /// Locks the agents of a group, and decides what becomes of its requests. Most of what they bring is
    /// left in the batch.
    fn apply<'a>(
        &'a mut self,
        transaction: &'a Change<'a>,
        requests: &'a [&'a Self::Request],
        known: &'a mut Known,
    ) -> BoxFuture<'a, Result<Applied<Self::Answer>, tokio_postgres::Error>>;

    /// What the latest [`Work::apply`] has decided isn't stored.
    fn rolled_back(&mut self) {}
}

/// What becomes of a group.
pub(crate) struct Applied<A> {
    /// An answer for each request.
    pub(crate) answers: Vec<Result<A, IngestError>>,
    /// Its agents, locked, as they are when it is committed.
    pub(crate) agents: HashMap<AgentId, AgentState>,
    /// What is to be written.
    pub(crate) batch: Batch,
}

/// A request that waits.
pub(crate) struct Job<W: Work> {
    /// What is to be stored.
    pub(crate) request: W::Request,
    /// Gets the answer.
    pub(crate) answer: oneshot::Sender<Result<W::Answer, IngestError>>,
}

/// One of the writers: the requests of an agent always go to the same.
pub(crate) struct Writer<W> {
    /// What it stores.
    pub(crate) work: W,
    /// Connections for storing.
    pub(crate) pool: Pool,
    /// Which partitions there are.
    pub(crate) days: Arc<Days>,
    /// What it counts.
    pub(crate) counters: Arc<Counters>,
    /// What it remembers.
    pub(crate) known: Known,
    /// Whether the last group failed: said once, and once more when one is stored again.
    pub(crate) is_failing: bool,
}

type Results<W> = Vec<Result<<W as Work>::Answer, IngestError>>;

impl<W: Work> Writer<W> {
    /// Stores what comes, until nothing can come any more.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job<W>>) {
        while let Some(first) = jobs.recv().await {
            let mut samples = W::samples(&first.request);
            let mut group = vec![first];
            while samples < GROUP_SAMPLES_MAX && group.len() < GROUP_REQUESTS_MAX {
                let Ok(next) = jobs.try_recv() else { break };
                samples = samples.saturating_add(W::samples(&next.request));
                group.push(next);
            }
            self.counters.queued.sub(group.len() as u64);
            self.group(group).await;
        }
    }

    async fn group(&mut self, group: Vec<Job<W>>) {
        let requests: Vec<&W::Request> = group.iter().map(|job| &job.request).collect();
        match self.try_group(&requests).await {
            Ok(results) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the store commits again");
                }
                answer(group, results);
            }
            Err(fault) if fault.is_by_content() && group.len() > 1 => {
                for job in group {
                    let result = self.try_group(&[&job.request]).await;
                    let result = result.unwrap_or_else(|fault| self.failed(1, fault));
                    answer(vec![job], result);
                }
            }
            Err(fault) => {
                let results = self.failed(group.len(), fault);
                answer(group, results);
            }
        }
    }

    /// The answers of requests that aren't stored.
    fn failed(&mut self, requests: usize, fault: Fault) -> Results<W> {
        let error = fault.into_error();
        self.counters.failures.add(1);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                requests,
                "store could not commit; agents keep what they sent and come again"
            );
        }
        if let StoreError::Closed = error {
            return (0..requests).map(|_| Err(StoreError::Closed.into())).collect();
        }
        let reason = chain(&error);
        let failed = |_| {
            let source = reason.clone().into();
            Err(StoreError::Database { operation: "store requests", source }.into())
        };
        (0..requests).map(failed).collect()
    }

    async fn try_group(&mut self, group: &[&W::Request]) -> Result<Results<W>, Fault> {
        let mut tries = 1;
        loop {
            let stored = self.store(group).await;
            if stored.is_err() {
                self.work.rolled_back();
            }
            match stored {
                Err(fault) if tries < TRIES && fault.may_go_by() => {
                    self.days.forget();
                    tries += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn store(&mut self, group: &[&W::Request]) -> Result<Results<W>, Fault> {
        let started = Instant::now();
        let pool = self.pool.clone();
        let times: Vec<(i64, i64)> = group.iter().flat_map(|request| W::times(request)).collect();
        let days = self.days.ensure(&pool, &times);
        within(&pool, GROUP_TIME_MAX, "make partitions for a day", days).await?;
        let mut client = get(&pool).await?;
        let stored = timeout(GROUP_TIME_MAX, self.transact(&mut client, group)).await;
        self.counters.commits.add(started.elapsed());
        let stored = stored.unwrap_or_else(|_| {
            give_up_unused(&pool);
            Err(Fault::Store(silent("store requests")))
        });
        if stored.is_err() {
            // Whatever it is at: it is broken off with its connection. And it may be one to a server that
            // isn't the first any more.
            drop(Object::take(client));
        }
        stored
    }

    /// One transaction. In a box: what it holds while it waits is too much for the compiler to look through.
    fn transact<'a>(
        &'a mut self,
        client: &'a mut Object,
        group: &'a [&'a W::Request],
    ) -> BoxFuture<'a, Result<Results<W>, Fault>> {
        Box::pin(self.transact_now(client, group))
    }

    async fn transact_now(
        &mut self,
        client: &mut Object,
        group: &[&W::Request],
    ) -> Result<Results<W>, Fault> {
        let transaction = Change::begin(client).await?;
        let dropped_before = transaction.hold_dropped().await?;
        self.days.note_dropped(dropped_before);
        self.counters.note_dropped(dropped_before);
        let applied = self.work.apply(&transaction, group, &mut self.known).await?;
        let Applied { answers, mut agents, mut batch } = applied;
        note_ticks(&mut agents, &mut batch, dropped_before);
        let changed: Vec<&AgentState> = agents.values().filter(|agent| agent.is_changed).collect();
        flush::flush(&transaction, &changed, &batch).await?;
        transaction.commit().await?;
        self.counters.count(&batch);
        for (agent, mut state) in agents {
            state.committed();
            self.known.put(agent, state);
        }
        Ok(answers)
    }
}

/// Notes which days have got samples that are in no page of rollups, and what comes for days whose samples have
/// been dropped: there are no partitions for it.
fn note_ticks(agents: &mut HashMap<AgentId, AgentState>, batch: &mut Batch, dropped_before: i64) {
    let mut times = HashMap::<i64, Vec<i64>>::new();
    for tick in &mut batch.ticks {
        tick.is_stray |= days::day_of(tick.at) < dropped_before;
        times.entry(tick.stream).or_default().push(tick.at);
    }
    for agent in agents.values_mut() {
        agent.note_samples(&times);
    }
}

fn answer<W: Work>(group: Vec<Job<W>>, results: Results<W>) {
    for (job, result) in group.into_iter().zip(results) {
        // Whoever asked may have gone away; what is stored stands all the same.
        let _ = job.answer.send(result);
    }
}
