//! A log of several generations to be damaged, and what must come out of it whatever was done to it.

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
use wire::{EncodedSchema, GapReason, StreamId, Tick};

use super::{Seen, TICK_MS, append_with, copy, fast_directory, schema, seen, time_ms};

pub const RECORDS: u64 = 620;
pub const OPTIONS: WalOptions =
    WalOptions { max_bytes: MAX_BYTES_MIN, max_age: std::time::Duration::from_secs(1 << 30) };

static SCHEMAS: LazyLock<[Arc<EncodedSchema>; 2]> =
    LazyLock::new(|| [schema("few", 250), schema("many", 800)]);

/// A tick; every ninth is so large that it is split.
pub fn tick(seq: u64) -> &'static [u8] {
    static TICKS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..=RECORDS).map(encode).collect());
    &TICKS[seq as usize]
}

fn encode(seq: u64) -> Vec<u8> {
    let schema = schema_of(seq);
    let value = |index: usize| (seq as f64 + index as f64) / 3.0;
    let values: Vec<f64> = (0..schema.schema.series.len()).map(value).collect();
    Tick::encode(time_ms(seq), &[(schema.id, &values)])
}

pub fn schema_of(seq: u64) -> &'static EncodedSchema {
    &SCHEMAS[usize::from(seq.is_multiple_of(9))]
}

pub fn open(path: &Path) -> SledWal {
    SledWal::open(path, OPTIONS).unwrap()
}

/// How the sealed generations of a log lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As they are written today.
    Packed,
    /// As they are left when they can't be packed, and as older versions left them.
    Databases,
}

/// A sound log of three generations, made once; `hub` has acknowledged 10 records, `slow` none.
fn sound(layout: Layout) -> &'static Path {
    static PACKED: LazyLock<TempDir> = LazyLock::new(|| make(Layout::Packed));
    static DATABASES: LazyLock<TempDir> = LazyLock::new(|| make(Layout::Databases));
    match layout {
        Layout::Packed => PACKED.path(),
        Layout::Databases => DATABASES.path(),
    }
}

fn make(layout: Layout) -> TempDir {
    // sled panics on damage, and a backtrace of each would take longer than the test.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    wal.register("slow").unwrap();
    for seq in 1..=RECORDS {
        if layout == Layout::Databases {
            keep_from_packing(directory.path());
        }
        append_with(&mut wal, seq, tick(seq), SCHEMAS.as_slice()).unwrap();
        wal.acknowledge("hub", seq.min(10)).unwrap();
    }
    wal.flush().unwrap();
    assert!(wal.stats().generations >= 3, "{:?}", wal.stats());
    drop(wal);
    let sealed = |path: &Path| path.extension().is_some_and(|e| e == "pack");
    let packed = paths_in(directory.path()).iter().filter(|path| sealed(path)).count();
    assert_eq!(packed > 0, layout == Layout::Packed, "{packed} are packed");
    for path in paths_in(directory.path()) {
        if path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_dir(path).unwrap();
        }
    }
    directory
}

/// Puts a directory where the packed file would be written.
pub fn keep_from_packing(log: &Path) {
    for path in paths_in(log) {
        if path.extension().is_some_and(|extension| extension == "gen") {
            let _ = fs::create_dir(path.with_extension("new"));
        }
    }
}

pub fn paths_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub struct Damaged {
    directory: TempDir,
    stream: StreamId,
}

impl Damaged {
    pub fn copy(layout: Layout) -> Self {
        let directory = fast_directory();
        fs::remove_dir(directory.path()).unwrap();
        copy(sound(layout), directory.path());
        static STREAMS: LazyLock<[StreamId; 2]> = LazyLock::new(|| {
            [Layout::Packed, Layout::Databases].map(|layout| {
                let aside = fast_directory();
                copy(sound(layout), &aside.path().join("log"));
                open(&aside.path().join("log")).stream_id()
            })
        });
        let stream = STREAMS[usize::from(layout == Layout::Databases)];
        Self { directory, stream }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Generations, packed or not, oldest first.
    pub fn generations(&self) -> Vec<PathBuf> {
        let is_generation =
            |path: &PathBuf| path.extension().is_some_and(|e| e == "gen" || e == "pack");
        paths_in(self.path()).into_iter().filter(is_generation).collect()
    }
}

/// What came out of a damaged log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub lost: u64,
    pub is_new_stream: bool,
}

/// Opens a damaged log and reads it as two sinks, with a restart in between.
pub fn check(damaged: &Damaged, what: &str) -> Outcome {
    let stream = damaged.stream;
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
        let records = seen(&batch);
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
