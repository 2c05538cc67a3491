//! Stores requests: as many as wait become one transaction. While it commits, more come: groups form by
//! themselves.
//!
//! A request that is refused leaves no trace in its group. When the database refuses a transaction, what
//! can be tried again is tried again, and what only one request can be at fault for is tried with each
//! alone. A transaction of which nobody knows whether it was committed is answered as failed: what the
//! agent sends again then is compared with what is stored.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::{Object, Pool};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_postgres::error::SqlState;
use wire::AgentId;

use super::{
    apply::{Applying, Batch, Failed, Requested},
    change::Change,
    connect::{database, get},
    counters::Counters,
    days::Days,
    flush,
    state::{self, AgentState, Known, text, uuid_of},
};
use crate::store::{
    BoxFuture, IngestError, Ingested, StoreError,
    incoming::{What, plan},
};

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

/// A request that waits.
pub(crate) struct Job {
    /// What is to be stored.
    pub(crate) requested: Requested,
    /// Gets the answer.
    pub(crate) answer: oneshot::Sender<Result<Ingested, IngestError>>,
}

/// One of the writers: the requests of an agent always go to the same.
pub(crate) struct Writer {
    /// Connections for storing.
    pub(crate) pool: Pool,
    /// Which partitions there are.
    pub(crate) days: Arc<Days>,
    /// What it counts.
    pub(crate) counters: Arc<Counters>,
    /// Series stored of one agent.
    pub(crate) series_max: u64,
    /// What it remembers.
    pub(crate) known: Known,
    /// Whether the last group failed: said once, and once more when one is stored again.
    pub(crate) is_failing: bool,
}

/// Why a group isn't stored.
enum Fault {
    /// The database couldn't be reached, or not in time.
    Store(StoreError),
    /// It refused.
    Refused(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(error) => error.code(),
            Self::Store(_) => None,
        }
    }

    /// Two hubs waited for each other, or a partition was dropped meanwhile.
    fn may_go_by(&self) -> bool {
        let codes = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::CHECK_VIOLATION,
            SqlState::UNDEFINED_TABLE,
        ];
        self.code().is_some_and(|code| codes.contains(code))
    }

    /// What is sent is at fault, not how the database is: data, constraints, limits of a row.
    fn is_by_content(&self) -> bool {
        let class = self.code().and_then(|code| code.code().get(..2));
        class.is_some_and(|class| ["22", "23", "54"].contains(&class))
    }

    fn into_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Refused(error) => database("store requests")(error),
        }
    }
}

type Results = Vec<Result<Ingested, IngestError>>;

