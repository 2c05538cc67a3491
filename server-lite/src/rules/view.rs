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

/// Body of `GET /api/v1/alerts`.
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
