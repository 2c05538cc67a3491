//! The same in the database that several hubs share, so that one that takes over goes on where the one before
//! was.
//!
//! Only the hub that leads writes states and queues what is to be told: every commit looks whether it still
//! is the latest that began to lead, and holds that while it writes. A hub that has lost the lead, and
//! doesn't know it yet, is refused. What is being delivered is leased: another hub waits for what becomes of
//! it before it delivers the same.

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio_postgres::{Row, Transaction, types::ToSql};
use uuid::Uuid;
use wire::AgentId;

use super::{
    AlertStoreError, DEAD_KEPT_MS, DELIVERED_KEPT_MS, DeadLetter, Delivery, INCIDENTS_KEPT_MS,
    IncidentRow, OutboxCounts,
};
use crate::{
    notify::message::Notification,
    rules::{
        alert::{Alert, AlertStates, Change, End, Incident, Labels, Phase, SeriesKey, Transition},
        rule::Op,
    },
    store::{StoreError, postgres::Shared},
};

type Result<T> = std::result::Result<T, AlertStoreError>;

/// How long what is being delivered is left to who delivers it: longer than a try may take, with what it
/// takes to note what became of it.
const LEASE: &str = "90 seconds";

/// The database, and the runtime that its connections live in.
#[derive(Clone, Debug)]
pub(super) struct Database {
    shared: Shared,
    runtime: Handle,
}

impl Database {
    pub(super) const fn new(shared: Shared, runtime: Handle) -> Self {
        Self { shared, runtime }
    }

    /// Waits for something; never on a thread of the runtime.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// All alerts as they were committed last.
    pub(super) async fn load(&self) -> Result<AlertStates> {
        let rows = self.rows("read alerts", SELECT_ALERTS, &[]).await?;
        let mut states = AlertStates::default();
        for row in &rows {
            let (rule, series, alert) = alert_of(row).map_err(refused("read alerts"))?;
            states.set(rule, series, Some(alert));
        }
        Ok(states)
    }

    /// See [`super::AlertStore::commit`].
    pub(super) async fn commit(
        &self,
        changes: &[Change],
        notifiers: &[String],
        now_ms: i64,
    ) -> Result<usize> {
        let operation = "commit alerts";
        let mut client = self.shared.client().await.map_err(unreachable(operation))?;
        let failed = || refused(operation);
        let tx = client.transaction().await.map_err(|error| failed()(error.into()))?;
        self.hold_lead(&tx, operation).await?;
        let mut queued = 0;
        for change in changes {
            queued += write_change(&tx, change, notifiers, now_ms).await.map_err(failed())?;
        }
        tx.commit().await.map_err(|error| failed()(error.into()))?;
        Ok(queued)
    }

    /// Nobody else begins to lead until the transaction has ended; refused if somebody has.
    async fn hold_lead(&self, tx: &Transaction<'_>, operation: &'static str) -> Result<()> {
        let own = self.shared.epoch();
        let row = tx.query_one("SELECT epoch FROM leader FOR SHARE", &[]).await;
        let latest: i64 = row.map_err(|error| refused(operation)(error.into()))?.get(0);
        if own == Some(latest) { Ok(()) } else { Err(AlertStoreError::NotLeading) }
    }

    /// The oldest notification that waits for this notifier, leased; none if another hub leads, or has it.
    pub(super) async fn next_delivery(&self, notifier: &str) -> Result<Option<Delivery>> {
        let Some(epoch) = self.shared.epoch() else { return Ok(None) };
        let lease = format!(
            "UPDATE alert_outbox SET leased_epoch = $2, leased_until = now() + interval '{LEASE}' \
             WHERE id = (SELECT id FROM alert_outbox WHERE notifier = $1 AND state = 'pending' \
             ORDER BY id LIMIT 1) AND (leased_epoch = $2 OR leased_until < now()) \
             AND (SELECT epoch FROM leader) = $2 \
             RETURNING id, body, created_ms, attempts, refusals"
        );
        let operation = "read outbox";
        let rows = self.rows(operation, &lease, &[&notifier, &epoch]).await?;
        rows.first().map(delivery_of).transpose().map_err(refused(operation))
    }

    pub(super) async fn mark_delivered(&self, id: i64, now_ms: i64) -> Result<()> {
        let mark = "UPDATE alert_outbox SET state = 'delivered', attempts = attempts + 1, \
            error = NULL, settled_ms = $2 WHERE id = $1 AND state = 'pending'";
        self.update("update outbox", mark, &[&id, &now_ms]).await.map(drop)
    }

