//! The rules and alerts that people run on node_exporter's metrics, on what the real agent collects of
//! this host. What the hub has is read out of it and given to Prometheus, so that both look at the same.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use xtask::programs::{Agent, Hub, Prometheus, wait_for};

use super::{Both, binaries, is_possible, line};

const RULES: &str = "tests/prometheus/node.rules.yml";
const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(1);
/// Ticks until there are rates.
const TICKS: u64 = 6;

/// Rules that have an answer on every host, and between which values it lies.
const PLAUSIBLE: &[(&str, f64, f64)] = &[
    ("instance:node_num_cpu:sum", 1.0, 10_000.0),
    ("instance:node_cpu_utilisation:rate5m", -0.1, 1.1),
    ("instance:node_load1_per_cpu:ratio", 0.0, 1_000.0),
    ("instance:node_memory_utilisation:ratio", 0.0, 1.0),
    ("instance:node_vmstat_pgmajfault:rate5m", 0.0, 1e6),
    ("cluster:node_cpu:ratio_rate5m", -0.1, 1.1),
    ("cluster:node_memory_available_bytes:sum", 1e6, 1e15),
    ("instance:node_cpu_mode:share", 0.0, 1.0),
    ("instance:node_uptime_seconds", 1.0, 1e10),
    ("instance:node_context_switches:rate1m", 1.0, 1e9),
    ("instance:node_os:info", 1.0, 1e10),
];

/// Name and expression of each rule: as many lines as are indented further than `expr:`.
fn rules() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RULES);
    let text = fs::read_to_string(path).unwrap();
    let mut rules: Vec<(String, String)> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        let word = line.trim();
        let named = ["- record: ", "- alert: "].into_iter().find_map(|key| word.strip_prefix(key));
        if let Some(name) = named {
            rules.push((name.to_owned(), String::new()));
        }
        is_inside = word == "expr: |" || (is_inside && line.starts_with("          "));
        if is_inside && word != "expr: |" {
            let (_, expression) = rules.last_mut().unwrap();
            *expression += &format!("{}\n", &line[10..]);
        }
    }
    rules
}

/// All that a hub has of the last ten minutes, as a page, and the time of the newest sample.
fn page_of(hub: &Hub) -> (String, f64) {
    let everything = [("query", "{__name__=~\".+\"}[10m]")];
    let (status, answer) = hub.peer().get("/api/v1/query", &everything).unwrap();
    assert_eq!(status, 200, "{answer}");
    let (mut page, mut newest) = (String::new(), 0.0_f64);
    for series in answer["data"]["result"].as_array().unwrap() {
        let labels = series["metric"].as_object().unwrap().iter();
        let labels: Vec<(String, String)> = labels
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        for sample in series["values"].as_array().unwrap() {
            let seconds = sample[0].as_f64().unwrap();
            let value = sample[1].as_str().unwrap().parse().unwrap();
            line(&mut page, &labels, value, (seconds * 1_000.0).round() as i64);
            newest = newest.max(seconds);
        }
    }
    (page + "# EOF\n", newest)
}

#[test]
fn rules_of_a_mixin_say_what_prometheus_says() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let binaries = binaries();
    let hub = Hub::start(&binaries, directory.path(), "mixin").unwrap();
    let mut agent = Agent::start(&binaries, directory.path(), INTERVAL, &hub).unwrap();
    wait_for(PATIENCE, || {
        agent.check_running()?;
        let hosts = hub.get("/api/v1/hosts").unwrap_or_default();
        Ok((hosts["hosts"][0]["acked_seq"].as_u64() >= Some(TICKS)).then_some(()))
    })
    .unwrap();
    agent.stop().unwrap();
    let (page, newest) = page_of(&hub);
    let prometheus = Prometheus::start(directory.path(), &page).unwrap();
    let both = Both::new(&hub, &prometheus);

    let rules = rules();
    assert!(rules.len() > 35, "{}", rules.len());
    let (now, start) = (newest.to_string(), (newest - 60.0).to_string());
    let mut answered = 0;
    for (name, expression) in &rules {
        println!("{name}");
        let answer = both.check("/api/v1/query", &[("query", expression), ("time", &now)]);
        assert_eq!(answer["status"], "success", "{name}: {answer}");
        let span = [("start", start.as_str()), ("end", &now), ("step", "5")];
        both.check("/api/v1/query_range", &[&[("query", expression.as_str())], &span[..]].concat());
        let result = answer["data"]["result"].as_array().unwrap();
        answered += usize::from(!result.is_empty());
        if let Some((_, least, most)) = PLAUSIBLE.iter().find(|(rule, ..)| rule == name) {
            assert!(!result.is_empty(), "{name} has no answer");
            for one in result {
                let value: f64 = one["value"][1].as_str().unwrap().parse().unwrap();
                assert!((*least..=*most).contains(&value), "{name}: {one}");
            }
        }
    }
    println!("{answered} of {} rules have an answer on this host", rules.len());
    let known: Vec<_> = PLAUSIBLE.iter().map(|(rule, ..)| *rule).collect();
    assert!(known.iter().all(|rule| rules.iter().any(|(name, _)| name == rule)), "{known:?}");
    both.agreed();
    check_metadata(&both);
}

/// What the hub says of metrics is what the agent's page says of them.
fn check_metadata(both: &Both) {
    let (_, answer) = both.hub.get("/api/v1/metadata", &[("metric", "node_load1")]).unwrap();
    let expected = serde_json::json!([{"type": "gauge", "help": "1m load average.", "unit": ""}]);
    assert_eq!(answer["data"]["node_load1"], expected);
    let (_, all) = both.hub.get("/api/v1/metadata", &[]).unwrap();
    assert!(all["data"].as_object().is_some_and(|all| all.len() > 50), "{all}");
    assert_eq!(all["data"]["node_cpu_seconds_total"][0]["type"], Value::from("counter"));
}
