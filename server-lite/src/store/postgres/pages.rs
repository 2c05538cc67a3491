//! Kept rollups: a *page* for each group of 64 series of an agent, day of UTC and level.
//!
//! - An agent's pages of a day stand for all its samples of that day with a tick below `paged.tick`. Whoever
//!   stores others sees to a row in `unpaged`, in the same transaction. So pages are right, or known not to
//!   be: a day without such a row is answered from them, any other from samples.
//! - To make them is to take that row: under the lock of the agent's row it becomes one that bears a tick of
//!   that moment. What comes from then on has higher ticks, and puts a row of its own there. When the pages
//!   are stored the one that was taken goes, if it is still there: who led before and makes the same pages
//!   finds it gone, and stores nothing.
//! - Samples are dropped by whole days (`dropped.before_day`) when nothing of these is unpaged. From then on
//!   pages can't be made again: what comes later still is [merged](kept::merge) into them. That is exact but
//!   where samples lie between others of the same span, see there.

use std::collections::BTreeMap;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::{Client, Transaction};

use super::{
    change::Change,
    connect::{database, get},
    counters::Counters,
    read,
    stored::Reading,
};
use crate::store::{
    Retention, StoreError,
    columns::{Malformed, Page, PageBuilder, block::SLOTS, page::Spans},
    rollup::{
        Folding, Level,
        kept::{self, day_of, level_number, start_of},
    },
};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Pages are made when their day has been over for so long: most of what is late has come.
const QUIET_MS: i64 = 30 * 60 * 1_000;
/// And again when something that came late has waited for so long: with it comes more.
const WAIT_MS: i64 = 60 * 60 * 1_000;

/// The group of a series.
pub(crate) const fn group_of(series: i64) -> i64 {
    series.div_euclid(SLOTS as i64)
}

/// The group's slot of a series.
#[expect(clippy::cast_possible_truncation, reason = "less than SLOTS")]
pub(crate) const fn slot_of(series: i64) -> u8 {
    series.rem_euclid(SLOTS as i64) as u8
}

/// A level as its column has it.
#[expect(clippy::cast_possible_truncation, reason = "there are four")]
pub(crate) const fn level_of(level: Level) -> i16 {
    level_number(level) as i16
}

/// The days that are over; pages of earlier ones are made.
pub(crate) const fn over_before(now_ms: i64) -> i64 {
    day_of(now_ms.saturating_sub(QUIET_MS))
}

/// Makes pages.
pub(crate) struct Making<'a> {
    /// For reading and storing.
    pub(crate) pool: &'a Pool,
    /// What it counts.
    pub(crate) counters: &'a Counters,
    /// Unix milliseconds.
    pub(crate) now_ms: i64,
    /// How long what is kept.
    pub(crate) keep: Retention,
}

/// A day of an agent whose pages have to be made.
#[derive(Clone, Copy, Debug)]
struct Due {
    agent: i64,
    day: i64,
}

/// Pages of a day, made.
struct Made {
    /// With the samples before this tick.
    tick: i64,
    /// Whether they are all there are; else those of other groups stay.
    is_all: bool,
    levels: Vec<i16>,
    groups: Vec<i64>,
    pages: Vec<Vec<u8>>,
    /// Series that have samples of the day.
    series: Vec<i64>,
}

