//! What the writer remembers of a target's series, so that a sample of one that is known is stored without
//! reading: its id, by a key made of its labels, and a time that no sample of it is later than.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use wire::MetricKind;

use super::{head, registry::place_of, select::labels_of};
use crate::store::{
    rows::kind_of,
    write::{SeriesKey, Target, key},
};

/// The series of a target, by their keys.
#[derive(Debug, Default)]
pub(crate) struct TargetState {
    pub(crate) series: HashMap<SeriesKey, Known>,
}

/// A series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Known {
    /// Its id.
    pub(crate) id: i64,
    /// No sample of it is later, in Unix milliseconds.
    pub(crate) last_ms: i64,
    /// The day that `series.last_day` has at least.
    pub(crate) day: i64,
    /// What its values were said to mean.
    pub(crate) kind: MetricKind,
}

/// Writes down that an agent's row is a target's.
pub(crate) fn insert(
    connection: &Connection,
    agent: i64,
    target: Target<'_>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO targets (agent, job, instance) VALUES (?1, ?2, ?3)")?
        .execute(params![agent, target.job, target.instance])
        .map(|_| ())
}

/// What is stored of a target; `None` if the agent isn't one.
pub(crate) fn load(connection: &Connection, agent: i64) -> rusqlite::Result<Option<TargetState>> {
    let is_target = connection
        .prepare_cached("SELECT 1 FROM targets WHERE agent = ?1")?
        .query_row([agent], |_| Ok(()))
        .optional()?;
    if is_target.is_none() {
        return Ok(None);
    }
    let head_ms = last_of_head(connection, agent)?;
    let (mut series, mut groups) = (HashMap::new(), HashMap::new());
    let mut statement = connection.prepare_cached(
        "SELECT s.id, n.text, s.labels, s.last_day, s.kind FROM series s \
         JOIN texts n ON n.id = s.name WHERE s.agent = ?1",
    )?;
    let mut rows = statement.query([agent])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let group = place_of(id).0;
        let group_ms = match groups.get(&group) {
            Some(known) => *known,
            None => *groups.entry(group).or_insert(last_of_group(connection, group)?),
        };
        let labels = labels_of(row, 2)?;
        let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let known = Known {
            id,
            last_ms: head_ms.max(group_ms),
            day: row.get(3)?,
            kind: kind_of(row.get(4)?),
        };
        series.insert(key(row.get_ref(1)?.as_str()?, labels), known);
    }
    Ok(Some(TargetState { series }))
}

fn last_of_head(connection: &Connection, agent: i64) -> rusqlite::Result<i64> {
    let streams: Vec<i64> = connection
        .prepare_cached("SELECT id FROM streams WHERE agent = ?1")?
        .query_map([agent], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut last_ms = i64::MIN;
    for stream in streams {
        let (first, last) = head::row_ids(stream);
        let found: Option<i64> = connection
            .prepare_cached("SELECT max(max_ms) FROM head WHERE id BETWEEN ?1 AND ?2")?
            .query_row([first, last], |row| row.get(0))?;
        last_ms = last_ms.max(found.unwrap_or(i64::MIN));
    }
    Ok(last_ms)
}

fn last_of_group(connection: &Connection, group: i64) -> rusqlite::Result<i64> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT max(max_ms) FROM blocks INDEXED BY blocks_by_time WHERE grp = ?1")?
        .query_row([group], |row| row.get(0))?;
    Ok(found.unwrap_or(i64::MIN))
}
