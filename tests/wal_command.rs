//! `holdfast-agent wal` as a person uses it: on logs that are sound, damaged, in use, foreign or another's.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use agent_core::{
    BatchLimits, Sink as _,
    wal::{MAX_BYTES_MIN, NewRecord, SledWal, Wal as _, WalOptions},
};
use serde_json::Value;
use sinks::{FileConfig, FileSink};
use tempfile::TempDir;
use wire::{EncodedSchema, Family, Gap, GapReason, Kind, MetricKind, Schema, Series, Tick};
use xtask::programs::{Program, wait_for};

const RECORDS: u64 = 400;
const SERIES: usize = 500;
const GAP_SEQ: u64 = 7;
const HUB_ACKED: u64 = 50;
const ARCHIVE_ACKED: u64 = 250;
const OPTIONS: WalOptions =
    WalOptions { max_bytes: MAX_BYTES_MIN, max_age: Duration::from_secs(1 << 30) };
const PATIENCE: Duration = Duration::from_secs(60);
/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

/// A directory where syncing costs nothing, if this machine has one.
fn fast_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let fast = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    fast.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn open(directory: &Path) -> SledWal {
    SledWal::open(directory, OPTIONS).unwrap()
}

fn schema() -> Arc<EncodedSchema> {
    let name = "test_value".to_owned();
    let family = Family { name, kind: MetricKind::Gauge, help: "A value.".to_owned() };
    let label = |index| vec![("index".to_owned(), format!("{index:08}"))];
    let series = (0..SERIES).map(|index| Series { family: 0, labels: label(index) }).collect();
    EncodedSchema::new(Schema { collector: "test".to_owned(), families: vec![family], series })
}

fn time_ms(seq: u64) -> i64 {
    1_700_000_000_000 + seq as i64 * 10_000
}

fn gap() -> Gap {
    let (from_ms, to_ms) = (time_ms(GAP_SEQ - 1), time_ms(GAP_SEQ));
    let (reason, detail) = (GapReason::AgentDown, String::new());
    Gap { reason, from_ms, to_ms, first_seq: 0, last_seq: 0, records: 0, samples: 0, detail }
}

fn append(wal: &mut SledWal, seq: u64) {
    let schema = schema();
    let value = |index: usize| (seq as f64 + index as f64) / 7.0;
    let values: Vec<f64> = (0..SERIES).map(value).collect();
    let (kind, payload, samples) = match seq {
        GAP_SEQ => (Kind::Gap, gap().encode(), 0),
        _ => (Kind::Metrics, Tick::encode(time_ms(seq), &[(schema.id, &values)]), SERIES as u64),
    };
    let schemas = &[schema];
    let record = NewRecord { kind, time_ms: time_ms(seq), samples, payload: &payload, schemas };
    assert_eq!(wal.append(&record).unwrap(), seq);
}

/// A sound log of several generations, and the lines that a file sink wrote of it. Two sinks have not
/// acknowledged all of it.
struct Sound {
    directory: TempDir,
    lines: String,
}

fn sound() -> &'static Sound {
    static SOUND: LazyLock<Sound> = LazyLock::new(|| {
        let directory = fast_directory();
        let mut wal = open(&directory.path().join("wal"));
        for sink in ["archive", "file", "hub"] {
            wal.register(sink).unwrap();
        }
        (1..=RECORDS).for_each(|seq| append(&mut wal, seq));
        let path = directory.path().join("out.jsonl");
        write_lines(&mut wal, &path);
        wal.acknowledge("archive", ARCHIVE_ACKED).unwrap();
        wal.acknowledge("hub", HUB_ACKED).unwrap();
        wal.retain_sinks(&["archive", "hub"]).unwrap();
        wal.flush().unwrap();
        assert!(wal.stats().generations >= 3, "{:?}", wal.stats());
        Sound { directory, lines: fs::read_to_string(path).unwrap() }
    });
    &SOUND
}

