//! A process that is killed loses nothing of what its log had taken.
//!
//! The child is this test binary again. It appends, and says each number after its append returned;
//! the parent kills it after a while, opens the log and looks.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use agent_core::{
    BatchLimits,
    wal::{MAX_BYTES_MIN, SledWal, Wal, WalOptions},
};
use wal_support::{ALL, Seen, append_with, drain, payload, schema};

const DIRECTORY: &str = "HOLDFAST_TEST_WAL";
const KILLS: u64 = 16;

fn open(path: &Path) -> SledWal {
    SledWal::open(path, WalOptions { max_bytes: MAX_BYTES_MIN, ..WalOptions::default() }).unwrap()
}

/// Mostly small, now and then over many parts.
fn record(seq: u64) -> Vec<u8> {
    let bytes = match seq % 7 {
        0 => 60_000,
        3 => 9_000,
        small => 500 + 300 * small as usize,
    };
    payload(seq, bytes)
}

/// The child: appends until it is killed. Not a test of its own.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let mut wal = open(Path::new(&directory));
    wal.register("hub").unwrap();
    wal.register("away").unwrap();
    let schemas = [schema("a", 5), schema("b", 500)];
    // Past libtest, which would keep it to itself.
    let mut out = std::io::stdout();
    loop {
        let seq = wal.stats().last_seq + 1;
        assert_eq!(append_with(&mut wal, seq, &record(seq), &schemas).unwrap(), seq);
        writeln!(out, "appended {seq}").unwrap();
        if seq.is_multiple_of(5) {
            let limits = BatchLimits { records: 4, bytes: usize::MAX };
            let batch = wal.read("hub", limits).unwrap().unwrap();
            let acked_seq = batch.records.last().unwrap().seq;
            wal.acknowledge("hub", acked_seq).unwrap();
        }
    }
}

/// Runs the child until it has said `lines` numbers, kills it, and returns the last it said.
fn run_and_kill(directory: &Path, lines: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = |line: &str| line.strip_prefix("appended ").and_then(|seq| seq.parse().ok());
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = None;
    for _ in 0..lines {
        last = out.by_ref().find_map(|line| said(&line.unwrap()));
        assert!(last.is_some(), "the child ended by itself");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts too.
    out.filter_map(|line| said(&line.ok()?)).last().or(last).unwrap()
}

#[test]
fn what_was_appended_survives_kills() {
    let directory = tempfile::tempdir().unwrap();
    let (mut stream, mut acked_seq) = (None, 0);
    for round in 0..KILLS {
        let last_said = run_and_kill(directory.path(), 3 + (round * 37 % 41) as usize);
        let mut wal = open(directory.path());
        assert_eq!(*stream.get_or_insert(wal.stream_id()), wal.stream_id(), "round {round}");
        let last_seq = wal.stats().last_seq;
        assert!(
            last_seq == last_said || last_seq == last_said + 1,
            "round {round}: said {last_said}, found {last_seq}"
        );
        let from = wal.register("hub").unwrap();
        assert!(from >= acked_seq, "round {round}: the cursor went back further than lazily");
        check_all(&mut wal, "hub", from + 1, &format!("round {round}"));
        if round % 2 == 0 {
            wal.flush().unwrap();
            acked_seq = last_seq;
        }
    }
    // All of it waits for the one that is away, most of it in packed generations.
    let paths = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let packed = paths.filter(|path| path.extension().is_some_and(|e| e == "pack")).count();
    assert!(packed >= 3, "{packed} packed generations");
    let mut wal = open(directory.path());
    assert_eq!(wal.register("away").unwrap(), 0);
    check_all(&mut wal, "away", 1, "in the end");
}

/// Everything from `from` on is there once, in order, as it was written.
fn check_all(wal: &mut SledWal, sink: &str, from: u64, what: &str) {
    let mut expected = from;
    for (seq, found) in drain(wal, sink, ALL) {
        assert_eq!(seq, expected, "{what}");
        assert!(found == Seen::Payload(record(seq)), "{what}: {seq} came back wrong");
        expected = seq + 1;
    }
    assert_eq!(expected, wal.stats().last_seq + 1, "{what}");
}
