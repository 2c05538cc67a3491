//! What the writer remembers of agents, so that a request that brings nothing new is answered
//! without reading.
//!
//! A cache of what is committed, and of what the transaction under way has changed. Whatever a
//! rolled back change has touched is forgotten and read again when it is next needed.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sha2::{Digest as _, Sha256};
use wire::{AgentId, MetricKind, SchemaId, StreamId, request::Header};

use super::{
    sums::Sums,
    targets::{self, TargetState},
};
use crate::store::write::{Target, WriteFamily};

/// Agents remembered; beyond that all are forgotten at once.
const AGENTS_MAX: usize = 20_000;
/// Metrics remembered by what was said of them; beyond that all are forgotten at once.
const FAMILIES_MAX: usize = 50_000;

/// See the module's opening.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    agents: HashMap<AgentId, AgentState>,
    touched_by_job: HashSet<AgentId>,
    touched: HashSet<AgentId>,
    came: Came,
    /// What was said of metrics by remote write.
    pub(crate) families: Families,
}

/// What was said of metrics, by their names. The same is said again every minute.
#[derive(Debug, Default)]
pub(crate) struct Families(HashMap<String, (MetricKind, String)>);

impl Families {
    /// Notes what is said; whether it is new.
    pub(crate) fn learn(&mut self, family: &WriteFamily) -> bool {
        let said =
            |(kind, help): &(MetricKind, String)| (*kind, help) == (family.kind, &family.help);
        if self.0.get(&family.metric).is_some_and(said) {
            return false;
        }
        if self.0.len() >= FAMILIES_MAX {
            self.0.clear();
        }
        self.0.insert(family.metric.clone(), (family.kind, family.help.clone()));
        true
    }

    /// What was said of a metric.
    pub(crate) fn get(&self, metric: &str) -> Option<(MetricKind, &str)> {
        self.0.get(metric).map(|(kind, help)| (*kind, help.as_str()))
    }
}

/// Which requests have brought something that is stored: by agent, the highest number of them. Not
/// forgotten with what is rolled back.
#[derive(Debug, Default)]
struct Came {
    by_agent: HashMap<AgentId, u64>,
    /// No number that isn't known is higher.
    others: u64,
}

/// An agent.
#[derive(Debug)]
pub(crate) struct AgentState {
    /// Its row.
    pub(crate) row: i64,
    hostname: String,
    version: String,
    /// Series registered for it.
    pub(crate) series: u64,
    /// Schemas known of it.
    pub(crate) schemas: HashMap<SchemaId, SchemaState>,
    /// Its streams.
    pub(crate) streams: HashMap<StreamId, StreamState>,
    /// Its series, if it is a target of remote write.
    pub(crate) target: Option<TargetState>,
}

/// A schema of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SchemaState {
    /// Series in it.
    pub(crate) count: u64,
    /// Those of them that are not stored.
    pub(crate) refused: u64,
    /// Unix milliseconds when it was last seen, to an hour.
    pub(crate) used_ms: i64,
}

/// A stream of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamState {
    /// Its row.
    pub(crate) row: i64,
    /// Highest sequence number stored.
    pub(crate) acked_seq: u64,
    /// What the records up to it were.
    pub(crate) sums: Sums,
    /// Time of its latest tick.
    pub(crate) last_tick_ms: Option<i64>,
    /// Number of the next row in its head.
    pub(crate) head_next: i64,
    /// What lies in its head.
    pub(crate) head: HeadState,
}

/// What of a stream is not sealed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadState {
    /// Ticks.
    pub(crate) ticks: u64,
    /// Samples.
    pub(crate) samples: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    /// Unix milliseconds when the oldest came.
    pub(crate) since_ms: Option<i64>,
}

impl Catalog {
    /// Begins a change that is rolled back alone if it fails.
    pub(crate) fn begin_job(&mut self) {
        self.touched_by_job.clear();
    }

    /// Forgets what the failed change has touched.
    pub(crate) fn roll_back_job(&mut self) {
        self.families = Families::default();
        for agent in self.touched_by_job.drain() {
            self.agents.remove(&agent);
        }
    }

    /// The transaction is committed.
    pub(crate) fn commit(&mut self) {
        self.touched.clear();
        if self.agents.len() > AGENTS_MAX {
            self.agents.clear();
        }
    }

    /// Forgets what the failed transaction has touched.
    pub(crate) fn roll_back(&mut self) {
        self.families = Families::default();
        for agent in self.touched.drain() {
            self.agents.remove(&agent);
        }
    }

    /// A request of that number brings something that may be stored.
    pub(crate) fn note_came(&mut self, agent: AgentId, number: u64) {
        let Came { by_agent, others } = &mut self.came;
        let before = by_agent.entry(agent).or_default();
        *before = number.max(*before);
        if by_agent.len() > AGENTS_MAX {
            *others = by_agent.drain().map(|(_, number)| number).fold(*others, u64::max);
        }
    }

