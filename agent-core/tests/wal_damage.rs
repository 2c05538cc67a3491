//! Damage costs what it hit: a log always opens, gives what is readable in order, and says what isn't.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use agent_core::{
    BatchLimits,
    wal::{MAX_BYTES_MIN, SledWal, Wal, WalOptions},
};
use tempfile::TempDir;
use wal_support::{
    Random, Seen, TICK_MS, append_with, copy, drain, fast_directory, schema, time_ms,
};
use wire::{EncodedSchema, GapReason, StreamId, Tick};

const RECORDS: u64 = 620;
const OPTIONS: WalOptions =
    WalOptions { max_bytes: MAX_BYTES_MIN, max_age: std::time::Duration::from_secs(1 << 30) };

static SCHEMAS: LazyLock<[Arc<EncodedSchema>; 2]> =
    LazyLock::new(|| [schema("few", 250), schema("many", 800)]);

/// A tick; every ninth is so large that it is split.
fn tick(seq: u64) -> &'static [u8] {
    static TICKS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..=RECORDS).map(encode).collect());
    &TICKS[seq as usize]
}

fn encode(seq: u64) -> Vec<u8> {
    let schema = schema_of(seq);
    let value = |index: usize| (seq as f64 + index as f64) / 3.0;
    let values: Vec<f64> = (0..schema.schema.series.len()).map(value).collect();
    Tick::encode(time_ms(seq), &[(schema.id, &values)])
}

fn schema_of(seq: u64) -> &'static EncodedSchema {
    &SCHEMAS[usize::from(seq.is_multiple_of(9))]
}

fn open(path: &Path) -> SledWal {
    SledWal::open(path, OPTIONS).unwrap()
}

/// A sound log of three generations, made once; `hub` has acknowledged 10 records, `slow` none.
fn sound() -> &'static Path {
    static LOG: LazyLock<TempDir> = LazyLock::new(|| {
        // sled panics on damage, and a backtrace of each would take longer than the test.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        let directory = fast_directory();
        let mut wal = open(directory.path());
        wal.register("hub").unwrap();
        wal.register("slow").unwrap();
        for seq in 1..=RECORDS {
            append_with(&mut wal, seq, tick(seq), SCHEMAS.as_slice()).unwrap();
            wal.acknowledge("hub", seq.min(10)).unwrap();
        }
        wal.flush().unwrap();
        assert!(wal.stats().generations >= 3, "{:?}", wal.stats());
        directory
    });
    LOG.path()
}

struct Damaged {
    directory: TempDir,
}

