//! What a writer remembers of agents, so that a request costs few questions.
//!
//! It holds for as long as `agents.changed` is what it was: every transaction that changes anything of an
//! agent counts there, under the lock of the agent's row. Another hub's changes so are seen by the first
//! request after them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use uuid::Uuid;
use wire::{AgentId, SchemaId, StreamId};

use super::{change::Change, targets::TargetState};
use crate::store::{rollup::kept, sums::Sums};

/// Agents remembered by one writer; beyond that all are forgotten at once.
const AGENTS_MAX: usize = 20_000;
/// The same for series of targets.
const SERIES_MAX: usize = 2_000_000;

/// An agent.
#[derive(Clone, Debug)]
pub(crate) struct AgentState {
    /// Its row.
    pub(crate) row: i64,
    /// Transactions that have changed it.
    pub(crate) changed: i64,
    /// As its latest request has it.
    pub(crate) hostname: String,
    /// As its latest request has it.
    pub(crate) version: String,
    /// Series registered for it.
    pub(crate) series: u64,
    /// Schemas known of it.
    pub(crate) schemas: HashMap<SchemaId, SchemaState>,
    /// Its streams.
    pub(crate) streams: HashMap<StreamId, StreamState>,
    /// Its series, if it is a target of remote write.
    pub(crate) target: Option<TargetState>,
    /// Rows of streams that are to be written.
    pub(crate) touched: HashSet<i64>,
    /// Whether the transaction has changed anything of it.
    pub(crate) is_changed: bool,
    /// Days that are known to have samples which are in no page.
    pub(crate) unpaged: HashSet<i64>,
    /// Days that have become so in this transaction, and when.
    pub(crate) newly_unpaged: BTreeMap<i64, i64>,
}

/// A schema of an agent.
#[derive(Clone, Debug)]
pub(crate) struct SchemaState {
    /// Its series in order; 0 for one that is not stored.
    pub(crate) series: Arc<[i64]>,
    /// Unix milliseconds when it was last seen, to an hour.
    pub(crate) used_ms: i64,
}

/// A stream of an agent.
#[derive(Clone, Debug)]
pub(crate) struct StreamState {
    /// Its row.
    pub(crate) row: i64,
    /// Highest sequence number stored.
    pub(crate) acked_seq: u64,
    /// What the records up to it were.
    pub(crate) sums: Sums,
    /// Time of its latest tick.
    pub(crate) last_tick_ms: Option<i64>,
    /// Unix milliseconds when it was last written.
    pub(crate) last_write_ms: i64,
}

impl SchemaState {
    /// Series that are not stored.
    pub(crate) fn refused(&self) -> u64 {
        self.series.iter().filter(|series| **series == 0).count() as u64
    }
}

/// What one writer remembers. Which requests have brought something that is stored is never rolled back:
/// see [`Known::is_fresh`].
#[derive(Debug, Default)]
pub(crate) struct Known {
    agents: HashMap<AgentId, AgentState>,
    /// Series of targets among them.
    series: usize,
    came: HashMap<AgentId, u64>,
    /// No number that isn't in `came` is higher.
    came_others: u64,
}

impl Known {
    /// Takes out what is remembered of agents that are locked, if it still holds; the others are to be
    /// loaded. It is put back when what is made of it is committed.
    pub(crate) fn take_all(
        &mut self,
        rows: Vec<AgentRow>,
    ) -> (HashMap<AgentId, AgentState>, Vec<AgentRow>) {
        let (mut agents, mut unknown) = (HashMap::new(), Vec::new());
        for row in rows {
            let known = self.agents.remove(&row.agent);
            self.series -= known.as_ref().map_or(0, AgentState::remembered);
            match known.filter(|state| (state.row, state.changed) == (row.row, row.changed)) {
                Some(state) => drop(agents.insert(row.agent, state)),
                None => unknown.push(row),
            }
        }
        (agents, unknown)
    }

    /// Remembers what is committed.
    pub(crate) fn put(&mut self, agent: AgentId, state: AgentState) {
        if self.agents.len() >= AGENTS_MAX || self.series >= SERIES_MAX {
            self.agents.clear();
            self.series = 0;
        }
        self.series += state.remembered();
        let before = self.agents.insert(agent, state);
        self.series -= before.as_ref().map_or(0, AgentState::remembered);
    }

