//! A disk that takes nothing costs nothing: what was not appended can be appended later, once.
//!
//! The child is this test binary again, with SIGXFSZ ignored: there a limit on the size of files
//! (`RLIMIT_FSIZE`) makes every write beyond it fail, and it can be lifted again.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{path::Path, process::Command};

use agent_core::wal::{SledWal, Wal, WalError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wal_support::{ALL, Seen, append, drain, fast_directory, payload};

const DIRECTORY: &str = "HOLDFAST_TEST_WAL";

fn limit_files(bytes: Option<u64>) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, bytes.unwrap_or(hard), hard).unwrap();
}

/// Small and large ones.
fn record(seq: u64) -> Vec<u8> {
    payload(seq, if seq.is_multiple_of(5) { 30_000 } else { 2_000 })
}

/// Reads without acknowledging and checks that 1 to `last` are there, once, as they were written.
fn check_all(wal: &mut SledWal, sink: &str, last: u64) {
    let records = drain(wal, sink, ALL);
    let found: Vec<_> = records
        .iter()
        .map(|(seq, seen)| match seen {
            Seen::Payload(_) => format!("{seq}"),
            Seen::Gap(gap) => format!("{gap:?}"),
        })
        .collect();
    assert_eq!(records.len() as u64, last, "{found:?}");
    for ((seq, found), expected) in records.iter().zip(1..) {
        assert_eq!(*seq, expected);
        assert!(*found == Seen::Payload(record(*seq)), "{seq} came back wrong");
    }
}

/// Appends records up to `last`, the next one again and again until it is taken. Now and then no
/// file may grow beyond a bound for a while; returns how many appends failed.
fn append_with_failures(wal: &mut SledWal, last: u64) -> u64 {
    let mut failures = 0;
    while wal.stats().last_seq < last {
        let next = wal.stats().last_seq + 1;
        match (next + failures) % 7 {
            0 => limit_files(Some(0)),
            3 => limit_files(Some(100_000)),
            5 => limit_files(None),
            _ => {}
        }
        match append(wal, next, &record(next)) {
            Ok(seq) => assert_eq!(seq, next),
            Err(WalError::Io { .. } | WalError::Database { .. }) => failures += 1,
            Err(other) => unreachable!("{other}"),
        }
    }
    limit_files(None);
    failures
}

/// The child. Not a test of its own.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut wal = wal_support::open(directory);
    wal.register("a").unwrap();
    wal.register("b").unwrap();
    let failures = append_with_failures(&mut wal, 150);
    assert!(failures > 20, "{failures}");
    check_all(&mut wal, "a", 150);
    let stream = wal.stream_id();
    drop(wal);

    limit_files(Some(0));
    let mut wal = wal_support::open(directory);
    assert_eq!((wal.stats().last_seq, wal.stream_id()), (150, stream));
    assert!(append(&mut wal, 151, &record(151)).is_err());
    wal.register("b").unwrap();
    limit_files(None);
    assert_eq!(append(&mut wal, 151, &record(151)).unwrap(), 151);
    check_all(&mut wal, "b", 151);
    assert_eq!(wal.stream_id(), stream);
    drop(wal);
    assert_eq!(wal_support::open(directory).stats().last_seq, 151);
    assert!(!directory.join("quarantine").exists(), "a full disk is no damage");
}

#[test]
fn nothing_is_lost_or_doubled_while_the_disk_takes_nothing() {
    let directory = fast_directory();
    let ignoring = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", ignoring])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
