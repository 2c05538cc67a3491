//! The hub's Prometheus API beside Debian's Prometheus 2.42 on the same samples, and with Prometheus's own
//! tool as a client.
//!
//! - [`made_up`]: every endpoint, answers and refusals, on samples with every oddity.
//! - [`mixin`]: the rules and alerts that people run on node_exporter's metrics, on this host's own.
//!
//! Without Prometheus on the machine they say that they were skipped.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod made_up;
mod mixin;

use std::{cell::RefCell, fmt::Write as _, path::Path};

use serde_json::Value;
use xtask::programs::{Binaries, Hub, Peer, Prometheus};

fn binaries() -> Binaries {
    let agent = Path::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    Binaries::below(agent.parent().unwrap()).unwrap()
}

/// Whether there is something to compare with; says so if not.
fn is_possible() -> bool {
    let here = Prometheus::is_here();
    if !here {
        println!("SKIPPED: prometheus or promtool is not here (apt-get install prometheus)");
    }
    here
}

/// A line of a page in OpenMetrics' text format.
fn line(out: &mut String, labels: &[(String, String)], value: f64, time_ms: i64) {
    let name = labels.iter().find(|(name, _)| name == "__name__").map_or("", |(_, value)| value);
    let others = labels.iter().filter(|(name, _)| name != "__name__");
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let others: Vec<_> =
        others.map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    let value = match value {
        value if value == f64::INFINITY => "+Inf".to_owned(),
        value if value == f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    };
    let seconds = time_ms as f64 / 1_000.0;
    writeln!(out, "{name}{{{}}} {value} {seconds}", others.join(",")).unwrap();
}

/// The hub beside Prometheus, and where they didn't agree.
struct Both {
    hub: Peer,
    prometheus: Peer,
    differences: RefCell<Vec<String>>,
}

impl Both {
    fn new(hub: &Hub, prometheus: &Prometheus) -> Self {
        let (hub, prometheus) = (hub.peer(), prometheus.peer());
        Self { hub, prometheus, differences: RefCell::default() }
    }

    /// Asks both, and gives the hub's answer.
    fn check(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let (status, found) = self.hub.get(path, parameters).unwrap();
        let (expected_status, expected) = self.prometheus.get(path, parameters).unwrap();
        let (found, expected) = (ordered(found), ordered(expected));
        if status != expected_status || !agree(&found, &expected) {
            let text = format!(
                "{path} {parameters:?}\n  hub {status} {found}\n  prometheus {expected_status} {expected}"
            );
            self.differences.borrow_mut().push(text);
        }
        found
    }

    /// Whether they agreed on all that was checked.
    #[track_caller]
    fn agreed(&self) {
        let differences = self.differences.borrow();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// Series by their labels: an instant vector has no order of its own.
fn ordered(mut answer: Value) -> Value {
    let result = answer.pointer_mut("/data/result").and_then(Value::as_array_mut);
    if let Some(all) = result
        && all.iter().all(|one| one.get("metric").is_some())
    {
        all.sort_by_key(|one| one["metric"].to_string());
    }
    answer
}

/// Equal, but for how an expression that is none is explained, and the last bits of a sum.
fn agree(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let explained =
                |of: &Value| of.as_str().is_some_and(|text| text.contains("parse error"));
            a.len() == b.len()
                && a.iter().all(|(key, a)| {
                    let Some(b) = b.get(key) else { return false };
                    agree(a, b) || (key == "error" && explained(a) && explained(b))
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b))
        }
        (Value::String(a), Value::String(b)) => a == b || same_number(a, b),
        (a, b) => a == b,
    }
}

/// Two texts of the same number, but for the last bits: sums are not added up in the same order.
fn same_number(found: &str, expected: &str) -> bool {
    let (Ok(a), Ok(b)) = (found.parse::<f64>(), expected.parse::<f64>()) else { return false };
    // What is not finite has one text only, and would be near to everything.
    a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}
