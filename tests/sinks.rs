//! Sinks that come, go, change their name or their delivery while the daemon runs; and that
//! `check-config` has said so before.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

use std::{fs, path::Path, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::programs::{Program, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// An agent whose sinks are files named after them.
struct Daemon {
    directory: tempfile::TempDir,
    program: Program,
}

impl Daemon {
    fn start(sinks: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_config(directory.path(), sinks);
        let mut command = agent(directory.path(), "run");
        let program = Program::start("holdfast-agent", &mut command, |_| ()).unwrap();
        program.await_line("agent started", PATIENCE).unwrap();
        Self { directory, program }
    }

    /// Writes other sinks, has them checked, and has the agent reread them; returns what the check said.
    fn change(&self, sinks: &[(&str, &str)]) -> String {
        write_config(self.directory.path(), sinks);
        let said = check(self.directory.path());
        self.program.signal(Signal::SIGHUP).unwrap();
        said
    }

    fn records(&self, sink: &str) -> Vec<Value> {
        let path = self.directory.path().join(sink).join("out.jsonl");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    }

    fn await_records(&self, sink: &str, at_least: usize) {
        self.wait(&format!("{at_least} records at {sink}"), || {
            self.records(sink).len() >= at_least
        });
    }

    /// Lets a sink whose directory was missing work.
    fn repair(&self, sink: &str) {
        fs::create_dir(self.directory.path().join(sink)).unwrap();
    }

    /// What the agent last said of itself.
    fn value(&self, sink: &str, name: &str) -> Option<f64> {
        let records = self.records(sink);
        let samples = records.last()?["samples"].as_array()?.clone();
        samples.iter().find(|sample| sample["name"] == name)?["value"].as_f64()
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        wait_for(PATIENCE, || Ok(is_so().then_some(())))
            .unwrap_or_else(|_| panic!("never {what}\n{}", self.program.tail()));
    }

    /// Checks that a sink got every record from the first on, each once and in order.
    fn check_whole(&self, sink: &str) {
        let records = self.records(sink);
        let seqs: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{sink}");
    }
}

fn agent(directory: &Path, command: &str) -> Command {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    agent.arg(command).arg("--config").arg(directory.join("agent.toml"));
    agent
}

/// What `check-config` says.
fn check(directory: &Path) -> String {
    let output = agent(directory, "check-config").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sinks by name and delivery, each with a file in a directory of its own; that of a name that begins
/// with `late` isn't there.
fn write_config(directory: &Path, sinks: &[(&str, &str)]) {
    let path = directory.display();
    let mut text = format!("interval = \"1s\"\ndata_dir = \"{path}/data\"\n");
    for (name, delivery) in sinks {
        text += &format!(
            "[sinks.{name}]\ntype = \"file\"\npath = \"{path}/{name}/out.jsonl\"\ndelivery = \"{delivery}\"\n"
        );
        if !name.starts_with("late") {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
    }
    fs::write(directory.join("agent.toml"), text).unwrap();
}

#[track_caller]
fn has(said: &str, expected: &str) {
    assert!(said.contains(expected), "{expected:?} not in {said:?}");
}

#[test]
fn an_added_sink_begins_with_the_oldest_record() {
    let mut daemon = Daemon::start(&[("first", "required")]);
    daemon.await_records("first", 3);
    let said = daemon.change(&[("first", "required"), ("second", "required")]);
    has(&said, "first: goes on after record ");
    has(&said, "second: new, begins with the oldest of ");
    daemon.await_records("second", 5);
    daemon.program.stop().unwrap();
    daemon.check_whole("first");
    daemon.check_whole("second");
}

#[test]
fn a_renamed_sink_is_another_and_gives_up_its_place() {
    let mut daemon = Daemon::start(&[("before", "required"), ("late", "required")]);
    daemon.await_records("before", 3);
    let said = daemon.change(&[("after", "required"), ("later", "required")]);
    has(&said, "after: new, begins with the oldest of ");
    has(&said, "before: no longer configured, its place in the log is given up");
    has(&said, "late: no longer configured, its place in the log is given up");
    has(&said, "keep its name");
    daemon.program.await_line("its place in the log is given up", PATIENCE).unwrap();
    daemon.await_records("after", 4);
    daemon.program.stop().unwrap();
    daemon.check_whole("after");
    // The agent has stopped, and what it knew lies on disk.
    has(&check(daemon.directory.path()), "(0 records wait)");
}

#[test]
fn nothing_waits_for_a_sink_that_is_gone() {
    let mut daemon = Daemon::start(&[("first", "required"), ("late", "required")]);
    daemon.await_records("first", 3);
    daemon.wait("something waits", || {
        daemon.value("first", "holdfast_agent_wal_records").is_some_and(|records| records >= 2.0)
    });
    let said = daemon.change(&[("first", "required")]);
    has(&said, "late: no longer configured");
    daemon.wait("given back", || {
        daemon.value("first", "holdfast_agent_wal_records").is_some_and(|records| records <= 1.0)
    });
    daemon.program.stop().unwrap();
    daemon.check_whole("first");
}

#[test]
fn nothing_waits_for_a_sink_that_becomes_best_effort() {
    let mut daemon = Daemon::start(&[("first", "required"), ("late", "required")]);
    daemon.await_records("first", 3);
    let said = daemon.change(&[("first", "required"), ("late", "best_effort")]);
    has(&said, "late: goes on after record 0 (");
    daemon.wait("given back", || {
        daemon.value("first", "holdfast_agent_wal_records").is_some_and(|records| records <= 1.0)
    });
    assert_eq!(daemon.value("first", "holdfast_agent_sink_lost_records_total"), Some(0.0));
    // So few records are still there, and it gets them.
    daemon.repair("late");
    daemon.await_records("late", 4);
    daemon.program.stop().unwrap();
    daemon.check_whole("late");
}

#[test]
fn without_a_log_each_sink_begins_with_the_first_record() {
    let directory = tempfile::tempdir().unwrap();
    write_config(directory.path(), &[("first", "required")]);
    has(&check(directory.path()), "no log in ");
    assert!(!directory.path().join("data").exists(), "looking makes nothing");
}
