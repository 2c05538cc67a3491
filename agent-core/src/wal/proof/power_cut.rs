//! A power cut at any step of the log loses nothing that it had promised.
//!
//! A log lives on a [`Medium`]: it is appended to, read, acknowledged, rolled, given back, dropped by
//! the bound, closed and opened. At random steps within all that, what a cut would have left is opened
//! as a log and looked at; now and then life goes on with that. The same is done with the log's own
//! syncs taken for none: then nothing holds.
//!
//! `HOLDFAST_TEST_CUTS` and `HOLDFAST_TEST_SEED` in the environment make more or other cuts. The same
//! seed gives the same life, but sled's threads make each file's bytes a little different in each.

use std::{fs, path::PathBuf, sync::Arc};

use super::{
    super::{SledWal, Wal as _, disk::Disk},
    known::{Known, SINKS, log_path},
    medium::{Ignored, Medium},
    support::{Random, append_with, copy, fast_directory, payload, schema, seen},
};
use crate::BatchLimits;

/// Cuts that must lose nothing, for each size of records.
const CUTS: usize = 120;

/// Cuts that must be noticed, for each size and each sync that is taken for none.
const CUTS_NOTICED: usize = 40;

/// A log that lives, and what is known of it.
struct Life {
    /// Holds the tree that it lives in, the last of so many, and what cuts leave of that.
    directory: tempfile::TempDir,
    trees: u64,
    medium: Arc<Medium>,
    wal: Option<SledWal>,
    known: Known,
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
            known: Known::new(record_bytes, bytes_max(record_bytes)),
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
            0..68 => self.append(),
            68..82 => self.acknowledge(0, 6),
            82..85 => self.acknowledge(1, 40),
            85..88 => self.acknowledge(2, 10),
            88..93 => self.flush(),
            _ => self.open(),
        }
    }

    /// Opens the log, and again in what a cut left of it meanwhile.
    fn open(&mut self) {
        loop {
            self.wal = None;
            let path = log_path(&self.tree(self.trees));
            let disk = Disk::observed(self.medium.clone());
            let mut wal = SledWal::open_on(disk, &path, self.known.bounds()).unwrap();
            if !self.is_cut() {
                self.known.opened(&mut wal).unwrap();
                self.wal = Some(wal);
                return;
            }
        }
    }

    fn append(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        let (seq, seed) = (self.known.last_seq() + 1, self.random.below(u64::MAX));
        self.known.appending(seed);
        let schemas = [schema("a", 5), schema("b", 300)];
        let schemas = &schemas[..self.random.below(3) as usize];
        let payload = payload(seed, self.known.record_bytes);
        assert_eq!(append_with(wal, seq, &payload, schemas).unwrap(), seq);
        self.known.look_at(wal);
        match self.is_cut() {
            true => self.open(),
            false => self.wal.iter().for_each(|wal| self.known.appended(wal)),
        }
    }

    fn acknowledge(&mut self, sink: usize, records: usize) {
        let Some(wal) = &mut self.wal else { return };
        let limits = BatchLimits { records, bytes: usize::MAX };
        let (name, delivery) = SINKS[sink];
        let from = wal.register_as(name, delivery).unwrap() + 1;
        if let Some(batch) = wal.read(name, limits).unwrap() {
            let records = seen(&batch);
            self.known.check(sink, from, &records);
            let seq = records.last().unwrap().0;
            self.known.acknowledging(sink, seq);
            wal.acknowledge(name, seq).unwrap();
        }
        if self.is_cut() {
            self.open();
        }
    }

    fn flush(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        wal.flush().unwrap();
        match self.is_cut() {
            true => self.open(),
            false => self.known.flushed(),
        }
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
            let sinks = if self.random.below(4) == 0 { &[0, 1, 2][..] } else { &[1] };
            let verdict = self.known.judge(&image, sinks, &cut);
            fs::remove_dir_all(image).unwrap();
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
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Lives until that many cuts were looked at; returns what was wrong with those that left too little.
/// Small generations, so that few records make many, and room for the reserve, the headroom, a small
/// database, and some that are packed.
fn bytes_max(record_bytes: usize) -> u64 {
    ((15 << 17) + 60 * record_bytes as u64).min(7 << 19)
}

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
        "{} records, {dropped_to} dropped, {given_back_to} given back, {} generations packed",
        life.known.last_seq(),
        life.known.packed
    );
    let did_all = dropped_to > 0 && given_back_to > 0 && life.trees > 4 && life.known.packed > 1;
    assert!(ignored != Ignored::Nothing || did_all);
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
