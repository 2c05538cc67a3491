//! What goes when it is old: samples, by partitions or chunks as a whole; then the series and schemas that
//! nothing names any more, lines of the gap ledger, checksums of records. And with TimescaleDB, what of the
//! days that are over isn't in columns yet.
//!
//! One hub does it, the one that leads.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use deadpool_postgres::{Object, Pool};

use super::{
    change::Change,
    connect::{database, get},
    days::{self, DAY_MS},
    families,
    migrate::Layout,
    targets,
};
use crate::store::StoreError;

/// Time between two looks for series that nothing names: each reads all of them.
const SERIES_EVERY_MS: i64 = 6 * 60 * 60 * 1_000;
/// A day is in columns when it has been over for so long: most of what comes late has come.
const COLUMNS_AFTER_MS: i64 = 6 * 60 * 60 * 1_000;

/// Keeps house.
#[derive(Debug)]
pub(crate) struct House {
    layout: Layout,
    /// Unix milliseconds when series are to be looked at next.
    series_due_ms: AtomicI64,
}

impl House {
    /// Of a database that is laid out so.
    pub(crate) const fn new(layout: Layout) -> Self {
        Self { layout, series_due_ms: AtomicI64::new(i64::MIN) }
    }

    /// Does what is due.
    pub(crate) async fn keep(
        &self,
        pool: &Pool,
        now_ms: i64,
        cutoff_ms: i64,
    ) -> Result<(), StoreError> {
        let mut client = get(pool).await?;
        self.drop_samples(&client, cutoff_ms).await.map_err(database("drop old samples"))?;
        if self.layout == Layout::Hypertable {
            let columns = columns(&client, now_ms.saturating_sub(COLUMNS_AFTER_MS)).await;
            columns.map_err(database("put samples in columns"))?;
        }
        drop_rows(&client, cutoff_ms).await.map_err(database("drop old gaps and checksums"))?;
        let due_ms = self.series_due_ms.load(Relaxed);
        if now_ms < due_ms && due_ms <= now_ms.saturating_add(SERIES_EVERY_MS) {
            return Ok(());
        }
        drop_series(&mut client, cutoff_ms).await.map_err(database("drop old series"))?;
        targets::drop_empty(&mut client).await.map_err(database("drop old targets"))?;
        let families = families::drop_unsaid(&client, cutoff_ms).await;
        families.map_err(database("drop what was said of metrics"))?;
        self.series_due_ms.store(now_ms.saturating_add(SERIES_EVERY_MS), Relaxed);
        Ok(())
    }

    async fn drop_samples(
        &self,
        client: &Object,
        cutoff_ms: i64,
    ) -> Result<(), tokio_postgres::Error> {
        match self.layout {
            Layout::Partitions => {
                let dropped = days::drop_before(client, cutoff_ms).await?;
                if dropped > 0 {
                    tracing::info!(partitions = dropped, "old samples dropped");
                }
            }
            // Whole days, as partitions are.
            Layout::Hypertable => {
                let before = cutoff_ms.div_euclid(DAY_MS) * DAY_MS;
                for table in ["samples", "ticks"] {
                    let drop =
                        format!("SELECT drop_chunks('{table}', older_than => {before}::bigint)");
                    client.batch_execute(&drop).await?;
                }
            }
        }
        for table in ["stray_samples", "stray_ticks"] {
            client.execute(&format!("DELETE FROM {table} WHERE at < $1"), &[&cutoff_ms]).await?;
        }
        Ok(())
    }
}

/// Puts chunks that end before a time in columns, and what came late for such as already are.
async fn columns(client: &Object, before_ms: i64) -> Result<(), tokio_postgres::Error> {
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

async fn drop_rows(client: &Object, cutoff_ms: i64) -> Result<(), tokio_postgres::Error> {
    let gaps = "DELETE FROM gaps WHERE to_ms < $1 AND received_ms < $1";
    client.execute(gaps, &[&cutoff_ms]).await?;
    // From the first on that is to be kept, all are: one that lacks between others is no evidence.
    let sums = "DELETE FROM sums s USING (SELECT stream, coalesce(min(first_seq) \
        FILTER (WHERE received_ms >= $1), 9223372036854775807) AS first FROM sums GROUP BY stream) k \
        WHERE s.stream = k.stream AND s.first_seq < k.first";
    client.execute(sums, &[&cutoff_ms]).await.map(|_| ())
}

/// Drops schemas not used since a time, and series that have no sample and that no schema names.
async fn drop_series(client: &mut Object, cutoff_ms: i64) -> Result<(), tokio_postgres::Error> {
    let agents = "SELECT agent FROM schemas WHERE used_ms < $1 UNION SELECT s.agent FROM series s \
        LEFT JOIN (SELECT DISTINCT unnest(series) AS id FROM schemas) u ON u.id = s.id \
        WHERE u.id IS NULL";
    let agents: Vec<i64> =
        client.query(agents, &[&cutoff_ms]).await?.iter().map(|row| row.get(0)).collect();
    for agent in agents {
        drop_series_of(client, agent, cutoff_ms).await?;
    }
    Ok(())
}

async fn drop_series_of(
    client: &mut Object,
    agent: i64,
    cutoff_ms: i64,
) -> Result<(), tokio_postgres::Error> {
    let change = Change::begin(client).await?;
    change.query("SELECT id FROM agents WHERE id = $1 FOR NO KEY UPDATE", &[&agent]).await?;
    let schemas = "DELETE FROM schemas WHERE agent = $1 AND used_ms < $2";
    let schemas = change.execute(schemas, &[&agent, &cutoff_ms]).await?;
    let series = "DELETE FROM series s WHERE agent = $1 AND id NOT IN (SELECT unnest(series) \
        FROM schemas WHERE agent = $1) AND NOT EXISTS (SELECT FROM samples WHERE series = s.id) \
        AND NOT EXISTS (SELECT FROM stray_samples WHERE series = s.id)";
    let series = change.execute(series, &[&agent]).await?;
    if schemas + series == 0 {
        // No schema names the series of a target: most have samples.
        return Ok(());
    }
    let count = "UPDATE agents SET changed = changed + 1, series = (SELECT count(*) FROM series \
        WHERE agent = $1) WHERE id = $1";
    change.execute(count, &[&agent]).await?;
    change.commit().await
}
