//! A power cut at any step of the log loses nothing that it had promised.
//!
//! A log lives on a [`Medium`]: it is appended to, read, acknowledged, rolled, given back, dropped by
//! the bound, closed and opened. At random steps within all that, what a cut would have left is opened
//! as a log and looked at; now and then life goes on with that. The same is done with the log's own
//! syncs taken for none: then nothing holds.
//!
//! `HOLDFAST_TEST_CUTS` and `HOLDFAST_TEST_SEED` in the environment make more or other cuts. The same
//! seed gives the same life, but sled's threads make each file's bytes a little different in each.

use std::{
    collections::BTreeMap,
    fs::{self, DirEntry},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{GapReason, StreamId};

use super::{
    super::{SledWal, Wal as _, disk::Disk, log::Bounds},
    medium::{Ignored, Medium},
    support::{ALL, Random, Seen, append_with, copy, drain, fast_directory, payload, schema, seen},
};
use crate::BatchLimits;

const SINKS: [&str; 2] = ["hub", "slow"];

/// Cuts that must lose nothing, for each size of records.
const CUTS: usize = 120;

/// Cuts that must be noticed, for each size and each sync that is taken for none.
const CUTS_NOTICED: usize = 40;

/// What must hold of a log, and what may.
#[derive(Clone, Default)]
struct Known {
    /// Seeds of the records whose append returned.
    records: BTreeMap<u64, u64>,
    /// Number and seed of the record whose append is under way.
    under_way: Option<(u64, u64)>,
    acked: [Acked; 2],
    /// Up to here records may have been dropped by the bound.
    dropped_to: u64,
    stream: Option<StreamId>,
}

/// What a sink has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Acked {
    /// What is durable of it.
    least: u64,
    /// What the log knows of it.
    now: u64,
    /// All of it.
    most: u64,
}

impl Known {
    fn last_seq(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Opened again, a log says which of what was possible is so.
    fn opened(&mut self, stream: StreamId, last_seq: u64, cursors: [u64; 2]) {
        self.stream = Some(stream);
        self.records.extend(self.under_way.take_if(|(seq, _)| *seq <= last_seq));
        self.under_way = None;
        for (acked, cursor) in self.acked.iter_mut().zip(cursors) {
            acked.now = cursor;
        }
    }

    /// Cursors are durable with a flush.
    fn flushed(&mut self) {
        self.acked.iter_mut().for_each(|acked| acked.least = acked.now);
    }

    fn seed_of(&self, seq: u64) -> Option<u64> {
        let under_way = self.under_way.filter(|(number, _)| *number == seq).map(|(_, seed)| seed);
        self.records.get(&seq).copied().or(under_way)
    }

    /// What was read from `from` on: each record as it was written, or a gap where it was dropped.
    fn check(&self, records: &[(u64, Seen)], from: u64, record_bytes: usize) {
        let mut expected = from;
        for (seq, seen) in records {
            match seen {
                Seen::Payload(found) => {
                    let written = self.seed_of(*seq).map(|seed| payload(seed, record_bytes));
                    assert!(Some(found) == written.as_ref(), "{seq} came back wrong");
                    assert_eq!(*seq, expected);
                }
                Seen::Gap(gap) => {
                    let dropped = gap.reason == GapReason::LogOverflow && *seq <= self.dropped_to;
                    assert!(dropped && gap.first_seq <= expected && *seq >= expected, "{gap:?}");
                }
            }
            expected = seq + 1;
        }
    }
}

/// A log that lives, and what is known of it.
struct Life {
    /// Holds the tree that it lives in, the last of so many, and what cuts leave of that.
    directory: tempfile::TempDir,
    trees: u64,
    medium: Arc<Medium>,
    wal: Option<SledWal>,
    known: Known,
    record_bytes: usize,
    random: Random,
    ignored: Ignored,
    verdicts: Vec<Result<(), String>>,
}

impl Life {
    fn begin(record_bytes: usize, seed: u64, ignored: Ignored) -> Self {
        let directory = fast_directory();
        let root = directory.path().join("tree-1");
        fs::create_dir(&root).unwrap();
        let mut life = Self {
            medium: Arc::new(Medium::new(&root, directory.path(), seed, ignored)),
            directory,
            trees: 1,
            wal: None,
            known: Known::default(),
            record_bytes,
            random: Random(seed),
            ignored,
            verdicts: Vec::new(),
        };
        life.open();
        life
    }