    /// A request of that number brings something that may be stored, or comes after something that
    /// another hub has stored.
    pub(crate) fn note_came(&mut self, agent: AgentId, number: u64) {
        let before = self.came.entry(agent).or_default();
        *before = number.max(*before);
        if self.came.len() > AGENTS_MAX {
            self.came_others =
                self.came.drain().map(|(_, number)| number).fold(self.came_others, u64::max);
        }
    }

    /// Whether what was sent after all up to that number had come was sent after all that is stored of
    /// the agent.
    pub(crate) fn is_fresh(&self, agent: AgentId, after: u64) -> bool {
        after > 0 && after >= self.came.get(&agent).copied().unwrap_or(self.came_others)
    }
}

/// An agent's row as it is locked.
#[derive(Clone, Debug)]
pub(crate) struct AgentRow {
    /// Who.
    pub(crate) agent: AgentId,
    /// Its row.
    pub(crate) row: i64,
    /// Transactions that have changed it.
    pub(crate) changed: i64,
    hostname: String,
    version: String,
    series: u64,
    is_target: bool,
}

/// Locks the rows of agents, in an order that is the same in every hub. Those that aren't there are left
/// out.
pub(crate) async fn lock(
    transaction: &Change<'_>,
    agents: &[AgentId],
) -> Result<Vec<AgentRow>, tokio_postgres::Error> {
    let uuids: Vec<Uuid> = agents.iter().map(|agent| uuid_of(agent.as_bytes())).collect();
    let rows = transaction
        .query(
            "SELECT uuid, id, changed, hostname, version, series, job IS NOT NULL FROM agents \
             WHERE uuid = ANY($1) ORDER BY uuid FOR NO KEY UPDATE",
            &[&uuids],
        )
        .await?;
    let row = |row: &Row| AgentRow {
        agent: AgentId::from_bytes(row.get::<_, Uuid>(0).into_bytes()),
        row: row.get(1),
        changed: row.get(2),
        hostname: row.get(3),
        version: row.get(4),
        series: row.get::<_, i64>(5).cast_unsigned(),
        is_target: row.get(6),
    };
    Ok(rows.iter().map(row).collect())
}

/// Reads all that is to be remembered of some agents.
pub(crate) async fn load(
    transaction: &Change<'_>,
    agents: &[AgentRow],
) -> Result<HashMap<AgentId, AgentState>, tokio_postgres::Error> {
    if agents.is_empty() {
        return Ok(HashMap::new());
    }
    let mut by_row: HashMap<i64, (AgentId, AgentState)> = agents
        .iter()
        .map(|agent| {
            let state = AgentState {
                row: agent.row,
                changed: agent.changed,
                hostname: agent.hostname.clone(),
                version: agent.version.clone(),
                series: agent.series,
                schemas: HashMap::new(),
                streams: HashMap::new(),
                target: agent.is_target.then(TargetState::default),
                touched: HashSet::new(),
                is_changed: false,
                unpaged: HashSet::new(),
                newly_unpaged: BTreeMap::new(),
            };
            (agent.row, (agent.agent, state))
        })
        .collect();
    let rows: Vec<i64> = agents.iter().map(|agent| agent.row).collect();
    let streams = "SELECT agent, uuid, id, acked_seq, last_tick_ms, last_write_ms, sums \
                   FROM streams WHERE agent = ANY($1)";
    for row in transaction.query(streams, &[&rows]).await? {
        let stream = StreamState {
            row: row.get(2),
            acked_seq: row.get::<_, i64>(3).cast_unsigned(),
            last_tick_ms: row.get(4),
            last_write_ms: row.get(5),
            sums: Sums::decode(row.get(6)),
        };
        if let Some((_, agent)) = by_row.get_mut(&row.get(0)) {
            let name = StreamId::from_bytes(row.get::<_, Uuid>(1).into_bytes());
            agent.streams.insert(name, stream);
        }
    }
    let schemas = "SELECT agent, id, series, used_ms FROM schemas WHERE agent = ANY($1)";
    for row in transaction.query(schemas, &[&rows]).await? {
        let id: Option<[u8; 8]> = row.get::<_, &[u8]>(1).try_into().ok();
        let series: Vec<i64> = row.get(2);
        let schema = SchemaState { series: series.into(), used_ms: row.get(3) };
        if let (Some(id), Some((_, agent))) = (id, by_row.get_mut(&row.get(0))) {
            agent.schemas.insert(SchemaId(id), schema);
        }
    }
    let unpaged = "SELECT agent, day FROM unpaged WHERE agent = ANY($1) AND taken = 0";
    for row in transaction.query(unpaged, &[&rows]).await? {
        if let Some((_, agent)) = by_row.get_mut(&row.get(0)) {
            agent.unpaged.insert(row.get(1));
        }
    }
    Ok(by_row.into_values().collect())
}