    /// Nobody delivers it meanwhile: another that begins to lead needn't wait.
    pub(super) async fn mark_failed(&self, id: i64, error: &str, refused: bool) -> Result<()> {
        let mark = "UPDATE alert_outbox SET attempts = attempts + 1, refusals = refusals + $2, \
            error = $3, leased_until = now() WHERE id = $1 AND state = 'pending'";
        let (refused, error) = (i64::from(refused), text(error));
        self.update("update outbox", mark, &[&id, &refused, &error]).await.map(drop)
    }

    pub(super) async fn mark_dead(&self, id: i64, error: &str, now_ms: i64) -> Result<()> {
        let mark = "UPDATE alert_outbox SET state = 'dead', attempts = attempts + 1, error = $2, \
            settled_ms = $3 WHERE id = $1 AND state = 'pending'";
        self.update("update outbox", mark, &[&id, &text(error), &now_ms]).await.map(drop)
    }

    /// By who leads alone: others may be configured otherwise.
    pub(super) async fn bury_unconfigured(
        &self,
        notifiers: &[String],
        now_ms: i64,
    ) -> Result<usize> {
        let Some(epoch) = self.shared.epoch() else { return Ok(0) };
        let bury = "UPDATE alert_outbox SET state = 'dead', \
            error = 'notifier is no longer configured', settled_ms = $2 \
            WHERE state = 'pending' AND notifier <> ALL($1) \
            AND (SELECT epoch FROM leader) = $3";
        self.update("update outbox", bury, &[&notifiers, &now_ms, &epoch]).await
    }

    pub(super) async fn outbox_counts(&self) -> Result<OutboxCounts> {
        let counts = "SELECT count(*) FILTER (WHERE state = 'pending'), \
            count(*) FILTER (WHERE state = 'dead'), \
            min(created_ms) FILTER (WHERE state = 'pending') FROM alert_outbox \
            WHERE state <> 'delivered'";
        let rows = self.rows("read outbox", counts, &[]).await?;
        let counts = rows.first().map(|row| OutboxCounts {
            pending: row.get::<_, i64>(0).unsigned_abs(),
            dead: row.get::<_, i64>(1).unsigned_abs(),
            oldest_pending_ms: row.get(2),
        });
        Ok(counts.unwrap_or_default())
    }

    pub(super) async fn incidents(&self, limit: u32) -> Result<Vec<IncidentRow>> {
        let newest = "SELECT * FROM alert_incidents ORDER BY started_ms DESC, id LIMIT $1";
        let rows = self.rows("read history", newest, &[&i64::from(limit)]).await?;
        rows.iter().map(incident_row).collect::<Read<_>>().map_err(refused("read history"))
    }

    pub(super) async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>> {
        let newest = "SELECT * FROM alert_outbox WHERE state = 'dead' \
            ORDER BY settled_ms DESC, id LIMIT $1";
        let rows = self.rows("read history", newest, &[&i64::from(limit)]).await?;
        rows.iter().map(dead_letter).collect::<Read<_>>().map_err(refused("read history"))
    }

    pub(super) async fn prune(&self, now_ms: i64) -> Result<usize> {
        let settled = "DELETE FROM alert_outbox WHERE state = $1 AND settled_ms < $2";
        let ended = "DELETE FROM alert_incidents WHERE ended_ms < $1";
        let mut gone = 0;
        for (state, kept_ms) in [("delivered", DELIVERED_KEPT_MS), ("dead", DEAD_KEPT_MS)] {
            gone += self.update("prune", settled, &[&state, &(now_ms - kept_ms)]).await?;
        }
        Ok(gone + self.update("prune", ended, &[&(now_ms - INCIDENTS_KEPT_MS)]).await?)
    }

    async fn rows(
        &self,
        operation: &'static str,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>> {
        let client = self.shared.client().await.map_err(unreachable(operation))?;
        client.query(sql, values).await.map_err(|error| refused(operation)(error.into()))
    }

    async fn update(
        &self,
        operation: &'static str,
        sql: &str,
        values: Values<'_>,
    ) -> Result<usize> {
        let client = self.shared.client().await.map_err(unreachable(operation))?;
        let changed = client.execute(sql, values).await;
        let changed = changed.map_err(|error| refused(operation)(error.into()))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }
}

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Read<T> = std::result::Result<T, Failure>;

