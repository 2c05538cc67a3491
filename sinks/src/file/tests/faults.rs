//! Every call to the file system fails once, or for good.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_core::SinkError;

use super::{
    super::{
        FileConfig,
        disk::{Disk, FileId, LineFile, RealDisk},
    },
    lines, lines_on, seqs,
};
use crate::fixture;

const RECORDS: u64 = 12;

/// Counts calls and lets some fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// That call, once.
    Once(usize),
    /// That call and every later one.
    From(usize),
    /// Writes after so many: the disk is full, and all else works.
    Full(usize),
}

#[derive(Default)]
struct Calls {
    count: usize,
    writes: usize,
    /// Bytes of each file that were synced.
    synced: HashMap<FileId, u64>,
}

#[derive(Clone)]
struct FaultyDisk {
    fault: Fault,
    calls: Arc<Mutex<Calls>>,
}

impl FaultyDisk {
    fn new(fault: Fault) -> Self {
        Self { fault, calls: Arc::default() }
    }

    fn call(&self) -> io::Result<()> {
        let mut calls = self.calls.lock().unwrap();
        let now = calls.count;
        calls.count += 1;
        let fails = match self.fault {
            Fault::None | Fault::Full(_) => false,
            Fault::Once(at) => now == at,
            Fault::From(at) => now >= at,
        };
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn call_write(&self) -> io::Result<()> {
        self.call()?;
        let mut calls = self.calls.lock().unwrap();
        calls.writes += 1;
        match self.fault {
            Fault::Full(most) if calls.writes > most => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LineFile>> {
        self.call()?;
        let file = RealDisk.open(path)?;
        Ok(Box::new(FaultyFile { file, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        RealDisk.sync_directory(path)
    }
}

struct FaultyFile {
    file: Box<dyn LineFile>,
    disk: FaultyDisk,
}

impl Read for FaultyFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for FaultyFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Write for FaultyFile {
    /// A write that fails leaves half of itself behind.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.disk.call_write() {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl LineFile for FaultyFile {
    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.disk.call()?;
        self.file.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.call()?;
        let bytes = self.file.seek(SeekFrom::End(0))?;
        self.disk.calls.lock().unwrap().synced.insert(self.file.id()?, bytes);
        self.file.sync()
    }

    fn id(&self) -> io::Result<FileId> {
        self.file.id()
    }
}

fn config(directory: &Path) -> FileConfig {
    let mut config = FileConfig::new(directory.join("m.jsonl"));
    config.max_age = Some(Duration::from_secs(5));
    config
}

/// Hands the records over in batches of three, each as often as it takes, at most `tries` times in
/// all. Returns the last that was acknowledged.
fn deliver(disk: &FaultyDisk, config: &FileConfig, tries: usize) -> u64 {
    let mut lines = lines_on(Box::new(disk.clone()), config.clone());
    let mut acked = 0;
    for _ in 0..tries {
        if acked == RECORDS {
            break;
        }
        let batch = fixture::ticks(acked + 1..=(acked + 3).min(RECORDS));
        match lines.append(&batch) {
            Ok(seq) => acked = seq,
            Err(SinkError::Transient { reason, .. }) => {
                assert!(reason.contains("m.jsonl: "), "{reason}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    acked
}

fn calls_without_fault() -> usize {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(Fault::None);
    assert_eq!(deliver(&disk, &config(directory.path()), usize::MAX), RECORDS);
    let count = disk.calls.lock().unwrap().count;
    assert!(count > 20, "{count} calls: too few to be a test");
    count
}

fn all() -> Vec<u64> {
    (1..=RECORDS).collect()
}

#[test]
fn one_failure_anywhere_neither_loses_nor_doubles() {
    for at in 0..calls_without_fault() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let acked = deliver(&FaultyDisk::new(Fault::Once(at)), &config, 20);
        assert_eq!(acked, RECORDS, "call {at}");
        assert_eq!(seqs(&config.path), all(), "call {at}");
    }
}

#[test]
fn a_kill_anywhere_neither_loses_nor_doubles() {
    for at in 0..calls_without_fault() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let acked = deliver(&FaultyDisk::new(Fault::From(at)), &config, 8);
        // the log still has everything after what was acknowledged, and maybe some before it
        for from in [acked + 1, 1] {
            lines(config.clone()).append(&fixture::ticks(from..=RECORDS)).unwrap();
            assert_eq!(seqs(&config.path), all(), "call {at}, again from {from}");
        }
    }
}

#[test]
fn a_power_cut_anywhere_loses_nothing_acknowledged() {
    for at in 0..calls_without_fault() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let disk = FaultyDisk::new(Fault::From(at));
        let acked = deliver(&disk, &config, 8);
        forget_unsynced(&disk, directory.path());
        lines(config.clone()).append(&fixture::ticks(acked + 1..=RECORDS)).unwrap();
        assert_eq!(seqs(&config.path), all(), "call {at}, acknowledged {acked}");
    }
}

#[test]
fn a_full_disk_keeps_the_lines_that_fit_and_no_part_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let disk = FaultyDisk::new(Fault::Full(3));
    let mut lines = lines_on(Box::new(disk.clone()), config.clone());
    for _ in 0..3 {
        let error = lines.append(&fixture::ticks(1..=4)).unwrap_err();
        assert!(matches!(error, SinkError::Transient { .. }), "{error}");
        assert_eq!(seqs(&config.path), [1, 2, 3]);
    }
    assert_eq!(lines.append(&fixture::ticks(1..=3)).unwrap(), 3, "what fits is acknowledged");
    forget_unsynced(&disk, directory.path());
    assert_eq!(seqs(&config.path), [1, 2, 3]);
    disk.calls.lock().unwrap().writes = 0;
    assert_eq!(lines.append(&fixture::ticks(1..=4)).unwrap(), 4, "there is space again");
    assert_eq!(seqs(&config.path), [1, 2, 3, 4]);
}

/// What a power cut leaves: of each file, what was synced.
fn forget_unsynced(disk: &FaultyDisk, directory: &Path) {
    let calls = disk.calls.lock().unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let synced = calls.synced.get(&LineFile::id(&file).unwrap()).copied().unwrap_or(0);
        let bytes = file.metadata().unwrap().len().min(synced);
        file.set_len(bytes).unwrap();
    }
}