impl Making<'_> {
    /// Makes all that are due.
    pub(crate) async fn make_all(&self) -> std::result::Result<(), StoreError> {
        let mut client = get(self.pool).await?;
        for due in self.due(&client).await.map_err(database("look for rollups to be made"))? {
            match self.make(&mut client, due).await {
                // The others don't wait for it.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "rollups can't be made"
                    );
                }
                made => made?,
            }
        }
        Ok(())
    }

    /// Days that are over, when what came late has waited, or is about to go with its samples.
    async fn due(&self, client: &Client) -> Result<Vec<Due>> {
        let due = "SELECT DISTINCT day, agent FROM unpaged WHERE day < $1 \
            AND (since_ms <= $2 OR day <= $3 OR taken > 0) ORDER BY day, agent";
        let over = over_before(self.now_ms);
        let waited_ms = self.now_ms.saturating_sub(WAIT_MS);
        let going = day_of(self.keep.raw_before_ms(self.now_ms));
        let rows = client.query(due, &[&over, &waited_ms, &going]).await?;
        Ok(rows.iter().map(|row| Due { agent: row.get(1), day: row.get(0) }).collect())
    }

    async fn make(&self, client: &mut Object, due: Due) -> std::result::Result<(), StoreError> {
        let taken = take(client, due).await.map_err(database("take what a page is made of"))?;
        let Some(taken) = taken else { return Ok(()) };
        let made = self.pages(client, due, taken).await?;
        let (pages, bytes) = (made.pages.len(), made.pages.iter().map(Vec::len).sum::<usize>());
        if store(client, due, &made).await.map_err(database("store pages"))? {
            self.counters.rollup_pages.add(pages as u64);
            self.counters.rollup_bytes.add(bytes as u64);
        }
        Ok(())
    }

    async fn pages(
        &self,
        client: &mut Object,
        due: Due,
        tick: i64,
    ) -> std::result::Result<Made, StoreError> {
        let failed = || database("read what a page is made of");
        let reading = read::begin(client).await.map_err(failed())?;
        let (mut pages, done) = self.begin(&reading, due, tick).await.map_err(failed())?;
        let series = "SELECT id FROM series WHERE agent = $1 ORDER BY id";
        let series = reading.query(series, &[&due.agent]).await.map_err(failed())?;
        let series: Vec<i64> = series.iter().map(|row| row.get(0)).collect();
        for group in series.chunk_by(|a, b| group_of(*a) == group_of(*b)) {
            let ticks = if pages.is_all { i64::MIN..tick } else { done..tick };
            let minutes = minutes(&reading, group, due.day, ticks).await.map_err(failed())?;
            pages.series.extend(minutes.keys());
            self.group(&reading, due, &mut pages, minutes).await?;
        }
        reading.commit().await.map_err(failed())?;
        Ok(pages)
    }

    /// Nothing yet, and up to which tick samples are in the pages there are.
    async fn begin(&self, reading: &Transaction<'_>, due: Due, tick: i64) -> Result<(Made, i64)> {
        let before = "SELECT before_day, (SELECT tick FROM paged WHERE agent = $1 AND day = $2) \
            FROM dropped";
        let row = reading.query_one(before, &[&due.agent, &due.day]).await?;
        let is_all = due.day >= row.get(0);
        let (levels, groups, pages, series) = (vec![], vec![], vec![], vec![]);
        let made = Made { tick, is_all, levels, groups, pages, series };
        Ok((made, row.get::<_, Option<i64>>(1).unwrap_or(i64::MIN)))
    }

    /// Makes the pages of one group.
    async fn group(
        &self,
        reading: &Transaction<'_>,
        due: Due,
        made: &mut Made,
        minutes: BTreeMap<i64, Spans>,
    ) -> std::result::Result<(), StoreError> {
        let Some(group) = minutes.keys().next().map(|series| group_of(*series)) else {
            return Ok(());
        };
        let damaged = |error| damaged(due, group, error);
        for level in Level::ALL {
            if start_of(due.day + 1) < self.keep.rollups_before_ms(level, self.now_ms) {
                continue;
            }
            let series = minutes.iter().map(|(one, all)| (slot_of(*one), kept::longer(level, all)));
            let mut series: BTreeMap<u8, Spans> = series.collect();
            if !made.is_all {
                let failed = database("read page");
                let page = page(reading, due, group, level).await.map_err(failed)?;
                page.map_or(Ok(()), |page| merge(&page, level, due.day, &mut series))
                    .map_err(damaged)?;
            }
            let mut builder = PageBuilder::new(level, start_of(due.day));
            series.into_iter().for_each(|(slot, spans)| builder.insert(slot, spans));
            made.pages.push(builder.finish().map_err(damaged)?);
            made.levels.push(level_of(level));
            made.groups.push(group);
        }
        Ok(())
    }
}

