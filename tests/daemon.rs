//! The daemon as systemd drives it: started, told to reread its configuration, stopped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

use std::{fs, path::Path, process::Command, time::Duration};

use nix::sys::signal::Signal;
use xtask::programs::{Program, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

struct Daemon {
    directory: tempfile::TempDir,
    program: Program,
}

impl Daemon {
    /// An agent that writes to a file, with `more` in its configuration.
    fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_config(directory.path(), more);
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command.arg("run").arg("--config").arg(directory.path().join("agent.toml"));
        let program = Program::start("holdfast-agent", &mut command, |_| ()).unwrap();
        let daemon = Self { directory, program };
        daemon.program.await_line("agent started", PATIENCE).unwrap();
        daemon
    }

    fn reread(&self, more: &str) {
        write_config(self.directory.path(), more);
        self.program.signal(Signal::SIGHUP).unwrap();
    }

    /// The records in the file: sequence number and names of the collectors' success metrics.
    fn records(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.directory.path().join("out.jsonl")).unwrap_or_default();
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    }

    fn await_records(&self, at_least: usize) {
        wait_for(PATIENCE, || Ok((self.records().len() >= at_least).then_some(())))
            .unwrap_or_else(|_| panic!("too few records\n{}", self.program.tail()));
    }
}

fn write_config(directory: &Path, more: &str) {
    let directory_text = directory.display();
    let text = format!(
        "{more}\ndata_dir = \"{directory_text}/data\"\n\
         [sinks.archive]\ntype = \"file\"\npath = \"{directory_text}/out.jsonl\"\n"
    );
    fs::write(directory.join("agent.toml"), text).unwrap();
}

fn seqs(records: &[serde_json::Value]) -> Vec<u64> {
    records.iter().filter_map(|record| record["seq"].as_u64()).collect()
}

#[test]
fn sighup_takes_a_good_configuration_and_refuses_a_bad_one() {
    let mut daemon = Daemon::start("interval = \"1s\"");
    daemon.await_records(1);

    daemon.reread("interval = \"1s\"");
    daemon.program.await_line("nothing changed", PATIENCE).unwrap();

    daemon.reread("interval = \"1s\"\ncollector_deadline = \"900ms\"");
    daemon.program.await_line("collector_deadline", PATIENCE).unwrap();

    daemon.reread("intervall = \"1s\"");
    daemon.program.await_line("configuration refused", PATIENCE).unwrap();
    daemon.program.await_line("did you mean", PATIENCE).unwrap();

    // It goes on where it was: no record is lost or doubled by a reload.
    let before = daemon.records().len();
    daemon.await_records(before + 2);
    daemon.program.stop().unwrap();
    let seqs = seqs(&daemon.records());
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_collector_with_an_interval_of_its_own_is_in_the_ticks_that_are_its() {
    let mut daemon = Daemon::start("interval = \"1s\"\ncollectors.loadavg.interval = \"2s\"");
    daemon.await_records(5);
    daemon.program.stop().unwrap();
    let mut ran_in = None;
    let records = daemon.records();
    let ticks = records.iter().filter(|record| record["samples"].is_array());
    for record in ticks {
        let samples = record["samples"].as_array().unwrap();
        let of = |name: &str, collector: Option<&str>| {
            let labelled = |sample: &&serde_json::Value| {
                collector.is_none_or(|collector| sample["labels"]["collector"] == collector)
            };
            let named = samples.iter().filter(|sample| sample["name"] == name);
            named.filter(labelled).find_map(|sample| sample["value"].as_f64())
        };
        let multiple = record["time_ms"].as_i64().map(|time_ms| time_ms.div_euclid(2_000));
        let is_due = ran_in != multiple;
        ran_in = multiple;
        assert_eq!(of("node_load1", None).is_some(), is_due, "{}", record["time_ms"]);
        assert!(of("node_boot_time_seconds", None).is_some());
        // of its last run, in every tick
        let success = of("node_scrape_collector_success", Some("loadavg"));
        assert_eq!(success, Some(1.0));
        assert_eq!(of("holdfast_collector_interval_seconds", Some("loadavg")), Some(2.0));
        assert_eq!(of("holdfast_collector_interval_seconds", Some("stat")), None);
    }
}

#[test]
fn sigterm_drains_and_the_next_start_goes_on() {
    let mut daemon = Daemon::start("interval = \"1s\"");
    daemon.await_records(2);
    daemon.program.stop().unwrap();
    let first = daemon.records();

    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    command.arg("run").arg("--config").arg(daemon.directory.path().join("agent.toml"));
    daemon.program = Program::start("holdfast-agent", &mut command, |_| ()).unwrap();
    daemon.await_records(first.len() + 1);
    daemon.program.kill().unwrap();

    let all = daemon.records();
    let seqs = seqs(&all);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let streams: Vec<_> = all.iter().map(|record| &record["stream_id"]).collect();
    assert!(streams.iter().all(|stream| stream == &streams[0]), "one stream over both lives");
}

#[test]
fn a_second_agent_on_the_same_log_says_who_holds_it() {
    let daemon = Daemon::start("interval = \"1s\"");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    command.arg("run").arg("--config").arg(daemon.directory.path().join("agent.toml"));
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let pid = daemon.program.pid().to_string();
    assert!(said.contains(&pid) && said.contains("holdfast-agent"), "{said}");
}
