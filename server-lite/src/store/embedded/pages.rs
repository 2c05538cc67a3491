//! Kept rollups: a *page* for each group of series, day of UTC and level.
//!
//! - A page stands for all sealed samples of its day but those of blocks that `unpaged` names. A block is
//!   put there in the transaction that seals it, and taken out in the one that stores the page made with
//!   it. So a page is right, or known not to be: a day without unpaged blocks and without records in the
//!   head is answered from its page, any other from samples.
//! - Pages are made of all samples of the day when it is over, and again when something came late.
//! - Samples go only when nothing of their day is unpaged. From then on (`groups.dropped_ms`) a page can't
//!   be made again: what comes later still is [merged](merge) into it. That is exact but where samples lie
//!   between others of the same span, see there.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    columns::{
        Block, Malformed, Page, PageBuilder,
        block::{SLOTS, TICKS_MAX},
        page::Spans,
    },
    database::database,
    head_cache::HeadCache,
    read::{Reading, Wanted},
    registry::place_of,
    stats::Counters,
    writer::Writing,
};
use crate::store::{
    Retention, StoreError,
    rollup::{Folding, Level, kept::longer},
};

/// Pages are made when their day has been over for so long: by then the head is sealed.
const QUIET_MS: i64 = 150 * 60 * 1_000;
/// Rounds of housekeeping after which pages are made whose day doesn't become quiet.
const PATIENCE: u64 = 36;

pub(crate) use crate::store::rollup::kept::{day_of, level_number, merge, start_of};

/// Tables of pages; new with version 4. `groups.dropped_ms`: the latest sample of the group's dropped
/// blocks. `series.is_old`: its samples have gone, it isn't counted any more; its rollups are there.
pub(crate) const TABLES: &str = "
ALTER TABLE groups ADD COLUMN dropped_ms INTEGER;
ALTER TABLE series ADD COLUMN is_old INTEGER NOT NULL DEFAULT 0;
CREATE TABLE pages (
    id INTEGER PRIMARY KEY,
    grp INTEGER NOT NULL,
    level INTEGER NOT NULL,
    day INTEGER NOT NULL,
    is_damaged INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX pages_by_day ON pages (grp, level, day);
CREATE TABLE unpaged (
    grp INTEGER NOT NULL,
    day INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (grp, day, block)
) STRICT, WITHOUT ROWID;
";

/// The days of some samples.
pub(crate) fn days_of(times: &[i64]) -> BTreeSet<i64> {
    times.iter().map(|time_ms| day_of(*time_ms)).collect()
}

/// Notes that a block isn't in the pages of its days.
pub(crate) fn note_unpaged(
    connection: &Connection,
    group: i64,
    block: i64,
    days: &BTreeSet<i64>,
) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT OR IGNORE INTO unpaged (grp, day, block) VALUES (?1, ?2, ?3)")?;
    days.iter().try_for_each(|day| insert.execute([group, *day, block]).map(|_| ()))
}

/// Notes that no block is in a page: those of a database that had none. One that doesn't read goes in by
/// its span, if that isn't a wild one.
pub(crate) fn note_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut blocks = connection.prepare("SELECT id, grp, min_ms, max_ms, data FROM blocks")?;
    let mut rows = blocks.query([])?;
    while let Some(row) = rows.next()? {
        let (id, group, bytes) = (row.get(0)?, row.get(1)?, row.get_ref(4)?.as_blob()?);
        let (first, last): (i64, i64) = (day_of(row.get(2)?), day_of(row.get(3)?));
        let days = match Block::open(bytes) {
            Ok(block) => days_of(&block.times),
            Err(_) => (first..=last).take(TICKS_MAX).collect(),
        };
        note_unpaged(connection, group, id, &days)?;
    }
    Ok(())
}

/// A page that has to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) group: i64,
    pub(crate) day: i64,
    /// The latest block that isn't in it.
    last_block: i64,
}

impl Due {
    /// Of which day.
    pub(crate) const fn day(&self) -> i64 {
        self.day
    }
}