impl Writer {
    /// Stores what comes, until nothing can come any more.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut samples = first.requested.incoming.samples();
            let mut group = vec![first];
            while samples < GROUP_SAMPLES_MAX && group.len() < GROUP_REQUESTS_MAX {
                let Ok(next) = jobs.try_recv() else { break };
                samples = samples.saturating_add(next.requested.incoming.samples());
                group.push(next);
            }
            self.counters.queued.sub(group.len() as u64);
            self.group(group).await;
        }
    }

    async fn group(&mut self, group: Vec<Job>) {
        match self.try_group(&group).await {
            Ok(results) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the store commits again");
                }
                answer(group, results);
            }
            Err(fault) if fault.is_by_content() && group.len() > 1 => {
                for job in group {
                    let alone = std::slice::from_ref(&job);
                    let result = self.try_group(alone).await;
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
    fn failed(&mut self, requests: usize, fault: Fault) -> Results {
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

    async fn try_group(&mut self, group: &[Job]) -> Result<Results, Fault> {
        let mut tries = 1;
        loop {
            match self.store(group).await {
                Err(fault) if tries < TRIES && fault.may_go_by() => {
                    self.days.forget();
                    tries += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn store(&mut self, group: &[Job]) -> Result<Results, Fault> {
        let times = group.iter().flat_map(|job| {
            let incoming = &job.requested.incoming;
            incoming.records.iter().filter_map(|record| match record.what {
                What::Tick { time_ms, .. } => Some((time_ms, incoming.received_ms)),
                What::Gap(_) => None,
            })
        });
        let started = Instant::now();
        let pool = self.pool.clone();
        let times: Vec<(i64, i64)> = times.collect();
        self.days.ensure(&pool, &times).await?;
        let mut client = get(&pool).await?;
        let stored = timeout(GROUP_TIME_MAX, self.transact(&mut client, group)).await;
        self.counters.commits.add(started.elapsed());
        let stored = stored.unwrap_or_else(|_| {
            Err(Fault::Store(StoreError::Database {
                operation: "store requests",
                source: "the database did not answer in time".into(),
            }))
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
        group: &'a [Job],
    ) -> BoxFuture<'a, Result<Results, Fault>> {
        Box::pin(self.transact_now(client, group))
    }

    async fn transact_now(&mut self, client: &mut Object, group: &[Job]) -> Result<Results, Fault> {
        let transaction = Change::begin(client).await?;
        let mut agents = self.lock_agents(&transaction, group).await?;
        let (mut results, mut batch) = (Vec::with_capacity(group.len()), Batch::default());
        for job in group {
            let result = self.apply(&transaction, job, &mut agents, &mut batch).await;
            results.push(match result {
                Ok(ingested) => Ok(ingested),
                Err(Failed::Refused(error)) => Err(error),
                Err(Failed::Database(error)) => return Err(error.into()),
            });
        }
        let changed: Vec<&AgentState> = agents.values().filter(|agent| agent.is_changed).collect();
        flush::flush(&transaction, &changed, &batch).await?;
        transaction.commit().await?;
        self.counters.count(&batch);
        for (agent, mut state) in agents {
            if state.is_changed {
                state.changed += 1;
                state.is_changed = false;
                state.touched.clear();
            }
            self.known.put(agent, state);
        }
        Ok(results)
    }

    /// Locks the agents of a group that there are, and reads what isn't remembered of them.
    async fn lock_agents(
        &mut self,
        transaction: &Change<'_>,
        group: &[Job],
    ) -> Result<HashMap<AgentId, AgentState>, tokio_postgres::Error> {
        let ids = group.iter().map(|job| job.requested.incoming.header.agent_id);
        let ids: Vec<AgentId> = ids.collect::<BTreeSet<_>>().into_iter().collect();
        let (mut agents, mut unknown) = (HashMap::new(), Vec::new());
        for row in state::lock(transaction, &ids).await? {
            match self.known.take(row.agent, row.changed) {
                Some(state) => drop(agents.insert(row.agent, state)),
                None => unknown.push(row),
            }
        }
        if !unknown.is_empty() {
            for (agent, state) in state::load(transaction, &unknown).await? {
                // Another hub may have stored something a moment ago: what comes now may be older.
                let numbers = group.iter().map(|job| &job.requested.incoming);
                let numbers = numbers.filter(|incoming| incoming.header.agent_id == agent);
                numbers.for_each(|incoming| self.known.note_came(agent, incoming.number));
                agents.insert(agent, state);
            }
        }
        Ok(agents)
    }

    async fn apply(
        &mut self,
        transaction: &Change<'_>,
        job: &Job,
        agents: &mut HashMap<AgentId, AgentState>,
        batch: &mut Batch,
    ) -> Result<Ingested, Failed> {
        let incoming = &job.requested.incoming;
        let agent = incoming.header.agent_id;
        let mut state = match agents.get(&agent) {
            Some(state) => state.clone(),
            None => {
                // What can never be stored doesn't make an agent known.
                plan(incoming, None, |_| None)?;
                insert_agent(transaction, job).await?
            }
        };
        let applying = Applying {
            transaction,
            requested: &job.requested,
            is_fresh: self.known.is_fresh(agent, incoming.after),
            series_max: self.series_max,
        };
        let applied = applying.apply(&mut state, batch).await;
        if let Ok(Ingested { records: 1.., .. }) = &applied {
            self.known.note_came(agent, incoming.number);
        }
        if applied.is_ok() {
            agents.insert(agent, state);
        }
        applied
    }
}

/// Adds an agent, and locks it; or finds the one that another hub has added meanwhile.
async fn insert_agent(transaction: &Change<'_>, job: &Job) -> Result<AgentState, Failed> {
    let header = &job.requested.incoming.header;
    let (hostname, version) = (text(&header.hostname), text(&header.agent_version));
    let insert = "INSERT INTO agents (uuid, hostname, version, first_seen_ms, last_seen_ms, series, \
                  changed) VALUES ($1, $2, $3, $4, $4, 0, 0) ON CONFLICT (uuid) DO NOTHING";
    let (uuid, now_ms) = (uuid_of(header.agent_id.as_bytes()), job.requested.incoming.received_ms);
    transaction.execute(insert, &[&uuid, &hostname, &version, &now_ms]).await?;
    let rows = state::lock(transaction, &[header.agent_id]).await?;
    let mut found = state::load(transaction, &rows).await?;
    let gone = || IngestError::Busy("this agent was forgotten just when it came");
    Ok(found.remove(&header.agent_id).ok_or_else(gone)?)
}

fn answer(group: Vec<Job>, results: Results) {
    for (job, result) in group.into_iter().zip(results) {
        // Whoever asked may have gone away; what is stored stands all the same.
        let _ = job.answer.send(result);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