/// An identity as the database has it.
pub(crate) fn uuid_of(bytes: &[u8; 16]) -> Uuid {
    Uuid::from_bytes(*bytes)
}

/// Text as the database takes it: it has no NUL.
pub(crate) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl AgentState {
    /// Series of it that are remembered one by one.
    fn remembered(&self) -> usize {
        self.target.as_ref().map_or(0, |target| target.series.len())
    }

    /// Adds a stream, to be written: with `acked_seq`, since it may begin anywhere.
    pub(crate) fn insert_stream(&mut self, name: StreamId, row: i64, acked_seq: u64) {
        let stream = StreamState {
            row,
            acked_seq,
            sums: Sums::default(),
            last_tick_ms: None,
            last_write_ms: 0,
        };
        self.streams.insert(name, stream);
        self.touched.insert(row);
        self.is_changed = true;
    }

    /// Notes that samples of these times are stored, by stream, which are in no page of rollups.
    pub(crate) fn note_samples(&mut self, times: &HashMap<i64, Vec<i64>>) {
        for stream in self.streams.values() {
            for at in times.get(&stream.row).into_iter().flatten() {
                let day = kept::day_of(*at);
                if !self.unpaged.contains(&day) {
                    self.newly_unpaged.entry(day).or_insert(stream.last_write_ms);
                }
            }
        }
    }

    /// What it is once the transaction is committed.
    pub(crate) fn committed(&mut self) {
        self.changed += i64::from(std::mem::take(&mut self.is_changed));
        self.touched.clear();
        self.unpaged.extend(std::mem::take(&mut self.newly_unpaged).into_keys());
    }

    /// Keeps a stream as it is under another name, so that another can go on under its own.
    pub(crate) fn set_aside(&mut self, stream_id: StreamId) -> Option<StreamId> {
        let stream = self.streams.remove(&stream_id)?;
        let name = name_aside(stream_id, stream.row);
        self.is_changed = true;
        self.touched.insert(stream.row);
        self.streams.insert(name, stream);
        Some(name)
    }

    /// What was set aside of a stream.
    pub(crate) fn aside(
        &self,
        stream_id: StreamId,
    ) -> impl Iterator<Item = (StreamId, &StreamState)> {
        let aside = move |(name, stream): &(&StreamId, &StreamState)| {
            **name == name_aside(stream_id, stream.row)
        };
        self.streams.iter().filter(aside).map(|(name, stream)| (*name, stream))
    }

    /// Lets a stream that was set aside go on under the name that it had.
    pub(crate) fn take_up(&mut self, aside: StreamId, stream_id: StreamId) {
        if let Some(stream) = self.streams.remove(&aside) {
            self.touched.insert(stream.row);
            self.streams.insert(stream_id, stream);
        }
    }
}

/// What a stream is called that was set aside: made of its name and of its row, which is used once.
fn name_aside(stream_id: StreamId, row: i64) -> StreamId {
    let mut hash = Sha256::new_with_prefix(stream_id.as_bytes());
    hash.update(row.to_le_bytes());
    let mut name = [0; 16];
    name.copy_from_slice(&hash.finalize()[..16]);
    StreamId::from_bytes(name)
}