impl Damaged {
    fn copy() -> Self {
        let directory = fast_directory();
        fs::remove_dir(directory.path()).unwrap();
        copy(sound(), directory.path());
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Generations, oldest first.
    fn generations(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_generation = |path: &PathBuf| path.extension().is_some_and(|e| e == "gen");
        let mut paths: Vec<PathBuf> = entries.filter(is_generation).collect();
        paths.sort();
        paths
    }
}

/// What came out of a damaged log.
#[derive(Debug, Default)]
struct Outcome {
    lost: u64,
    is_new_stream: bool,
}

/// Opens a damaged log and reads it as two sinks, with a restart in between.
fn check(damaged: &Damaged, what: &str) -> Outcome {
    static STREAM: LazyLock<StreamId> = LazyLock::new(|| open(Damaged::copy().path()).stream_id());
    let stream = *STREAM;
    let mut wal = open(damaged.path());
    assert_eq!(wal.stats().blob_bytes, 0, "{what}");
    let next = append_with(&mut wal, 777, b"new", &[]).unwrap();
    let is_new_stream = wal.stream_id() != stream;
    let hub = wal.register("hub").unwrap();
    let by_hub = read_all(&mut wal, "hub", stream, what);
    wal.flush().unwrap();
    drop(wal);

    let mut wal = open(damaged.path());
    assert_eq!(wal.stream_id() != stream, is_new_stream, "{what}: once damaged is enough");
    let slow = wal.register("slow").unwrap();
    let by_slow = read_all(&mut wal, "slow", stream, what);
    assert!(wal.read("hub", ALL).unwrap().is_none(), "{what}");
    assert!(
        by_slow.len() >= by_hub.len(),
        "{what}: {} {} {hub} {slow}",
        by_slow.len(),
        by_hub.len()
    );
    assert_eq!(by_slow[by_slow.len() - by_hub.len()..], by_hub, "{what}: two sinks, two truths");

    assert_eq!(by_slow.last().unwrap(), &(next, Seen::Payload(b"new".to_vec())), "{what}");
    assert!(next > RECORDS, "{what}: {next} came again");
    assert!(hub >= slow, "{what}");
    Outcome { lost: check_records(&by_slow, slow, what), is_new_stream }
}

const ALL: BatchLimits = BatchLimits { records: 64, bytes: 1 << 20 };

/// Drains, checking that no batch mixes streams.
fn read_all(wal: &mut SledWal, sink: &str, old: StreamId, what: &str) -> Vec<(u64, Seen)> {
    let new = wal.stream_id();
    let mut last = old;
    let mut all = Vec::new();
    while let Some(batch) = wal.read(sink, ALL).unwrap() {
        assert!(batch.stream_id == old || batch.stream_id == new, "{what}: a third stream");
        assert!(last == old || batch.stream_id == new, "{what}: back to the old stream");
        last = batch.stream_id;
        let records = wal_support::seen(&batch);
        for (seq, seen) in &records {
            if *seq <= RECORDS && matches!(seen, Seen::Payload(_)) {
                let known = batch.schemas.contains_key(&schema_of(*seq).id);
                assert!(known, "{what}: {seq} came without its schema");
            }
        }
        wal.acknowledge(sink, records.last().unwrap().0).unwrap();
        all.extend(records);
    }
    all
}

/// Every number after `acked_seq` is there as it was written, or a gap covers it.
fn check_records(records: &[(u64, Seen)], acked_seq: u64, what: &str) -> u64 {
    let (mut next, mut lost) = (acked_seq + 1, 0);
    for (seq, seen) in records.iter().take_while(|(seq, _)| *seq <= RECORDS) {
        match seen {
            Seen::Payload(payload) => {
                assert_eq!(*seq, next, "{what}");
                assert!(*payload == tick(*seq), "{what}: {seq} came back wrong");
            }
            Seen::Gap(gap) => {
                assert_eq!(gap.reason, GapReason::LogDamaged, "{what}");
                assert_eq!((gap.first_seq, gap.last_seq), (next, *seq), "{what}");
                assert_eq!(gap.records, gap.last_seq + 1 - gap.first_seq, "{what}");
                let (from, to) = (time_ms(next) - 60 * TICK_MS, time_ms(*seq) + 60 * TICK_MS);
                let is_near = gap.from_ms >= from && gap.from_ms <= gap.to_ms;
                assert!(is_near, "{what}: {gap:?} not near {from}..{to}");
                lost += gap.records;
            }
        }
        next = seq + 1;
    }
    assert_eq!(next, RECORDS + 1, "{what}: records vanished without a gap");
    lost
}

/// Damages one data file in `cases` ways; returns records lost in the worst case and in all.
fn damage_data(newest: bool, cases: u64, hit: fn(&mut Vec<u8>, &mut Random)) -> (u64, u64) {
    let mut random = Random(0x5eed + u64::from(newest));
    let (mut worst, mut all) = (0, 0);
    for case in 0..cases {
        let damaged = Damaged::copy();
        let generations = damaged.generations();
        let index = if newest { generations.len() - 1 } else { random.below(2) as usize };
        let file = generations[index].join("db");
        let mut bytes = fs::read(&file).unwrap();
        hit(&mut bytes, &mut random);
        fs::write(&file, bytes).unwrap();
        let outcome = check(&damaged, &format!("case {case} in {}", file.display()));
        worst = worst.max(outcome.lost);
        all += outcome.lost;
        if !newest {
            assert!(!outcome.is_new_stream, "case {case}: the end was not hit");
        }
    }
    eprintln!("newest {newest}: {cases} cases, {worst} records lost at worst, {all} in all");
    (worst, all)
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let at = random.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << random.below(8);
}

fn zero_block(bytes: &mut [u8], random: &mut Random) {
    let blocks = bytes.len() as u64 / 4_096;
    let at = random.below(blocks) as usize * 4_096;
    bytes[at..at + 4_096].fill(0);
}

fn truncate(bytes: &mut Vec<u8>, random: &mut Random) {
    bytes.truncate(random.below(bytes.len() as u64) as usize);
}

#[test]
fn bits_flipped_in_old_generations() {
    let (worst, all) = damage_data(false, 60, |bytes, random| flip(bytes, random));
    assert!(worst <= 2 && all <= 70, "{worst} at worst, {all} in all");
}

#[test]
fn bits_flipped_in_the_newest_generation() {
    let (worst, all) = damage_data(true, 60, |bytes, random| flip(bytes, random));
    assert!(worst <= 2 && all <= 70, "{worst} at worst, {all} in all");
}

#[test]
fn blocks_zeroed() {
    let (old, new) = (
        damage_data(false, 20, |bytes, random| zero_block(bytes, random)),
        damage_data(true, 20, |bytes, random| zero_block(bytes, random)),
    );
    assert!(old.0 <= 5 && new.0 <= 5, "{old:?} {new:?}");
}

#[test]
fn data_files_truncated() {
    damage_data(false, 20, truncate);
    damage_data(true, 20, truncate);
}

#[test]
fn other_files_damaged() {
    let mut random = Random(0xf11e);
    for case in 0..30 {
        let damaged = Damaged::copy();
        let mut files = Vec::new();
        for directory in damaged.generations().iter().chain([&damaged.path().to_owned()]) {
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            files.extend(entries.filter(|path| path.is_file() && !path.ends_with("db")));
        }
        files.sort();
        let file = &files[random.below(files.len() as u64) as usize];
        let mut bytes = fs::read(file).unwrap();
        match random.below(3) {
            _ if bytes.is_empty() => {}
            0 => truncate(&mut bytes, &mut random),
            _ => flip(&mut bytes, &mut random),
        }
        fs::write(file, bytes).unwrap();
        let outcome = check(&damaged, &format!("case {case} in {}", file.display()));
        assert_eq!(outcome.lost, 0, "case {case} in {}", file.display());
    }
}

#[test]
fn files_gone() {
    let lost = |what: &str, remove: &dyn Fn(&Damaged)| {
        let damaged = Damaged::copy();
        remove(&damaged);
        check(&damaged, what).lost
    };
    let oldest = |damaged: &Damaged| damaged.generations()[0].clone();
    let newest = |damaged: &Damaged| damaged.generations().pop().unwrap();
    let remove = |path: PathBuf| fs::remove_file(path).unwrap();
    assert_eq!(lost("old head", &|d| remove(oldest(d).join("head"))), 0);
    assert_eq!(lost("old tail", &|d| remove(oldest(d).join("tail"))), 0);
    assert_eq!(lost("old conf", &|d| remove(oldest(d).join("conf"))), 0);
    assert_eq!(lost("new head", &|d| remove(newest(d).join("head"))), 0);
    assert_eq!(lost("new conf", &|d| remove(newest(d).join("conf"))), 0);
    assert_eq!(lost("witness", &|d| remove(d.path().join("last"))), 0);
    assert_eq!(lost("reserve", &|d| remove(d.path().join("reserve"))), 0);
    assert!(lost("old data", &|d| remove(oldest(d).join("db"))) > 10);
    assert!(lost("new data", &|d| remove(newest(d).join("db"))) > 10);
    assert!(lost("newest", &|d| fs::remove_dir_all(newest(d)).unwrap()) > 10);
}

#[test]
fn a_log_that_is_gone_is_told() {
    let damaged = Damaged::copy();
    damaged.generations().iter().for_each(|path| fs::remove_dir_all(path).unwrap());
    let mut wal = open(damaged.path());
    wal.register("hub").unwrap();
    let records = drain(&mut wal, "hub", ALL);
    let [(1, Seen::Gap(gap))] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((gap.reason, gap.records), (GapReason::LogDamaged, 0));
}

#[test]
fn a_snapshot_cut_short_is_no_damage() {
    let damaged = Damaged::copy();
    for generation in damaged.generations() {
        fs::write(generation.join("snap.0000000000001234.generating"), b"").unwrap();
    }
    let outcome = check(&damaged, "snapshot");
    assert!(outcome.lost == 0 && !outcome.is_new_stream, "{outcome:?}");
}

#[test]
fn a_sound_log_is_not_repaired() {
    let damaged = Damaged::copy();
    let outcome = check(&damaged, "sound");
    assert!(outcome.lost == 0 && !outcome.is_new_stream, "{outcome:?}");
    assert!(!damaged.path().join("quarantine").exists());
}
