//! The store as it lies there: every sample in the order in which it is stored, nothing merged,
//! nothing left out. For drills and audits, beside a running hub or without one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use rusqlite::{Connection, params};
use serde::Serialize;
use wire::{AgentId, GapReason, SchemaId, StreamId};

use super::{
    catalog::unsigned,
    columns::{Block, Malformed, block::SLOTS},
    database::{database, open_reader},
    find,
    head::{self, HeadReader},
    ledger::Seqs,
    registry::{place_of, schema_series},
    select,
};
use crate::store::{Selector, Series, StoreError};

/// One stored sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    /// The stream it came in.
    pub stream_id: StreamId,
    /// The record it came in.
    pub seq: u64,
    /// Unix milliseconds.
    pub time_ms: i64,
    /// Its value.
    pub value: f64,
    /// Where it lies.
    pub place: Place,
}

/// Where a sample lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// As it came.
    Head,
    /// In a sealed block.
    Block,
    /// In a table of a database.
    Table,
}

/// What an audit found of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Its host's name.
    pub host: String,
    /// Its identity.
    pub agent_id: String,
    /// Its streams.
    pub streams: Vec<StreamAudit>,
    /// Series that have samples.
    pub series: u64,
    /// Ticks stored, over all streams.
    pub ticks: u64,
    /// Samples stored.
    pub samples: u64,
    /// Samples of a series at a time at which it has another one already, which no clock jump that
    /// was told explains: a record stored twice, or a clock that was set back unnoticed.
    pub duplicates: u64,
    /// Of these, samples whose record is stored already: a broken promise.
    pub doubled: u64,
    /// Samples stored behind one of the same series and stream that was sent later: a broken promise.
    pub out_of_order: u64,
    /// Samples whose time lies before that of the one stored before, told or not: a clock that was
    /// set back.
    pub time_backwards: u64,
    /// Entries of the gap ledger.
    pub gaps: u64,
    /// Records that are missing and that no gap record explains.
    pub unexplained_records: u64,
    /// Rows that no longer read back.
    pub damaged: u64,
}

/// What an audit found of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamAudit {
    /// Which stream.
    pub stream_id: String,
    /// Highest sequence number acknowledged.
    pub acked_seq: u64,
    /// Ticks stored.
    pub ticks: u64,
    /// Lowest and highest sequence number of a stored tick.
    pub seqs: Option<(u64, u64)>,
    /// Earliest and latest time of a stored tick, Unix milliseconds.
    pub times: Option<(i64, i64)>,
}