/// Which pages are due: of days that are over, and quiet or waited for long enough.
#[derive(Debug)]
pub(crate) struct Patience {
    rounds: u64,
    /// Blocks up to this one were there in the round before.
    seen: i64,
}

impl Default for Patience {
    fn default() -> Self {
        // What was there before the store was opened has been quiet.
        Self { rounds: 0, seen: i64::MAX }
    }
}

impl Patience {
    /// Those of all that are over that have waited long enough.
    pub(crate) fn pick(&mut self, over: Vec<Due>) -> Vec<Due> {
        let before = self.seen;
        self.rounds += 1;
        self.seen = over.iter().map(|due| due.last_block).max().unwrap_or(0);
        let all = self.rounds.is_multiple_of(PATIENCE);
        over.into_iter().filter(|due| all || due.last_block <= before).collect()
    }
}

/// Pages that have to be made of days that are over.
pub(crate) fn over(connection: &Connection, now_ms: i64) -> rusqlite::Result<Vec<Due>> {
    connection
        .prepare_cached(
            "SELECT grp, day, max(block) FROM unpaged GROUP BY grp, day HAVING day < ?1",
        )?
        .query_map([day_of(now_ms.saturating_sub(QUIET_MS))], |row| {
            Ok(Due { group: row.get(0)?, day: row.get(1)?, last_block: row.get(2)? })
        })?
        .collect()
}

/// Pages of one day, made.
#[derive(Debug)]
pub(crate) struct Made {
    group: i64,
    day: i64,
    /// Blocks that are in them now.
    blocks: Vec<i64>,
    /// `None`: there is nothing.
    pages: Vec<(Level, Option<Vec<u8>>)>,
    is_damaged: bool,
}

/// Makes the pages of a day. Levels that are not kept for so long are left out.
pub(crate) fn make(
    connection: &mut Connection,
    counters: &Counters,
    due: Due,
    keep: &Retention,
    now_ms: i64,
) -> Result<Made, StoreError> {
    let transaction = connection.transaction().map_err(database("begin reading"))?;
    let read = || database("read what a page is made of");
    let Due { group, day, .. } = due;
    let blocks = unpaged_blocks(&transaction, group, day).map_err(read())?;
    let gone = dropped_day(&transaction, group).map_err(read())?.is_some_and(|gone| day <= gone);
    // Of the head nothing is read.
    let cache = HeadCache::default();
    let mut reading = Reading::new(&transaction, counters, &cache)?;
    let span = (start_of(day).saturating_add(1), start_of(day + 1));
    let mut sources = Vec::new();
    reading.block_sources(group, span, &mut sources).map_err(read())?;
    if gone {
        sources.retain(|source| source.block_id().is_some_and(|id| blocks.contains(&id)));
    }
    let minutes = minutes(&mut reading, group, span, sources)?;
    let mut is_damaged = reading.is_damaged();
    let mut pages = Vec::new();
    for level in Level::ALL {
        if start_of(day + 1) < keep.rollups_before_ms(level, now_ms) {
            continue;
        }
        let mut series: BTreeMap<u8, Spans> =
            minutes.iter().map(|(slot, spans)| (*slot, longer(level, spans))).collect();
        if gone && !merge_page(&transaction, (group, day), level, &mut series)? {
            is_damaged = true;
        }
        let mut builder = PageBuilder::new(level, start_of(day));
        series.into_iter().for_each(|(slot, spans)| builder.insert(slot, spans));
        let page = (!builder.is_empty()).then(|| builder.finish()).transpose();
        pages.push((level, page.map_err(|error| damaged((group, day), error))?));
    }
    Ok(Made { group, day, blocks: blocks.into_iter().collect(), pages, is_damaged })
}

fn damaged((group, day): (i64, i64), Malformed(detail): Malformed) -> StoreError {
    StoreError::Damaged {
        what: format!("page of group {group}, day {day}"),
        detail,
        series: vec![],
    }
}

