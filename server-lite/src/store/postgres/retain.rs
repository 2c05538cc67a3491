//! What goes when it is old: samples, by partitions or chunks as a whole, when their rollups are there; rollups,
//! each level when its time is over; then the series and schemas that nothing names any more, lines of the gap
//! ledger, checksums of records. And with TimescaleDB, what of the days that are over isn't in columns yet.
//!
//! One hub does it, the one that leads.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::{Object, Pool};

use super::{
    change::Change,
    connect::{database, get},
    counters::Counters,
    days::{self, DAY_MS},
    families,
    migrate::Layout,
    pages::{Making, level_of},
    targets,
};
use crate::store::{
    Retention, StoreError,
    rollup::{Level, kept},
};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Time between two looks for series that nothing names: each reads all of them. A day that has gone is a
/// reason too.
const SERIES_EVERY_MS: i64 = 6 * 60 * 60 * 1_000;
/// A day is in columns when it has been over for so long: most of what comes late has come.
const COLUMNS_AFTER_MS: i64 = 6 * 60 * 60 * 1_000;

/// Keeps house.
#[derive(Debug)]
pub(crate) struct House {
    layout: Layout,
    /// When series were last looked at.
    looked: Mutex<Option<Looked>>,
}

/// A look for series that nothing names.
#[derive(Clone, Copy, Debug)]
struct Looked {
    at_ms: i64,
    before: Before,
}

/// From which days on there is anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Before {
    /// Samples.
    samples: i64,
    /// Anything at all.
    all: i64,
}

impl House {
    /// Of a database that is laid out so.
    pub(crate) const fn new(layout: Layout) -> Self {
        Self { layout, looked: Mutex::new(None) }
    }

    /// Does what is due.
    pub(crate) async fn keep(
        &self,
        pool: &Pool,
        counters: &Counters,
        now_ms: i64,
        keep: Retention,
    ) -> std::result::Result<(), StoreError> {
        Making { pool, counters, now_ms, keep }.make_all().await?;
        let mut client = get(pool).await?;
        let cutoff_ms = keep.raw_before_ms(now_ms);
        let dropped = self.drop_samples(&mut client, cutoff_ms).await;
        counters.note_dropped(dropped.map_err(database("drop old samples"))?);
        if self.layout == Layout::Hypertable {
            let columns = columns(&client, now_ms.saturating_sub(COLUMNS_AFTER_MS)).await;
            columns.map_err(database("put samples in columns"))?;
        }
        drop_rollups(&client, now_ms, keep).await.map_err(database("drop old rollups"))?;
        drop_rows(&client, cutoff_ms).await.map_err(database("drop old gaps and checksums"))?;
        let before = Before {
            samples: kept::day_of(cutoff_ms),
            all: kept::day_of(keep.all_before_ms(now_ms)),
        };
        if !self.is_due(now_ms, before) {
            return Ok(());
        }
        drop_series(&mut client, cutoff_ms, before).await.map_err(database("drop old series"))?;
        targets::drop_empty(&mut client).await.map_err(database("drop old targets"))?;
        let families = families::drop_unsaid(&client, cutoff_ms).await;
        families.map_err(database("drop what was said of metrics"))?;
        *self.looked() = Some(Looked { at_ms: now_ms, before });
        Ok(())
    }

