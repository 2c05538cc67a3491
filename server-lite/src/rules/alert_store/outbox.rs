//! What is still to be told, to whom, and what became of it.

use rusqlite::{OptionalExtension as _, Transaction};
use serde::Serialize;

use super::{AlertStoreError, file::File, states::Json};
use crate::notify::message::Notification;

/// A notification that waits for its turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its place in the outbox.
    pub id: i64,
    /// What is to be told; its `id` is the row's unique key.
    pub notification: Notification,
    /// Unix milliseconds when it was queued.
    pub created_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it was refused for good.
    pub refusals: u32,
}

/// How the outbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutboxCounts {
    /// Still to be delivered.
    pub pending: u64,
    /// Given up on, and kept.
    pub dead: u64,
    /// Unix milliseconds when the oldest pending one was queued.
    pub oldest_pending_ms: Option<i64>,
}

/// Queues a notification unless it is there already; returns how many rows were added.
pub(super) fn insert(
    tx: &Transaction<'_>,
    notifier: &str,
    notification: &Notification,
    now_ms: i64,
) -> rusqlite::Result<usize> {
    let body = serde_json::to_string(notification)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut statement = tx.prepare_cached(
        "INSERT INTO outbox (key, notifier, body, created_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (key) DO NOTHING",
    )?;
    statement.execute((&notification.id, notifier, body, now_ms))
}

impl File {
    /// The oldest notification that waits for this notifier.
    pub(super) fn next_delivery(
        &self,
        notifier: &str,
    ) -> Result<Option<Delivery>, AlertStoreError> {
        let connection = self.connection();
        let read = || {
            let mut statement = connection.prepare_cached(
                "SELECT id, body, created_ms, attempts, refusals FROM outbox
                 WHERE notifier = ?1 AND state = 'pending' ORDER BY id LIMIT 1",
            )?;
            let delivery = |row: &rusqlite::Row<'_>| {
                let Json(notification) = row.get(1)?;
                Ok(Delivery {
                    id: row.get(0)?,
                    notification,
                    created_ms: row.get(2)?,
                    attempts: row.get(3)?,
                    refusals: row.get(4)?,
                })
            };
            statement.query_row([notifier], delivery).optional()
        };
        read().map_err(self.failed("read outbox of"))
    }

    /// Marks one as delivered.
    pub(super) fn mark_delivered(&self, id: i64, now_ms: i64) -> Result<(), AlertStoreError> {
        self.update(
            "UPDATE outbox SET state = 'delivered', attempts = attempts + 1, error = NULL,
                 settled_ms = ?2 WHERE id = ?1 AND state = 'pending'",
            (id, now_ms),
        )
    }

    /// Counts a failed attempt; it stays pending.
    pub(super) fn mark_failed(
        &self,
        id: i64,
        error: &str,
        refused: bool,
    ) -> Result<(), AlertStoreError> {
        self.update(
            "UPDATE outbox SET attempts = attempts + 1, refusals = refusals + ?2, error = ?3
             WHERE id = ?1 AND state = 'pending'",
            (id, refused, error),
        )
    }

    /// Gives up on one: it is kept, with the reason.
    pub(super) fn mark_dead(
        &self,
        id: i64,
        error: &str,
        now_ms: i64,
    ) -> Result<(), AlertStoreError> {
        self.update(
            "UPDATE outbox SET state = 'dead', attempts = attempts + 1, error = ?2, settled_ms = ?3
             WHERE id = ?1 AND state = 'pending'",
            (id, error, now_ms),
        )
    }

    /// Gives up on what waits for notifiers that are no longer configured; returns how many.
    pub(super) fn bury_unconfigured(
        &self,
        notifiers: &[String],
        now_ms: i64,
    ) -> Result<usize, AlertStoreError> {
        let names = serde_json::json!(notifiers).to_string();
        self.connection()
            .execute(
                "UPDATE outbox SET state = 'dead', error = 'notifier is no longer configured',
                     settled_ms = ?2
                 WHERE state = 'pending' AND notifier NOT IN (SELECT value FROM json_each(?1))",
                (names, now_ms),
            )
            .map_err(self.failed("update outbox of"))
    }

    /// How the outbox stands.
    pub(super) fn outbox_counts(&self) -> Result<OutboxCounts, AlertStoreError> {
        let sql = "SELECT
                (SELECT count(*) FROM outbox WHERE state = 'pending'),
                (SELECT count(*) FROM outbox WHERE state = 'dead'),
                (SELECT min(created_ms) FROM outbox WHERE state = 'pending')";
        let counts = |row: &rusqlite::Row<'_>| {
            Ok(OutboxCounts {
                pending: row.get::<_, i64>(0)?.unsigned_abs(),
                dead: row.get::<_, i64>(1)?.unsigned_abs(),
                oldest_pending_ms: row.get(2)?,
            })
        };
        let connection = self.connection();
        let read = || connection.prepare_cached(sql)?.query_row([], counts);
        read().map_err(self.failed("read outbox of"))
    }

    fn update(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), AlertStoreError> {
        let connection = self.connection();
        let write = || connection.prepare_cached(sql)?.execute(values);
        write().map(drop).map_err(self.failed("update outbox of"))
    }
}
