//! The logs that commands are tried on, and what they leave of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
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

pub(crate) const RECORDS: u64 = 400;
pub(crate) const SERIES: usize = 500;
pub(crate) const GAP_SEQ: u64 = 7;
pub(crate) const HUB_ACKED: u64 = 50;
pub(crate) const ARCHIVE_ACKED: u64 = 250;
pub(crate) const OPTIONS: WalOptions =
    WalOptions { max_bytes: MAX_BYTES_MIN, max_age: Duration::from_secs(1 << 30) };

/// A directory where syncing costs nothing, if this machine has one.
pub(crate) fn fast_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let fast = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    fast.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

pub(crate) fn open(directory: &Path) -> SledWal {
    SledWal::open(directory, OPTIONS).unwrap()
}

pub(crate) fn schema() -> Arc<EncodedSchema> {
    let name = "test_value".to_owned();
    let family = Family { name, kind: MetricKind::Gauge, help: "A value.".to_owned() };
    let label = |index| vec![("index".to_owned(), format!("{index:08}"))];
    let series = (0..SERIES).map(|index| Series { family: 0, labels: label(index) }).collect();
    EncodedSchema::new(Schema { collector: "test".to_owned(), families: vec![family], series })
}

pub(crate) fn time_ms(seq: u64) -> i64 {
    1_700_000_000_000 + seq as i64 * 10_000
}

pub(crate) fn gap() -> Gap {
    let (from_ms, to_ms) = (time_ms(GAP_SEQ - 1), time_ms(GAP_SEQ));
    let (reason, detail) = (GapReason::AgentDown, String::new());
    Gap { reason, from_ms, to_ms, first_seq: 0, last_seq: 0, records: 0, samples: 0, detail }
}

pub(crate) fn append(wal: &mut SledWal, seq: u64) {
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
pub(crate) struct Sound {
    pub(crate) directory: TempDir,
    pub(crate) lines: String,
}

pub(crate) fn sound() -> &'static Sound {
    static SOUND: LazyLock<Sound> = LazyLock::new(|| {
        let directory = fast_directory();
        let mut wal = open(&directory.path().join("wal"));
        for sink in ["archive", "file", "hub"] {
            wal.register(sink).unwrap();
        }
        (1..=RECORDS).for_each(|seq| append(&mut wal, seq));
        let path = directory.path().join("out.jsonl");
        write_lines(&mut wal, "file", &path);
        wal.acknowledge("archive", ARCHIVE_ACKED).unwrap();
        wal.acknowledge("hub", HUB_ACKED).unwrap();
        wal.retain_sinks(&["archive", "hub"]).unwrap();
        wal.flush().unwrap();
        assert!(wal.stats().generations >= 3, "{:?}", wal.stats());
        Sound { directory, lines: fs::read_to_string(path).unwrap() }
    });
    &SOUND
}

/// What a file sink of that name writes of a log.
pub(crate) fn write_lines(wal: &mut SledWal, name: &str, path: &Path) {
    let config = FileConfig { host: Some("web-1".to_owned()), ..FileConfig::new(path) };
    let mut sink = FileSink::new(config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while let Some(batch) = wal.read(name, BatchLimits { records: 64, bytes: 1 << 20 }).unwrap() {
        let acked_seq = runtime.block_on(sink.send(&batch)).unwrap();
        wal.acknowledge(name, acked_seq).unwrap();
    }
}

/// A copy of the sound log, and a directory for what commands leave in the temporary one: nothing.
pub(crate) struct Log {
    pub(crate) directory: TempDir,
    pub(crate) temporary: TempDir,
}

impl Log {
    pub(crate) fn copy() -> Self {
        let log = Self::none();
        copy(&sound().directory.path().join("wal"), &log.path());
        log
    }

    /// Where one may be made.
    pub(crate) fn none() -> Self {
        Self { directory: fast_directory(), temporary: fast_directory() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("wal")
    }

    /// Generations, oldest first.
    pub(crate) fn generations(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains('.');
        let mut paths: Vec<PathBuf> = entries.filter(is_ours).collect();
        paths.sort();
        paths
    }

    /// Runs a command that must not change a byte.
    pub(crate) fn look(&self, arguments: &[&str]) -> Said {
        let before = state(&self.path());
        let said = self.run(arguments);
        assert_eq!(state(&self.path()), before, "{arguments:?} changed the log");
        said
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        let left = fs::read_dir(self.temporary.path()).unwrap().count();
        assert_eq!(left, 0, "{arguments:?} left something in the temporary directory");
        Said::from(output)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command.arg("wal").args(arguments).arg(self.path());
        command.env_clear().env("TMPDIR", self.temporary.path());
        command
    }
}

/// What a command said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
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
pub(crate) fn state(path: &Path) -> BTreeMap<PathBuf, (SystemTime, Option<Vec<u8>>)> {
    let metadata = fs::metadata(path).unwrap();
    let modified = metadata.modified().unwrap();
    if !metadata.is_dir() {
        return [(path.to_owned(), (modified, Some(fs::read(path).unwrap())))].into();
    }
    let entries = fs::read_dir(path).unwrap().flat_map(|entry| state(&entry.unwrap().path()));
    entries.chain([(path.to_owned(), (modified, None))]).collect()
}

/// The file of a generation's records.
pub(crate) fn data_file(generation: &Path) -> PathBuf {
    if generation.is_dir() { generation.join("db") } else { generation.to_owned() }
}

pub(crate) fn damage(generation: &Path, hit: impl FnOnce(&mut Vec<u8>)) {
    let file = data_file(generation);
    let mut bytes = fs::read(&file).unwrap();
    hit(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// Flips a bit of the last record, wherever a database has put it: it may lie there several times.
pub(crate) fn flip_last(bytes: &mut [u8]) {
    let seq = RECORDS.to_le_bytes();
    let is_record =
        |at: &usize| bytes[*at..].starts_with(b"HFR1") && bytes[at + 16..].starts_with(&seq);
    let found: Vec<usize> = (0..bytes.len() - 100).filter(is_record).collect();
    assert!(!found.is_empty());
    found.into_iter().for_each(|at| bytes[at + 50] ^= 1);
}

/// The numbers of exported records, and those that gaps among them say are lost.
pub(crate) fn numbers(lines: &str) -> (Vec<u64>, Vec<u64>) {
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

pub(crate) fn waiting(summary: &Value, sink: &str) -> (u64, u64) {
    let sinks = summary["sinks"].as_array().unwrap();
    let sink = sinks.iter().find(|found| found["sink"] == sink).unwrap();
    (sink["acked_seq"].as_u64().unwrap(), sink["waiting_records"].as_u64().unwrap())
}
