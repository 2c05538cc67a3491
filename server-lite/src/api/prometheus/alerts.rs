//! `/api/v1/rules` and `/api/v1/alerts`: the hub's threshold rules in Prometheus's words.
//!
//! Each rule of the configuration is an alerting rule of one group. Its `query` is the expression that
//! comes nearest to it; what the hub evaluates is the rule itself, which also knows of samples that come
//! late. Everything else about alerts and incidents: `/api/v1/incidents`.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::{Request, State};
use promql::Matcher;
use serde::Serialize;

use super::{
    answer::{Answer, Failure},
    params::Params,
    values::exponential,
};
use crate::{
    api::Hub,
    calendar::rfc3339,
    rules::{
        Aggregation, Rule,
        metrics::RuleStatus,
        view::{AlertView, AlertsView},
    },
    store::{INSTANCE_LABEL, JOB, JOB_LABEL, Labels},
};

/// Name of the one group, and of where it stands.
const GROUP: (&str, &str) = ("rules", "hub.toml");

/// What is pending and firing.
///
/// # Errors
/// [`Failure`] when it can't be read.
pub async fn alerts(State(hub): State<Arc<Hub>>) -> Result<Answer, Failure> {
    let view = read(&hub).await?;
    let alerts: Vec<Alert> = view.alerts.iter().map(|alert| shown(&hub, alert)).collect();
    Answer::of(&BTreeMap::from([("alerts", alerts)]), vec![])
}

/// Every rule, how its latest evaluation went, and its alerts. Parameter: `type`, `alert` or `record`.
///
/// # Errors
/// [`Failure`] when they can't be read.
pub async fn rules(State(hub): State<Arc<Hub>>, request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    let is_asked = match params.get("type") {
        "" | "alert" => true,
        "record" => false,
        other => {
            let message = format!("not supported value {other:?}");
            return Err(Failure::parameter("type", message));
        }
    };
    let view = read(&hub).await?;
    let rules: Vec<RuleShown> =
        hub.rules.iter().filter(|_| is_asked).map(|rule| rule_shown(&hub, rule, &view)).collect();
    let last = view.rules.values().filter_map(|status| status.evaluated_ms).max();
    let group = Group {
        name: GROUP.0,
        file: GROUP.1,
        rules,
        interval: hub.rule_interval.as_secs_f64(),
        limit: 0,
        evaluation_time: 0.0,
        last_evaluation: rfc3339(last.unwrap_or(0)),
    };
    let groups: Vec<Group> =
        Some(group).filter(|group| !group.rules.is_empty()).into_iter().collect();
    Answer::of(&BTreeMap::from([("groups", groups)]), vec![])
}

