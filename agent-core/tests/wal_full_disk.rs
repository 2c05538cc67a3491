//! A disk that takes nothing costs nothing: what was not appended can be appended later, once.
//!
//! A disk is full in two ways here, both in a child, which is this test binary again:
//!
//! - With SIGXFSZ ignored, a limit on the size of files (`RLIMIT_FSIZE`) makes every write beyond it fail,
//!   and it can be lifted again. That needs nothing of the machine, but is a limit of each file by itself.
//! - A small tmpfs in a mount namespace of our own, on which ballast leaves so much free: all files
//!   together, as on a real disk. That is skipped, and said so, where it can't be mounted.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use agent_core::wal::{MAX_BYTES_MIN, SledWal, Wal, WalError, WalOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wal_support::{ALL, Seen, append, copy, drain, fast_directory, payload, seen};

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

/// A child. Not a test of its own.
#[test]
fn child() {
    let Some((job, directory)) = given() else { return };
    match job.as_str() {
        "now and then" => be_full_now_and_then(&directory),
        "limits" => sweep_limits(),
        "free space" => sweep_free_space(&directory),
        other => unreachable!("{other}"),
    }
}

fn be_full_now_and_then(directory: &Path) {
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
    done(&run(&IGNORING, "now and then", fast_directory().path()));
}

/// How a life on a full disk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is room again.
    Freed,
    /// It is closed and opened, and then there is room again.
    Reopened,
    /// It is killed, and opened when there is room again.
    Killed,
}

const TURNS: [Turn; 3] = [Turn::Freed, Turn::Reopened, Turn::Killed];

/// More than one generation takes.
const APPENDS: u64 = 150;
/// Appends that fail before nobody tries any more.
const FAILURES_MAX: u64 = 3;

/// A disk that can be full.
trait Disk {
    /// Lets it take only so many more bytes.
    fn fill(&self, bytes: u64);
    /// Gives it room.
    fn free(&self);
    /// Whether there is still room for what was kept back for reading.
    fn has_reserve(&self) -> bool;
}

fn open_small(path: &Path) -> SledWal {
    let options = WalOptions { max_bytes: MAX_BYTES_MIN, ..WalOptions::default() };
    let mut wal = SledWal::open(path, options).unwrap();
    wal.register("a").unwrap();
    wal.register("b").unwrap();
    wal
}

/// Lives on a disk that is full after so many bytes, then on, then with room; returns how many records
/// were taken before.
fn live(disk: &dyn Disk, directory: &Path, bytes: u64, turn: Turn) -> u64 {
    let what = format!("full after {bytes} bytes, {turn:?}");
    let path = directory.join("log");
    let mut wal = open_small(&path);
    let stream = wal.stream_id();
    disk.fill(bytes);
    let taken = append_until_full(&mut wal, &what);
    read_while_full(&mut wal, taken, disk.has_reserve(), &what);
    let mut wal = match turn {
        Turn::Freed => wal,
        Turn::Reopened => {
            drop(wal);
            open_small(&path)
        }
        Turn::Killed => {
            let left = directory.join("left");
            disk.free();
            copy(&path, &left);
            drop(wal);
            fs::remove_dir_all(&path).unwrap();
            fs::rename(left, &path).unwrap();
            open_small(&path)
        }
    };
    disk.free();
    let last_seq = wal.stats().last_seq;
    // An append that failed may have come on disk, and nobody has said otherwise.
    let may_be = turn != Turn::Freed && last_seq == taken + 1;
    assert!(last_seq == taken || may_be, "{what}: {taken} were taken, {last_seq} are there");
    for seq in last_seq + 1..=last_seq + 20 {
        assert_eq!(append(&mut wal, seq, &record(seq)).unwrap(), seq, "{what}");
    }
    check_from(&mut wal, "a", last_seq + 20, &what);
    drop(wal);
    let mut wal = open_small(&path);
    assert_eq!((wal.stream_id(), wal.stats().last_seq), (stream, last_seq + 20), "{what}");
    check_from(&mut wal, "b", last_seq + 20, &what);
    assert!(!path.join("quarantine").exists(), "{what}: a full disk is no damage");
    drop(wal);
    fs::remove_dir_all(path).unwrap();
    taken
}

fn append_until_full(wal: &mut SledWal, what: &str) -> u64 {
    let (mut taken, mut failures) = (0, 0);
    while taken < APPENDS && failures < FAILURES_MAX {
        match append(wal, taken + 1, &record(taken + 1)) {
            Ok(seq) => {
                assert_eq!(seq, taken + 1, "{what}");
                taken = seq;
            }
            Err(WalError::Io { .. } | WalError::Database { .. }) => failures += 1,
            Err(other) => unreachable!("{what}: {other}"),
        }
    }
    taken
}

