//! What goes when it is old: samples and rollups (`pages`), then the series and schemas that nothing names
//! any more, then the texts of those; lines of the gap ledger, and the damaged records that they tell of; checksums of
//! records.
//!
//! Space that is given back inside the database is used again; the file doesn't shrink.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, params};
use wire::AgentId;

use super::{
    database::database,
    registry::{day_of, schema_series},
    schemas::USED_STEP_MS,
    seal, sums,
    writer::Writing,
};
use crate::store::{LedgerReason, StoreError};

/// Records are sealed when they have lain in the head for this long, however few they are.
pub(crate) const HEAD_AGE_MAX_MS: i64 = 2 * 60 * 60 * 1_000;
/// Groups whose old blocks are dropped in one transaction.
pub(crate) const GROUPS_ONCE: usize = 64;
/// Streams whose old checksums are dropped in one transaction.
pub(crate) const STREAMS_ONCE: usize = 64;
/// Targets dropped in one transaction.
pub(crate) const TARGETS_ONCE: usize = 256;
/// Lines of the ledger dropped in one transaction.
pub(crate) const GAPS_ONCE: usize = 1_000;
/// Damaged records dropped in one transaction; each may have the size of a request.
pub(crate) const DAMAGED_ONCE: usize = 16;
/// Time between two looks for texts that nothing names: each reads every series.
pub(crate) const TEXTS_EVERY_MS: i64 = 6 * 60 * 60 * 1_000;

/// Streams that have enough to be sealed, or something that came before a time.
pub(crate) fn due(connection: &Connection, before_ms: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM streams WHERE head_ticks >= ?1 OR head_bytes >= ?2 \
             OR head_since_ms < ?3",
        )?
        .query_map(params![seal::TICKS, seal::BYTES, before_ms], |row| row.get(0))?
        .collect()
}

/// Groups that have blocks older than a time.
pub(crate) fn old_groups(connection: &Connection, cutoff_ms: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM groups g WHERE EXISTS (SELECT 1 FROM blocks b \
             INDEXED BY blocks_by_time WHERE b.grp = g.id AND b.max_ms < ?1)",
        )?
        .query_map([cutoff_ms], |row| row.get(0))?
        .collect()
}

/// From which times on samples are there, and anything at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cutoffs {
    pub(crate) samples_ms: i64,
    pub(crate) all_ms: i64,
}

/// Agents with series that have no sample any more and are still counted, or that have nothing at all.
pub(crate) fn agents_with_old_series(
    connection: &Connection,
    cutoffs: Cutoffs,
) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT agent FROM series \
             WHERE last_day < ?1 AND is_old = 0 OR last_day < ?2",
        )?
        .query_map([day_of(cutoffs.samples_ms), day_of(cutoffs.all_ms)], |row| row.get(0))?
        .collect()
}

/// Counts those of an agent's series no more whose samples have gone, drops those that have nothing left,
/// and schemas that are not used any more.
pub(crate) fn drop_old_series(
    writing: &mut Writing<'_>,
    agent: i64,
    cutoffs: Cutoffs,
) -> Result<(), StoreError> {
    let dropped = drop_series(writing.connection, agent, cutoffs);
    if let Some((agent_id, series)) = dropped.map_err(database("drop old series"))? {
        writing.after.tally.series_gone += series;
        writing.catalog.forget(agent_id);
    }
    Ok(())
}