async fn read(hub: &Arc<Hub>) -> Result<AlertsView, Failure> {
    let (metrics, now_ms) = (Arc::clone(&hub.rule_metrics), hub.now_ms());
    let view = hub.alerts.blocking(move |store| AlertsView::read(store, &metrics, now_ms, 0));
    Ok(view.await?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: Labels,
    annotations: Labels,
    state: &'static str,
    active_at: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: &'static str,
    file: &'static str,
    rules: Vec<RuleShown>,
    interval: f64,
    limit: u32,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleShown {
    state: &'static str,
    name: String,
    query: String,
    duration: f64,
    labels: Labels,
    annotations: Labels,
    alerts: Vec<Alert>,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

fn rule_shown(hub: &Hub, rule: &Rule, view: &AlertsView) -> RuleShown {
    let own = view.alerts.iter().filter(|alert| alert.rule == rule.name);
    let alerts: Vec<Alert> = own.map(|alert| shown(hub, alert)).collect();
    let states = ["firing", "pending"];
    let state = states.into_iter().find(|state| alerts.iter().any(|alert| alert.state == *state));
    let status = view.rules.get(&rule.name).cloned().unwrap_or_default();
    let RuleStatus { evaluated_ms, error, .. } = status;
    let health = match (&error, evaluated_ms) {
        (Some(_), _) => "err",
        (None, Some(_)) => "ok",
        (None, None) => "unknown",
    };
    RuleShown {
        state: state.unwrap_or("inactive"),
        name: rule.name.clone(),
        query: expression(rule),
        duration: rule.for_ms as f64 / 1_000.0,
        labels: labels([("severity", &rule.severity)]),
        annotations: labels([("summary", &String::from(rule.summary.clone()))]),
        alerts,
        health,
        last_error: error,
        evaluation_time: 0.0,
        last_evaluation: rfc3339(evaluated_ms.unwrap_or(0)),
        kind: "alerting",
    }
}

fn shown(hub: &Hub, alert: &AlertView) -> Alert {
    let rule = hub.rules.iter().find(|rule| rule.name == alert.rule);
    let (severity, summary) = match (&alert.incident, rule) {
        (Some(firing), _) => (firing.severity.clone(), firing.summary.clone()),
        (None, Some(rule)) => (rule.severity.clone(), String::from(rule.summary.clone())),
        (None, None) => Default::default(),
    };
    let mut all = labels([(INSTANCE_LABEL, alert.host.as_str()), (JOB_LABEL, JOB)]);
    all.extend(alert.series.labels.clone());
    all.extend(labels([("alertname", alert.rule.as_str()), ("severity", severity.as_str())]));
    all.retain(|_, value| !value.is_empty());
    Alert {
        labels: all,
        annotations: labels([("summary", summary)]),
        state: alert.state,
        active_at: rfc3339(alert.since_ms),
        value: exponential(alert.value),
    }
}

fn labels<const N: usize>(all: [(&str, impl AsRef<str>); N]) -> Labels {
    all.into_iter().map(|(name, value)| (name.to_owned(), value.as_ref().to_owned())).collect()
}

/// The expression that comes nearest to a rule.
fn expression(rule: &Rule) -> String {
    let mut matchers: Vec<String> = rule
        .selector
        .labels
        .iter()
        .map(|(name, value)| Matcher::equal(name, value).to_string())
        .collect();
    if !rule.selector.hosts.is_empty() {
        let hosts: Vec<String> =
            rule.selector.hosts.iter().map(|host| regex_of(&String::from(host.clone()))).collect();
        matchers.push(format!("{INSTANCE_LABEL}=~{:?}", format!("(?i:{})", hosts.join("|"))));
    }
    let metric = &rule.selector.metric;
    let series = match matchers.as_slice() {
        [] => metric.clone(),
        some => format!("{metric}{{{}}}", some.join(",")),
    };
    let function = match rule.aggregation {
        Aggregation::Avg => "avg_over_time",
        Aggregation::Min => "min_over_time",
        Aggregation::Max => "max_over_time",
        Aggregation::Last => "last_over_time",
        Aggregation::Rate => "rate",
    };
    let (window_ms, op, threshold) = (rule.window_ms, rule.op.as_str(), rule.threshold);
    format!("{function}({series}[{window_ms}ms]) {op} {threshold}")
}

/// A pattern of hosts as a regular expression.
fn regex_of(pattern: &str) -> String {
    pattern.chars().fold(String::new(), |mut out, one| {
        match one {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            one if one.is_ascii_punctuation() && !"-_/".contains(one) => out.extend(['\\', one]),
            one => out.push(one),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;

    #[test]
    fn rules_as_expressions() {
        let check = |rule: &str, expected: &str| {
            let text = format!("[[rules]]\nname = 'r'\nmetric = 'm'\n{rule}");
            #[derive(serde::Deserialize)]
            struct File {
                rules: Rules,
            }
            let file: File = toml::from_str(&text).unwrap();
            let found = expression(file.rules.iter().next().unwrap());
            assert_eq!(found, expected);
            promql::Query::parse(&found).unwrap();
        };
        check("op = '>'\nthreshold = 4", "last_over_time(m[60000ms]) > 4");
        check(
            "op = '!='\nthreshold = -0.5\nagg = 'rate'\nlabels = { a = 'x\"', b = '' }",
            r#"rate(m{a="x\"",b=""}[300000ms]) != -0.5"#,
        );
        check(
            "op = '<'\nthreshold = 1\nagg = 'min'\nwindow = '2m'\nhosts = ['web-*.example', 'db?']",
            r#"min_over_time(m{instance=~"(?i:web-.*\\.example|db.)"}[120000ms]) < 1"#,
        );
    }
}
