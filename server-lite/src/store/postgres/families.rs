//! What remote write says of metrics apart from their series: kept, so that it holds for series that come
//! later too, whichever hub they come to.
//!
//! Who says something holds an advisory lock alone, who adds series holds it with others: so each series
//! has what was said of its metric before it came, or gets it.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Client;
use wire::MetricKind;

use super::{change::Change, days::DAY_MS, series::small, state::text};
use crate::store::{WriteBatch, rows::kind_of, write::WriteFamily};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Guards the table, and the kinds of targets' series.
const LOCK: i64 = 0x686f_6c64_6661_6d73;
/// Metrics remembered by one hub; beyond that all are forgotten at once.
const REMEMBERED_MAX: usize = 100_000;

/// What a metric's values mean, and what they count.
pub(crate) type Said = (MetricKind, String);

/// What was said lately: the same is said again every minute.
#[derive(Debug, Default)]
pub(crate) struct Families(HashMap<String, (Said, i64)>);

impl Families {
    /// Writes down what is said that is new, once a day also what is old.
    pub(crate) async fn learn<'a>(
        &mut self,
        transaction: &Change<'_>,
        batches: impl Iterator<Item = &'a WriteBatch>,
    ) -> Result<()> {
        let mut new = BTreeMap::<String, (i16, String, i64)>::new();
        for batch in batches {
            for family in batch.families.iter().filter(|one| self.is_new(one, batch.received_ms)) {
                let said = (small(family.kind), text(&family.help), batch.received_ms);
                new.insert(text(&family.metric), said);
            }
            for family in &batch.families {
                self.remember(family, batch.received_ms);
            }
        }
        if new.is_empty() { Ok(()) } else { write(transaction, &new).await }
    }

    fn is_new(&self, family: &WriteFamily, now_ms: i64) -> bool {
        let known = self.0.get(&family.metric);
        known.is_none_or(|((kind, help), day)| {
            (*kind, help) != (family.kind, &family.help) || *day != now_ms.div_euclid(DAY_MS)
        })
    }

    fn remember(&mut self, family: &WriteFamily, now_ms: i64) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        let said = (family.kind, family.help.clone());
        self.0.insert(family.metric.clone(), (said, now_ms.div_euclid(DAY_MS)));
    }

    /// What was remembered may not be written down.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

async fn write(transaction: &Change<'_>, new: &BTreeMap<String, (i16, String, i64)>) -> Result<()> {
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let metrics: Vec<&str> = new.keys().map(String::as_str).collect();
    let kinds: Vec<i16> = new.values().map(|said| said.0).collect();
    let helps: Vec<&str> = new.values().map(|said| said.1.as_str()).collect();
    let times: Vec<i64> = new.values().map(|said| said.2).collect();
    // What is said as it was holds for all series already, but for those that say otherwise themselves.
    let describe = "WITH n AS (SELECT * FROM unnest($1::text[], $2::smallint[], $3::text[]) \
        AS n (metric, kind, help)) UPDATE series s SET kind = n.kind, help = n.help \
        FROM n LEFT JOIN families f ON f.metric = n.metric, agents a \
        WHERE s.name = n.metric AND a.id = s.agent AND a.job IS NOT NULL \
        AND (f.kind, f.help) IS DISTINCT FROM (n.kind, n.help) \
        AND (s.kind, s.help) IS DISTINCT FROM (n.kind, n.help)";
    transaction.execute(describe, &[&metrics, &kinds, &helps]).await?;
    let upsert = "INSERT INTO families (metric, kind, help, said_ms) SELECT * FROM \
        unnest($1::text[], $2::smallint[], $3::text[], $4::bigint[]) ON CONFLICT (metric) \
        DO UPDATE SET kind = excluded.kind, help = excluded.help, said_ms = excluded.said_ms";
    transaction.execute(upsert, &[&metrics, &kinds, &helps, &times]).await.map(|_| ())
}

/// Holds off who says something, until the transaction ends.
pub(crate) async fn hold(transaction: &Change<'_>) -> Result<()> {
    transaction.execute("SELECT pg_advisory_xact_lock_shared($1)", &[&LOCK]).await.map(|_| ())
}

/// What is known of metrics: what was said of them, or what a series of them has. [`hold`] goes before.
pub(crate) async fn known(
    transaction: &Change<'_>,
    metrics: &[&str],
) -> Result<HashMap<String, Said>> {
    if metrics.is_empty() {
        return Ok(HashMap::new());
    }
    let find = "SELECT n.metric, coalesce(f.kind, s.kind), coalesce(f.help, s.help) \
        FROM unnest($1::text[]) AS n (metric) LEFT JOIN families f ON f.metric = n.metric \
        LEFT JOIN LATERAL (SELECT kind, help FROM series WHERE name = n.metric LIMIT 1) s \
        ON f.metric IS NULL WHERE coalesce(f.kind, s.kind) IS NOT NULL";
    let rows = transaction.query(find, &[&metrics]).await?;
    let said = |row: &tokio_postgres::Row| (kind_of(row.get::<_, i16>(1).into()), row.get(2));
    Ok(rows.iter().map(|row| (row.get(0), said(row))).collect())
}

/// Forgets what nobody has said since a time, of metrics that have no series.
pub(crate) async fn drop_unsaid(client: &Client, before_ms: i64) -> Result<()> {
    let drop = "DELETE FROM families f WHERE said_ms < $1 \
                AND NOT EXISTS (SELECT FROM series WHERE name = f.metric)";
    client.execute(drop, &[&before_ms]).await.map(|_| ())
}
