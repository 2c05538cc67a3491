//! Any sequence of operations does what a list in memory would.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use agent_core::{
    BatchLimits,
    wal::{MAX_BYTES_MIN, SledWal, Wal, WalOptions},
};
use proptest::{prelude::*, test_runner::TestRunner};
use wal_support::{Seen, append, fast_directory, payload, seen, time_ms};

const SINKS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Operation {
    Append {
        bytes: usize,
    },
    Read {
        sink: usize,
        records: usize,
        bytes: usize,
    },
    Acknowledge {
        sink: usize,
        seq: u64,
    },
    Flush,
    /// Dropped as it is, as a crash would leave it, bar what sled does when dropped.
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let bytes =
        prop_oneof![8 => 0_usize..3_000, 3 => 3_500_usize..20_000, 2 => 100_000_usize..300_000];
    prop_oneof![
        10 => bytes.prop_map(|bytes| Operation::Append { bytes }),
        6 => (0_usize..2, 1_usize..20, 1_000_usize..200_000)
            .prop_map(|(sink, records, bytes)| Operation::Read { sink, records, bytes }),
        4 => (0_usize..2, 0_u64..80).prop_map(|(sink, seq)| Operation::Acknowledge { sink, seq }),
        1 => Just(Operation::Flush),
        2 => Just(Operation::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    records: BTreeMap<u64, Vec<u8>>,
    cursors: [u64; 2],
    /// Cursors as they may come back after a reopen: anything from here on.
    durable: [u64; 2],
}

impl Model {
    fn last_seq(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    fn expected(&self, sink: usize, limits: BatchLimits) -> Vec<(u64, Vec<u8>)> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for (seq, payload) in self.records.range(self.cursors[sink] + 1..) {
            bytes += payload.len() + wire::envelope::HEADER_BYTES;
            if !taken.is_empty() && (taken.len() >= limits.records || bytes > limits.bytes) {
                break;
            }
            taken.push((*seq, payload.clone()));
        }
        taken
    }
}

fn step(wal: &mut SledWal, model: &mut Model, operation: &Operation) {
    match *operation {
        Operation::Append { bytes } => {
            let tick = model.last_seq() + 1;
            let payload = payload(tick ^ bytes as u64, bytes);
            assert_eq!(append(wal, tick, &payload).unwrap(), tick);
            model.records.insert(tick, payload);
            model.durable = model.cursors;
        }
        Operation::Read { sink, records, bytes } => {
            let limits = BatchLimits { records, bytes };
            let expected = model.expected(sink, limits);
            let found = wal.read(SINKS[sink], limits).unwrap();
            let found: Vec<(u64, Vec<u8>)> = found.iter().flat_map(seen).map(bare).collect();
            // A batch ends where a generation does: it may be shorter, but never without progress.
            assert!(
                found.len() == expected.len()
                    || (!found.is_empty() && found.len() < expected.len())
            );
            assert!(found[..] == expected[..found.len()], "{operation:?}");
        }
        Operation::Acknowledge { sink, seq } => {
            let seq = seq.min(model.last_seq());
            wal.acknowledge(SINKS[sink], seq).unwrap();
            model.cursors[sink] = model.cursors[sink].max(seq);
        }
        Operation::Flush => {
            wal.flush().unwrap();
            model.durable = model.cursors;
        }
        Operation::Reopen => panic!("the caller does that"),
    }
}

fn bare((seq, seen): (u64, Seen)) -> (u64, Vec<u8>) {
    match seen {
        Seen::Payload(payload) => (seq, payload),
        Seen::Gap(gap) => panic!("unexpected {gap:?}"),
    }
}

fn check_stats(wal: &SledWal, model: &Model) {
    let stats = wal.stats();
    let acked_seq = *model.cursors.iter().min().unwrap();
    let waiting = model.records.range(acked_seq + 1..);
    assert_eq!(stats.last_seq, model.last_seq());
    assert_eq!(stats.records, waiting.clone().count() as u64);
    assert_eq!((stats.dropped_records, stats.blob_bytes), (0, 0));
    let oldest_ms = waiting.map(|(seq, _)| time_ms(*seq)).next();
    assert!((stats.oldest_ms.is_some()) == oldest_ms.is_some());
    if let (Some(found), Some(expected)) = (stats.oldest_ms, oldest_ms) {
        assert!((found - expected).abs() <= 20 * wal_support::TICK_MS, "{found} {expected}");
    }
}

fn open(path: &Path) -> SledWal {
    // Small generations, of which most are packed.
    let options = WalOptions { max_bytes: MAX_BYTES_MIN, ..WalOptions::default() };
    let mut wal = SledWal::open(path, options).unwrap();
    for sink in SINKS {
        wal.register(sink).unwrap();
    }
    wal
}

/// Packed generations that were there after some step.
static PACKED: AtomicUsize = AtomicUsize::new(0);

fn packed_in(log: &Path) -> usize {
    let paths = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "pack")).count()
}

fn run(operations: &[Operation]) {
    let directory = fast_directory();
    let (mut wal, mut model) = (open(directory.path()), Model::default());
    let stream = wal.stream_id();
    for operation in operations {
        if let Operation::Reopen = operation {
            drop(wal);
            wal = open(directory.path());
            assert_eq!(wal.stream_id(), stream);
            for (index, sink) in SINKS.iter().enumerate() {
                let cursor = wal.register(sink).unwrap();
                let allowed = model.durable[index]..=model.cursors[index];
                assert!(allowed.contains(&cursor), "{sink}: {cursor} not in {allowed:?}");
                model.cursors[index] = cursor;
            }
        } else {
            step(&mut wal, &mut model, operation);
        }
        check_stats(&wal, &model);
        PACKED.fetch_add(packed_in(directory.path()), Ordering::Relaxed);
    }
}

#[test]
fn does_what_a_list_would() {
    let config =
        ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let operations = proptest::collection::vec(operation(), 1..80);
    let checked = TestRunner::new(config).run(&operations, |operations| {
        run(&operations);
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
    assert!(PACKED.load(Ordering::Relaxed) > 100, "too little was packed");
}