fn minutes(
    reading: &mut Reading<'_>,
    group: i64,
    span: (i64, i64),
    sources: Vec<super::read::Source>,
) -> Result<BTreeMap<u8, Spans>, StoreError> {
    let first = group * i64::from(SLOTS);
    let wanted: Wanted = (0..SLOTS).map(|slot| (first + i64::from(slot), slot.into())).collect();
    let mut folding = vec![Folding::new(Level::Minute); wanted.len()];
    let mut spans = vec![Spans::new(); wanted.len()];
    reading.samples(0, &wanted, span, sources, |slot, times, values| {
        let samples = times.into_iter().zip(values);
        let folding = &mut folding[slot];
        spans[slot].extend(samples.filter_map(|(time_ms, value)| folding.push(time_ms, value)));
        true
    })?;
    for (spans, folding) in spans.iter_mut().zip(&mut folding) {
        spans.extend(folding.finish());
    }
    Ok((0..).zip(spans).filter(|(_, spans)| !spans.is_empty()).collect())
}

/// Adds what the page there is has; `false` if it lacks something.
fn merge_page(
    connection: &Connection,
    (group, day): (i64, i64),
    level: Level,
    series: &mut BTreeMap<u8, Spans>,
) -> Result<bool, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT is_damaged, data FROM pages WHERE grp = ?1 AND level = ?2 AND day = ?3",
        )
        .and_then(|mut statement| {
            let page =
                |row: &rusqlite::Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, Vec<u8>>(1)?));
            statement.query_row([group, level_number(level), day], page).optional()
        });
    let Some((is_damaged, bytes)) = found.map_err(database("read page"))? else { return Ok(true) };
    let read = Page::open(&bytes, level, start_of(day)).and_then(|page| {
        let slots = page.slots().map(|slot| Ok((slot, page.series(slot)?.unwrap_or_default())));
        slots.collect::<Result<Vec<_>, Malformed>>()
    });
    match read {
        Ok(kept) => {
            for (slot, kept) in kept {
                let late = series.remove(&slot).unwrap_or_default();
                series.insert(slot, merge(kept, late));
            }
            Ok(!is_damaged)
        }
        Err(Malformed(detail)) => {
            tracing::error!(group, day, level = level.as_str(), detail, "page no longer reads");
            Ok(false)
        }
    }
}