fn refused(operation: &'static str) -> impl FnOnce(Failure) -> AlertStoreError {
    move |source| AlertStoreError::Shared(StoreError::Database { operation, source })
}

fn unreachable(operation: &'static str) -> impl FnOnce(StoreError) -> AlertStoreError {
    move |source| AlertStoreError::Shared(StoreError::Database { operation, source: source.into() })
}

/// PostgreSQL's text has no NUL.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn json(value: &impl serde::Serialize) -> Read<String> {
    Ok(serde_json::to_string(value)?)
}

fn from_json<T: DeserializeOwned>(row: &Row, column: &str) -> Read<T> {
    Ok(serde_json::from_str(row.try_get(column)?)?)
}

fn uuid(agent_id: AgentId) -> Uuid {
    Uuid::from_bytes(*agent_id.as_bytes())
}

async fn write_change(
    tx: &Transaction<'_>,
    change: &Change,
    notifiers: &[String],
    now_ms: i64,
) -> Read<usize> {
    // The incident first: the alert refers to it.
    match &change.transition {
        Some(Transition::Fired(incident)) => insert_incident(tx, incident).await?,
        Some(Transition::Resolved(incident, end)) => end_incident(tx, incident, end).await?,
        None => {}
    }
    match &change.after {
        Some(alert) => put_alert(tx, change, alert).await?,
        None => remove_alert(tx, change).await?,
    }
    let Some(transition) = &change.transition else { return Ok(0) };
    let mut queued = 0;
    for notifier in notifiers {
        let notification = Notification::new(transition, notifier);
        let insert = "INSERT INTO alert_outbox (key, notifier, body, created_ms) \
            VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING";
        let body = json(&notification)?;
        queued += tx.execute(insert, &[&notification.id, notifier, &body, &now_ms]).await?;
    }
    Ok(usize::try_from(queued)?)
}

async fn insert_incident(tx: &Transaction<'_>, incident: &Incident) -> Read<()> {
    let insert = "INSERT INTO alert_incidents (id, rule, severity, agent_id, metric, labels, host, op, \
        threshold, since_ms, started_ms, value, summary) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
        ON CONFLICT (id) DO UPDATE SET ended_ms = NULL, end_value = NULL, end_reason = NULL";
    let Incident { id, rule, severity, series, host, op, threshold, .. } = incident;
    let Incident { since_ms, started_ms, value, summary, .. } = incident;
    let (agent, labels) = (uuid(series.agent_id), json(&series.labels)?);
    let values: [&(dyn ToSql + Sync); 13] = [
        id,
        rule,
        severity,
        &agent,
        &series.metric,
        &labels,
        host,
        &op.as_str(),
        threshold,
        since_ms,
        started_ms,
        value,
        summary,
    ];
    tx.execute(insert, &values).await?;
    Ok(())
}

async fn end_incident(tx: &Transaction<'_>, incident: &Incident, end: &End) -> Read<()> {
    let update =
        "UPDATE alert_incidents SET ended_ms = $2, end_value = $3, end_reason = $4 WHERE id = $1";
    tx.execute(update, &[&incident.id, &end.ended_ms, &end.value, &end.reason.as_str()]).await?;
    Ok(())
}

async fn put_alert(tx: &Transaction<'_>, change: &Change, alert: &Alert) -> Read<()> {
    let (held_ms, incident_id) = match &alert.phase {
        Phase::Pending { held_ms } => (Some(*held_ms), None),
        Phase::Firing(incident) => (None, Some(&incident.id)),
    };
    let upsert = "INSERT INTO alert_states (rule, agent_id, metric, labels, host, since_ms, seen_ms, \
        value, unknown_since_ms, held_ms, incident_id) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
        ON CONFLICT (rule, agent_id, metric, md5(labels)) DO UPDATE SET host = excluded.host, \
        since_ms = excluded.since_ms, seen_ms = excluded.seen_ms, value = excluded.value, \
        unknown_since_ms = excluded.unknown_since_ms, held_ms = excluded.held_ms, \
        incident_id = excluded.incident_id";
    let SeriesKey { agent_id, metric, labels } = &change.series;
    let (agent, labels) = (uuid(*agent_id), json(labels)?);
    let Alert { host, since_ms, seen_ms, value, unknown_since_ms, .. } = alert;
    let values: [&(dyn ToSql + Sync); 11] = [
        &change.rule,
        &agent,
        metric,
        &labels,
        host,
        since_ms,
        seen_ms,
        value,
        unknown_since_ms,
        &held_ms,
        &incident_id,
    ];
    tx.execute(upsert, &values).await?;
    Ok(())
}

