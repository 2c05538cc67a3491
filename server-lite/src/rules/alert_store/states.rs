//! States and history: read once at start, written with every change.

use rusqlite::{
    Row, Transaction, TransactionBehavior, named_params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef},
};
use wire::AgentId;

use super::{AlertStoreError, file::File, outbox};
use crate::{
    notify::message::Notification,
    rules::{
        alert::{Alert, AlertStates, Change, End, Incident, Labels, Phase, SeriesKey, Transition},
        rule::Op,
    },
};

impl File {
    /// All alerts as they were committed last.
    pub(super) fn load(&self) -> Result<AlertStates, AlertStoreError> {
        let failed = self.failed("read alerts from");
        let connection = self.connection();
        let read = || -> rusqlite::Result<AlertStates> {
            let mut states = AlertStates::default();
            let mut statement = connection.prepare(SELECT_ALERTS)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (rule, series, alert) = alert_of(row)?;
                states.set(rule, series, Some(alert));
            }
            Ok(states)
        };
        read().map_err(failed)
    }

    /// Commits changes: states, the incidents they begin or end, and an outbox row for each
    /// transition and each of `notifiers`. Returns how many notifications were queued. What was
    /// committed before is not queued again.
    pub(super) fn commit(
        &self,
        changes: &[Change],
        notifiers: &[String],
        now_ms: i64,
    ) -> Result<usize, AlertStoreError> {
        if changes.is_empty() {
            return Ok(0);
        }
        let failed = self.failed("commit alerts to");
        let mut connection = self.connection();
        let mut write = || -> rusqlite::Result<usize> {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut queued = 0;
            for change in changes {
                queued += write_change(&tx, change, notifiers, now_ms)?;
            }
            tx.commit()?;
            Ok(queued)
        };
        write().map_err(failed)
    }
}

fn write_change(
    tx: &Transaction<'_>,
    change: &Change,
    notifiers: &[String],
    now_ms: i64,
) -> rusqlite::Result<usize> {
    // The incident first: the alert refers to it.
    match &change.transition {
        Some(Transition::Fired(incident)) => insert_incident(tx, incident)?,
        Some(Transition::Resolved(incident, end)) => end_incident(tx, incident, end)?,
        None => {}
    }
    match &change.after {
        Some(alert) => put_alert(tx, change, alert)?,
        None => remove_alert(tx, change)?,
    }
    let Some(transition) = &change.transition else { return Ok(0) };
    let mut queued = 0;
    for notifier in notifiers {
        let notification = Notification::new(transition, notifier);
        queued += outbox::insert(tx, notifier, &notification, now_ms)?;
    }
    Ok(queued)
}

fn insert_incident(tx: &Transaction<'_>, incident: &Incident) -> rusqlite::Result<()> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO incidents (id, rule, severity, agent_id, metric, labels, host, op, threshold,
             since_ms, started_ms, value, summary)
         VALUES (:id, :rule, :severity, :agent_id, :metric, :labels, :host, :op, :threshold,
             :since_ms, :started_ms, :value, :summary)
         ON CONFLICT (id) DO UPDATE SET ended_ms = NULL, end_value = NULL, end_reason = NULL",
    )?;
    statement.execute(named_params! {
        ":id": incident.id,
        ":rule": incident.rule,
        ":severity": incident.severity,
        ":agent_id": incident.series.agent_id.as_bytes(),
        ":metric": incident.series.metric,
        ":labels": Json(&incident.series.labels),
        ":host": incident.host,
        ":op": incident.op.as_str(),
        ":threshold": incident.threshold,
        ":since_ms": incident.since_ms,
        ":started_ms": incident.started_ms,
        ":value": incident.value,
        ":summary": incident.summary,
    })?;
    Ok(())
}

fn end_incident(tx: &Transaction<'_>, incident: &Incident, end: &End) -> rusqlite::Result<()> {
    let mut statement = tx.prepare_cached(
        "UPDATE incidents SET ended_ms = ?2, end_value = ?3, end_reason = ?4 WHERE id = ?1",
    )?;
    statement.execute((&incident.id, end.ended_ms, end.value, end.reason.as_str()))?;
    Ok(())
}

