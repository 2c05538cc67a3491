//! Where one stream ends and another begins, and why.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{fs, path::Path};

use agent_core::wal::{SledWal, Wal};
use wal_support::{ALL, Seen, append, copy, drain, fast_directory, open, payload, seen};
use wire::GapReason;

fn fill(wal: &mut SledWal, ticks: std::ops::RangeInclusive<u64>) {
    for tick in ticks {
        append(wal, tick, &payload(tick, 100)).unwrap();
    }
}

fn is_damage(seen: &Seen) -> bool {
    matches!(seen, Seen::Gap(gap) if gap.reason == GapReason::LogDamaged)
}

/// Cuts the end off the newest generation of a closed log.
fn truncate(log: &Path) {
    let entries = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let newest = entries.filter(|path| path.extension().is_some_and(|e| e == "gen")).max().unwrap();
    let data = fs::OpenOptions::new().write(true).open(newest.join("db")).unwrap();
    data.set_len(data.metadata().unwrap().len() / 2).unwrap();
}

#[test]
fn what_a_sink_holds_of_one_stream_says_nothing_of_the_next() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=30);
    // After a power cut this file may be behind.
    let witness = directory.path().join("last");
    let behind = fs::read(&witness).unwrap();
    fill(&mut wal, 31..=40);
    let old = wal.stream_id();
    drop(wal);
    truncate(directory.path());
    fs::write(witness, behind).unwrap();

    let mut wal = open(directory.path());
    let new = wal.stream_id();
    assert_ne!(new, old);
    fill(&mut wal, 50..=59);
    let first = wal.read("hub", ALL).unwrap().unwrap();
    assert_eq!(first.stream_id, old);
    let last = first.records.last().unwrap().seq;
    assert_eq!(last, 30, "nothing here knows of more");
    // The far side had it all.
    wal.acknowledge("hub", 40).unwrap();
    let second = wal.read("hub", ALL).unwrap().unwrap();
    assert_eq!((second.stream_id, second.records[0].seq), (new, last + 1));
    let records = drain(&mut wal, "hub", ALL);
    assert!(is_damage(&records[0].1), "{:?}", records[0]);
    assert_eq!(records.len(), 11);
    assert_eq!(wal.stream_id(), new, "one new stream is enough");
}

#[test]
fn a_log_that_was_set_back_begins_a_stream() {
    let directory = fast_directory();
    let (log, snapshot) = (directory.path().join("log"), directory.path().join("snapshot"));
    let mut wal = open(&log);
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=10);
    let old = wal.stream_id();
    drop(wal);
    copy(&log, &snapshot);

    let mut wal = open(&snapshot);
    fill(&mut wal, 11..=13);
    let batch = wal.read("hub", ALL).unwrap().unwrap();
    assert_eq!((batch.stream_id, batch.records.len()), (old, 13));
    // It had been at 20 before it was set back.
    wal.acknowledge("hub", 20).unwrap();
    fill(&mut wal, 14..=15);
    assert_ne!(wal.stream_id(), old);
    let batch = wal.read("hub", ALL).unwrap().unwrap();
    assert_eq!(batch.stream_id, wal.stream_id());
    let records = seen(&batch);
    assert!(records.len() == 3 && is_damage(&records[0].1), "{records:?}");
    let Seen::Gap(gap) = &records[0].1 else { panic!("{records:?}") };
    assert!(gap.detail.contains("hub holds up to 20, the log ends with 13"), "{gap:?}");
    let (stream, last_seq) = (wal.stream_id(), wal.stats().last_seq);
    assert_eq!(drain(&mut wal, "hub", ALL).len(), 3);
    wal.flush().unwrap();
    drop(wal);
    let wal = open(&snapshot);
    assert_eq!((wal.stream_id(), wal.stats().last_seq), (stream, last_seq));
}
