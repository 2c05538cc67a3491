//! Sound logs: what is said of them, and that an export is what a sink was given.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use agent_core::{Delivery, wal::Wal as _};
use serde_json::Value;
use xtask::programs::{Program, wait_for};

use crate::log::{
    ARCHIVE_ACKED, HUB_ACKED, Log, RECORDS, SERIES, Said, append, fast_directory, open, sound,
    time_ms, waiting, write_lines,
};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_sound_log_is_described() {
    let log = Log::copy();
    let said = log.look(&["inspect", "--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let summary: Value = serde_json::from_str(&said.out).unwrap();
    let places = summary["places"].as_array().unwrap();
    assert_eq!(places.len(), log.generations().len());
    let mut next = places[0]["first_seq"].as_u64().unwrap();
    assert_eq!(places[0]["from_ms"], time_ms(next));
    for place in places {
        assert_eq!((&place["first_seq"], &place["missing"]), (&next.into(), &0.into()), "{place}");
        next = place["last_seq"].as_u64().unwrap() + 1;
        assert_eq!(place["to_ms"], time_ms(next - 1), "{place}");
    }
    assert_eq!(next, RECORDS + 1);
    let is_packed = |place: &&Value| place["state"] == "packed";
    assert!(places.iter().filter(is_packed).count() >= 2, "what waits long is packed: {summary}");
    assert_eq!(places.last().unwrap()["state"], "newest");
    let held = RECORDS + 1 - places[0]["first_seq"].as_u64().unwrap();
    assert_eq!(summary["totals"]["records"], held);
    assert_eq!(waiting(&summary, "archive"), (ARCHIVE_ACKED, RECORDS - ARCHIVE_ACKED));
    assert_eq!(waiting(&summary, "hub"), (HUB_ACKED, RECORDS - HUB_ACKED));
    let ticks = held - u64::from(places[0]["first_seq"] == 1);
    assert_eq!(summary["totals"]["samples"], ticks * SERIES as u64);
    assert_eq!(places[0]["gaps"][0]["reason"], "agent_down", "{}", places[0]);

    let table = log.look(&["inspect"]).out;
    for part in [
        "PLACE ",
        "2023-11-14T22:13:30.000Z",
        "gap at 7: agent_down",
        "archive",
        "quarantine  0 generations",
        "a reserve of 1.0 MiB",
    ] {
        assert!(table.contains(part), "{part:?} not in\n{table}");
    }
    let said = log.look(&["verify"]);
    assert!(said.code == 0 && said.out.ends_with("\nsound\n"), "{said:?}");
    let said = log.look(&["repair", "--dry-run"]);
    assert!(said.code == 0 && said.out.ends_with("\nsound\n"), "{said:?}");
}

#[test]
fn what_is_exported_is_what_a_file_sink_wrote() {
    let log = Log::copy();
    let lines: Vec<&str> = sound().lines.lines().collect();
    let check = |arguments: &[&str], first: u64, last: u64| {
        let said = log.look(&[&["export", "--host", "web-1"], arguments].concat());
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        let wanted = lines[first as usize - 1..last as usize].join("\n") + "\n";
        assert!(said.out == wanted, "{arguments:?}: {} lines", said.out.lines().count());
    };
    check(&["--format", "json"], 1, RECORDS);
    check(&["--sink", "archive"], ARCHIVE_ACKED + 1, RECORDS);
    check(&["--from", "9", "--to", "320"], 9, 320);
    check(&["--to", "7"], 1, 7);
    let said = log.look(&["export", "--sink", "hubb"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("unknown sink \"hubb\", expected archive or hub"), "{}", said.err);
    let said = log.look(&["export", "--from", "5", "--to", "5"]);
    assert!(!said.out.contains("web-1"), "another host's log doesn't get this one's name");
}

#[test]
fn what_an_agent_wrote_to_a_file_is_exported_alike() {
    let directory = fast_directory();
    let (config, out) = (directory.path().join("agent.toml"), directory.path().join("out.jsonl"));
    let text = format!(
        "interval = \"1s\"\ndata_dir = {:?}\n[sinks.file]\ntype = \"file\"\npath = {out:?}\n",
        directory.path().join("data")
    );
    fs::write(&config, text).unwrap();
    let agent = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command.args(arguments).arg("--config").arg(&config);
        command
    };
    let lines = || fs::read_to_string(&out).unwrap_or_default();
    let mut program = Program::start("holdfast-agent", &mut agent(&["run"]), |_| ()).unwrap();
    wait_for(PATIENCE, || Ok((lines().lines().count() >= 2).then_some(()))).unwrap();
    let said = Said::from(agent(&["wal", "verify"]).output().unwrap());
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains(&format!("in use by process {}", program.pid())), "{}", said.err);
    program.stop().unwrap();

    let exported = Said::from(agent(&["wal", "export"]).output().unwrap());
    assert_eq!((exported.code, exported.err.as_str()), (0, ""));
    assert!(exported.out == lines(), "the agent's file and the export differ");
    let directory = directory.path().join("data").display().to_string();
    let said = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"))
        .env_clear()
        .args(["wal", "inspect", "--data-dir", &directory])
        .output();
    let table = Said::from(said.unwrap()).out;
    let last = table.lines().last().unwrap();
    assert!(last.starts_with("file "), "{table}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let log = Log::copy();
    let mut child = log.command(&["export"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"stream_id\":"), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_a_best_effort_sink_lost_is_told_and_exported_as_it_is_given() {
    let log = Log::none();
    let mut wal = open(&log.path());
    wal.register("hub").unwrap();
    wal.register_as("slow", Delivery::BestEffort).unwrap();
    for seq in 1..=RECORDS {
        append(&mut wal, seq);
        wal.acknowledge("hub", seq).unwrap();
    }
    wal.flush().unwrap();
    drop(wal);

    let summary: Value =
        serde_json::from_str(&log.look(&["inspect", "--format", "json"]).out).unwrap();
    let lost = &summary["sinks"][1]["lost"][0];
    assert_eq!(
        (&lost["first_seq"], &lost["reason"]),
        (&1.into(), &"log_overflow".into()),
        "{summary}"
    );
    let held = RECORDS - lost["last_seq"].as_u64().unwrap();
    assert_eq!((waiting(&summary, "slow"), waiting(&summary, "hub").1), ((0, held), 0));
    let table = log.look(&["inspect"]).out;
    assert!(table.contains("    lost records 1 to "), "{table}");
    assert_eq!(log.look(&["verify"]).code, 0);
    let exported = log.look(&["export", "--sink", "slow", "--host", "web-1"]);
    assert_eq!((exported.code, exported.err.as_str()), (0, ""));

    let mut wal = open(&log.path());
    wal.register_as("slow", Delivery::BestEffort).unwrap();
    let path = log.directory.path().join("slow.jsonl");
    write_lines(&mut wal, "slow", &path);
    assert!(exported.out == fs::read_to_string(path).unwrap(), "{}", &exported.out[..400]);
}
