//! A cloned host: two agents that run with one identity, told on both sides, and nothing lost by it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use xtask::programs::{Binaries, Hub, Program, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
/// A conflict that is seen for so long is one, and shows who is refused.
const LASTS_MS: i64 = 6_000;
/// A series that every tick has exactly one sample of, with a value that no other tick has.
const WITNESS: &str = "node_time_seconds";
const TOKEN: &str = "clone";
/// What an agent says that is refused for its identity.
const TOLD: &str = "another agent uses this one's identity";

/// One host: an agent that ships to the hub, and to a file of its own that shows what its log held.
struct Host {
    name: &'static str,
    directory: PathBuf,
    hub_url: String,
    durable: Arc<Mutex<BTreeSet<u64>>>,
    program: Option<Program>,
}

impl Host {
    fn new(name: &'static str, below: &Path, hub: &Hub) -> Self {
        let directory = below.join(name);
        fs::create_dir_all(&directory).unwrap();
        Self { name, directory, hub_url: hub.url(), durable: Arc::default(), program: None }
    }

    fn start(&mut self) {
        let (name, hub_url) = (self.name, &self.hub_url);
        let (data_dir, archive) = (self.data_dir(), self.directory.join("archive.jsonl"));
        let config = format!(
            "interval = '1s'\nhostname = '{name}'\ndata_dir = {data_dir:?}\n\
             [log]\nlevel = 'info,agent_core::agent=debug'\n\
             [sinks.archive]\ntype = 'file'\npath = {archive:?}\n\
             [sinks.hub]\ntype = 'http'\nurl = '{hub_url}'\ntoken = '{TOKEN}'\n"
        );
        let path = self.directory.join("agent.toml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command.arg("run").arg("--config").arg(path).env("NO_COLOR", "1");
        let durable = Arc::clone(&self.durable);
        let watch = move |line: &str| {
            let said = line.split_once("record is durable seq=").map(|(_, rest)| rest);
            if let Some(seq) = said.and_then(|rest| rest.split(' ').next()?.parse().ok()) {
                durable.lock().unwrap().insert(seq);
            }
        };
        let program = Program::start("holdfast-agent", &mut command, watch).unwrap();
        program.await_line("agent started", PATIENCE).unwrap();
        self.program = Some(program);
    }

    fn stop(&mut self) {
        self.program.take().unwrap().stop().unwrap();
    }

    fn said(&self) -> String {
        self.program.as_ref().unwrap().tail()
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn id(&self) -> String {
        fs::read_to_string(self.data_dir().join("agent-id")).unwrap().trim().to_owned()
    }

    /// A host whose disk is a copy of this one's.
    fn clone_to(&self, name: &'static str, below: &Path, hub: &Hub) -> Self {
        let clone = Self::new(name, below, hub);
        copy(&self.data_dir(), &clone.data_dir());
        clone
    }

    fn last_durable(&self) -> u64 {
        self.durable.lock().unwrap().last().copied().unwrap_or(0)
    }

    /// What it said is durable since it began: each tick's witness value as bits, by number. The
    /// archive shows what the log held; gaps have no values.
    fn witnesses(&self) -> BTreeMap<u64, u64> {
        let text = fs::read_to_string(self.directory.join("archive.jsonl")).unwrap();
        let lines: BTreeMap<u64, Value> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| (line["seq"].as_u64().unwrap(), line))
            .collect();
        let durable = self.durable.lock().unwrap();
        let missing: Vec<_> = durable.iter().filter(|seq| !lines.contains_key(seq)).collect();
        assert!(missing.is_empty(), "{} said that {missing:?} are durable", self.name);
        let ticks = durable.iter().filter(|seq| lines[seq]["gap"].is_null());
        ticks.map(|seq| (*seq, witness(&lines[seq]).unwrap())).collect()
    }
}

fn witness(line: &Value) -> Option<u64> {
    let samples = line["samples"].as_array()?;
    let sample = samples.iter().find(|sample| sample["name"] == WITNESS)?;
    Some(sample["value"].as_f64()?.to_bits())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn binaries() -> Binaries {
    let agent = Path::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    Binaries::below(agent.parent().unwrap()).unwrap()
}

/// What the hub says of an agent; null if it doesn't know it.
fn told(hub: &Hub, agent_id: &str) -> Value {
    let hosts = hub.get("/api/v1/hosts").unwrap_or_default();
    let hosts = hosts["hosts"].as_array().cloned().unwrap_or_default();
    hosts.into_iter().find(|host| host["agent_id"] == agent_id).unwrap_or(Value::Null)
}

fn await_acked(hub: &Hub, host: &Host, seq: u64) {
    let id = host.id();
    let acked = || told(hub, &id)["acked_seq"].as_u64().unwrap_or(0) >= seq;
    wait_for(PATIENCE, || Ok(acked().then_some(())))
        .unwrap_or_else(|_| panic!("{} never delivered {seq}\n{}", host.name, host.said()));
}

/// Waits until a conflict has lasted; returns the names of its hosts, the refused one first.
fn await_conflict(hub: &Hub, agent_id: &str, said: impl Fn() -> String) -> [String; 2] {
    let look = || {
        let conflict = &told(hub, agent_id)["conflict"];
        let lasts = conflict["last_ms"].as_i64()? - conflict["since_ms"].as_i64()? >= LASTS_MS;
        let name = |index: usize| conflict["hosts"][index]["host"].as_str().map(str::to_owned);
        lasts.then_some([name(0)?, name(1)?])
    };
    wait_for(PATIENCE, || Ok(look())).unwrap_or_else(|_| panic!("no conflict\n{}", said()))
}

/// The stored witnesses of an agent, by number, over its streams.
fn stored(hub: &Hub, agent_id: &str) -> BTreeMap<u64, Vec<u64>> {
    let mut command = Command::new(hub.binary());
    command.args(["samples", "--metric", WITNESS, "--host", agent_id]);
    let output = command.arg("--data-dir").arg(hub.data_dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let sample: Value = serde_json::from_str(line).unwrap();
        let bits = sample["value"].as_f64().unwrap().to_bits();
        found.entry(sample["seq"].as_u64().unwrap()).or_default().push(bits);
    }
    found
}

/// Everything that a host said is durable is stored under this identity, once, and nothing else is, as
/// far as it came after the log was copied.
fn check_delivered(hub: &Hub, host: &Host, agent_id: &str, copied_seq: u64) {
    let expected = host.witnesses();
    assert!(expected.len() >= 5, "{}: {expected:?}", host.name);
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(seq, bits)| (seq, vec![bits])).collect();
    let found = stored(hub, agent_id).split_off(&(copied_seq + 1));
    assert_eq!(found, expected, "{}", host.name);
}

#[test]
fn a_copied_data_directory_is_told_on_both_sides_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&binaries(), directory.path(), TOKEN).unwrap();
    let mut first = Host::new("web-1", directory.path(), &hub);
    first.start();
    await_acked(&hub, &first, 2);
    first.stop();
    // From here on there are two.
    let second = first.clone_to("web-2", directory.path(), &hub);
    let copied_seq = first.last_durable();
    first.durable.lock().unwrap().clear();
    let shared_id = first.id();
    assert_eq!(second.id(), shared_id);

    // The first goes on with the stream, so that what the second writes can't be the stream's.
    let (mut taken, mut refused) = (first, second);
    taken.start();
    await_acked(&hub, &taken, copied_seq + 1);
    refused.start();
    let said = || [&taken, &refused].map(Host::said).concat();
    assert_eq!(await_conflict(&hub, &shared_id, said), [refused.name, taken.name]);
    let agent_says = refused.said();
    for expected in [
        &format!("ERROR agent_core::shipper: {TOLD}"),
        &format!("agent {shared_id} is in use"),
        &format!("on host {}", taken.name),
        "delete the file `agent-id` in its data directory",
    ] {
        assert!(agent_says.contains(expected), "{expected:?} in\n{agent_says}");
    }
    let hub_says = hub.program().unwrap().tail();
    let warnings = hub_says.matches("two agents use one identity").count();
    assert_eq!(warnings, 1, "once, not for each request\n{hub_says}");
    // The other one goes on all the while, and hears nothing of it.
    await_acked(&hub, &taken, taken.last_durable());
    assert!(!taken.said().contains(TOLD), "{}", taken.said());

    refused.stop();
    fs::remove_file(refused.data_dir().join("agent-id")).unwrap();
    refused.start();
    assert_ne!(refused.id(), shared_id);
    for host in [&refused, &taken] {
        await_acked(&hub, host, host.last_durable().max(refused.last_durable()) + 2);
    }
    [&mut refused, &mut taken].into_iter().for_each(Host::stop);
    hub.stop().unwrap();

    check_delivered(&hub, &refused, &refused.id(), copied_seq);
    check_delivered(&hub, &taken, &shared_id, copied_seq);
}