fn put_alert(tx: &Transaction<'_>, change: &Change, alert: &Alert) -> rusqlite::Result<()> {
    let (held_ms, incident_id) = match &alert.phase {
        Phase::Pending { held_ms } => (Some(*held_ms), None),
        Phase::Firing(incident) => (None, Some(&incident.id)),
    };
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO alerts (rule, agent_id, metric, labels, host, since_ms, seen_ms,
             value, unknown_since_ms, held_ms, incident_id)
         VALUES (:rule, :agent_id, :metric, :labels, :host, :since_ms, :seen_ms,
             :value, :unknown_since_ms, :held_ms, :incident_id)",
    )?;
    statement.execute(named_params! {
        ":rule": change.rule,
        ":agent_id": change.series.agent_id.as_bytes(),
        ":metric": change.series.metric,
        ":labels": Json(&change.series.labels),
        ":host": alert.host,
        ":since_ms": alert.since_ms,
        ":seen_ms": alert.seen_ms,
        ":value": alert.value,
        ":unknown_since_ms": alert.unknown_since_ms,
        ":held_ms": held_ms,
        ":incident_id": incident_id,
    })?;
    Ok(())
}

fn remove_alert(tx: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let series = &change.series;
    let mut statement = tx.prepare_cached(
        "DELETE FROM alerts WHERE rule = ?1 AND agent_id = ?2 AND metric = ?3 AND labels = ?4",
    )?;
    let labels = Json(&series.labels);
    statement.execute((&change.rule, series.agent_id.as_bytes(), &series.metric, labels))?;
    Ok(())
}

const SELECT_ALERTS: &str = "
    SELECT a.rule, a.agent_id, a.metric, a.labels, a.host, a.since_ms, a.seen_ms, a.value,
        a.unknown_since_ms, a.held_ms,
        i.id, i.severity, i.host AS incident_host, i.op, i.threshold, i.since_ms AS incident_since_ms,
        i.started_ms, i.value AS incident_value, i.summary
    FROM alerts a LEFT JOIN incidents i ON i.id = a.incident_id";

fn alert_of(row: &Row<'_>) -> rusqlite::Result<(String, SeriesKey, Alert)> {
    let rule: String = row.get("rule")?;
    let series = series_of(row)?;
    let phase = match row.get::<_, Option<i64>>("held_ms")? {
        Some(held_ms) => Phase::Pending { held_ms },
        None => Phase::Firing(Box::new(Incident {
            id: row.get("id")?,
            rule: rule.clone(),
            severity: row.get("severity")?,
            series: series.clone(),
            host: row.get("incident_host")?,
            op: row.get("op")?,
            threshold: row.get("threshold")?,
            since_ms: row.get("incident_since_ms")?,
            started_ms: row.get("started_ms")?,
            value: row.get("incident_value")?,
            summary: row.get("summary")?,
        })),
    };
    let alert = Alert {
        host: row.get("host")?,
        since_ms: row.get("since_ms")?,
        seen_ms: row.get("seen_ms")?,
        value: row.get("value")?,
        unknown_since_ms: row.get("unknown_since_ms")?,
        phase,
    };
    Ok((rule, series, alert))
}

/// The series of a row with `agent_id`, `metric` and `labels`.
pub(super) fn series_of(row: &Row<'_>) -> rusqlite::Result<SeriesKey> {
    let Json(labels) = row.get("labels")?;
    Ok(SeriesKey {
        agent_id: AgentId::from_bytes(row.get("agent_id")?),
        metric: row.get("metric")?,
        labels,
    })
}

/// A column that holds JSON.
pub(super) struct Json<T>(pub(super) T);

impl ToSql for Json<&Labels> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(text.into())
    }
}

impl<T: serde::de::DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        serde_json::from_str(text).map(Self).map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl FromSql for Op {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        Self::parse(word).ok_or_else(|| FromSqlError::Other(format!("operator {word:?}").into()))
    }
}