    fn is_due(&self, now_ms: i64, before: Before) -> bool {
        self.looked().is_none_or(|looked| {
            let since = looked.at_ms..looked.at_ms.saturating_add(SERIES_EVERY_MS);
            looked.before != before || !since.contains(&now_ms)
        })
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Option<Looked>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the first day that is kept.
    async fn drop_samples(&self, client: &mut Object, cutoff_ms: i64) -> Result<i64> {
        let before = note_dropped(client, days::day_of(cutoff_ms)).await?;
        let before_ms = before.saturating_mul(DAY_MS);
        match self.layout {
            Layout::Partitions => {
                let dropped = days::drop_before(client, before_ms).await?;
                if dropped > 0 {
                    tracing::info!(partitions = dropped, "old samples dropped");
                }
            }
            // Whole days, as partitions are.
            Layout::Hypertable => {
                // A number that PostgreSQL reads; what lies before is strays.
                let before_ms = before_ms.max(0);
                for table in ["samples", "ticks"] {
                    let drop =
                        format!("SELECT drop_chunks('{table}', older_than => {before_ms}::bigint)");
                    client.batch_execute(&drop).await?;
                }
            }
        }
        drop_strays(client, before_ms).await?;
        Ok(before)
    }
}

/// Sees to it that nobody stores samples of days that may be dropped: those before a day of which nothing
/// is missing in rollups. Gives the first that is to be kept.
async fn note_dropped(client: &mut Object, before: i64) -> Result<i64> {
    let change = Change::begin(client).await?;
    let dropped = change.change_dropped().await?;
    // The first partition that is there has the last moment of the page before.
    let unpaged = "SELECT min(day) FROM unpaged WHERE day >= $1";
    let unpaged = change.query_one(unpaged, &[&dropped.saturating_sub(1)]).await?;
    let before = before.min(unpaged.get::<_, Option<i64>>(0).unwrap_or(i64::MAX)).max(dropped);
    if before > dropped {
        change.execute("UPDATE dropped SET before_day = $1", &[&before]).await?;
    }
    change.commit().await?;
    Ok(before)
}

/// Strays of days whose samples go; but for those that are in no page yet.
async fn drop_strays(client: &Object, before_ms: i64) -> Result<()> {
    let samples = "DELETE FROM stray_samples s USING series e, paged p WHERE s.at < $1 \
        AND e.id = s.series AND p.agent = e.agent AND p.day = page_day(s.at) AND s.tick < p.tick";
    client.execute(samples, &[&before_ms]).await?;
    let ticks = "DELETE FROM stray_ticks t USING streams r, paged p WHERE t.at < $1 \
        AND r.id = t.stream AND p.agent = r.agent AND p.day = page_day(t.at) AND t.id < p.tick";
    client.execute(ticks, &[&before_ms]).await.map(|_| ())
}

/// Puts chunks that end before a time in columns, and what came late for such as already are.
async fn columns(client: &Object, before_ms: i64) -> Result<()> {
    let due = "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks i \
        WHERE hypertable_schema = 'holdfast' AND hypertable_name IN ('samples', 'ticks') \
        AND range_end_integer <= $1 AND (NOT is_compressed OR EXISTS ( \
        SELECT FROM _timescaledb_catalog.chunk c WHERE c.schema_name = i.chunk_schema \
        AND c.table_name = i.chunk_name AND c.status & 8 <> 0)) ORDER BY range_end_integer";
    for row in client.query(due, &[&before_ms]).await? {
        let chunk: String = row.get(0);
        client.batch_execute(&format!("CALL convert_to_columnstore('{chunk}')")).await?;
    }
    Ok(())
}

/// Drops pages of each level that ended before its time, and what is noted of days that have none left.
async fn drop_rollups(client: &Object, now_ms: i64, keep: Retention) -> Result<()> {
    for level in Level::ALL {
        let before = kept::day_of(keep.rollups_before_ms(level, now_ms));
        let pages = "DELETE FROM pages WHERE level = $1 AND day < $2";
        client.execute(pages, &[&level_of(level), &before]).await?;
    }
    let before = kept::day_of(keep.all_before_ms(now_ms));
    let paged = "DELETE FROM paged p USING dropped d WHERE p.day < $1 AND p.day < d.before_day \
        AND NOT EXISTS (SELECT FROM unpaged u WHERE u.agent = p.agent AND u.day = p.day)";
    client.execute(paged, &[&before]).await.map(|_| ())
}

async fn drop_rows(client: &Object, cutoff_ms: i64) -> Result<()> {
    let gaps = "DELETE FROM gaps WHERE to_ms < $1 AND received_ms < $1";
    client.execute(gaps, &[&cutoff_ms]).await?;
    // From the first on that is to be kept, all are: one that lacks between others is no evidence.
    let sums = "DELETE FROM sums s USING (SELECT stream, coalesce(min(first_seq) \
        FILTER (WHERE received_ms >= $1), 9223372036854775807) AS first FROM sums GROUP BY stream) k \
        WHERE s.stream = k.stream AND s.first_seq < k.first";
    client.execute(sums, &[&cutoff_ms]).await.map(|_| ())
}

/// Drops schemas not used since a time, counts series no more that have no sample and that no schema names,
/// and drops those that have nothing left.
async fn drop_series(client: &mut Object, cutoff_ms: i64, before: Before) -> Result<()> {
    let agents = "SELECT agent FROM schemas WHERE used_ms < $1 UNION SELECT s.agent FROM series s \
        LEFT JOIN (SELECT DISTINCT unnest(series) AS id FROM schemas) u ON u.id = s.id \
        WHERE u.id IS NULL AND coalesce(s.last_day, -9223372036854775808) < \
        CASE WHEN s.is_old THEN $3::bigint ELSE $2::bigint END";
    let rows = client.query(agents, &[&cutoff_ms, &before.samples, &before.all]).await?;
    for agent in rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>() {
        drop_series_of(client, agent, cutoff_ms, before).await?;
    }
    Ok(())
}

async fn drop_series_of(
    client: &mut Object,
    agent: i64,
    cutoff_ms: i64,
    before: Before,
) -> Result<()> {
    let change = Change::begin(client).await?;
    change.query("SELECT id FROM agents WHERE id = $1 FOR NO KEY UPDATE", &[&agent]).await?;
    let schemas = "DELETE FROM schemas WHERE agent = $1 AND used_ms < $2";
    let mut changed = change.execute(schemas, &[&agent, &cutoff_ms]).await?;
    let age = "UPDATE series s SET is_old = true WHERE agent = $1 AND NOT is_old \
        AND id NOT IN (SELECT unnest(series) FROM schemas WHERE agent = $1) \
        AND NOT EXISTS (SELECT FROM samples WHERE series = s.id) \
        AND NOT EXISTS (SELECT FROM stray_samples WHERE series = s.id)";
    changed += change.execute(age, &[&agent]).await?;
    let series = "DELETE FROM series WHERE agent = $1 AND is_old \
        AND (last_day IS NULL OR last_day < $2)";
    changed += change.execute(series, &[&agent, &before.all]).await?;
    if changed == 0 {
        // No schema names the series of a target: most have samples.
        return Ok(());
    }
    let count = "UPDATE agents SET changed = changed + 1, series = (SELECT count(*) FROM series \
        WHERE agent = $1 AND NOT is_old) WHERE id = $1";
    change.execute(count, &[&agent]).await?;
    change.commit().await
}
