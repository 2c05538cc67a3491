//! What the tests of the log share.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

pub mod damaged;

use std::{path::Path, sync::Arc};

use agent_core::{
    Batch, BatchLimits,
    wal::{NewRecord, SledWal, Wal, WalError, WalOptions},
};
use wire::{EncodedSchema, Family, Gap, GapReason, Kind, MetricKind, Schema, Series, envelope};

/// More than any test has.
pub const ALL: BatchLimits = BatchLimits { records: usize::MAX, bytes: usize::MAX };

/// Ticks of the tests lie this far apart, in milliseconds.
pub const TICK_MS: i64 = 10_000;

/// A directory where syncing costs nothing, if this machine has one: for tests that are not about it.
pub fn fast_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let fast = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    fast.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

pub fn open(directory: &Path) -> SledWal {
    SledWal::open(directory, WalOptions::default()).unwrap()
}

/// Bytes that are different for each seed and don't compress into one another.
pub fn payload(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Appends a record with that payload; its time follows from `tick`, its samples are 10.
pub fn append(wal: &mut dyn Wal, tick: u64, payload: &[u8]) -> Result<u64, WalError> {
    append_with(wal, tick, payload, &[])
}

pub fn append_with(
    wal: &mut dyn Wal,
    tick: u64,
    payload: &[u8],
    schemas: &[Arc<EncodedSchema>],
) -> Result<u64, WalError> {
    let time_ms = time_ms(tick);
    wal.append(&NewRecord { kind: Kind::Metrics, time_ms, samples: 10, payload, schemas })
}

pub fn time_ms(tick: u64) -> i64 {
    1_700_000_000_000 + tick as i64 * TICK_MS
}

/// A schema of that many series.
pub fn schema(collector: &str, series: usize) -> Arc<EncodedSchema> {
    let name = "test_value".to_owned();
    let family = Family { name, kind: MetricKind::Gauge, help: "A value.".to_owned() };
    let label = |index| ("index".to_owned(), format!("{index:08}"));
    let series = (0..series).map(|index| Series { family: 0, labels: vec![label(index)] });
    let series = series.collect();
    EncodedSchema::new(Schema { collector: collector.to_owned(), families: vec![family], series })
}

/// What a record is, for comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Payload(Vec<u8>),
    Gap(Gap),
}

pub fn seen(batch: &Batch) -> Vec<(u64, Seen)> {
    let decode = |bytes: &[u8]| {
        let (found, rest) = envelope::split_first(bytes).unwrap();
        assert!(rest.is_empty());
        let seen = match found.kind {
            Kind::Gap => Seen::Gap(Gap::decode(found.payload).unwrap()),
            Kind::Metrics => Seen::Payload(found.payload.to_vec()),
            other => panic!("{other:?} came out of the log"),
        };
        (found.seq, seen)
    };
    let records = batch.records.iter().map(|record| {
        let (seq, seen) = decode(&record.bytes);
        assert_eq!(seq, record.seq);
        (seq, seen)
    });
    records.collect()
}

/// Reads and acknowledges until nothing is left.
pub fn drain(wal: &mut dyn Wal, sink: &str, limits: BatchLimits) -> Vec<(u64, Seen)> {
    let mut all: Vec<(u64, Seen)> = Vec::new();
    while let Some(batch) = wal.read(sink, limits).unwrap() {
        let records = seen(&batch);
        let last_seq = records.last().unwrap().0;
        assert!(records.is_sorted_by(|a, b| a.0 < b.0));
        assert!(all.last().is_none_or(|(seq, _)| *seq < records[0].0));
        all.extend(records);
        wal.acknowledge(sink, last_seq).unwrap();
    }
    all
}

/// Bytes of a record, where all are alike.
pub const RECORD_BYTES: usize = 20_000;

/// Checks that records and gaps cover every number from `first` to `last` exactly once and in order, that
/// records are what was written, and gaps of the log's bounds. Returns the gaps.
pub fn check_cover(records: &[(u64, Seen)], first: u64, last: u64) -> Vec<&Gap> {
    let (mut next, mut gaps) = (first, Vec::new());
    for (seq, seen) in records {
        match seen {
            Seen::Payload(found) => {
                assert_eq!(*seq, next);
                assert!(*found == payload(*seq, RECORD_BYTES), "{seq} came back wrong");
            }
            Seen::Gap(gap) => {
                assert_eq!((gap.first_seq, gap.last_seq), (next, *seq));
                assert_eq!(gap.reason, GapReason::LogOverflow);
                assert_eq!(gap.records, gap.last_seq + 1 - gap.first_seq);
                gaps.push(gap);
            }
        }
        next = seq + 1;
    }
    assert_eq!(next, last + 1);
    gaps
}

/// First and last number of each.
pub fn ranges(gaps: &[&Gap]) -> Vec<(u64, u64)> {
    gaps.iter().map(|gap| (gap.first_seq, gap.last_seq)).collect()
}

/// Copies a directory; `to` must not exist.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Small deterministic random numbers.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}
