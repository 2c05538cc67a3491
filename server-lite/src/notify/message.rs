//! What is told.
//!
//! The body of a webhook in `json` format is one [`Notification`]:
//! ```json
//! {"id": "4f0c…-firing-webhook:ops", "incident": "4f0c…", "state": "firing",
//!  "rule": "cpu_busy", "severity": "warning", "summary": "load of web-1 is 5.2",
//!  "host": "web-1", "agent_id": "0192…", "metric": "node_load1", "labels": {},
//!  "value": 5.2, "op": ">", "threshold": 4.0,
//!  "since_ms": 1700000000000, "started_ms": 1700000120000}
//! ```
//! and, when it has ended, `"state": "resolved"` with the same `incident`, the value it ended with,
//! `"ended_ms"` and `"reason"` (`recovered`, `rule_changed`, `rule_removed`). Times are Unix
//! milliseconds of the data. A value that is infinite is the string `"inf"` or `"-inf"`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::AgentId;

use crate::rules::{
    alert::{EndReason, Labels, Transition},
    rule::Op,
    summary::{labels_text, number_text},
};

/// What is told to one notifier of one transition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Names this notification for ever; also in the header `Idempotency-Key`. One that comes again
    /// with the same id was told before.
    pub id: String,
    /// Names the incident: the same when it begins and when it ends.
    pub incident: String,
    /// What became of it.
    pub state: State,
    /// Name of the rule.
    pub rule: String,
    /// The rule's severity.
    pub severity: String,
    /// The rule's text, filled in.
    pub summary: String,
    /// Name of the host.
    pub host: String,
    /// Its agent.
    pub agent_id: AgentId,
    /// Name of the metric.
    pub metric: String,
    /// Labels of the series.
    pub labels: Labels,
    /// What was compared.
    #[serde(with = "number")]
    pub value: f64,
    /// How.
    pub op: Op,
    /// With what.
    pub threshold: f64,
    /// Unix milliseconds: when the threshold was first crossed.
    pub since_ms: i64,
    /// Unix milliseconds: when it began to fire.
    pub started_ms: i64,
    /// Unix milliseconds: when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
}

/// What became of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It began.
    Firing,
    /// It ended.
    Resolved,
}

impl State {
    /// As it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl Notification {
    /// What `notifier` is told of a transition.
    #[must_use]
    pub fn new(transition: &Transition, notifier: &str) -> Self {
        let (incident, end) = match transition {
            Transition::Fired(incident) => (incident, None),
            Transition::Resolved(incident, end) => (incident, Some(end)),
        };
        let state = if end.is_some() { State::Resolved } else { State::Firing };
        Self {
            id: format!("{}-{}-{notifier}", incident.id, state.as_str()),
            incident: incident.id.clone(),
            state,
            rule: incident.rule.clone(),
            severity: incident.severity.clone(),
            summary: end.map_or(&incident.summary, |end| &end.summary).clone(),
            host: incident.host.clone(),
            agent_id: incident.series.agent_id,
            metric: incident.series.metric.clone(),
            labels: incident.series.labels.clone(),
            value: end.map_or(incident.value, |end| end.value),
            op: incident.op,
            threshold: incident.threshold,
            since_ms: incident.since_ms,
            started_ms: incident.started_ms,
            ended_ms: end.map(|end| end.ended_ms),
            reason: end.map(|end| end.reason),
        }
    }

    /// The same for Slack's incoming webhooks (and those that understand them): one line of text,
    /// and an attachment with colour, summary and time.
    #[must_use]
    pub fn to_slack(&self) -> Value {
        let color = match self.state {
            State::Firing => "danger",
            State::Resolved => "good",
        };
        json!({
            "text": slack_escaped(&self.headline()),
            "attachments": [{
                "color": color,
                "fallback": slack_escaped(&self.summary),
                "text": slack_escaped(&self.summary),
                "footer": slack_escaped(&format!("{} · {}", self.rule, self.severity)),
                "ts": self.ended_ms.unwrap_or(self.started_ms).div_euclid(1_000),
            }],
        })
    }

    /// One line for people.
    #[must_use]
    pub fn headline(&self) -> String {
        let state = self.state.as_str().to_uppercase();
        let labels = match self.labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels_text(&self.labels)),
        };
        let (rule, host, metric, op) = (&self.rule, &self.host, &self.metric, self.op.as_str());
        let (value, threshold) = (number_text(self.value), number_text(self.threshold));
        let why = match self.reason {
            Some(EndReason::RuleChanged) => ", the rule no longer looks at it",
            Some(EndReason::RuleRemoved) => ", the rule is no longer there",
            Some(EndReason::HostRenamed) => ", the host has a name that the rule doesn't look at",
            Some(EndReason::Recovered) | None => "",
        };
        format!(
            "[{state}] {rule} on {host}: {metric}{labels} = {value} (threshold {op} {threshold}){why}"
        )
    }
}

