//! What every write-ahead log has to do, whatever it lies in.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::path::Path;

use agent_core::{
    BatchLimits,
    wal::{NewRecord, SledWal, Wal, WalError, WalOptions},
};
use wal_support::{ALL, Seen, append, append_with, drain, payload, schema, seen, time_ms};
use wire::{EnvelopeError, Kind, limits::RECORD_PAYLOAD_BYTES_MAX};

type Open = fn(&Path) -> Box<dyn Wal>;

/// Runs a check over every log there is.
fn each(check: fn(&Path, Open)) {
    let logs: &[Open] = &[|path| Box::new(SledWal::open(path, WalOptions::default()).unwrap())];
    for open in logs {
        check(wal_support::fast_directory().path(), *open);
    }
}

fn payloads(records: &[(u64, Seen)]) -> Vec<(u64, &[u8])> {
    records
        .iter()
        .map(|(seq, seen)| match seen {
            Seen::Payload(payload) => (*seq, payload.as_slice()),
            Seen::Gap(gap) => panic!("unexpected {gap:?}"),
        })
        .collect()
}

#[test]
fn records_come_back_in_order_and_numbers_go_on() {
    each(|path, open| {
        let mut wal = open(path);
        assert_eq!(wal.register("hub").unwrap(), 0);
        assert!(wal.read("hub", ALL).unwrap().is_none());
        let stream = wal.stream_id();
        for tick in 1..=5 {
            assert_eq!(append(wal.as_mut(), tick, &payload(tick, 100)).unwrap(), tick);
        }
        drop(wal);

        let mut wal = open(path);
        assert_eq!(wal.stream_id(), stream);
        assert_eq!(append(wal.as_mut(), 6, &payload(6, 100)).unwrap(), 6);
        assert_eq!(wal.register("hub").unwrap(), 0);
        let batch = wal.read("hub", ALL).unwrap().unwrap();
        assert_eq!(batch.stream_id, stream);
        let records = seen(&batch);
        let expected: Vec<(u64, Vec<u8>)> = (1..=6).map(|seq| (seq, payload(seq, 100))).collect();
        assert_eq!(
            payloads(&records),
            expected.iter().map(|(seq, p)| (*seq, p.as_slice())).collect::<Vec<_>>()
        );
    });
}

#[test]
fn values_of_every_size_come_back() {
    each(|path, open| {
        let sizes = [
            0,
            1,
            1_000,
            3_563,
            3_564,
            3_565,
            (16 << 10) - 1,
            16 << 10,
            (16 << 10) + 1,
            64_000,
            1 << 20,
            RECORD_PAYLOAD_BYTES_MAX,
        ];
        let mut wal = open(path);
        wal.register("hub").unwrap();
        for (tick, bytes) in (1..).zip(sizes) {
            append(wal.as_mut(), tick, &payload(tick, bytes)).unwrap();
        }
        drop(wal);
        let mut wal = open(path);
        let records = drain(wal.as_mut(), "hub", BatchLimits { records: 5, bytes: 100_000 });
        for ((seq, found), bytes) in payloads(&records).iter().zip(sizes) {
            assert!(*found == payload(*seq, bytes), "{bytes} bytes came back wrong");
        }
        assert_eq!(records.len(), sizes.len());
        assert_eq!(wal.stats().blob_bytes, 0);
    });
}

#[test]
fn batches_keep_to_limits() {
    each(|path, open| {
        let mut wal = open(path);
        wal.register("hub").unwrap();
        for tick in 1..=6 {
            append(wal.as_mut(), tick, &payload(tick, 1_000 - wire::envelope::HEADER_BYTES))
                .unwrap();
        }
        let mut check = |records: usize, bytes: usize, expected: usize| {
            let batch = wal.read("hub", BatchLimits { records, bytes }).unwrap().unwrap();
            assert_eq!(batch.records.len(), expected, "{records} records, {bytes} bytes");
            assert_eq!(batch.records[0].seq, 1);
        };
        check(usize::MAX, usize::MAX, 6);
        check(4, usize::MAX, 4);
        check(usize::MAX, 2_999, 2);
        check(usize::MAX, 3_000, 3);
        check(0, 0, 1);
        check(3, 1, 1);
    });
}

#[test]
fn each_sink_has_its_own_place() {
    each(|path, open| {
        let mut wal = open(path);
        wal.register("a").unwrap();
        wal.register("b").unwrap();
        for tick in 1..=4 {
            append(wal.as_mut(), tick, &payload(tick, 10)).unwrap();
        }
        wal.acknowledge("a", 3).unwrap();
        wal.acknowledge("a", 1).unwrap();
        wal.acknowledge("b", 2).unwrap();
        let mut next = |sink| wal.read(sink, ALL).unwrap().map(|batch| batch.records[0].seq);
        assert_eq!((next("a"), next("b")), (Some(4), Some(3)));
        wal.acknowledge("a", 4).unwrap();
        assert!(wal.read("a", ALL).unwrap().is_none());
        assert_eq!((wal.stats().records, wal.stats().oldest_ms), (2, Some(time_ms(3))));
        wal.flush().unwrap();
        drop(wal);

        let mut wal = open(path);
        assert_eq!((wal.register("a").unwrap(), wal.register("b").unwrap()), (4, 2));
        assert_eq!(wal.register("new").unwrap(), 0);
        assert_eq!(wal.retain_sinks(&["a", "new"]).unwrap(), ["b"]);
        assert!(matches!(wal.read("b", ALL), Err(WalError::UnknownSink(name)) if name == "b"));
        assert!(matches!(wal.acknowledge("b", 1), Err(WalError::UnknownSink(_))));
        wal.flush().unwrap();
        drop(wal);
        assert_eq!(open(path).retain_sinks(&[]).unwrap(), ["a", "new"]);
    });
}