    fn tree(&self, number: u64) -> PathBuf {
        self.directory.path().join(format!("tree-{number}"))
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..70 => self.append(),
            70..84 => self.acknowledge(0, 6),
            84..87 => self.acknowledge(1, 40),
            87..92 => self.flush(),
            _ => self.open(),
        }
    }

    /// Opens the log, and again in what a cut left of it meanwhile.
    fn open(&mut self) {
        loop {
            self.wal = None;
            let path = log_path(&self.tree(self.trees));
            let disk = Disk::observed(self.medium.clone());
            let mut wal = SledWal::open_on(disk, &path, bounds(self.record_bytes)).unwrap();
            let cursors = SINKS.map(|sink| wal.register(sink).unwrap());
            let (stream, last_seq) = (wal.stream_id(), wal.stats().last_seq);
            self.wal = Some(wal);
            if !self.is_cut() {
                self.known.opened(stream, last_seq, cursors);
                return;
            }
        }
    }

    fn append(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        let (seq, seed) = (self.known.last_seq() + 1, self.random.below(u64::MAX));
        self.known.under_way = Some((seq, seed));
        let schemas = [schema("a", 5), schema("b", 300)];
        let schemas = &schemas[..self.random.below(3) as usize];
        assert_eq!(append_with(wal, seq, &payload(seed, self.record_bytes), schemas).unwrap(), seq);
        let gaps = wal.row.iter().filter(|entry| entry.gap.is_some());
        let dropped_to = gaps.map(|entry| entry.last_seq).max().unwrap_or(0);
        self.known.dropped_to = self.known.dropped_to.max(dropped_to);
        if self.is_cut() {
            return self.open();
        }
        self.known.records.extend(self.known.under_way.take());
        self.known.flushed();
    }

    fn acknowledge(&mut self, sink: usize, records: usize) {
        let Some(wal) = &mut self.wal else { return };
        let limits = BatchLimits { records, bytes: usize::MAX };
        let from = wal.register(SINKS[sink]).unwrap() + 1;
        if let Some(batch) = wal.read(SINKS[sink], limits).unwrap() {
            let records = seen(&batch);
            self.known.check(&records, from, self.record_bytes);
            let seq = records.last().unwrap().0;
            let acked = &mut self.known.acked[sink];
            (acked.now, acked.most) = (seq, acked.most.max(seq));
            wal.acknowledge(SINKS[sink], seq).unwrap();
        }
        if self.is_cut() {
            self.open();
        }
    }

    fn flush(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        wal.flush().unwrap();
        if self.is_cut() {
            return self.open();
        }
        self.known.flushed();
    }

    /// Judges what cuts left. Now and then the log is to be opened again in that.
    fn is_cut(&mut self) -> bool {
        let next = self.tree(self.trees + 1);
        let mut is_cut = false;
        for (image, cut) in self.medium.take_images() {
            let goes_on = !is_cut && self.ignored == Ignored::Nothing && self.random.below(8) == 0;
            if goes_on {
                copy(&image, &next);
            }
            let verdict = self.judge(&image, &cut);
            if goes_on && verdict.is_err() {
                fs::remove_dir_all(&next).unwrap();
            }
            is_cut |= goes_on && verdict.is_ok();
            self.verdicts.push(verdict);
        }
        if is_cut {
            self.wal = None;
            fs::remove_dir_all(self.tree(self.trees)).unwrap();
            self.trees += 1;
            let (images, seed) = (self.directory.path(), self.random.below(u64::MAX));
            self.medium = Arc::new(Medium::new(&next, images, seed, self.ignored));
        }
        is_cut
    }

    /// Whether a log that a cut left holds what was promised. It is used up.
    fn judge(&mut self, image: &Path, cut: &str) -> Result<(), String> {
        let left = listing(&log_path(image));
        let sinks = if self.random.below(4) == 0 { &[0, 1][..] } else { &[1] };
        let look = || look(image, &self.known, self.record_bytes, sinks);
        let judged = catch_unwind(AssertUnwindSafe(look));
        fs::remove_dir_all(image).unwrap();
        judged.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            format!("cut {cut}: {text}; it left {left}")
        })
    }
}

/// What lies in a directory, and below.
fn listing(directory: &Path) -> String {
    let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(DirEntry::path);
    let entries = entries.iter().map(|entry| {
        let name = entry.file_name().to_string_lossy().trim_start_matches('0').to_owned();
        match entry.path().is_dir() {
            true => format!("{name}({})", listing(&entry.path())),
            false => name,
        }
    });
    entries.collect::<Vec<_>>().join(" ")
}