fn drop_series(
    connection: &Connection,
    agent: i64,
    cutoffs: Cutoffs,
) -> rusqlite::Result<Option<(AgentId, u64)>> {
    let Cutoffs { samples_ms, all_ms } = cutoffs;
    if oldest_head(connection, agent)?.is_some_and(|ms| ms < samples_ms + 2 * USED_STEP_MS) {
        // Unsealed records may name old schemas: another time.
        return Ok(None);
    }
    connection
        .prepare_cached("DELETE FROM schemas WHERE agent = ?1 AND used_ms < ?2")?
        .execute([agent, samples_ms])?;
    let used = used_series(connection, agent)?;
    let mut gone = 0;
    let mut age = connection.prepare_cached("UPDATE series SET is_old = 1 WHERE id = ?1")?;
    for series in old_series(connection, agent, samples_ms)? {
        if !used.contains(&series) {
            gone += age.execute([series])? as u64;
        }
    }
    connection
        .prepare_cached("DELETE FROM series WHERE agent = ?1 AND is_old = 1 AND last_day < ?2")?
        .execute([agent, day_of(all_ms)])?;
    drop_empty_groups(connection, agent)?;
    connection
        .prepare_cached("UPDATE agents SET series = series - ?2 WHERE id = ?1")?
        .execute(params![agent, gone.cast_signed()])?;
    connection
        .prepare_cached("SELECT uuid FROM agents WHERE id = ?1")?
        .query_row([agent], |row| Ok((AgentId::from_bytes(row.get(0)?), gone)))
        .optional()
}

fn oldest_head(connection: &Connection, agent: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT min(head_since_ms) FROM streams WHERE agent = ?1")?
        .query_row([agent], |row| row.get(0))
}

fn old_series(connection: &Connection, agent: i64, cutoff_ms: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT id FROM series WHERE agent = ?1 AND last_day < ?2 AND is_old = 0")?
        .query_map([agent, day_of(cutoff_ms)], |row| row.get(0))?
        .collect()
}

/// Series of the schemas that are left: the next record may name them.
fn used_series(connection: &Connection, agent: i64) -> rusqlite::Result<HashSet<i64>> {
    let schemas: Vec<[u8; 8]> = connection
        .prepare_cached("SELECT id FROM schemas WHERE agent = ?1")?
        .query_map([agent], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut used = HashSet::new();
    for id in schemas {
        used.extend(schema_series(connection, agent, wire::SchemaId(id))?.into_iter().flatten());
    }
    Ok(used)
}

/// Targets of remote write that have no series and no line in the ledger left: what they were made of has
/// gone for longer than samples are kept.
pub(crate) fn empty_targets(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT t.agent FROM targets t JOIN agents a ON a.id = t.agent WHERE a.series = 0 \
             AND NOT EXISTS (SELECT 1 FROM series e WHERE e.agent = a.id) \
             AND NOT EXISTS (SELECT 1 FROM streams s WHERE s.agent = a.id \
             AND (s.head_bytes > 0 OR EXISTS (SELECT 1 FROM gaps g WHERE g.stream = s.id)))",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Drops those of some targets that have got no series meanwhile.
pub(crate) fn drop_targets(writing: &mut Writing<'_>, targets: &[i64]) -> Result<(), StoreError> {
    let mut drop = || {
        for target in targets {
            let id: Option<AgentId> = writing
                .connection
                .prepare_cached(
                    "DELETE FROM agents WHERE id = ?1 AND series = 0 \
                     AND NOT EXISTS (SELECT 1 FROM series WHERE agent = ?1) RETURNING uuid",
                )?
                .query_row([target], |row| row.get(0).map(AgentId::from_bytes))
                .optional()?;
            let Some(id) = id else { continue };
            for table in
                ["DELETE FROM targets WHERE agent = ?1", "DELETE FROM streams WHERE agent = ?1"]
            {
                writing.connection.prepare_cached(table)?.execute([target])?;
            }
            writing.catalog.forget(id);
            writing.after.tally.targets_gone += 1;
        }
        Ok(())
    };
    drop().map_err(database("drop old targets"))
}

fn drop_empty_groups(connection: &Connection, agent: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM groups WHERE agent = ?1 \
             AND NOT EXISTS (SELECT 1 FROM blocks WHERE grp = groups.id) \
             AND NOT EXISTS (SELECT 1 FROM pages WHERE grp = groups.id) \
             AND NOT EXISTS (SELECT 1 FROM series WHERE id BETWEEN groups.id * 64 \
             AND groups.id * 64 + 63)",
        )?
        .execute([agent])?;
    Ok(())
}

/// Lines of the ledger about a time that lies wholly before another, and told before it.
pub(crate) fn old_gaps(connection: &Connection, cutoff_ms: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT id FROM gaps WHERE to_ms < ?1 AND received_ms < ?1")?
        .query_map([cutoff_ms], |row| row.get(0))?
        .collect()
}

/// Damaged records whose line in the ledger has gone.
pub(crate) fn untold_damage(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM damaged d WHERE NOT EXISTS (SELECT 1 FROM gaps g \
             WHERE g.stream = d.stream AND g.reason = ?1 AND g.first_seq = d.first_seq \
             AND g.last_seq = d.last_seq)",
        )?
        .query_map([LedgerReason::StoreDamaged.as_str()], |row| row.get(0))?
        .collect()
}

