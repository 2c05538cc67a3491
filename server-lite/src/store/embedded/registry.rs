//! Which series there are: every series of a schema gets an id when the schema first comes.
//!
//! A series' id is its group's id × [`SLOTS`] + its slot. Groups hold up to [`SLOTS`] series of one
//! collector of one agent: their samples are sealed side by side. Slots are never used again.
//!
//! A schema is kept as the list of its series' ids, as differences; 0 stands for a series that is
//! not stored, because its agent has too many or because the schema names it twice.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, params};
use wire::{EncodedSchema, MetricKind, SchemaId};

use super::{
    catalog::{AgentState, SchemaState},
    columns::block::SLOTS,
};
use crate::store::{
    rows::{canonical, kind_number, kind_of},
    varint,
};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The day a time lies in, counted from 1970.
pub(crate) const fn day_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

/// Group and slot of a series.
pub(crate) fn place_of(series: i64) -> (i64, u8) {
    // The remainder is less than SLOTS.
    (series.div_euclid(SLOTS.into()), series.rem_euclid(SLOTS.into()) as u8)
}

/// Registers the series of a schema that the agent didn't have. Returns what is known of it now.
pub(crate) fn register(
    connection: &Connection,
    agent: &mut AgentState,
    schema: &EncodedSchema,
    series_max: u64,
    received_ms: i64,
) -> rusqlite::Result<SchemaState> {
    let collector = &schema.schema.collector;
    let mut registration = Registration::new(connection, agent, collector, series_max, received_ms);
    let mut ids = Vec::with_capacity(schema.schema.series.len());
    let (mut added, mut seen) = (0, HashSet::new());
    for (family, labels) in schema.schema.iter() {
        let labels = canonical(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let (id, is_new) = registration.series(&family.name, &labels, family.kind, &family.help)?;
        added += u64::from(is_new);
        ids.push(if seen.insert(id) { id } else { 0 });
    }
    let refused = ids.iter().filter(|id| **id == 0).count() as u64;
    let state = SchemaState { count: ids.len() as u64, refused, used_ms: received_ms };
    insert_schema(connection, agent.row, schema.id, &ids, &state)?;
    agent.count_series(connection, added)?;
    agent.schemas.insert(schema.id, state);
    Ok(state)
}

/// Registers series of one collector of an agent, or of a target.
pub(crate) struct Registration<'a> {
    connection: &'a Connection,
    agent: i64,
    collector: &'a str,
    left: u64,
    day: i64,
    /// Group being filled, and its next slot.
    group: Option<(i64, u8)>,
}

impl<'a> Registration<'a> {
    /// Of at most so many series of the agent, all together.
    pub(crate) fn new(
        connection: &'a Connection,
        agent: &AgentState,
        collector: &'a str,
        series_max: u64,
        received_ms: i64,
    ) -> Self {
        let (left, day) = (series_max.saturating_sub(agent.series), day_of(received_ms));
        Self { connection, agent: agent.row, collector, left, day, group: None }
    }