/// The log's directory and the one above are made by the log.
fn log_path(root: &Path) -> PathBuf {
    root.join("state/wal")
}

/// Small generations, so that few records make many, and room for a handful.
fn bounds(record_bytes: usize) -> Bounds {
    let generation_bytes = record_bytes as u64 * 6;
    Bounds { bytes_max: 7 << 19, age_ms_max: i64::MAX, generation_bytes }
}

/// Opens a log and looks whether all is there; reads as those sinks.
fn look(image: &Path, known: &Known, record_bytes: usize, sinks: &[usize]) {
    let path = log_path(image);
    let open = || SledWal::open_on(Disk::default(), &path, bounds(record_bytes)).unwrap();
    let mut wal = open();
    let (stream, last_seq) = (wal.stream_id(), wal.stats().last_seq);
    let most = known.under_way.map_or(known.last_seq(), |(seq, _)| seq);
    assert!((known.last_seq()..=most).contains(&last_seq), "ends with {last_seq}, not {most}");
    assert!(known.stream.is_none_or(|known| known == stream), "begins another stream");
    let cursors = SINKS.map(|sink| wal.register(sink).unwrap());
    for (cursor, acked) in cursors.iter().zip(known.acked) {
        assert!(*cursor >= acked.least && *cursor <= acked.most, "a cursor at {cursor}: {acked:?}");
    }
    for index in sinks {
        let records = drain(&mut wal, SINKS[*index], ALL);
        known.check(&records, cursors[*index] + 1, record_bytes);
        assert_eq!(records.last().map_or(cursors[*index], |(seq, _)| *seq), last_seq);
    }
    drop(wal);
    let mut wal = open();
    assert_eq!((wal.stream_id(), wal.stats().last_seq), (stream, last_seq));
    assert_eq!(append_with(&mut wal, 0, b"after", &[]).unwrap(), last_seq + 1);
    assert!(!path.join("quarantine").exists(), "taken for damage");
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Lives until that many cuts were looked at; returns what was wrong with those that left too little.
fn cuts(record_bytes: usize, count: usize, ignored: Ignored) -> Vec<String> {
    // sled panics on what it doesn't expect, and a backtrace of each would take longer than the test.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let seed = given("HOLDFAST_TEST_SEED").unwrap_or(0xc07);
    let mut life = Life::begin(record_bytes, seed + record_bytes as u64, ignored);
    while life.verdicts.len() < count {
        life.step();
    }
    // Nothing is proven of what didn't happen.
    let (dropped_to, given_back_to) = (life.known.dropped_to, life.known.acked[1].most);
    eprintln!(
        "{} records, {dropped_to} dropped, {given_back_to} given back",
        life.known.last_seq()
    );
    assert!(ignored != Ignored::Nothing || (dropped_to > 0 && given_back_to > 0 && life.trees > 4));
    life.verdicts.into_iter().filter_map(Result::err).collect()
}

fn check(record_bytes: usize) {
    let count = given("HOLDFAST_TEST_CUTS").map_or(CUTS, |count| count as usize);
    let lost = cuts(record_bytes, count, Ignored::Nothing);
    assert!(lost.is_empty(), "{} of {count} cuts: {lost:#?}", lost.len());
}

#[test]
fn nothing_is_lost_of_records_of_1_kb() {
    check(1 << 10);
}

#[test]
fn nothing_is_lost_of_records_of_4_kb() {
    check(4 << 10);
}

#[test]
fn nothing_is_lost_of_records_of_64_kb() {
    check(64 << 10);
}

/// The test of the test.
fn check_noticed(ignored: Ignored) {
    for record_bytes in [1 << 10, 4 << 10, 64 << 10] {
        let lost = cuts(record_bytes, CUTS_NOTICED, ignored);
        eprintln!("{record_bytes} bytes: {} of {CUTS_NOTICED} cuts lost something", lost.len());
        assert!(lost.len() > CUTS_NOTICED / 2, "{record_bytes} bytes: {lost:#?}");
    }
}

#[test]
fn cuts_are_noticed_without_the_sync_after_a_flush() {
    check_noticed(Ignored::Data);
}

#[test]
fn cuts_are_noticed_without_the_syncs_of_directories() {
    check_noticed(Ignored::Directories);
}
