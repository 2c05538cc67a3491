//! Targets of remote write, and what is remembered of their series: a sample of one that is known, later
//! than all that it has, is stored without a question.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Object;
use uuid::Uuid;
use wire::{AgentId, MetricKind, StreamId};

use super::{
    change::Change,
    state::{self, AgentState, Known, text, uuid_of},
};
use crate::store::write::{Prepared, SeriesKey, TargetPart};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// The series of a target that are remembered, by their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetState {
    pub(crate) series: HashMap<SeriesKey, KnownSeries>,
}

/// A series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownSeries {
    /// Its row.
    pub(crate) id: i64,
    /// No sample of it is later, in Unix milliseconds.
    pub(crate) last_ms: i64,
    /// What its values were said to mean.
    pub(crate) kind: MetricKind,
}

/// The only stream of a target.
pub(crate) fn stream_of(target: AgentId) -> StreamId {
    StreamId::from_bytes(*target.as_bytes())
}

/// Locks the targets of some requests, adds those that aren't there, and gives each a stream; says how many
/// are new. An agent may have the identity of one.
pub(crate) async fn lock(
    transaction: &Change<'_>,
    requests: &[&Prepared],
    known: &mut Known,
) -> Result<(HashMap<AgentId, AgentState>, u64)> {
    let mut wanted = BTreeMap::<AgentId, (&TargetPart, i64)>::new();
    for request in requests {
        for part in &request.targets {
            wanted.entry(part.id).or_insert((part, request.batch.received_ms));
        }
    }
    let ids: Vec<AgentId> = wanted.keys().copied().collect();
    let mut rows = match ids.is_empty() {
        true => Vec::new(),
        false => state::lock(transaction, &ids).await?,
    };
    for row in &rows {
        wanted.remove(&row.agent);
    }
    let mut added = 0;
    if !wanted.is_empty() {
        added = insert(transaction, &wanted).await?;
        let new: Vec<AgentId> = wanted.keys().copied().collect();
        rows.extend(state::lock(transaction, &new).await?);
    }
    let (mut agents, unknown) = known.take_all(rows);
    agents.extend(state::load(transaction, &unknown).await?);
    give_streams(transaction, &mut agents).await?;
    Ok((agents, added))
}

/// Adds targets, in the order in which others lock them too; another hub may do so at the same time.
async fn insert(
    transaction: &Change<'_>,
    new: &BTreeMap<AgentId, (&TargetPart, i64)>,
) -> Result<u64> {
    let uuids: Vec<Uuid> = new.keys().map(|id| uuid_of(id.as_bytes())).collect();
    let instances: Vec<String> =
        new.values().map(|(part, _)| text(part.target().instance)).collect();
    let jobs: Vec<String> = new.values().map(|(part, _)| text(part.target().job)).collect();
    let times: Vec<i64> = new.values().map(|(_, now_ms)| *now_ms).collect();
    let insert = "INSERT INTO agents (uuid, hostname, version, first_seen_ms, last_seen_ms, series, \
        changed, job) SELECT uuid, instance, '', at, at, 0, 0, job FROM unnest($1::uuid[], \
        $2::text[], $3::text[], $4::bigint[]) AS n (uuid, instance, job, at) ORDER BY uuid \
        ON CONFLICT (uuid) DO NOTHING";
    transaction.execute(insert, &[&uuids, &instances, &jobs, &times]).await
}

async fn give_streams(
    transaction: &Change<'_>,
    agents: &mut HashMap<AgentId, AgentState>,
) -> Result<()> {
    let without = |(_, agent): &(&AgentId, &mut AgentState)| {
        agent.target.is_some() && agent.streams.is_empty()
    };
    let without: Vec<(&AgentId, &mut AgentState)> = agents.iter_mut().filter(without).collect();
    if without.is_empty() {
        return Ok(());
    }
    let next = "SELECT nextval(pg_get_serial_sequence('streams', 'id')) \
                FROM generate_series(1, $1::bigint)";
    let rows = transaction.query(next, &[&(without.len() as i64)]).await?;
    for ((id, agent), row) in without.into_iter().zip(rows) {
        agent.insert_stream(stream_of(*id), row.get(0), 0);
    }
    Ok(())
}

/// Drops targets that have no series and no line in the ledger left: what they were made of has gone for
/// longer than samples are kept.
pub(crate) async fn drop_empty(client: &mut Object) -> Result<()> {
    let empty = "SELECT a.id FROM agents a WHERE a.job IS NOT NULL \
        AND NOT EXISTS (SELECT FROM series WHERE agent = a.id) AND NOT EXISTS (SELECT FROM streams s \
        JOIN gaps g ON g.stream = s.id WHERE s.agent = a.id)";
    let empty: Vec<i64> = client.query(empty, &[]).await?.iter().map(|row| row.get(0)).collect();
    for target in empty {
        let change = Change::begin(client).await?;
        // Whoever waits for it meanwhile finds that it has gone, and adds it again.
        change.query("SELECT id FROM agents WHERE id = $1 FOR UPDATE", &[&target]).await?;
        let is_empty = "SELECT NOT EXISTS (SELECT FROM series WHERE agent = $1) \
            AND NOT EXISTS (SELECT FROM streams s JOIN gaps g ON g.stream = s.id WHERE s.agent = $1)";
        if !change.query_one(is_empty, &[&target]).await?.get::<_, bool>(0) {
            continue;
        }
        change.execute("DELETE FROM streams WHERE agent = $1", &[&target]).await?;
        change.execute("DELETE FROM agents WHERE id = $1", &[&target]).await?;
        change.commit().await?;
    }
    Ok(())
}