/// What a file sink writes of a log.
fn write_lines(wal: &mut SledWal, path: &Path) {
    let config = FileConfig { host: Some("web-1".to_owned()), ..FileConfig::new(path) };
    let mut sink = FileSink::new(config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while let Some(batch) = wal.read("file", BatchLimits { records: 64, bytes: 1 << 20 }).unwrap() {
        let acked_seq = runtime.block_on(sink.send(&batch)).unwrap();
        wal.acknowledge("file", acked_seq).unwrap();
    }
}

/// A copy of the sound log, and a directory for what commands leave in the temporary one: nothing.
struct Log {
    directory: TempDir,
    temporary: TempDir,
}

impl Log {
    fn copy() -> Self {
        let log = Self { directory: fast_directory(), temporary: fast_directory() };
        copy(&sound().directory.path().join("wal"), &log.path());
        log
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("wal")
    }

    /// Generations, oldest first.
    fn generations(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains('.');
        let mut paths: Vec<PathBuf> = entries.filter(is_ours).collect();
        paths.sort();
        paths
    }

    /// Runs a command that must not change a byte.
    fn look(&self, arguments: &[&str]) -> Said {
        let before = state(&self.path());
        let said = self.run(arguments);
        assert_eq!(state(&self.path()), before, "{arguments:?} changed the log");
        said
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        let left = fs::read_dir(self.temporary.path()).unwrap().count();
        assert_eq!(left, 0, "{arguments:?} left something in the temporary directory");
        Said::from(output)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command.arg("wal").args(arguments).arg(self.path());
        command.env_clear().env("TMPDIR", self.temporary.path());
        command
    }
}

/// What a command said, and its exit code.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Every file and directory with its bytes and the time of its last change.
fn state(path: &Path) -> BTreeMap<PathBuf, (SystemTime, Option<Vec<u8>>)> {
    let metadata = fs::metadata(path).unwrap();
    let modified = metadata.modified().unwrap();
    if !metadata.is_dir() {
        return [(path.to_owned(), (modified, Some(fs::read(path).unwrap())))].into();
    }
    let entries = fs::read_dir(path).unwrap().flat_map(|entry| state(&entry.unwrap().path()));
    entries.chain([(path.to_owned(), (modified, None))]).collect()
}

/// The file of a generation's records.
fn data_file(generation: &Path) -> PathBuf {
    if generation.is_dir() { generation.join("db") } else { generation.to_owned() }
}

fn damage(generation: &Path, hit: impl FnOnce(&mut Vec<u8>)) {
    let file = data_file(generation);
    let mut bytes = fs::read(&file).unwrap();
    hit(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// Flips a bit of the last record, wherever a database has put it: it may lie there several times.
fn flip_last(bytes: &mut [u8]) {
    let seq = RECORDS.to_le_bytes();
    let is_record =
        |at: &usize| bytes[*at..].starts_with(b"HFR1") && bytes[at + 16..].starts_with(&seq);
    let found: Vec<usize> = (0..bytes.len() - 100).filter(is_record).collect();
    assert!(!found.is_empty());
    found.into_iter().for_each(|at| bytes[at + 50] ^= 1);
}

/// The numbers of exported records, and those that gaps among them say are lost.
fn numbers(lines: &str) -> (Vec<u64>, Vec<u64>) {
    let (mut seqs, mut lost) = (Vec::new(), Vec::new());
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let seq = line["seq"].as_u64().unwrap();
        match line["gap"]["first_seq"].as_u64() {
            Some(first) if first > 0 => {
                lost.extend(first..=line["gap"]["last_seq"].as_u64().unwrap());
            }
            _ => seqs.push(seq),
        }
    }
    (seqs, lost)
}

fn waiting(summary: &Value, sink: &str) -> (u64, u64) {
    let sinks = summary["sinks"].as_array().unwrap();
    let sink = sinks.iter().find(|found| found["sink"] == sink).unwrap();
    (sink["acked_seq"].as_u64().unwrap(), sink["waiting_records"].as_u64().unwrap())
}

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

/// Verifies, exports and repairs a damaged log; returns how many records are lost.
fn check_damage(log: &Log, what: &str) -> u64 {
    let summary = serde_json::from_str(&log.look(&["inspect", "--format", "json"]).out).unwrap();
    // With the newest generation its cursors may be gone: an older one's count then.
    let (acked_seq, _) = waiting(&summary, "hub");
    let is_wanted = |seq: &u64| *seq > acked_seq;
    let verdict = log.look(&["verify"]);
    assert_eq!((verdict.code, verdict.err.as_str()), (1, ""), "{what}");
    let dry = log.look(&["repair", "--dry-run"]);
    assert_eq!((dry.code, &dry.out), (1, &verdict.out), "{what}");
    let exported = log.look(&["export"]);
    assert_eq!(exported.code, 1, "{what}");
    assert!(exported.err.starts_with("damage: "), "{what}: {}", exported.err);
    let (seqs, lost) = numbers(&exported.out);
    let all: Vec<u64> = seqs.iter().chain(&lost).copied().collect();
    let covered = all.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
    assert_eq!(
        (all.len() as u64, covered),
        (RECORDS, RECORDS),
        "{what}: a record is neither here nor lost"
    );

    let wanted = lost.iter().filter(|seq| is_wanted(seq)).count() as u64;
    let said = format!("damaged: {wanted} record");
    assert!(verdict.out.contains(&said), "{what}: no {said:?} in\n{}", verdict.out);

    let repaired = log.run(&["repair"]);
    assert_eq!((repaired.code, repaired.err.as_str()), (0, ""), "{what}: {}", repaired.out);
    assert!(repaired.out.contains("\nsound: repaired, "), "{what}: {}", repaired.out);
    let again = log.look(&["verify"]);
    assert!(again.code == 0 && again.out.ends_with("\nsound\n"), "{what}: {}", again.out);
    let after = log.look(&["export", "--sink", "hub"]);
    assert_eq!(after.code, 0, "{what}: {}", after.err);
    let (kept, told) = numbers(&after.out);
    let kept: Vec<u64> = kept.into_iter().filter(|seq| *seq <= RECORDS).collect();
    assert_eq!(kept, seqs.into_iter().filter(is_wanted).collect::<Vec<_>>(), "{what}: kept");
    assert_eq!(told, lost.into_iter().filter(is_wanted).collect::<Vec<_>>(), "{what}: told");
    wanted
}

#[test]
fn damage_is_found_exported_around_and_repaired_as_said() {
    type Hit = fn(&mut Vec<u8>);
    let flip: Hit = |bytes| bytes[5_000] ^= 1;
    let flip_last: Hit = |bytes| flip_last(bytes);
    let cut: Hit = |bytes| bytes.truncate(bytes.len() / 2);
    let mut lost = 0;
    for (what, hit, is_newest) in [
        ("a bit flipped in an old one", flip, false),
        ("a bit flipped in the newest", flip_last, true),
        ("an old one cut short", cut, false),
        ("the newest cut short", cut, true),
        ("an old one emptied", Vec::clear, false),
    ] {
        let log = Log::copy();
        let generations = log.generations();
        damage(&generations[if is_newest { generations.len() - 1 } else { 1 }], hit);
        lost += check_damage(&log, what);
    }
    assert!(lost > 100, "{lost}: nothing was lost, so nothing was proven");
}

#[test]
fn files_that_are_gone_or_unreadable_are_named() {
    let check = |hit: &dyn Fn(&Log), place: &str, what: &str, lost: u64| {
        let log = Log::copy();
        hit(&log);
        let said = log.look(&["verify"]);
        assert_eq!(said.code, 1, "{said:?}");
        let line = said.out.lines().find(|line| line.starts_with("damage: ")).unwrap();
        assert!(line.contains(place) && line.contains(what), "{line}");
        assert!(said.out.contains(&format!("damaged: {lost} record")), "{}", said.out);
        assert_eq!(log.run(&["repair"]).code, 0);
        assert_eq!(log.look(&["verify"]).code, 0);
    };
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let newest = |log: &Log| log.generations().pop().unwrap();
    check(&|log| fs::remove_file(newest(log).join("head")).unwrap(), "/head", "is gone", 0);
    check(&|log| flip(newest(log).join("head")), "/head", "is unreadable", 0);
}

#[test]
fn a_generation_gone_behind_a_gap_is_told() {
    let log = Log::copy();
    let generations = log.generations();
    let name =
        |path: &Path| -> u64 { path.file_stem().unwrap().to_str().unwrap().parse().unwrap() };
    let (first, second, third) = (&generations[0], &generations[1], &generations[2]);
    // What is left of the first is a gap; the second is taken away.
    damage(first, Vec::clear);
    assert_eq!(log.run(&["repair"]).code, 0);
    assert!(log.generations()[0].extension().unwrap() == "gap", "{:?}", log.generations());
    fs::remove_dir_all(second).or_else(|_| fs::remove_file(second)).unwrap();
    let gone = name(third) - name(second);
    let (from, to) = (name(second), name(third) - 1);

    let said = log.look(&["verify"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.contains(&format!("records {from} to {to} before it are gone")),
        "{}",
        said.out
    );
    let exported = log.look(&["export"]);
    assert_eq!(exported.code, 1);
    assert!(exported.err.contains(&format!("records {from} to {to} are gone")), "{}", exported.err);
    let repaired = log.run(&["repair"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    assert!(
        repaired.out.contains(&format!("sound: repaired, {gone} records lost")),
        "{}",
        repaired.out
    );
    let (_, lost) = numbers(&log.look(&["export"]).out);
    assert!((from..=to).all(|seq| lost.contains(&seq)), "{lost:?}");
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    let foreign = directory.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes.txt"), "mine").unwrap();
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let data = directory.path().join("data");
    copy(&sound().directory.path().join("wal"), &{
        fs::create_dir(&data).unwrap();
        data.join("wal")
    });
    let check = |path: &Path, expected: &str| {
        let before = path.exists().then(|| state(path));
        for command in ["inspect", "verify", "export", "repair"] {
            let mut program = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
            let said =
                Said::from(program.env_clear().args(["wal", command]).arg(path).output().unwrap());
            assert_eq!(said.code, 3, "{command}: {said:?}");
            assert!(said.err.contains(expected), "{command}: {}", said.err);
        }
        assert_eq!(path.exists().then(|| state(path)), before);
    };
    check(&foreign, "is not a log: neither `lock` nor `last` nor a generation");
    check(&empty, "is not a log: it is empty");
    check(&foreign.join("notes.txt"), "is not a log: it is a file");
    check(&directory.path().join("nowhere"), "there is no such directory");
    check(&data, "did you mean");
}

#[test]
fn a_log_in_use_says_by_whom() {
    let log = Log::copy();
    let wal = open(&log.path());
    for command in ["inspect", "verify", "export", "repair"] {
        let said = log.look(&[command]);
        assert_eq!(said.code, 3, "{said:?}");
        let holder = format!("in use by process {} ", std::process::id());
        assert!(said.err.contains(&holder) && said.err.contains("stop it first"), "{}", said.err);
    }
    drop(wal);
    assert_eq!(log.look(&["verify"]).code, 0);
}

/// Runs a command as a user to whom nothing belongs here; `None`, loudly, if this machine can't.
fn as_another(mut command: Command) -> Option<Said> {
    // Whoever isn't root is stopped by modes; root isn't.
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.output() {
        Ok(output) => Some(Said::from(output)),
        Err(error) => {
            eprintln!(
                "SKIPPED: another user can't run the agent from its build directory: {error}"
            );
            None
        }
    }
}

fn set_modes(path: &Path, directories: u32, files: u32) {
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| set_modes(&entry.unwrap().path(), directories, files));
    }
    let mode = if path.is_dir() { directories } else { files };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_log_that_can_only_be_read_is_read() {
    let log = Log::copy();
    set_modes(log.directory.path(), 0o555, 0o444);
    set_modes(log.temporary.path(), 0o777, 0o777);
    let before = state(&log.path());
    for (command, expected) in
        [("inspect", "hub"), ("verify", "\nsound\n"), ("export", "\"seq\":400,")]
    {
        let Some(said) = as_another(log.command(&[command])) else { return };
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{command}");
        assert!(said.out.contains(expected), "{command}: {}", said.out);
    }
    let Some(said) = as_another(log.command(&["repair"])) else { return };
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(state(&log.path()), before);
}

#[test]
fn a_log_that_cannot_be_read_says_what_to_do() {
    let log = Log::copy();
    set_modes(log.directory.path(), 0o555, 0o444);
    set_modes(log.temporary.path(), 0o777, 0o777);
    fs::set_permissions(data_file(&log.generations()[0]), fs::Permissions::from_mode(0o000))
        .unwrap();
    let Some(said) = as_another(log.command(&["verify"])) else { return };
    assert_eq!(said.code, 3, "{said:?}");
    let (why, which) = ("run it as the one that the log belongs to, or as root", ".gen");
    assert!(said.err.contains(why) && said.err.contains(which), "{}", said.err);
}

#[test]
fn what_root_repairs_stays_its_owners() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can repair what belongs to others");
        return;
    }
    let log = Log::copy();
    damage(&log.generations()[1], |bytes| bytes.truncate(bytes.len() / 2));
    set_modes(log.directory.path(), 0o755, 0o600);
    set_modes(log.temporary.path(), 0o777, 0o777);
    give_away(&log.path());
    let said = log.run(&["repair"]);
    assert_eq!(said.code, 0, "{said:?}");
    for path in state(&log.path()).keys() {
        let owner = fs::metadata(path).unwrap().uid();
        assert_eq!(owner, NOBODY, "{} is not its owner's any more", path.display());
    }
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
}