/// Drops the checksums of some streams that are older than a time.
pub(crate) fn drop_sums(
    writing: &mut Writing<'_>,
    streams: &[i64],
    cutoff_ms: i64,
) -> Result<(), StoreError> {
    let mut streams = streams.iter();
    let dropped = streams.try_for_each(|row| sums::drop_old(writing.connection, *row, cutoff_ms));
    dropped.map_err(database("drop old checksums"))
}

/// Drops some lines of the ledger.
pub(crate) fn drop_gaps(writing: &mut Writing<'_>, gaps: &[i64]) -> Result<(), StoreError> {
    drop_rows(writing, "DELETE FROM gaps WHERE id = ?1", gaps).map_err(database("drop old gaps"))
}

/// Drops some damaged records.
pub(crate) fn drop_damaged(writing: &mut Writing<'_>, rows: &[i64]) -> Result<(), StoreError> {
    let dropped = drop_rows(writing, "DELETE FROM damaged WHERE id = ?1", rows);
    dropped.map_err(database("drop old damaged records"))
}

fn drop_rows(writing: &Writing<'_>, delete: &str, ids: &[i64]) -> rusqlite::Result<()> {
    let mut delete = writing.connection.prepare_cached(delete)?;
    ids.iter().try_for_each(|id| delete.execute([*id]).map(|_| ()))
}

/// Begins to note which texts new rows name, so that [`drop_texts`] knows what has come into use since
/// [`unused_texts`] looked. Looking takes long and is done beside the writer.
pub(crate) fn watch_texts(writing: &mut Writing<'_>) -> Result<(), StoreError> {
    let watch = "DROP TABLE IF EXISTS temp.texts_used; \
        CREATE TEMP TABLE texts_used (id INTEGER PRIMARY KEY); \
        CREATE TEMP TRIGGER IF NOT EXISTS series_use_texts AFTER INSERT ON main.series BEGIN \
        INSERT OR IGNORE INTO texts_used VALUES (NEW.name), (NEW.help); END; \
        CREATE TEMP TRIGGER IF NOT EXISTS groups_use_texts AFTER INSERT ON main.groups BEGIN \
        INSERT OR IGNORE INTO texts_used VALUES (NEW.collector); END";
    writing.connection.execute_batch(watch).map_err(database("watch texts"))
}

/// Texts that no row names.
pub(crate) fn unused_texts(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM texts WHERE id NOT IN (SELECT name FROM series \
             UNION ALL SELECT help FROM series UNION ALL SELECT collector FROM groups)",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Drops those of some texts that no row has named since [`watch_texts`], and ends the watch.
pub(crate) fn drop_texts(writing: &mut Writing<'_>, texts: &[i64]) -> Result<(), StoreError> {
    let unused = "DELETE FROM texts WHERE id = ?1 AND id NOT IN (SELECT id FROM temp.texts_used)";
    let end = "DROP TRIGGER temp.series_use_texts; DROP TRIGGER temp.groups_use_texts; \
        DROP TABLE temp.texts_used";
    drop_rows(writing, unused, texts)
        .and_then(|()| writing.connection.execute_batch(end))
        .map_err(database("drop old texts"))
}

#[cfg(test)]
mod tests;
