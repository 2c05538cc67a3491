//! What the writer remembers of a target's series, so that a sample of one that is known is stored without
//! reading: its id, by a key made of its labels, and a time that no sample of it is later than.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
    sync::LazyLock,
};

use rusqlite::{Connection, OptionalExtension as _, params};
use wire::MetricKind;

use super::{head, registry::place_of, select::labels_of};
use crate::store::{rows::kind_of, write::Target};

/// What a series is known by: two keyed hashes of its labels. Whoever doesn't know the keys, which are
/// drawn once a process, can't make two series that share it; by chance it takes 2^64 series.
pub(crate) type Key = u128;

static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);

/// The key of a series, its labels in the order of their names.
pub(crate) fn key<'a>(metric: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Key {
    let [mut first, mut second] = KEYS.each_ref().map(RandomState::build_hasher);
    let mut put = |text: &str| {
        text.hash(&mut first);
        text.hash(&mut second);
    };
    put(metric);
    for (name, value) in labels {
        put(name);
        put(value);
    }
    u128::from(first.finish()) << 64 | u128::from(second.finish())
}

/// The series of a target, by their keys.
#[derive(Debug, Default)]
pub(crate) struct TargetState {
    pub(crate) series: HashMap<Key, Known>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_all_labels() {
        let check =
            |metric, labels: &[(&'static str, &'static str)]| key(metric, labels.iter().copied());
        let one = check("up", &[("a", "b"), ("c", "d")]);
        assert_eq!(one, check("up", &[("a", "b"), ("c", "d")]));
        for other in [
            check("up", &[("a", "b")]),
            check("up", &[("ab", ""), ("c", "d")]),
            check("upa", &[("", "b"), ("c", "d")]),
            check("up", &[("a", "bc"), ("", "d")]),
        ] {
            assert_ne!(one, other);
        }
    }
}