    /// Whether what was sent after all up to that number had come was sent after all that is stored of
    /// the agent. What was stored before the store was opened counts for none.
    pub(crate) fn is_fresh(&self, agent: AgentId, after: u64) -> bool {
        let Came { by_agent, others } = &self.came;
        after > 0 && after >= by_agent.get(&agent).copied().unwrap_or(*others)
    }

    /// Forgets an agent whose rows were changed by other means.
    pub(crate) fn forget(&mut self, agent: AgentId) {
        self.agents.remove(&agent);
    }

    fn touch(&mut self, agent: AgentId) {
        self.touched_by_job.insert(agent);
        self.touched.insert(agent);
    }

    /// The agent of a request as it is known; `None` if it never came before.
    pub(crate) fn known(
        &mut self,
        connection: &Connection,
        agent_id: AgentId,
    ) -> rusqlite::Result<Option<&mut AgentState>> {
        self.touch(agent_id);
        match self.agents.entry(agent_id) {
            Entry::Occupied(known) => Ok(Some(known.into_mut())),
            Entry::Vacant(vacant) => {
                Ok(load_agent(connection, agent_id)?.map(|agent| vacant.insert(agent)))
            }
        }
    }

    /// The agent of a request, written down as the request shows it.
    pub(crate) fn agent(
        &mut self,
        connection: &Connection,
        header: &Header,
        received_ms: i64,
    ) -> rusqlite::Result<&mut AgentState> {
        if self.known(connection, header.agent_id)?.is_none() {
            let (hostname, version) = (&header.hostname, &header.agent_version);
            let agent = insert_agent(connection, header.agent_id, hostname, version, received_ms)?;
            self.agents.insert(header.agent_id, agent);
        }
        // It is there now: this is the same entry again.
        let agent =
            self.agents.get_mut(&header.agent_id).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        agent.rename(connection, header)?;
        Ok(agent)
    }

    /// A target of remote write, written down if it is new; and whether it is.
    pub(crate) fn target(
        &mut self,
        connection: &Connection,
        target: Target<'_>,
        received_ms: i64,
    ) -> rusqlite::Result<(&mut AgentState, &Families, bool)> {
        let id = target.id();
        let is_new = self.known(connection, id)?.is_none();
        if is_new {
            let agent = insert_agent(connection, id, target.instance, "", received_ms)?;
            targets::insert(connection, agent.row, target)?;
            let target = Some(TargetState::default());
            self.agents.insert(id, AgentState { target, ..agent });
        }
        // As above.
        let agent = self.agents.get_mut(&id).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok((agent, &self.families, is_new))
    }
}

impl AgentState {
    /// Counts series that were registered.
    pub(crate) fn count_series(
        &mut self,
        connection: &Connection,
        more: u64,
    ) -> rusqlite::Result<()> {
        self.series += more;
        connection
            .prepare_cached("UPDATE agents SET series = ?2 WHERE id = ?1")?
            .execute(params![self.row, self.series.cast_signed()])
            .map(|_| ())
    }

    fn rename(&mut self, connection: &Connection, header: &Header) -> rusqlite::Result<()> {
        if self.hostname == header.hostname && self.version == header.agent_version {
            return Ok(());
        }
        connection
            .prepare_cached("UPDATE agents SET hostname = ?2, version = ?3 WHERE id = ?1")?
            .execute(params![self.row, header.hostname, header.agent_version])?;
        self.hostname.clone_from(&header.hostname);
        self.version.clone_from(&header.agent_version);
        Ok(())
    }

    /// The stream, written down if it is new: with `acked_seq`, since it may begin anywhere.
    pub(crate) fn stream(
        &mut self,
        connection: &Connection,
        stream_id: StreamId,
        acked_seq: u64,
        received_ms: i64,
    ) -> rusqlite::Result<&mut StreamState> {
        match self.streams.entry(stream_id) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(vacant) => {
                let row = insert_stream(connection, self.row, stream_id, acked_seq, received_ms)?;
                let head = HeadState::default();
                Ok(vacant.insert(StreamState {
                    row,
                    acked_seq,
                    sums: Sums::default(),
                    last_tick_ms: None,
                    head_next: 0,
                    head,
                }))
            }
        }
    }
}