/// Half of it is read and acknowledged by one sink; that needs a bit of room.
fn read_while_full(wal: &mut SledWal, taken: u64, must: bool, what: &str) {
    let mut next = 1;
    while next <= taken / 2 {
        match wal.read("a", ALL) {
            Ok(batch) => {
                let records = seen(&batch.unwrap());
                for (seq, found) in records {
                    assert_eq!(seq, next, "{what}");
                    assert!(found == Seen::Payload(record(seq)), "{what}: {seq} came back wrong");
                    next += 1;
                }
                wal.acknowledge("a", next - 1).unwrap();
            }
            Err(error) if must => unreachable!("{what}: {error:?}"),
            Err(_) => return,
        }
    }
}

/// Everything from a sink's cursor up to `last` is there once, in order, as it was written.
fn check_from(wal: &mut SledWal, sink: &str, last: u64, what: &str) {
    let from = wal.register(sink).unwrap() + 1;
    let records = drain(wal, sink, ALL);
    assert!(records.iter().map(|(seq, _)| *seq).eq(from..=last), "{what}: {sink}");
    for (seq, found) in records {
        assert!(found == Seen::Payload(record(seq)), "{what}: {seq} came back wrong");
    }
}

/// Lives on disks that are full after more and more bytes, until one takes all.
fn sweep(disk: &dyn Disk, directory: &Path, step: u64) {
    let mut counts = Vec::new();
    for (nth, turn) in (0..).zip(TURNS.into_iter().cycle()) {
        counts.push(live(disk, directory, nth * step, turn));
        if counts.iter().rev().take(TURNS.len()).all(|taken| *taken == APPENDS) {
            break;
        }
    }
    println!("{counts:?} records were taken");
    // Nothing is proven of a disk that was never full, or never at another place.
    let full = counts.iter().filter(|taken| **taken < APPENDS).count();
    assert!(counts[0] < 5 && full > 30, "{counts:?}");
}

struct Limits;

impl Disk for Limits {
    fn fill(&self, bytes: u64) {
        limit_files(Some(bytes));
    }

    fn free(&self) {
        limit_files(None);
    }

    fn has_reserve(&self) -> bool {
        false
    }
}

fn sweep_limits() {
    sweep(&Limits, fast_directory().path(), 14_001);
}

#[test]
fn nothing_is_lost_or_doubled_wherever_files_can_t_grow() {
    done(&run(&IGNORING, "limits", fast_directory().path()));
}

/// A small file system and what fills it.
struct Small {
    ballast: PathBuf,
}

impl Disk for Small {
    /// Takes all there is, then gives so much of it back.
    fn fill(&self, bytes: u64) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.ballast).unwrap();
        let block = [0xba; 4_096];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes)).unwrap();
    }

    fn free(&self) {
        File::create(&self.ballast).unwrap();
    }

    fn has_reserve(&self) -> bool {
        true
    }
}

fn sweep_free_space(directory: &Path) {
    let small = Small { ballast: directory.join("ballast") };
    sweep(&small, directory, 36 << 10);
}

/// Mounts a small tmpfs at its first argument and runs the rest.
const ON_TMPFS: &str = "mount -t tmpfs -o size=12m small \"$0\" && exec \"$@\"";

#[test]
fn nothing_is_lost_or_doubled_wherever_the_disk_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    // As ourselves in a user namespace; as root without one, where those are forbidden.
    let on_tmpfs = |flags| ["unshare", flags, "sh", "-c", ON_TMPFS, path];
    let works = |words: &[&str; 6]| {
        let trial = Command::new(words[0]).args(&words[1..]).arg("true").output();
        trial.is_ok_and(|output| output.status.success())
    };
    match ["-Urm", "-m"].map(on_tmpfs).iter().find(|words| works(words)) {
        Some(words) => done(&run(words, "free space", directory.path())),
        None => {
            // Past libtest, which would keep it to itself.
            let why = "this host lets us mount no tmpfs (unshare -Urm, mount)";
            let _ = writeln!(io::stderr(), "SKIPPED: a log on a file system that is full: {why}");
        }
    }
}

const JOB: &str = "HOLDFAST_TEST_JOB";
const IGNORING: [&str; 3] = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];

/// The job and the directory of this process, if it is a child.
fn given() -> Option<(String, PathBuf)> {
    Some((std::env::var(JOB).ok()?, std::env::var_os(DIRECTORY)?.into()))
}

/// Lets a child do its job, as an argument of these words.
fn run(words: &[&str], job: &str, directory: &Path) -> Output {
    let this = std::env::current_exe().unwrap();
    let mut words = words.iter().map(OsStr::new).chain([this.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", "child", "--nocapture"]);
    command.env(JOB, job).env(DIRECTORY, directory).output().unwrap()
}

fn done(output: &Output) {
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
