//! What was, for people to look at, and its end.

use rusqlite::Row;
use serde::Serialize;

use super::{
    AlertStoreError, DEAD_KEPT_MS, DELIVERED_KEPT_MS, INCIDENTS_KEPT_MS,
    file::File,
    states::{Json, series_of},
};
use crate::{
    notify::message::{Notification, number},
    rules::{alert::SeriesKey, rule::Op},
};

/// One incident of the history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentRow {
    /// Names it for ever.
    pub id: String,
    /// Name of the rule.
    pub rule: String,
    /// The rule's severity at the time.
    pub severity: String,
    /// The host's name at the time.
    pub host: String,
    /// Which series.
    #[serde(flatten)]
    pub series: SeriesKey,
    /// The rule's comparison at the time.
    pub op: Op,
    /// The rule's threshold at the time.
    pub threshold: f64,
    /// What was compared when it began to fire.
    #[serde(with = "number")]
    pub value: f64,
    /// The rule's text, filled in.
    pub summary: String,
    /// Unix milliseconds: when the threshold was first crossed.
    pub since_ms: i64,
    /// Unix milliseconds: when it began to fire.
    pub started_ms: i64,
    /// Unix milliseconds: when it ended; absent while it fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
}

/// A notification that was given up on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Who should have told of it.
    pub notifier: String,
    /// What should have been told.
    pub notification: Notification,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub error: String,
    /// Unix milliseconds when it was given up.
    pub dead_ms: i64,
}

impl File {
    /// The newest incidents, newest first.
    pub(super) fn incidents(&self, limit: u32) -> Result<Vec<IncidentRow>, AlertStoreError> {
        self.rows("SELECT * FROM incidents ORDER BY started_ms DESC, id LIMIT ?1", limit, |row| {
            Ok(IncidentRow {
                id: row.get("id")?,
                rule: row.get("rule")?,
                severity: row.get("severity")?,
                host: row.get("host")?,
                series: series_of(row)?,
                op: row.get("op")?,
                threshold: row.get("threshold")?,
                value: row.get("value")?,
                summary: row.get("summary")?,
                since_ms: row.get("since_ms")?,
                started_ms: row.get("started_ms")?,
                ended_ms: row.get("ended_ms")?,
                end_reason: row.get("end_reason")?,
            })
        })
    }

    /// The newest notifications that were given up on, newest first.
    pub(super) fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, AlertStoreError> {
        let sql = "SELECT * FROM outbox WHERE state = 'dead' ORDER BY settled_ms DESC, id LIMIT ?1";
        self.rows(sql, limit, |row| {
            let Json(notification) = row.get("body")?;
            Ok(DeadLetter {
                notifier: row.get("notifier")?,
                notification,
                attempts: row.get("attempts")?,
                error: row.get("error")?,
                dead_ms: row.get("settled_ms")?,
            })
        })
    }

    /// Removes what has been kept for long enough; returns how many rows.
    pub(super) fn prune(&self, now_ms: i64) -> Result<usize, AlertStoreError> {
        let connection = self.connection();
        let write = || -> rusqlite::Result<usize> {
            let settled = "DELETE FROM outbox WHERE state = ?1 AND settled_ms < ?2";
            let ended = "DELETE FROM incidents WHERE ended_ms < ?1";
            let delivered =
                connection.execute(settled, ("delivered", now_ms - DELIVERED_KEPT_MS))?;
            let dead = connection.execute(settled, ("dead", now_ms - DEAD_KEPT_MS))?;
            let incidents = connection.execute(ended, [now_ms - INCIDENTS_KEPT_MS])?;
            Ok(delivered + dead + incidents)
        };
        write().map_err(self.failed("prune"))
    }

    fn rows<T>(
        &self,
        sql: &str,
        limit: u32,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, AlertStoreError> {
        let connection = self.connection();
        let all = || -> rusqlite::Result<Vec<T>> {
            connection.prepare_cached(sql)?.query_map([limit], read)?.collect()
        };
        all().map_err(self.failed("read history from"))
    }
}