async fn remove_alert(tx: &Transaction<'_>, change: &Change) -> Read<()> {
    let SeriesKey { agent_id, metric, labels } = &change.series;
    let delete = "DELETE FROM alert_states WHERE rule = $1 AND agent_id = $2 AND metric = $3 \
        AND md5(labels) = md5($4)";
    tx.execute(delete, &[&change.rule, &uuid(*agent_id), metric, &json(labels)?]).await?;
    Ok(())
}

const SELECT_ALERTS: &str = "\
    SELECT a.rule, a.agent_id, a.metric, a.labels, a.host, a.since_ms, a.seen_ms, a.value, \
    a.unknown_since_ms, a.held_ms, i.id, i.severity, i.host AS incident_host, i.op, i.threshold, \
    i.since_ms AS incident_since_ms, i.started_ms, i.value AS incident_value, i.summary \
    FROM alert_states a LEFT JOIN alert_incidents i ON i.id = a.incident_id";

fn alert_of(row: &Row) -> Read<(String, SeriesKey, Alert)> {
    let rule: String = row.try_get("rule")?;
    let series = series_of(row)?;
    let phase = match row.try_get::<_, Option<i64>>("held_ms")? {
        Some(held_ms) => Phase::Pending { held_ms },
        None => Phase::Firing(Box::new(Incident {
            id: row.try_get("id")?,
            rule: rule.clone(),
            severity: row.try_get("severity")?,
            series: series.clone(),
            host: row.try_get("incident_host")?,
            op: op_of(row)?,
            threshold: row.try_get("threshold")?,
            since_ms: row.try_get("incident_since_ms")?,
            started_ms: row.try_get("started_ms")?,
            value: row.try_get("incident_value")?,
            summary: row.try_get("summary")?,
        })),
    };
    let alert = Alert {
        host: row.try_get("host")?,
        since_ms: row.try_get("since_ms")?,
        seen_ms: row.try_get("seen_ms")?,
        value: row.try_get("value")?,
        unknown_since_ms: row.try_get("unknown_since_ms")?,
        phase,
    };
    Ok((rule, series, alert))
}

fn series_of(row: &Row) -> Read<SeriesKey> {
    let agent_id = AgentId::from_bytes(row.try_get::<_, Uuid>("agent_id")?.into_bytes());
    let labels: Labels = from_json(row, "labels")?;
    Ok(SeriesKey { agent_id, metric: row.try_get("metric")?, labels })
}

fn op_of(row: &Row) -> Read<Op> {
    let word: &str = row.try_get("op")?;
    Op::parse(word).ok_or_else(|| format!("operator {word:?}").into())
}

fn delivery_of(row: &Row) -> Read<Delivery> {
    let count = |column: &str| Read::Ok(u32::try_from(row.try_get::<_, i64>(column)?)?);
    Ok(Delivery {
        id: row.try_get("id")?,
        notification: from_json(row, "body")?,
        created_ms: row.try_get("created_ms")?,
        attempts: count("attempts")?,
        refusals: count("refusals")?,
    })
}

fn dead_letter(row: &Row) -> Read<DeadLetter> {
    Ok(DeadLetter {
        notifier: row.try_get("notifier")?,
        notification: from_json(row, "body")?,
        attempts: u32::try_from(row.try_get::<_, i64>("attempts")?)?,
        error: row.try_get("error")?,
        dead_ms: row.try_get("settled_ms")?,
    })
}

fn incident_row(row: &Row) -> Read<IncidentRow> {
    Ok(IncidentRow {
        id: row.try_get("id")?,
        rule: row.try_get("rule")?,
        severity: row.try_get("severity")?,
        host: row.try_get("host")?,
        series: series_of(row)?,
        op: op_of(row)?,
        threshold: row.try_get("threshold")?,
        value: row.try_get("value")?,
        summary: row.try_get("summary")?,
        since_ms: row.try_get("since_ms")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        end_reason: row.try_get("end_reason")?,
    })
}