#[test]
fn a_forgotten_sink_holds_nothing() {
    each(|path, open| {
        let mut wal = open(path);
        wal.register("a").unwrap();
        wal.register("gone").unwrap();
        for tick in 1..=3 {
            append(wal.as_mut(), tick, &payload(tick, 10)).unwrap();
        }
        wal.acknowledge("a", 3).unwrap();
        assert_eq!(wal.stats().records, 3);
        wal.retain_sinks(&["a"]).unwrap();
        assert_eq!((wal.stats().records, wal.stats().oldest_ms), (0, None));
    });
}

#[test]
fn schemas_travel_with_their_records() {
    each(|path, open| {
        let (small, large) = (schema("small", 3), schema("large", 2_000));
        assert!(large.payload.len() > 20_000);
        let mut wal = open(path);
        wal.register("hub").unwrap();
        append_with(wal.as_mut(), 1, b"1", std::slice::from_ref(&small)).unwrap();
        append_with(wal.as_mut(), 2, b"2", &[large.clone(), small.clone()]).unwrap();
        let check = |wal: &mut dyn Wal| {
            let batch = wal.read("hub", ALL).unwrap().unwrap();
            assert_eq!(batch.schemas.get(&small.id), Some(&small));
            assert_eq!(batch.schemas.get(&large.id), Some(&large));
        };
        check(wal.as_mut());
        drop(wal);
        check(open(path).as_mut());
    });
}

#[test]
fn what_is_no_record_is_refused_and_takes_no_number() {
    each(|path, open| {
        let mut wal = open(path);
        let mut put = |kind, bytes| {
            let payload = vec![0; bytes];
            wal.append(&NewRecord { kind, time_ms: 0, samples: 0, payload: &payload, schemas: &[] })
        };
        let long = put(Kind::Metrics, RECORD_PAYLOAD_BYTES_MAX + 1);
        assert!(matches!(long, Err(WalError::Record(EnvelopeError::TooLong { .. }))), "{long:?}");
        let part = put(Kind::Part, 1);
        assert!(
            matches!(part, Err(WalError::Record(EnvelopeError::Kind { found: 32 }))),
            "{part:?}"
        );
        assert_eq!(put(Kind::Metrics, 1).unwrap(), 1);
        assert_eq!(put(Kind::Gap, 1).unwrap(), 2);
    });
}

#[test]
fn many_records_roll_over_and_are_given_back() {
    each(|path, open| {
        let mut wal = open(path);
        wal.register("slow").unwrap();
        wal.register("fast").unwrap();
        for tick in 1..=120 {
            append(wal.as_mut(), tick, &payload(tick, 100_000)).unwrap();
            if tick % 7 == 0 {
                drain(wal.as_mut(), "fast", ALL);
            }
        }
        let full = wal.stats();
        assert!(full.generations >= 4, "{full:?}");
        assert_eq!((full.records, full.oldest_ms), (120, Some(time_ms(1))));
        drop(wal);

        let mut wal = open(path);
        let records = drain(wal.as_mut(), "slow", BatchLimits { records: 3, bytes: usize::MAX });
        assert_eq!(records.len(), 120);
        for (seq, found) in payloads(&records) {
            assert!(found == payload(seq, 100_000), "{seq} came back wrong");
        }
        drain(wal.as_mut(), "fast", ALL);
        let drained = wal.stats();
        assert_eq!((drained.records, drained.generations, drained.last_seq), (0, 1, 120));
        assert!(drained.disk_bytes < full.disk_bytes / 2, "{full:?} {drained:?}");
        assert_eq!(drained.blob_bytes, 0);
    });
}

#[test]
fn the_time_of_the_last_record_outlives_it() {
    each(|path, open| {
        let mut wal = open(path);
        wal.register("hub").unwrap();
        assert_eq!(wal.stats().last_ms, None);
        let mut last_seq = 0;
        // Enough to roll, so that the generation is given back whole.
        for tick in 1..=60 {
            last_seq = append(wal.as_mut(), tick, &payload(tick, 50_000)).unwrap();
            wal.acknowledge("hub", last_seq).unwrap();
        }
        assert_eq!(wal.stats().last_ms, Some(time_ms(60)));
        // A clock that was set back is what it is.
        append(wal.as_mut(), 7, &payload(7, 10)).unwrap();
        assert_eq!(wal.stats().last_ms, Some(time_ms(7)));
        wal.acknowledge("hub", last_seq + 1).unwrap();
        wal.flush().unwrap();
        drop(wal);

        let wal = open(path);
        assert_eq!(wal.stats().last_ms, Some(time_ms(7)));
        drop(wal);
        // After a power cut the note beside the log may be missing; what is held knows it too.
        std::fs::remove_file(path.join("last")).unwrap();
        let mut wal = open(path);
        append(wal.as_mut(), 8, &payload(8, 10)).unwrap();
        drop(wal);
        std::fs::remove_file(path.join("last")).unwrap();
        assert_eq!(open(path).stats().last_ms, Some(time_ms(8)));
    });
}
