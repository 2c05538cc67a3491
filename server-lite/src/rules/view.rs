//! Alerts as the hub's API shows them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    alert::{Alert, Phase, SeriesKey},
    alert_store::{AlertStore, AlertStoreError, DeadLetter, IncidentRow, OutboxCounts},
    metrics::{RuleMetrics, RuleStatus},
};
use crate::notify::message::number;

/// Most incidents, and most notifications given up on, that are shown at once.
pub const LIMIT_MAX: u32 = 1_000;
/// How many unless asked otherwise.
pub const LIMIT_DEFAULT: u32 = 100;

/// Body of `GET /api/v1/incidents`.
#[derive(Clone, Debug, Serialize)]
pub struct AlertsView {
    /// Unix milliseconds by the hub's clock.
    pub time_ms: i64,
    /// What is pending or firing.
    pub alerts: Vec<AlertView>,
    /// What fired, newest first; without `ended_ms` it still does.
    pub incidents: Vec<IncidentRow>,
    /// How each rule's latest evaluation went.
    pub rules: BTreeMap<String, RuleStatus>,
    /// How notifications stand.
    pub notifications: OutboxCounts,
    /// Notifications that were given up on, newest first.
    pub dead: Vec<DeadLetter>,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertView {
    /// Name of the rule.
    pub rule: String,
    /// `pending` or `firing`.
    pub state: &'static str,
    /// Name of the host when it was last seen.
    pub host: String,
    /// Which series.
    #[serde(flatten)]
    pub series: SeriesKey,
    /// What was compared last.
    #[serde(with = "number")]
    pub value: f64,
    /// Unix milliseconds: when the threshold was first crossed.
    pub since_ms: i64,
    /// Unix milliseconds of the newest sample judged.
    pub seen_ms: i64,
    /// Set when there is no newer sample: the alert is as it was then, what is now is not known.
    pub unknown_since_ms: Option<i64>,
    /// Of a pending one: for how long the threshold is known to have been crossed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<i64>,
    /// Of a firing one: what fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<FiringView>,
}

/// The incident of a firing alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FiringView {
    /// Names it for ever.
    pub id: String,
    /// The rule's severity.
    pub severity: String,
    /// The rule's text, filled in when it began.
    pub summary: String,
    /// Unix milliseconds: when it began to fire.
    pub started_ms: i64,
}

impl AlertsView {
    /// What is committed now, with at most `limit` incidents and dead notifications. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be read.
    pub fn read(
        store: &AlertStore,
        metrics: &RuleMetrics,
        now_ms: i64,
        limit: u32,
    ) -> Result<Self, AlertStoreError> {
        let limit = limit.min(LIMIT_MAX);
        let states = store.load()?;
        Ok(Self {
            time_ms: now_ms,
            alerts: states.iter().map(|(rule, series, alert)| view(rule, series, alert)).collect(),
            incidents: store.incidents(limit)?,
            rules: metrics.rules(),
            notifications: store.outbox_counts()?,
            dead: store.dead_letters(limit)?,
        })
    }
}

fn view(rule: &str, series: &SeriesKey, alert: &Alert) -> AlertView {
    let (state, held_ms, incident) = match &alert.phase {
        Phase::Pending { held_ms } => ("pending", Some(*held_ms), None),
        Phase::Firing(incident) => {
            let firing = FiringView {
                id: incident.id.clone(),
                severity: incident.severity.clone(),
                summary: incident.summary.clone(),
                started_ms: incident.started_ms,
            };
            ("firing", None, Some(firing))
        }
    };
    AlertView {
        rule: rule.to_owned(),
        state,
        host: alert.host.clone(),
        series: series.clone(),
        value: alert.value,
        since_ms: alert.since_ms,
        seen_ms: alert.seen_ms,
        unknown_since_ms: alert.unknown_since_ms,
        held_ms,
        incident,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        notify::message::tests::incident,
        rules::{
            alert::{Change, Transition},
            alert_store::FILE,
        },
    };

    #[test]
    fn json_reads_as_documented() {
        let dir = TempDir::new().unwrap();
        let store = AlertStore::open(&dir.path().join(FILE)).unwrap();
        let metrics = RuleMetrics::default();
        metrics.note_rule("b", |status| status.series = 3);
        let change = |rule: &str, phase: Phase, transition| {
            let incident = incident(rule, 90_000);
            let (since_ms, seen_ms) = (incident.since_ms, incident.started_ms);
            let (host, value) = (incident.host, f64::INFINITY);
            let after = Alert { host, since_ms, seen_ms, value, unknown_since_ms: None, phase };
            let series = incident.series;
            Change { rule: rule.to_owned(), series, after: Some(after), transition }
        };
        let fired = incident("a", 90_000);
        let id = fired.id.clone();
        let firing = Phase::Firing(Box::new(fired.clone()));
        let changes = [
            change("a", firing, Some(Transition::Fired(fired))),
            change("b", Phase::Pending { held_ms: 5 }, None),
        ];
        store.commit(&changes, &["log".to_owned()], 91_000).unwrap();
        let view = AlertsView::read(&store, &metrics, 92_000, LIMIT_DEFAULT).unwrap();
        let agent = "07070707-0707-0707-0707-070707070707";
        let labels = json!({"path": "<a&b>"});
        let expected = json!({
            "time_ms": 92_000,
            "alerts": [
                {"rule": "a", "state": "firing", "host": "web-1", "agent_id": agent,
                 "metric": "node_load1", "labels": labels, "value": "inf", "since_ms": 30_000,
                 "seen_ms": 90_000, "unknown_since_ms": null,
                 "incident": {"id": id, "severity": "warning", "summary": "load is high",
                              "started_ms": 90_000}},
                {"rule": "b", "state": "pending", "host": "web-1", "agent_id": agent,
                 "metric": "node_load1", "labels": labels, "value": "inf", "since_ms": 30_000,
                 "seen_ms": 90_000, "unknown_since_ms": null, "held_ms": 5},
            ],
            "incidents": [
                {"id": id, "rule": "a", "severity": "warning", "host": "web-1", "agent_id": agent,
                 "metric": "node_load1", "labels": labels, "op": ">", "threshold": 4.0,
                 "value": 5.25, "summary": "load is high", "since_ms": 30_000,
                 "started_ms": 90_000},
            ],
            "rules": {"b": {"series": 3, "evaluated_ms": null}},
            "notifications": {"pending": 1, "dead": 0, "oldest_pending_ms": 91_000},
            "dead": [],
        });
        assert_eq!(serde_json::to_value(&view).unwrap(), expected);
    }
}