/// Stores pages in the place of those there were.
pub(crate) fn commit(writing: &mut Writing<'_>, made: &Made) -> Result<(), StoreError> {
    let connection = writing.connection;
    let store = || {
        let mut put = connection.prepare_cached(
            "INSERT OR REPLACE INTO pages (grp, level, day, is_damaged, data) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let mut remove = connection
            .prepare_cached("DELETE FROM pages WHERE grp = ?1 AND level = ?2 AND day = ?3")?;
        for (level, page) in &made.pages {
            let level = level_number(*level);
            match page {
                Some(page) => {
                    put.execute(params![made.group, level, made.day, made.is_damaged, page])?
                }
                None => remove.execute([made.group, level, made.day])?,
            };
        }
        let mut paged = connection
            .prepare_cached("DELETE FROM unpaged WHERE grp = ?1 AND day = ?2 AND block = ?3")?;
        made.blocks
            .iter()
            .try_for_each(|block| paged.execute([made.group, made.day, *block]).map(|_| ()))
    };
    store().map_err(database("store pages"))?;
    let bytes = |(_, page): &(Level, Option<Vec<u8>>)| page.as_ref().map_or(0, Vec::len) as u64;
    writing.after.tally.pages += made.pages.len() as u64;
    writing.after.tally.page_bytes += made.pages.iter().map(bytes).sum::<u64>();
    Ok(())
}

/// Blocks of a group that aren't in the page of a day.
pub(crate) fn unpaged_blocks(
    connection: &Connection,
    group: i64,
    day: i64,
) -> rusqlite::Result<BTreeSet<i64>> {
    connection
        .prepare_cached("SELECT block FROM unpaged WHERE grp = ?1 AND day = ?2")?
        .query_map([group, day], |row| row.get(0))?
        .collect()
}

/// Days of a group that have blocks which aren't in their pages.
pub(crate) fn unpaged_days(connection: &Connection, group: i64) -> rusqlite::Result<BTreeSet<i64>> {
    connection
        .prepare_cached("SELECT DISTINCT day FROM unpaged WHERE grp = ?1")?
        .query_map([group], |row| row.get(0))?
        .collect()
}

/// The latest day of which samples of a group have been dropped.
pub(crate) fn dropped_day(connection: &Connection, group: i64) -> rusqlite::Result<Option<i64>> {
    let dropped: Option<Option<i64>> = connection
        .prepare_cached("SELECT dropped_ms FROM groups WHERE id = ?1")?
        .query_row([group], |row| row.get(0))
        .optional()?;
    Ok(dropped.flatten().map(day_of))
}

/// Drops blocks of some groups that are older than a time as a whole, and are in their pages.
pub(crate) fn drop_old_blocks(
    writing: &mut Writing<'_>,
    groups: &[i64],
    cutoff_ms: i64,
) -> Result<(), StoreError> {
    for group in groups {
        let dropped = drop_blocks(writing.connection, *group, cutoff_ms);
        let dropped_ms = dropped.map_err(database("drop old samples"))?;
        writing.after.tally.dropped_ms = writing.after.tally.dropped_ms.max(dropped_ms);
    }
    Ok(())
}

/// Gives the latest time that it has dropped.
fn drop_blocks(
    connection: &Connection,
    group: i64,
    cutoff_ms: i64,
) -> rusqlite::Result<Option<i64>> {
    let unpaged = unpaged_days(connection, group)?;
    let old: Vec<(i64, i64, i64)> = connection
        .prepare_cached(
            "SELECT id, min_ms, max_ms FROM blocks INDEXED BY blocks_by_time \
             WHERE grp = ?1 AND max_ms < ?2",
        )?
        .query_map([group, cutoff_ms], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut delete = connection.prepare_cached("DELETE FROM blocks WHERE id = ?1")?;
    let mut dropped_ms = None;
    for (id, min_ms, max_ms) in old {
        if unpaged.range(day_of(min_ms)..=day_of(max_ms)).next().is_none() {
            delete.execute([id])?;
            dropped_ms = dropped_ms.max(Some(max_ms));
        }
    }
    connection
        .prepare_cached(
            "UPDATE groups SET dropped_ms = ?2 \
             WHERE id = ?1 AND ?2 IS NOT NULL AND (dropped_ms IS NULL OR dropped_ms < ?2)",
        )?
        .execute(params![group, dropped_ms])
        .map(|_| dropped_ms)
}

/// Groups that have pages of a level that end before a time.
pub(crate) fn old_groups(
    connection: &Connection,
    level: Level,
    cutoff_ms: i64,
) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM groups g WHERE EXISTS (SELECT 1 FROM pages p \
             WHERE p.grp = g.id AND p.level = ?1 AND p.day < ?2)",
        )?
        .query_map([level_number(level), day_of(cutoff_ms)], |row| row.get(0))?
        .collect()
}

/// Drops pages of a level of some groups that end before a time.
pub(crate) fn drop_old(
    writing: &mut Writing<'_>,
    groups: &[i64],
    level: Level,
    cutoff_ms: i64,
) -> Result<(), StoreError> {
    let (level, day) = (level_number(level), day_of(cutoff_ms));
    let drop = || {
        let mut delete = writing
            .connection
            .prepare_cached("DELETE FROM pages WHERE grp = ?1 AND level = ?2 AND day < ?3")?;
        groups.iter().try_for_each(|group| delete.execute([*group, level, day]).map(|_| ()))
    };
    drop().map_err(database("drop old rollups"))
}

/// The group's slot of a series.
pub(crate) fn slot_of(series: i64) -> u8 {
    place_of(series).1
}

#[cfg(test)]
mod tests;