/// Slack's three control characters, as it asks for.
fn slack_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number that may be infinite, which JSON has no word for: then it is `"inf"` or `"-inf"`.
pub(crate) mod number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            serializer.serialize_f64(*value)
        } else {
            serializer.collect_str(value)
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Word(String),
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(value) => Ok(value),
            Written::Word(word) => word.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rules::alert::{End, Incident, SeriesKey, incident_id};

    /// An incident of rule `rule` that began at `started_ms`.
    pub(crate) fn incident(rule: &str, started_ms: i64) -> Incident {
        let series = SeriesKey {
            agent_id: AgentId::from_bytes([7; 16]),
            metric: "node_load1".to_owned(),
            labels: [("path".to_owned(), "<a&b>".to_owned())].into(),
        };
        Incident {
            id: incident_id(rule, &series, started_ms),
            rule: rule.to_owned(),
            severity: "warning".to_owned(),
            series,
            host: "web-1".to_owned(),
            op: Op::Greater,
            threshold: 4.0,
            since_ms: started_ms - 60_000,
            started_ms,
            value: 5.25,
            summary: "load is high".to_owned(),
        }
    }

    fn end(reason: EndReason) -> End {
        End { ended_ms: 200_500, value: 1.0, reason, summary: "load is fine".to_owned() }
    }

    #[test]
    fn json_reads_as_documented() {
        let check = |transition: &Transition, expected: Value| {
            let notification = Notification::new(transition, "webhook:ops");
            let found = serde_json::to_value(&notification).unwrap();
            assert_eq!(found, expected);
            assert_eq!(serde_json::from_value::<Notification>(found).unwrap(), notification);
        };
        let incident = incident("busy", 120_000);
        let id = incident.id.clone();
        let mut expected = json!({
            "id": format!("{id}-firing-webhook:ops"), "incident": id, "state": "firing",
            "rule": "busy", "severity": "warning", "summary": "load is high",
            "host": "web-1", "agent_id": "07070707-0707-0707-0707-070707070707",
            "metric": "node_load1", "labels": {"path": "<a&b>"},
            "value": 5.25, "op": ">", "threshold": 4.0, "since_ms": 60_000, "started_ms": 120_000,
        });
        check(&Transition::Fired(incident.clone()), expected.clone());
        expected["id"] = json!(format!("{id}-resolved-webhook:ops"));
        expected["state"] = json!("resolved");
        expected["summary"] = json!("load is fine");
        expected["value"] = json!(1.0);
        expected["ended_ms"] = json!(200_500);
        expected["reason"] = json!("recovered");
        check(&Transition::Resolved(incident, end(EndReason::Recovered)), expected);
    }

    #[test]
    fn infinite_values_come_back() {
        for value in [f64::INFINITY, f64::NEG_INFINITY, -0.5] {
            let fired = Transition::Fired(Incident { value, ..incident("busy", 0) });
            let notification = Notification::new(&fired, "log");
            let text = serde_json::to_string(&notification).unwrap();
            assert_eq!(serde_json::from_str::<Notification>(&text).unwrap().value, value);
        }
    }

    #[test]
    fn slack_gets_one_line_and_an_attachment() {
        let incident = incident("busy", 120_999);
        let check = |transition: &Transition, text: &str, color: &str, ts: i64| {
            let slack = Notification::new(transition, "webhook:chat").to_slack();
            assert_eq!(slack["text"], text);
            let attachment = &slack["attachments"][0];
            assert_eq!((&attachment["color"], &attachment["ts"]), (&json!(color), &json!(ts)));
            assert_eq!(attachment["footer"], "busy · warning");
        };
        let fired = Transition::Fired(incident.clone());
        let line = "on web-1: node_load1{path=\"&lt;a&amp;b&gt;\"}";
        check(&fired, &format!("[FIRING] busy {line} = 5.25 (threshold &gt; 4)"), "danger", 120);
        let gone = Transition::Resolved(incident, end(EndReason::RuleRemoved));
        let text =
            format!("[RESOLVED] busy {line} = 1 (threshold &gt; 4), the rule is no longer there");
        check(&gone, &text, "good", 200);
    }
}
