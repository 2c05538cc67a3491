//! The promise towards receivers that aren't ours: a real agent on this host's data, a real Prometheus
//! and a real VictoriaMetrics, with an outage of the receiver and two `kill -9` of the agent inside, one
//! of them in the middle of the drain. What the agent's own ledger has, a `file` sink beside, the
//! receiver has: every sample once, with its value, and nothing else.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod receiver;
mod relay;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use xtask::programs::{Program, wait_for};

use receiver::{Kind, Receiver};
use relay::Relay;

const PATIENCE: Duration = Duration::from_secs(60);

/// By series, as `name label=value …`: times in milliseconds, and values.
type Samples = BTreeMap<String, BTreeMap<i64, f64>>;

/// The agent, with a ledger of everything beside the sink that is looked at.
struct Agent {
    directory: PathBuf,
    program: Program,
}

impl Agent {
    fn start(directory: &Path, url: &str) -> Self {
        let path = directory.display();
        let text = format!(
            "interval = \"1s\"\ndata_dir = \"{path}/data\"\n\
             [sinks.receiver]\ntype = \"remote_write\"\nurl = \"{url}\"\ninstance = \"this\"\n\
             [sinks.ledger]\ntype = \"file\"\npath = \"{path}/ledger.jsonl\"\n"
        );
        fs::write(directory.join("agent.toml"), text).unwrap();
        Self { directory: directory.to_owned(), program: run(directory) }
    }

    fn kill_and_restart(&mut self) {
        self.program.kill().unwrap();
        self.program = run(&self.directory);
    }

    fn ledger(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.join("ledger.jsonl")).unwrap_or_default();
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for so many more records than there are.
    fn await_more(&self, records: usize) {
        let before = self.ledger().len();
        self.wait("more records", || self.ledger().len() >= before + records);
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        wait_for(PATIENCE, || Ok(is_so().then_some(())))
            .unwrap_or_else(|_| panic!("never {what}\n{}", self.program.tail()));
    }

    /// What the receiver has to have.
    fn expected(&self) -> Samples {
        let mut all = Samples::new();
        for record in self.ledger() {
            let time_ms = record["time_ms"].as_i64().unwrap();
            for sample in record["samples"].as_array().into_iter().flatten() {
                let mut labels = sample["labels"].as_object().unwrap().clone();
                labels.insert("instance".to_owned(), "this".into());
                labels.insert("job".to_owned(), "node".into());
                let name = receiver::name(sample["name"].as_str().unwrap(), &labels);
                // a series that is there twice in a tick counts once
                let value = receiver::number(&sample["value"]);
                all.entry(name).or_default().entry(time_ms).or_insert(value);
            }
        }
        all
    }
}

fn run(directory: &Path) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    command.arg("run").arg("--config").arg(directory.join("agent.toml"));
    Program::start("holdfast-agent", &mut command, |_| ()).unwrap()
}

fn drill(kind: Kind) {
    let Some(mut receiver) = Receiver::find(kind) else {
        eprintln!("SKIPPED: {} is not here (apt-get install {})", kind.program(), kind.package());
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    receiver.start();
    let relay = Relay::start(receiver.address());
    let mut agent = Agent::start(directory.path(), &relay.url());
    agent.wait("three ticks arrived", || relay.passed() >= 3);

    relay.leads_to(None);
    receiver.stop();
    agent.await_more(3);
    agent.kill_and_restart();
    agent.await_more(3);

    // of the drain, four ticks are acknowledged; the fifth is taken, and nobody hears of it
    let fifth = relay.drop_reply(5);
    receiver.start();
    relay.leads_to(Some(receiver.address()));
    fifth.recv_timeout(PATIENCE).unwrap();
    agent.kill_and_restart();
    relay.leads_to(Some(receiver.address()));

    let waiting = agent.ledger().last().unwrap()["time_ms"].as_i64().unwrap();
    agent.wait("caught up", || receiver.newest_ms().is_some_and(|newest| newest >= waiting));
    agent.await_more(2);
    agent.program.stop().unwrap();
    println!("{}", agent.program.tail());

    let expected = agent.expected();
    let samples: usize = expected.values().map(BTreeMap::len).sum();
    let (requests, bytes) = (relay.passed(), relay.bytes());
    println!("{samples} samples, {requests} requests of {} bytes each", bytes / requests);
    assert!(expected.values().map(BTreeMap::len).max() >= Some(9), "too little happened");
    assert!(!directory.path().join("data/quarantine").exists(), "{}", agent.program.tail());
    let held = receiver.samples();
    for (series, samples) in &expected {
        let held = held.get(series).unwrap_or_else(|| panic!("{series} is missing"));
        let times = |samples: &BTreeMap<i64, f64>| samples.keys().copied().collect::<Vec<_>>();
        assert_eq!(times(held), times(samples), "{series}");
        for (time_ms, value) in samples {
            assert!(kind.is_same(held[time_ms], *value), "{series} at {time_ms}: {value}");
        }
    }
    let more: Vec<_> = held.keys().filter(|series| !expected.contains_key(*series)).collect();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn prometheus_has_every_sample_once() {
    drill(Kind::Prometheus);
}

#[test]
fn victoria_metrics_has_every_sample_once() {
    drill(Kind::VictoriaMetrics);
}
