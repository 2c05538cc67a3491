//! Which agents, metrics and gaps there are.

use rusqlite::{Connection, Row, params};
use wire::{AgentId, Family, StreamId};

use super::catalog::unsigned;
use crate::store::rows::kind_of;
use crate::store::{Agent, GapEntry, GapFilter, Host, Labels, LedgerReason, StreamState};

/// Every agent, by name of host.
pub(crate) fn agents(connection: &Connection) -> rusqlite::Result<Vec<Agent>> {
    agents_where(connection, "id NOT IN (SELECT agent FROM targets)")
}

/// Every target of remote write, as an agent.
pub(crate) fn targets(connection: &Connection) -> rusqlite::Result<Vec<Agent>> {
    agents_where(connection, "id IN (SELECT agent FROM targets)")
}

fn agents_where(connection: &Connection, condition: &str) -> rusqlite::Result<Vec<Agent>> {
    let mut streams = connection.prepare_cached(
        "SELECT uuid, acked_seq, last_tick_ms FROM streams WHERE agent = ?1 \
         ORDER BY last_write_ms, id",
    )?;
    let mut stream_states = |agent: i64| {
        let rows = streams.query_map([agent], |row| {
            Ok(StreamState {
                stream_id: StreamId::from_bytes(row.get(0)?),
                acked_seq: unsigned(row, 1)?,
                last_tick_ms: row.get(2)?,
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    connection
        .prepare_cached(&format!(
            "SELECT id, uuid, hostname, version, first_seen_ms, last_seen_ms, series FROM agents \
             WHERE {condition} ORDER BY hostname, uuid",
        ))?
        .query_map([], |row| {
            Ok(Agent {
                agent_id: AgentId::from_bytes(row.get(1)?),
                hostname: row.get(2)?,
                version: row.get(3)?,
                first_seen_ms: row.get(4)?,
                last_seen_ms: row.get(5)?,
                series: unsigned(row, 6)?,
                streams: stream_states(row.get(0)?)?,
            })
        })?
        .collect()
}

/// What the metrics of all series say of themselves, by name.
pub(crate) fn families(connection: &Connection) -> rusqlite::Result<Vec<Family>> {
    connection
        .prepare_cached(
            "SELECT n.text, s.kind, h.text FROM (SELECT DISTINCT name, kind, help FROM series NOT INDEXED) s \
             JOIN texts n ON n.id = s.name JOIN texts h ON h.id = s.help \
             ORDER BY n.text, s.kind, h.text",
        )?
        .query_map([], |row| {
            Ok(Family { name: row.get(0)?, kind: kind_of(row.get(1)?), help: row.get(2)? })
        })?
        .collect()
}

/// Labels as [`super::registry`] writes them.
pub(crate) fn labels_of(row: &Row<'_>, index: usize) -> rusqlite::Result<Labels> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error))
    })
}

/// The gaps that fit, oldest first. One that tells of a clock that was set back ends before it begins.
pub(crate) fn gaps(connection: &Connection, filter: &GapFilter) -> rusqlite::Result<Vec<GapEntry>> {
    let (name, agent) = match &filter.host {
        None => (None, None),
        Some(Host::Name(name)) => (Some(name), None),
        Some(Host::Agent(id)) => (None, Some(id.as_bytes().as_slice())),
    };
    connection
        .prepare_cached(
            "SELECT a.hostname, a.uuid, s.uuid, g.reason, g.from_ms, g.to_ms, g.first_seq, \
             g.last_seq, g.records, g.samples, g.detail, g.received_ms \
             FROM gaps g JOIN streams s ON s.id = g.stream JOIN agents a ON a.id = s.agent \
             WHERE max(g.from_ms, g.to_ms) >= ?1 AND min(g.from_ms, g.to_ms) < ?2 \
             AND (?3 IS NULL OR a.hostname = ?3) AND (?4 IS NULL OR a.uuid = ?4) \
             ORDER BY g.from_ms, g.id LIMIT ?5",
        )?
        .query_map(params![filter.from_ms, filter.to_ms, name, agent, filter.limit], gap)?
        .collect()
}

fn gap(row: &Row<'_>) -> rusqlite::Result<GapEntry> {
    let reason: String = row.get(3)?;
    Ok(GapEntry {
        host: row.get(0)?,
        agent_id: AgentId::from_bytes(row.get(1)?),
        stream_id: StreamId::from_bytes(row.get(2)?),
        reason: LedgerReason::parse(&reason).ok_or(rusqlite::Error::InvalidQuery)?,
        from_ms: row.get(4)?,
        to_ms: row.get(5)?,
        first_seq: unsigned(row, 6)?,
        last_seq: unsigned(row, 7)?,
        records: unsigned(row, 8)?,
        samples: unsigned(row, 9)?,
        detail: row.get(10)?,
        received_ms: row.get(11)?,
    })
}