/// Gives every stored sample of the series that fit, series by series, in the order of storage.
///
/// # Errors
/// [`StoreError`] when the store can't be read, or `each` fails.
pub fn samples(
    directory: &Path,
    selector: &Selector,
    mut each: impl FnMut(&Series, &Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut connection = open_reader(directory)?;
    let connection = connection.transaction().map_err(database("begin reading"))?;
    for series in find::series(&connection, selector).map_err(database("read series"))? {
        let (group, slot) = place_of(series.id.0);
        let mut walk = Walk::new(&connection, series.agent_id, group)?;
        walk.run(Some(slot), |_, stored| each(&series, stored))?;
        if let Some(detail) = walk.damaged.pop() {
            return Err(StoreError::Damaged {
                what: format!("samples of {}", series.metric),
                detail,
                series: vec![],
            });
        }
    }
    Ok(())
}

/// Looks at every sample of every agent, and then of every target of remote write.
///
/// # Errors
/// [`StoreError`] when the store can't be read.
pub fn audit(directory: &Path) -> Result<Vec<Audit>, StoreError> {
    let mut connection = open_reader(directory)?;
    let connection = connection.transaction().map_err(database("begin reading"))?;
    let mut agents = select::agents(&connection).map_err(database("read agents"))?;
    agents.extend(select::targets(&connection).map_err(database("read targets"))?);
    agents.iter().map(|agent| audit_agent(&connection, agent)).collect()
}

fn audit_agent(connection: &Connection, agent: &crate::store::Agent) -> Result<Audit, StoreError> {
    let mut audit = Audit {
        host: agent.hostname.clone(),
        agent_id: agent.agent_id.to_string(),
        ..Audit::default()
    };
    let mut ticks = BTreeMap::<StreamId, BTreeMap<u64, i64>>::new();
    let mut damaged = BTreeSet::new();
    let jumps = jumps(connection, agent.agent_id).map_err(database("read clock jumps"))?;
    for group in groups(connection, agent.agent_id).map_err(database("read groups"))? {
        let mut seen = BTreeMap::<u8, Seen>::new();
        let mut walk = Walk::new(connection, agent.agent_id, group)?;
        walk.run(None, |slot, stored| {
            ticks.entry(stored.stream_id).or_default().insert(stored.seq, stored.time_ms);
            seen.entry(slot).or_default().look(stored, &jumps, &mut audit);
            Ok(())
        })?;
        damaged.extend(walk.damaged);
        audit.series += seen.len() as u64;
    }
    audit.ticks = ticks.values().map(|ticks| ticks.len() as u64).sum();
    audit.streams = agent.streams.iter().map(|stream| audit_stream(stream, &ticks)).collect();
    (audit.gaps, audit.unexplained_records, audit.damaged) =
        ledger(connection, agent.agent_id).map_err(database("read gaps"))?;
    audit.damaged += damaged.len() as u64;
    Ok(audit)
}

/// What an audit says of a stream with these ticks.
pub(crate) fn audit_stream(
    stream: &crate::store::StreamState,
    ticks: &BTreeMap<StreamId, BTreeMap<u64, i64>>,
) -> StreamAudit {
    let ticks = ticks.get(&stream.stream_id);
    let seqs =
        ticks.and_then(|ticks| Some((*ticks.first_key_value()?.0, *ticks.last_key_value()?.0)));
    let times = ticks.and_then(|ticks| Some((*ticks.values().min()?, *ticks.values().max()?)));
    StreamAudit {
        stream_id: stream.stream_id.to_string(),
        acked_seq: stream.acked_seq,
        ticks: ticks.map_or(0, |ticks| ticks.len() as u64),
        seqs,
        times,
    }
}

/// What was seen of one series so far.
#[derive(Default)]
pub(crate) struct Seen {
    records: BTreeSet<(StreamId, u64)>,
    /// After a clock jump all times are new to the stream.
    times: BTreeSet<(Option<(StreamId, usize)>, i64)>,
    last: Option<(StreamId, u64, i64)>,
}

impl Seen {
    /// Looks at the next one.
    pub(crate) fn look(&mut self, stored: &Stored, jumps: &Jumps, audit: &mut Audit) {
        audit.samples += 1;
        audit.doubled += u64::from(!self.records.insert((stored.stream_id, stored.seq)));
        let jumped = jumps.get(&stored.stream_id).map_or(0, |seqs| {
            // In order: they are records of the stream.
            seqs.partition_point(|seq| *seq < stored.seq)
        });
        let since = (jumped > 0).then_some((stored.stream_id, jumped));
        audit.duplicates += u64::from(!self.times.insert((since, stored.time_ms)));
        if let Some((stream, seq, time_ms)) = self.last {
            let same_stream = stream == stored.stream_id;
            audit.out_of_order += u64::from(same_stream && stored.seq < seq);
            audit.time_backwards += u64::from(stored.time_ms < time_ms);
        }
        self.last = Some((stored.stream_id, stored.seq, stored.time_ms));
    }
}

/// The records that tell of clock jumps, in order.
pub(crate) type Jumps = HashMap<StreamId, Vec<u64>>;

fn jumps(connection: &Connection, agent: AgentId) -> rusqlite::Result<Jumps> {
    let mut jumps = Jumps::new();
    let mut statement = connection.prepare(
        "SELECT s.uuid, g.seq FROM gaps g JOIN streams s ON s.id = g.stream \
         JOIN agents a ON a.id = s.agent \
         WHERE a.uuid = ?1 AND g.reason = ?2 AND g.seq IS NOT NULL ORDER BY g.seq",
    )?;
    let reason = GapReason::ClockJump.as_str();
    let mut rows = statement.query(params![agent.as_bytes().as_slice(), reason])?;
    while let Some(row) = rows.next()? {
        let stream = StreamId::from_bytes(row.get(0)?);
        jumps.entry(stream).or_default().push(unsigned(row, 1)?);
    }
    Ok(jumps)
}

fn groups(connection: &Connection, agent: AgentId) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare("SELECT id FROM groups WHERE agent = (SELECT id FROM agents WHERE uuid = ?1)")?
        .query_map([agent.as_bytes().as_slice()], |row| row.get(0))?
        .collect()
}