/// Takes what is unpaged of a day, if there still is something. Gives the tick that comes before all that the
/// agent sends from now on.
async fn take(client: &mut Object, Due { agent, day }: Due) -> Result<Option<i64>> {
    let change = Change::begin(client).await?;
    let lock = "UPDATE agents SET changed = changed + 1 WHERE id = $1";
    change.execute(lock, &[&agent]).await?;
    let tick: i64 = change.query_one("SELECT nextval('tick_blocks')", &[]).await?.get(0);
    let since = "DELETE FROM unpaged WHERE agent = $1 AND day = $2 RETURNING since_ms";
    let since = change.query(since, &[&agent, &day]).await?;
    let Some(since_ms) = since.iter().map(|row| row.get::<_, i64>(0)).min() else {
        return Ok(None);
    };
    let take = "INSERT INTO unpaged (agent, day, taken, since_ms) VALUES ($1, $2, $3, $4)";
    change.execute(take, &[&agent, &day, &tick, &since_ms]).await?;
    change.commit().await?;
    Ok(Some(tick))
}

/// Minutes of the series of a group, of those that have samples with such ticks.
async fn minutes(
    reading: &Transaction<'_>,
    series: &[i64],
    day: i64,
    ticks: std::ops::Range<i64>,
) -> Result<BTreeMap<i64, Spans>> {
    let span = (start_of(day).saturating_add(1), start_of(day.saturating_add(1)));
    let mut samples =
        Reading::begin(reading, series, span, |_, tick| ticks.contains(&tick)).await?;
    let mut all = BTreeMap::<i64, (Folding, Spans)>::new();
    while let Some(sample) = samples.next().await? {
        let new = || (Folding::new(Level::Minute), Spans::new());
        let (folding, spans) = all.entry(sample.series).or_insert_with(new);
        spans.extend(folding.push(sample.at, sample.value));
    }
    let closed = all.into_iter().map(|(series, (mut folding, mut spans))| {
        spans.extend(folding.finish());
        (series, spans)
    });
    Ok(closed.collect())
}

async fn page(
    reading: &Transaction<'_>,
    Due { agent, day }: Due,
    group: i64,
    level: Level,
) -> Result<Option<Vec<u8>>> {
    let page = "SELECT data FROM pages WHERE agent = $1 AND level = $2 AND grp = $3 AND day = $4";
    let row = reading.query_opt(page, &[&agent, &level_of(level), &group, &day]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Adds what a page has to what came later.
fn merge(
    page: &[u8],
    level: Level,
    day: i64,
    series: &mut BTreeMap<u8, Spans>,
) -> std::result::Result<(), Malformed> {
    let page = Page::open(page, level, start_of(day))?;
    for slot in page.slots() {
        let late = series.remove(&slot).unwrap_or_default();
        series.insert(slot, kept::merge(page.series(slot)?.unwrap_or_default(), late));
    }
    Ok(())
}

fn damaged(due: Due, group: i64, Malformed(detail): Malformed) -> StoreError {
    StoreError::Damaged {
        what: format!("rollups of agent {}, group {group}, day {}", due.agent, due.day),
        detail,
        series: vec![],
    }
}

/// Stores pages in the place of those there were; `false` if another hub has taken the day.
async fn store(client: &mut Object, Due { agent, day }: Due, made: &Made) -> Result<bool> {
    let change = Change::begin(client).await?;
    let taken = "DELETE FROM unpaged WHERE agent = $1 AND day = $2 AND taken = $3";
    if change.execute(taken, &[&agent, &day, &made.tick]).await? == 0 {
        return Ok(false);
    }
    let paged = "INSERT INTO paged (agent, day, tick) VALUES ($1, $2, $3) \
        ON CONFLICT (agent, day) DO UPDATE SET tick = excluded.tick";
    change.execute(paged, &[&agent, &day, &made.tick]).await?;
    if made.is_all {
        let levels: Vec<i16> = Level::ALL.map(level_of).to_vec();
        let before = "DELETE FROM pages WHERE agent = $1 AND level = ANY($2) AND day = $3";
        change.execute(before, &[&agent, &levels, &day]).await?;
    }
    let pages = "INSERT INTO pages (agent, day, level, grp, data) SELECT $1, $2, * \
        FROM unnest($3::smallint[], $4::bigint[], $5::bytea[]) \
        ON CONFLICT (agent, level, grp, day) DO UPDATE SET data = excluded.data";
    change.execute(pages, &[&agent, &day, &made.levels, &made.groups, &made.pages]).await?;
    let last = "UPDATE series SET last_day = $2 \
        WHERE id = ANY($1) AND (last_day IS NULL OR last_day < $2)";
    change.execute(last, &[&made.series, &day]).await?;
    change.commit().await?;
    Ok(true)
}
