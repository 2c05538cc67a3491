//! The tables, and how they come to be: numbered changes, forward only, each in one transaction that holds
//! a lock, so that several hubs that start at one time make them once.

use tokio_postgres::Client;

use super::connect::{Server, database};
use crate::store::StoreError;

/// Any number, the same in all hubs: whoever changes tables holds this advisory lock.
const LOCK: i64 = 0x686f_6c64_6661_7374;

/// A change, and what goes with it in either layout.
struct Migration {
    all: &'static str,
    partitions: &'static str,
    hypertable: &'static str,
}

/// The first brings version 1, and so on.
const MIGRATIONS: &[Migration] = &[
    Migration {
        all: include_str!("migrations/0001-begin.sql"),
        partitions: include_str!("migrations/0001-partitions.sql"),
        hypertable: include_str!("migrations/0001-hypertable.sql"),
    },
    Migration { all: include_str!("migrations/0002-targets.sql"), partitions: "", hypertable: "" },
    Migration {
        all: include_str!("migrations/0003-rollups.sql"),
        partitions: "",
        hypertable: include_str!("migrations/0003-hypertable.sql"),
    },
    Migration { all: include_str!("migrations/0004-alerts.sql"), partitions: "", hypertable: "" },
];

/// How samples lie; decided when the tables are made, and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Partitions by day, of PostgreSQL's own.
    Partitions,
    /// A hypertable of TimescaleDB, in columns.
    Hypertable,
}

impl Layout {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Partitions => "partitions",
            Self::Hypertable => "hypertable",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Partitions, Self::Hypertable].into_iter().find(|layout| layout.as_str() == word)
    }
}

/// What was found and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Migrated {
    /// Version found; 0 for an empty database.
    pub(crate) from: i32,
    /// Version now.
    pub(crate) to: i32,
    /// How samples lie.
    pub(crate) layout: Layout,
}

/// Brings the tables up to date.
///
/// # Errors
/// [`StoreError`]: they are of a newer hub, or the database refuses.
pub(crate) async fn migrate(client: &mut Client, server: &Server) -> Result<Migrated, StoreError> {
    let mut from = None;
    loop {
        let Step { found, to, layout } = step(client, server).await?;
        let from = *from.get_or_insert(found);
        if found == to {
            return Ok(Migrated { from, to, layout });
        }
    }
}

/// The version that this build's tables have.
pub(crate) fn newest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// The version that a database's tables have; `None` if there are none.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub(crate) async fn found(client: &Client) -> Result<Option<i32>, StoreError> {
    let refused = || database("read the version of the tables");
    let is_there = "SELECT to_regclass('holdfast.version') IS NOT NULL";
    let row = client.query_one(is_there, &[]).await.map_err(refused())?;
    if !row.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client.query_opt("SELECT version FROM holdfast.version", &[]).await;
    Ok(row.map_err(refused())?.map(|row| row.get(0)))
}

struct Step {
    found: i32,
    to: i32,
    layout: Layout,
}

/// One change, if one is due.
async fn step(client: &mut Client, server: &Server) -> Result<Step, StoreError> {
    let refused = || database("change tables");
    let change = client.transaction().await.map_err(refused())?;
    let lock = format!("SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({LOCK})");
    change.batch_execute(&lock).await.map_err(database("lock tables against other hubs"))?;
    change
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS holdfast; CREATE TABLE IF NOT EXISTS \
             holdfast.version (version int NOT NULL, layout text NOT NULL)",
        )
        .await
        .map_err(database("make the schema `holdfast` (its user needs CREATE on the database)"))?;
    let row =
        change.query_opt("SELECT version, layout FROM version", &[]).await.map_err(refused())?;
    let found = row.as_ref().map_or(0, |row| row.get(0));
    let layout = match row.map(|row| row.get::<_, String>(1)) {
        None if server.has_columns() => Layout::Hypertable,
        None => Layout::Partitions,
        Some(word) => Layout::parse(&word).ok_or_else(|| unknown(found, &word))?,
    };
    let next = usize::try_from(found).map_err(|_| unknown(found, layout.as_str()))?;
    if next > MIGRATIONS.len() {
        return Err(StoreError::Unusable(format!(
            "the database was changed by a newer hub (tables of version {found}, this build knows \
             {}): start that one, or restore a backup made before it",
            MIGRATIONS.len()
        )));
    }
    let Some(migration) = MIGRATIONS.get(next) else {
        change.commit().await.map_err(refused())?;
        return Ok(Step { found, to: found, layout });
    };
    let own = match layout {
        Layout::Partitions => migration.partitions,
        Layout::Hypertable => migration.hypertable,
    };
    for changes in [migration.all, own] {
        change.batch_execute(changes).await.map_err(refused())?;
    }
    let to = found + 1;
    let note =
        format!("DELETE FROM version; INSERT INTO version VALUES ({to}, '{}')", layout.as_str());
    change.batch_execute(&note).await.map_err(refused())?;
    change.commit().await.map_err(refused())?;
    Ok(Step { found, to, layout })
}

fn unknown(version: i32, layout: &str) -> StoreError {
    StoreError::Unusable(format!(
        "the database's table holdfast.version says version {version}, layout {layout:?}: no hub \
         has written that"
    ))
}