impl AgentState {
    /// Keeps a stream as it is under another name, so that another can go on under its own.
    pub(crate) fn set_aside(
        &mut self,
        connection: &Connection,
        stream_id: StreamId,
    ) -> rusqlite::Result<Option<StreamId>> {
        let Some(stream) = self.streams.remove(&stream_id) else { return Ok(None) };
        let name = name_aside(stream_id, stream.row);
        rename_stream(connection, stream.row, name)?;
        self.streams.insert(name, stream);
        Ok(Some(name))
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
    pub(crate) fn take_up(
        &mut self,
        connection: &Connection,
        aside: StreamId,
        stream_id: StreamId,
    ) -> rusqlite::Result<()> {
        let Some(stream) = self.streams.remove(&aside) else { return Ok(()) };
        rename_stream(connection, stream.row, stream_id)?;
        self.streams.insert(stream_id, stream);
        Ok(())
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

fn rename_stream(connection: &Connection, row: i64, name: StreamId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE streams SET uuid = ?2 WHERE id = ?1")?
        .execute(params![row, name.as_bytes().as_slice()])
        .map(|_| ())
}

impl StreamState {
    /// Writes down how far it has come.
    pub(crate) fn save(&self, connection: &Connection, received_ms: i64) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "UPDATE streams SET acked_seq = ?2, last_tick_ms = ?3, last_write_ms = ?4, \
                 head_next = ?5, head_ticks = ?6, head_samples = ?7, head_bytes = ?8, \
                 head_since_ms = ?9, sums = ?10 WHERE id = ?1",
            )?
            .execute(params![
                self.row,
                self.acked_seq.cast_signed(),
                self.last_tick_ms,
                received_ms,
                self.head_next,
                self.head.ticks.cast_signed(),
                self.head.samples.cast_signed(),
                self.head.bytes.cast_signed(),
                self.head.since_ms,
                self.sums.encode(),
            ])?;
        Ok(())
    }
}

/// A count as the database has it.
pub(crate) fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

fn load_agent(connection: &Connection, agent_id: AgentId) -> rusqlite::Result<Option<AgentState>> {
    let found = connection
        .prepare_cached("SELECT id, hostname, version, series FROM agents WHERE uuid = ?1")?
        .query_row([agent_id.as_bytes().as_slice()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, unsigned(row, 3)?))
        })
        .optional()?;
    let Some((row, hostname, version, series)) = found else { return Ok(None) };
    let schemas = load_schemas(connection, row)?;
    let streams = load_streams(connection, row)?;
    let target = targets::load(connection, row)?;
    Ok(Some(AgentState { row, hostname, version, series, schemas, streams, target }))
}

fn load_schemas(
    connection: &Connection,
    agent: i64,
) -> rusqlite::Result<HashMap<SchemaId, SchemaState>> {
    connection
        .prepare_cached("SELECT id, count, refused, used_ms FROM schemas WHERE agent = ?1")?
        .query_map([agent], |row| {
            let (count, refused) = (unsigned(row, 1)?, unsigned(row, 2)?);
            Ok((SchemaId(row.get(0)?), SchemaState { count, refused, used_ms: row.get(3)? }))
        })?
        .collect()
}

fn load_streams(
    connection: &Connection,
    agent: i64,
) -> rusqlite::Result<HashMap<StreamId, StreamState>> {
    connection
        .prepare_cached(
            "SELECT uuid, id, acked_seq, last_tick_ms, head_next, head_ticks, head_samples, \
             head_bytes, head_since_ms, sums FROM streams WHERE agent = ?1",
        )?
        .query_map([agent], |row| {
            let head = HeadState {
                ticks: unsigned(row, 5)?,
                samples: unsigned(row, 6)?,
                bytes: unsigned(row, 7)?,
                since_ms: row.get(8)?,
            };
            let stream = StreamState {
                row: row.get(1)?,
                acked_seq: unsigned(row, 2)?,
                sums: Sums::decode(row.get_ref(9)?.as_blob()?),
                last_tick_ms: row.get(3)?,
                head_next: row.get(4)?,
                head,
            };
            Ok((StreamId::from_bytes(row.get(0)?), stream))
        })?
        .collect()
}

fn insert_agent(
    connection: &Connection,
    agent_id: AgentId,
    hostname: &str,
    version: &str,
    received_ms: i64,
) -> rusqlite::Result<AgentState> {
    connection
        .prepare_cached(
            "INSERT INTO agents (uuid, hostname, version, first_seen_ms, last_seen_ms, series) \
             VALUES (?1, ?2, ?3, ?4, ?4, 0)",
        )?
        .execute(params![agent_id.as_bytes().as_slice(), hostname, version, received_ms])?;
    Ok(AgentState {
        row: connection.last_insert_rowid(),
        hostname: hostname.to_owned(),
        version: version.to_owned(),
        series: 0,
        schemas: HashMap::new(),
        streams: HashMap::new(),
        target: None,
    })
}

fn insert_stream(
    connection: &Connection,
    agent: i64,
    stream_id: StreamId,
    acked_seq: u64,
    received_ms: i64,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO streams (agent, uuid, acked_seq, last_write_ms, head_next, head_ticks, \
             head_samples, head_bytes, sums) VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0, x'')",
        )?
        .execute(params![
            agent,
            stream_id.as_bytes().as_slice(),
            acked_seq.cast_signed(),
            received_ms
        ])?;
    Ok(connection.last_insert_rowid())
}
