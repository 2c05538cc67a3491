//! In which state a series is under a rule, and what changed.
//!
//! ```text
//! inactive ──crosses──▶ pending ──has held for `for`──▶ firing ──no longer crosses──▶ inactive
//!     ▲                    │                                                          (resolved)
//!     └──no longer crosses─┘
//! ```
//!
//! A series that is inactive has no state at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wire::AgentId;

use super::{rule::Op, rule::Rule};

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// Which series: of which agent, of which metric, with which labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// Who sends it.
    pub agent_id: AgentId,
    /// Name of the metric.
    pub metric: String,
    /// Its labels.
    pub labels: Labels,
}

/// A series that is pending or firing under a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The host's name when it was last seen.
    pub host: String,
    /// Unix milliseconds of the sample with which the threshold was first crossed.
    pub since_ms: i64,
    /// Unix milliseconds of the newest sample judged.
    pub seen_ms: i64,
    /// What was compared then.
    pub value: f64,
    /// Set when there is nothing newer to judge: the state is as it was then, what is now is not
    /// known. Unix milliseconds of the last sample.
    pub unknown_since_ms: Option<i64>,
    /// How far it has come.
    pub phase: Phase,
}

/// How far an alert has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// The threshold is crossed, not long enough yet.
    Pending {
        /// For how long it is known to have been crossed, in milliseconds.
        held_ms: i64,
    },
    /// Somebody has been told.
    Firing(Box<Incident>),
}

/// One time that an alert fired, with all that is worth keeping of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Names it for ever: see [`incident_id`].
    pub id: String,
    /// Name of the rule.
    pub rule: String,
    /// The rule's severity at the time.
    pub severity: String,
    /// Which series.
    pub series: SeriesKey,
    /// The host's name at the time.
    pub host: String,
    /// The rule's comparison at the time.
    pub op: Op,
    /// The rule's threshold at the time.
    pub threshold: f64,
    /// Unix milliseconds of the sample with which the threshold was first crossed.
    pub since_ms: i64,
    /// Unix milliseconds of the sample with which it began to fire.
    pub started_ms: i64,
    /// What was compared then.
    pub value: f64,
    /// The rule's text, filled in.
    pub summary: String,
}

/// How an incident ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Unix milliseconds of the sample that ended it; of the evaluation where no sample did.
    pub ended_ms: i64,
    /// The last value compared.
    pub value: f64,
    /// Why.
    pub reason: EndReason,
    /// The text for those who are told.
    pub summary: String,
}

/// Why an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The threshold is no longer crossed.
    Recovered,
    /// The rule no longer looks at this series.
    RuleChanged,
    /// The rule is no longer there.
    RuleRemoved,
    /// The host has another name now, and the rule looks at none of that name.
    HostRenamed,
}

impl EndReason {
    /// As it is stored and sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::RuleChanged => "rule_changed",
            Self::RuleRemoved => "rule_removed",
            Self::HostRenamed => "host_renamed",
        }
    }
}

/// What somebody has to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// It began to fire; the alert's [`Phase::Firing`] says the same.
    Fired(Incident),
    /// It ended.
    Resolved(Incident, End),
}

/// One series' new state under a rule. Nothing has changed until it is committed and applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Name of the rule.
    pub rule: String,
    /// Which series.
    pub series: SeriesKey,
    /// Its state from now on; `None`: inactive.
    pub after: Option<Alert>,
    /// What somebody has to be told, if anything.
    pub transition: Option<Transition>,
}

/// The alerts of one rule.
pub type RuleAlerts = BTreeMap<SeriesKey, Alert>;

/// All alerts, by rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertStates(BTreeMap<String, RuleAlerts>);

impl AlertStates {
    /// The alerts of a rule.
    #[must_use]
    pub fn of(&self, rule: &str) -> &RuleAlerts {
        static NONE: RuleAlerts = RuleAlerts::new();
        self.0.get(rule).unwrap_or(&NONE)
    }

    /// Every alert with the name of its rule.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SeriesKey, &Alert)> {
        self.0.iter().flat_map(|(rule, alerts)| {
            alerts.iter().map(move |(series, alert)| (rule.as_str(), series, alert))
        })
    }

    /// Takes over what has been committed.
    pub fn apply(&mut self, changes: Vec<Change>) {
        for Change { rule, series, after, .. } in changes {
            self.set(rule, series, after);
        }
    }

    pub(super) fn set(&mut self, rule: String, series: SeriesKey, after: Option<Alert>) {
        match after {
            Some(alert) => {
                self.0.entry(rule).or_default().insert(series, alert);
            }
            None => {
                if let Some(alerts) = self.0.get_mut(&rule) {
                    alerts.remove(&series);
                    if alerts.is_empty() {
                        self.0.remove(&rule);
                    }
                }
            }
        }
    }

    /// What becomes of alerts whose rule is no longer there: they end, and whoever was told of one
    /// is told of that.
    #[must_use]
    pub fn orphans(&self, rules: &[Rule], now_ms: i64) -> Vec<Change> {
        let gone = |name: &str| !rules.iter().any(|rule| rule.name == name);
        self.iter()
            .filter(|(rule, ..)| gone(rule))
            .map(|(rule, series, alert)| {
                alert.abandon(rule, series, EndReason::RuleRemoved, now_ms)
            })
            .collect()
    }
}

impl Alert {
    /// The change to inactive of an alert that nobody watches any more.
    pub(super) fn abandon(
        &self,
        rule: &str,
        series: &SeriesKey,
        reason: EndReason,
        now_ms: i64,
    ) -> Change {
        let transition = match &self.phase {
            Phase::Pending { .. } => None,
            Phase::Firing(incident) => {
                let summary = incident.summary.clone();
                let end = End { ended_ms: now_ms, value: self.value, reason, summary };
                Some(Transition::Resolved(incident.as_ref().clone(), end))
            }
        };
        Change { rule: rule.to_owned(), series: series.clone(), after: None, transition }
    }
}

/// Names an incident by what it is (rule, series and start), so that the same one has the same name
/// however often it is found: 32 hexadecimal digits.
#[must_use]
pub fn incident_id(rule: &str, series: &SeriesKey, started_ms: i64) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(rule.as_bytes());
    part(series.agent_id.as_bytes());
    part(series.metric.as_bytes());
    part(&started_ms.to_le_bytes());
    for (name, value) in &series.labels {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    let digest = hash.finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(agent: u8, labels: &[(&str, &str)]) -> SeriesKey {
        SeriesKey {
            agent_id: AgentId::from_bytes([agent; 16]),
            metric: "m".to_owned(),
            labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn incidents_are_named_by_what_they_are() {
        let id = incident_id("r", &series(1, &[("a", "b")]), 5);
        assert_eq!(id, incident_id("r", &series(1, &[("a", "b")]), 5));
        assert_eq!(id.len(), 32);
        for other in [
            incident_id("s", &series(1, &[("a", "b")]), 5),
            incident_id("r", &series(2, &[("a", "b")]), 5),
            incident_id("r", &series(1, &[("a", "c")]), 5),
            incident_id("r", &series(1, &[("ab", "")]), 5),
            incident_id("r", &series(1, &[]), 5),
            incident_id("r", &series(1, &[("a", "b")]), 6),
        ] {
            assert_ne!(id, other);
        }
        assert_eq!(id, "521feeaec99031ee5ec2cba3b67bad52", "receivers know incidents by this name");
    }
}