fn ledger(connection: &Connection, agent: AgentId) -> rusqlite::Result<(u64, u64, u64)> {
    let id = agent.as_bytes().as_slice();
    let of_agent = "stream IN (SELECT s.id FROM streams s JOIN agents a ON a.id = s.agent \
                    WHERE a.uuid = ?1)";
    let gaps = format!(
        "SELECT count(*), coalesce(sum(records) FILTER (WHERE reason = 'unexplained'), 0) \
         FROM gaps WHERE {of_agent}"
    );
    let (gaps, unexplained) =
        connection.query_row(&gaps, [id], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?;
    let damaged = format!("SELECT count(*) FROM damaged WHERE {of_agent}");
    let damaged = connection.query_row(&damaged, [id], |row| unsigned(row, 0))?;
    Ok((gaps, unexplained, damaged))
}

/// Walks over the samples of one group of series in the order of storage.
struct Walk<'a> {
    connection: &'a Connection,
    group: i64,
    agent: i64,
    streams: HashMap<i64, StreamId>,
    schemas: HashMap<SchemaId, Vec<i64>>,
    /// What didn't read back.
    damaged: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(connection: &'a Connection, agent: AgentId, group: i64) -> Result<Self, StoreError> {
        let read = || {
            let agent: i64 = connection.query_row(
                "SELECT id FROM agents WHERE uuid = ?1",
                [agent.as_bytes().as_slice()],
                |row| row.get(0),
            )?;
            let streams = connection
                .prepare("SELECT id, uuid FROM streams WHERE agent = ?1")?
                .query_map([agent], |row| Ok((row.get(0)?, StreamId::from_bytes(row.get(1)?))))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((agent, streams))
        };
        let (agent, streams) = read().map_err(database("read streams"))?;
        let schemas = HashMap::new();
        Ok(Self { connection, group, agent, streams, schemas, damaged: Vec::new() })
    }

    /// Gives every sample of the group's series, or of one of them.
    fn run(
        &mut self,
        only: Option<u8>,
        mut each: impl FnMut(u8, &Stored) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.blocks(only, &mut each)?;
        let mut streams: Vec<i64> = self.streams.keys().copied().collect();
        streams.sort_unstable();
        streams.into_iter().try_for_each(|stream| self.head(stream, only, &mut each))
    }

    fn blocks(
        &mut self,
        only: Option<u8>,
        each: &mut impl FnMut(u8, &Stored) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let read = || database("read blocks");
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, stream, data FROM blocks WHERE grp = ?1 ORDER BY id")
            .map_err(read())?;
        let mut rows = statement.query([self.group]).map_err(read())?;
        while let Some(row) = rows.next().map_err(read())? {
            let (id, stream): (i64, i64) =
                row.get(0).and_then(|id| Ok((id, row.get(1)?))).map_err(read())?;
            let data: Vec<u8> = row.get(2).map_err(read())?;
            let Some(stream_id) = self.streams.get(&stream).copied() else { continue };
            match block_samples(&data, stream_id, only) {
                Ok(samples) => samples.iter().try_for_each(|(slot, stored)| each(*slot, stored))?,
                Err(Malformed(detail)) => self.damaged.push(format!("block {id}: {detail}")),
            }
        }
        Ok(())
    }

    fn head(
        &mut self,
        stream: i64,
        only: Option<u8>,
        each: &mut impl FnMut(u8, &Stored) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let read = || database("read head");
        let (first, last) = head::row_ids(stream);
        let connection = self.connection;
        let mut statement = connection
            .prepare_cached(
                "SELECT id, first_seq, last_seq, body FROM head WHERE id BETWEEN ?1 AND ?2 \
                 ORDER BY id",
            )
            .map_err(read())?;
        let mut rows = statement.query(params![first, last]).map_err(read())?;
        while let Some(row) = rows.next().map_err(read())? {
            let seqs =
                unsigned(row, 1).and_then(|first| Ok(Seqs { first, last: unsigned(row, 2)? }));
            let seqs = seqs.map_err(read())?;
            let body: Vec<u8> = row.get(3).map_err(read())?;
            match self.head_samples(stream, &body, seqs, only) {
                Ok(samples) => samples.iter().try_for_each(|(slot, stored)| each(*slot, stored))?,
                Err(Malformed(detail)) => {
                    let id: i64 = row.get(0).map_err(read())?;
                    self.damaged.push(format!("head {id}: {detail}"));
                }
            }
        }
        Ok(())
    }

    fn head_samples(
        &mut self,
        stream: i64,
        body: &[u8],
        seqs: Seqs,
        only: Option<u8>,
    ) -> Result<Vec<(u8, Stored)>, Malformed> {
        let said = |error: &dyn std::fmt::Display| Malformed(error.to_string());
        let stream_id = *self.streams.get(&stream).ok_or_else(|| said(&"no such stream"))?;
        let mut heads = HeadReader::new().map_err(|error| said(&error))?;
        let mut samples = Vec::new();
        heads.ticks(body, seqs, |seq, tick| {
            let mut series = tick.ids().to_vec();
            for id in tick.schemas() {
                if !self.schemas.contains_key(id) {
                    let found = schema_series(self.connection, self.agent, *id);
                    let found = found.map_err(|error| said(&error))?;
                    self.schemas.insert(*id, found.ok_or_else(|| said(&"unknown schema"))?);
                }
                series.extend_from_slice(&self.schemas[id]);
            }
            if series.len() > tick.values.len() {
                return Err(said(&"values are too few"));
            }
            for (series, value) in series.into_iter().zip(tick.values) {
                let (group, slot) = place_of(series);
                if group == self.group && only.is_none_or(|only| only == slot) {
                    let (time_ms, place) = (tick.time_ms, Place::Head);
                    samples.push((slot, Stored { stream_id, seq, time_ms, value, place }));
                }
            }
            Ok(())
        })?;
        Ok(samples)
    }
}

fn block_samples(
    data: &[u8],
    stream_id: StreamId,
    only: Option<u8>,
) -> Result<Vec<(u8, Stored)>, Malformed> {
    let block = Block::open(data)?;
    let mut samples = Vec::new();
    for slot in (0..SLOTS).filter(|slot| only.is_none_or(|only| only == *slot)) {
        let column = block.column(slot)?.unwrap_or_default();
        samples.extend(column.ticks.iter().zip(column.values).map(|(tick, value)| {
            let (seq, time_ms) = (block.seqs[*tick].cast_unsigned(), block.times[*tick]);
            (slot, Stored { stream_id, seq, time_ms, value, place: Place::Block })
        }));
    }
    Ok(samples)
}
