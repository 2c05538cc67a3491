//! How rules and notifiers are doing, for the hub's own metrics and for people.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::Serialize;
use wire::MetricKind;

use super::{alert::AlertStates, alert::Phase, alert_store::OutboxCounts};

/// Counters and gauges; shared between the evaluation, the notifiers and whoever prints them.
#[derive(Debug, Default)]
pub struct RuleMetrics {
    pub(crate) evaluations: AtomicU64,
    pub(crate) evaluation_failures: AtomicU64,
    pub(crate) unread_series: AtomicU64,
    pub(crate) commit_failures: AtomicU64,
    pub(crate) fired: AtomicU64,
    pub(crate) resolved: AtomicU64,
    pub(crate) notifications_delivered: AtomicU64,
    pub(crate) notification_failures: AtomicU64,
    pub(crate) notifications_dead: AtomicU64,
    pending: AtomicU64,
    firing: AtomicU64,
    unknown: AtomicU64,
    outbox_pending: AtomicU64,
    rules: Mutex<BTreeMap<String, RuleStatus>>,
}

/// How one rule's latest evaluation went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleStatus {
    /// Series that it looked at. None at all: nothing it looks for is there, or it is misspelt.
    pub series: usize,
    /// Unix milliseconds when it was evaluated last with success.
    pub evaluated_ms: Option<i64>,
    /// Hosts for which it couldn't be evaluated, the first few by name, and why: their alerts are
    /// unknown.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<String, String>,
    /// Why the latest evaluation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One figure, for printing in Prometheus's text format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Name of the metric.
    pub name: &'static str,
    /// What it means.
    pub kind: MetricKind,
    /// One sentence for people.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

impl RuleMetrics {
    /// All figures as they are now.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        use MetricKind::{Counter, Gauge};
        let figure = |name, kind, help, value: &AtomicU64| Figure {
            name,
            kind,
            help,
            value: value.load(Relaxed),
        };
        vec![
            figure(
                "holdfast_hub_rule_evaluations_total",
                Counter,
                "Evaluations of a rule.",
                &self.evaluations,
            ),
            figure(
                "holdfast_hub_rule_evaluation_failures_total",
                Counter,
                "Evaluations that failed because samples couldn't be read.",
                &self.evaluation_failures,
            ),
            figure(
                "holdfast_hub_rule_unread_series_total",
                Counter,
                "Series left out of an evaluation because stored samples of them no longer read.",
                &self.unread_series,
            ),
            figure(
                "holdfast_hub_rule_commit_failures_total",
                Counter,
                "Rounds whose result couldn't be committed.",
                &self.commit_failures,
            ),
            figure(
                "holdfast_hub_alerts_fired_total",
                Counter,
                "Alerts that began to fire.",
                &self.fired,
            ),
            figure(
                "holdfast_hub_alerts_resolved_total",
                Counter,
                "Alerts that ended.",
                &self.resolved,
            ),
            figure(
                "holdfast_hub_alerts_pending",
                Gauge,
                "Alerts that wait for their time to pass.",
                &self.pending,
            ),
            figure("holdfast_hub_alerts_firing", Gauge, "Alerts that fire.", &self.firing),
            figure(
                "holdfast_hub_alerts_unknown",
                Gauge,
                "Pending and firing alerts whose data is missing.",
                &self.unknown,
            ),
            figure(
                "holdfast_hub_notifications_delivered_total",
                Counter,
                "Notifications delivered.",
                &self.notifications_delivered,
            ),
            figure(
                "holdfast_hub_notification_failures_total",
                Counter,
                "Tries to deliver a notification that failed.",
                &self.notification_failures,
            ),
            figure(
                "holdfast_hub_notifications_dead_total",
                Counter,
                "Notifications given up on.",
                &self.notifications_dead,
            ),
            figure(
                "holdfast_hub_notifications_pending",
                Gauge,
                "Notifications still to be delivered.",
                &self.outbox_pending,
            ),
        ]
    }

    /// How each rule's latest evaluation went.
    #[must_use]
    pub fn rules(&self) -> BTreeMap<String, RuleStatus> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Relaxed);
    }

    pub(crate) fn note_rule(&self, rule: &str, change: impl FnOnce(&mut RuleStatus)) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        change(rules.entry(rule.to_owned()).or_default());
    }

    pub(crate) fn note_states(&self, states: &AlertStates) {
        let of = |wanted: bool| {
            states.iter().filter(|(.., a)| matches!(a.phase, Phase::Firing(_)) == wanted).count()
        };
        let unknown = states.iter().filter(|(.., a)| a.unknown_since_ms.is_some()).count();
        self.firing.store(of(true) as u64, Relaxed);
        self.pending.store(of(false) as u64, Relaxed);
        self.unknown.store(unknown as u64, Relaxed);
    }

    pub(crate) fn note_outbox(&self, counts: OutboxCounts) {
        self.outbox_pending.store(counts.pending, Relaxed);
    }
}