    /// The series' id (0 if it is one too many), and whether it counts from now on.
    pub(crate) fn series(
        &mut self,
        name: &str,
        labels: &str,
        kind: MetricKind,
        help: &str,
    ) -> rusqlite::Result<(i64, bool)> {
        let name = text(self.connection, name)?;
        let known = self
            .connection
            .prepare_cached(
                "SELECT id, is_old FROM series WHERE agent = ?1 AND name = ?2 AND labels = ?3",
            )?
            .query_row(params![self.agent, name, labels], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((id, false)) = known {
            return Ok((id, false));
        }
        if self.left == 0 {
            return Ok((0, false));
        }
        self.left -= 1;
        if let Some((id, _)) = known {
            // Its samples had gone: it is counted again.
            self.connection
                .prepare_cached("UPDATE series SET is_old = 0 WHERE id = ?1")?
                .execute([id])?;
            return Ok((id, true));
        }
        let id = self.next_place()?;
        let help = text(self.connection, help)?;
        self.connection
            .prepare_cached(
                "INSERT INTO series (id, agent, name, labels, kind, help, last_day) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![id, self.agent, name, labels, kind_number(kind), help, self.day])?;
        Ok((id, true))
    }

    fn next_place(&mut self) -> rusqlite::Result<i64> {
        let (group, slot) = match self.group {
            Some(place) => place,
            None => self.open_group()?,
        };
        self.connection
            .prepare_cached("UPDATE groups SET slots = ?2 WHERE id = ?1")?
            .execute(params![group, slot + 1])?;
        self.group = (slot + 1 < SLOTS).then_some((group, slot + 1));
        Ok(group * i64::from(SLOTS) + i64::from(slot))
    }

    /// The collector's group that has room, or a new one.
    fn open_group(&self) -> rusqlite::Result<(i64, u8)> {
        let collector = text(self.connection, self.collector)?;
        let open = self
            .connection
            .prepare_cached(
                "SELECT id, slots FROM groups WHERE agent = ?1 AND collector = ?2 AND slots < ?3 \
                 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(params![self.agent, collector, SLOTS], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some(group) = open {
            return Ok(group);
        }
        self.connection
            .prepare_cached("INSERT INTO groups (agent, collector, slots) VALUES (?1, ?2, 0)")?
            .execute(params![self.agent, collector])?;
        Ok((self.connection.last_insert_rowid(), 0))
    }
}

fn insert_schema(
    connection: &Connection,
    agent: i64,
    id: SchemaId,
    series: &[i64],
    state: &SchemaState,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO schemas (agent, id, series, count, refused, used_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            agent,
            id.0.as_slice(),
            encode_ids(series),
            state.count.cast_signed(),
            state.refused.cast_signed(),
            state.used_ms
        ])?;
    Ok(())
}

/// The series of a schema, in its order; `None` if the schema isn't known.
pub(crate) fn schema_series(
    connection: &Connection,
    agent: i64,
    id: SchemaId,
) -> rusqlite::Result<Option<Vec<i64>>> {
    connection
        .prepare_cached("SELECT series, count FROM schemas WHERE agent = ?1 AND id = ?2")?
        .query_row(params![agent, id.0.as_slice()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, usize>(1)?))
        })
        .optional()
        .map(|found| found.and_then(|(bytes, count)| decode_ids(&bytes, count)))
}

fn encode_ids(ids: &[i64]) -> Vec<u8> {
    let (mut out, mut before) = (Vec::with_capacity(ids.len()), 0);
    for id in ids {
        varint::put_signed(&mut out, id - before);
        before = *id;
    }
    out
}

fn decode_ids(mut bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    let mut id = 0_i64;
    let mut next = || {
        id = id.checked_add(varint::take_signed(&mut bytes)?)?;
        Some(id)
    };
    let ids = (0..count).map(|_| next()).collect::<Option<Vec<_>>>()?;
    bytes.is_empty().then_some(ids)
}

/// The id of a text that many rows share, if there is one.
fn known_text(connection: &Connection, text: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM texts WHERE text = ?1")?
        .query_row([text], |row| row.get(0))
        .optional()
}

/// The same, made if there is none.
fn text(connection: &Connection, text: &str) -> rusqlite::Result<i64> {
    if let Some(id) = known_text(connection, text)? {
        return Ok(id);
    }
    connection.prepare_cached("INSERT INTO texts (text) VALUES (?1)")?.execute([text])?;
    Ok(connection.last_insert_rowid())
}

/// Notes that a series has a sample of that day.
pub(crate) fn note_day(connection: &Connection, series: i64, day: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE series SET last_day = ?2 WHERE id = ?1 AND last_day < ?2")?
        .execute([series, day])
        .map(|_| ())
}

/// Notes what is said of a series.
pub(crate) fn describe_one(
    connection: &Connection,
    series: i64,
    kind: MetricKind,
    help: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE series SET kind = ?2, help = ?3 WHERE id = ?1")?
        .execute(params![series, kind_number(kind), text(connection, help)?])
        .map(|_| ())
}

/// Notes what is said of a metric, for all series of it that came by remote write.
pub(crate) fn describe(
    connection: &Connection,
    metric: &str,
    kind: MetricKind,
    help: &str,
) -> rusqlite::Result<()> {
    let Some(name) = known_text(connection, metric)? else { return Ok(()) };
    connection
        .prepare_cached(
            "UPDATE series SET kind = ?2, help = ?3 WHERE name = ?1 \
             AND agent IN (SELECT agent FROM targets) AND (kind <> ?2 OR help <> ?3)",
        )?
        .execute(params![name, kind_number(kind), text(connection, help)?])
        .map(|_| ())
}

/// What is known of a metric by a series that there is of it.
pub(crate) fn description(
    connection: &Connection,
    metric: &str,
) -> rusqlite::Result<Option<(MetricKind, String)>> {
    let Some(name) = known_text(connection, metric)? else { return Ok(None) };
    connection
        .prepare_cached(
            "SELECT s.kind, h.text FROM series s JOIN texts h ON h.id = s.help \
             WHERE s.name = ?1 LIMIT 1",
        )?
        .query_row([name], |row| Ok((kind_of(row.get(0)?), row.get(1)?)))
        .optional()
}
