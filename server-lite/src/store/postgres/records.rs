//! What agents send: each request is decided on by itself, on what is remembered of its agent.

use std::collections::{BTreeSet, HashMap};

use wire::AgentId;

use super::{
    apply::{Applying, Batch, Failed, Requested},
    change::Change,
    state::{self, AgentState, Known, text, uuid_of},
    writer::{Applied, Work},
};
use crate::store::{
    BoxFuture, IngestError, Ingested,
    incoming::{What, plan},
};

/// See the module's opening.
pub(crate) struct Records {
    /// Series stored of one agent.
    pub(crate) series_max: u64,
}

impl Work for Records {
    type Request = Requested;
    type Answer = Ingested;

    fn samples(request: &Requested) -> usize {
        request.incoming.samples()
    }

    fn times(request: &Requested) -> Vec<(i64, i64)> {
        let incoming = &request.incoming;
        let time = |what: &What| match what {
            What::Tick { time_ms, .. } => Some((*time_ms, incoming.received_ms)),
            What::Gap(_) => None,
        };
        incoming.records.iter().filter_map(|record| time(&record.what)).collect()
    }

    fn apply<'a>(
        &'a mut self,
        transaction: &'a Change<'a>,
        requests: &'a [&'a Requested],
        known: &'a mut Known,
    ) -> BoxFuture<'a, Result<Applied<Ingested>, tokio_postgres::Error>> {
        let group = Group { transaction, requests, known, series_max: self.series_max };
        Box::pin(group.apply())
    }
}

/// Requests of one transaction.
struct Group<'a> {
    transaction: &'a Change<'a>,
    requests: &'a [&'a Requested],
    known: &'a mut Known,
    series_max: u64,
}

impl Group<'_> {
    async fn apply(mut self) -> Result<Applied<Ingested>, tokio_postgres::Error> {
        let mut agents = self.lock_agents().await?;
        let (mut answers, mut batch) = (Vec::with_capacity(self.requests.len()), Batch::default());
        for request in self.requests {
            let result = self.apply_one(request, &mut agents, &mut batch).await;
            answers.push(match result {
                Ok(ingested) => Ok(ingested),
                Err(Failed::Refused(error)) => Err(error),
                Err(Failed::Database(error)) => return Err(error),
            });
        }
        Ok(Applied { answers, agents, batch })
    }

    /// Locks the agents of a group that there are, and reads what isn't remembered of them.
    async fn lock_agents(&mut self) -> Result<HashMap<AgentId, AgentState>, tokio_postgres::Error> {
        let ids = self.requests.iter().map(|request| request.incoming.header.agent_id);
        let ids: Vec<AgentId> = ids.collect::<BTreeSet<_>>().into_iter().collect();
        let rows = state::lock(self.transaction, &ids).await?;
        let (mut agents, unknown) = self.known.take_all(rows);
        for (agent, state) in state::load(self.transaction, &unknown).await? {
            // Another hub may have stored something a moment ago: what comes now may be older.
            let numbers = self.requests.iter().map(|request| &request.incoming);
            let numbers = numbers.filter(|incoming| incoming.header.agent_id == agent);
            numbers.for_each(|incoming| self.known.note_came(agent, incoming.number));
            agents.insert(agent, state);
        }
        Ok(agents)
    }

    async fn apply_one(
        &mut self,
        requested: &Requested,
        agents: &mut HashMap<AgentId, AgentState>,
        batch: &mut Batch,
    ) -> Result<Ingested, Failed> {
        let incoming = &requested.incoming;
        let agent = incoming.header.agent_id;
        let mut state = match agents.get(&agent) {
            Some(state) => state.clone(),
            None => {
                // What can never be stored doesn't make an agent known.
                plan(incoming, None, |_| None)?;
                insert_agent(self.transaction, requested).await?
            }
        };
        if state.target.is_some() {
            let reason = "this identity is that of a target of remote write".to_owned();
            return Err(IngestError::Conflict { seq: 0, reason }.into());
        }
        let applying = Applying {
            transaction: self.transaction,
            requested,
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
async fn insert_agent(
    transaction: &Change<'_>,
    requested: &Requested,
) -> Result<AgentState, Failed> {
    let header = &requested.incoming.header;
    let (hostname, version) = (text(&header.hostname), text(&header.agent_version));
    let insert = "INSERT INTO agents (uuid, hostname, version, first_seen_ms, last_seen_ms, series, \
                  changed) VALUES ($1, $2, $3, $4, $4, 0, 0) ON CONFLICT (uuid) DO NOTHING";
    let (uuid, now_ms) = (uuid_of(header.agent_id.as_bytes()), requested.incoming.received_ms);
    transaction.execute(insert, &[&uuid, &hostname, &version, &now_ms]).await?;
    let rows = state::lock(transaction, &[header.agent_id]).await?;
    let mut found = state::load(transaction, &rows).await?;
    let gone = || IngestError::Busy("this agent was forgotten just when it came");
    Ok(found.remove(&header.agent_id).ok_or_else(gone)?)
}