/// Of a host, what its clone begins with.
#[derive(Clone, Copy, PartialEq)]
enum Copied {
    /// Its identity only: nothing that either sends contradicts what the other has sent.
    Identity,
    /// Its log too: both go on with one stream under the same numbers.
    Log,
}

#[test]
fn when_the_clone_has_gone_the_refused_agent_goes_on_by_itself() {
    check_goes_on(Copied::Identity);
}

#[test]
fn when_a_clone_with_another_log_has_gone_both_logs_are_kept() {
    check_goes_on(Copied::Log);
}

fn check_goes_on(copied: Copied) {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&binaries(), directory.path(), TOKEN).unwrap();
    let mut first = Host::new("web-1", directory.path(), &hub);
    first.start();
    await_acked(&hub, &first, 2);
    let mut second = Host::new("web-2", directory.path(), &hub);
    let id = first.id();
    if copied == Copied::Log {
        first.stop();
        second = first.clone_to("web-2", directory.path(), &hub);
        let copied_seq = first.last_durable();
        first.start();
        await_acked(&hub, &first, copied_seq + 1);
    } else {
        fs::create_dir_all(second.data_dir()).unwrap();
        fs::copy(first.data_dir().join("agent-id"), second.data_dir().join("agent-id")).unwrap();
    }
    second.start();
    // Who was there first goes on.
    let (mut taken, mut refused) = (first, second);
    let said = || [&taken, &refused].map(Host::said).concat();
    assert_eq!(await_conflict(&hub, &id, said), [refused.name, taken.name]);
    assert!(refused.said().contains(TOLD), "{}", refused.said());
    assert!(!taken.said().contains(TOLD), "{}", taken.said());
    let page = metrics(&hub);
    for line in ["holdfast_hub_identities_in_conflict 1", "holdfast_hub_identity_conflicts_total 1"]
    {
        assert!(page.contains(line), "{line} in\n{page}");
    }

    taken.stop();
    refused.program.as_ref().unwrap().await_line("sink is back", PATIENCE).unwrap();
    let until = refused.last_durable() + 1;
    wait_for(PATIENCE, || Ok((refused.last_durable() > until).then_some(()))).unwrap();
    refused.stop();
    hub.stop().unwrap();
    let found = stored(&hub, &id);
    for (host, expected) in [(&refused, refused.witnesses()), (&taken, taken.witnesses())] {
        assert!(expected.len() >= 2, "{}", host.name);
        for (seq, bits) in expected {
            let count =
                found.get(&seq).map_or(0, |found| found.iter().filter(|one| **one == bits).count());
            assert_eq!(count, 1, "{} record {seq}", host.name);
        }
    }
}

fn metrics(hub: &Hub) -> String {
    ureq::get(format!("{}/metrics", hub.url())).call().unwrap().body_mut().read_to_string().unwrap()
}
