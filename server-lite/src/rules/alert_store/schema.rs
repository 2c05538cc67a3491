//! The tables, version by version. A version that was released is never changed: a new one follows.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::AlertStoreError;

/// Each brings the file from the version that is its index to the next.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE incidents (
    id          TEXT    NOT NULL PRIMARY KEY,
    rule        TEXT    NOT NULL,
    severity    TEXT    NOT NULL,
    agent_id    BLOB    NOT NULL,
    metric      TEXT    NOT NULL,
    labels      TEXT    NOT NULL, -- JSON object, names ascending
    host        TEXT    NOT NULL,
    op          TEXT    NOT NULL,
    threshold   REAL    NOT NULL,
    since_ms    INTEGER NOT NULL,
    started_ms  INTEGER NOT NULL,
    value       REAL    NOT NULL,
    summary     TEXT    NOT NULL,
    ended_ms    INTEGER,
    end_value   REAL,
    end_reason  TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX incidents_started ON incidents (started_ms);

CREATE TABLE alerts (
    rule             TEXT    NOT NULL,
    agent_id         BLOB    NOT NULL,
    metric           TEXT    NOT NULL,
    labels           TEXT    NOT NULL,
    host             TEXT    NOT NULL,
    since_ms         INTEGER NOT NULL,
    seen_ms          INTEGER NOT NULL,
    value            REAL    NOT NULL,
    unknown_since_ms INTEGER,
    held_ms          INTEGER,                         -- of a pending one
    incident_id      TEXT    REFERENCES incidents (id), -- of a firing one
    PRIMARY KEY (rule, agent_id, metric, labels),
    CHECK ((held_ms IS NULL) <> (incident_id IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of delivery
    key         TEXT    NOT NULL UNIQUE,
    notifier    TEXT    NOT NULL,
    body        TEXT    NOT NULL,                  -- JSON
    created_ms  INTEGER NOT NULL,
    state       TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    refusals    INTEGER NOT NULL DEFAULT 0,
    error       TEXT,
    settled_ms  INTEGER
) STRICT;
CREATE INDEX outbox_pending ON outbox (notifier, id) WHERE state = 'pending';
CREATE INDEX outbox_settled ON outbox (state, settled_ms) WHERE state <> 'pending';
"];

/// Brings the file to the newest version, in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), AlertStoreError> {
    let failed = |source| AlertStoreError::Database {
        operation: "prepare tables of",
        path: path.to_owned(),
        source,
    };
    let tx =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found: i64 =
        tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let behind = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..));
    let Some(steps) = behind else {
        return Err(AlertStoreError::Newer { path: path.to_owned(), found, known });
    };
    for step in steps {
        tx.execute_batch(step).map_err(failed)?;
    }
    if !steps.is_empty() {
        tx.pragma_update(None, "user_version", known).map_err(failed)?;
    }
    tx.commit().map_err(failed)
}
