//! Nothing waits for a best-effort sink; it alone is told what it lost by that.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::path::Path;

use agent_core::{
    BatchLimits,
    sink::Delivery::{BestEffort, Required},
    wal::{MAX_BYTES_MIN, SledWal, Wal, WalOptions},
};
use proptest::prelude::*;
use wal_support::{
    ALL, RECORD_BYTES, Seen, append, check_cover, drain, fast_directory, payload, ranges, seen,
    time_ms,
};
use wire::{Gap, GapReason};

/// More than the log keeps for a best-effort sink of records of that size: a full generation, and what
/// one holds when it is left behind.
const KEPT_MOST: u64 = 2 * OPTIONS.max_bytes / 16 / RECORD_BYTES as u64;
const OPTIONS: WalOptions = WalOptions {
    max_bytes: 2 * MAX_BYTES_MIN,
    max_age: std::time::Duration::from_secs(7 * 24 * 3600),
};

fn open(path: &Path) -> SledWal {
    let mut wal = SledWal::open(path, OPTIONS).unwrap();
    wal.register("keeper").unwrap();
    wal.register_as("lagger", BestEffort).unwrap();
    wal
}

fn fill(wal: &mut SledWal, ticks: std::ops::RangeInclusive<u64>) {
    for tick in ticks {
        append(wal, tick, &payload(tick, RECORD_BYTES)).unwrap();
    }
}

/// Appends, and the required sink takes each record at once.
fn pass(wal: &mut SledWal, ticks: std::ops::RangeInclusive<u64>) {
    for tick in ticks {
        append(wal, tick, &payload(tick, RECORD_BYTES)).unwrap();
        wal.acknowledge("keeper", tick).unwrap();
    }
}

fn gaps(records: &[(u64, Seen)]) -> Vec<&Gap> {
    let gap = |seen: &Seen| matches!(seen, Seen::Gap(_));
    records
        .iter()
        .filter(|(_, seen)| gap(seen))
        .map(|(_, seen)| match seen {
            Seen::Gap(gap) => gap,
            Seen::Payload(_) => unreachable!(),
        })
        .collect()
}

/// The gaps that stand between whole records, which cover all from `first` to `last`.
fn ranges_in(records: &[(u64, Seen)], first: u64, last: u64) -> Vec<(u64, u64)> {
    ranges(&check_cover(records, first, last))
}

#[test]
fn it_loses_what_went_before_it_came_and_is_told_so_in_its_place() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    pass(&mut wal, 1..=300);
    assert_eq!(wal.stats().records, 0, "nothing waits");
    assert!(wal.stats().generations <= 2, "{:?}", wal.stats());
    let records = drain(&mut wal, "lagger", ALL);
    let [(1, last_lost)] = ranges_in(&records, 1, 300)[..] else { panic!("one gap, at first") };
    assert!((300 - KEPT_MOST..300).contains(&last_lost), "{last_lost}");
    let gap = gaps(&records)[0];
    assert_eq!((gap.records, gap.samples), (last_lost, last_lost * 10));
    assert_eq!((gap.from_ms, gap.to_ms), (time_ms(1), time_ms(last_lost)));
    assert!(gap.detail.contains("lagger") && gap.detail.contains("best_effort"), "{}", gap.detail);
    assert_eq!(wal.lost().get("lagger"), Some(&last_lost));
    assert_eq!(wal.lost().get("keeper"), None);
    assert_eq!(wal.stats().dropped_records, 0, "the log dropped nothing");
}

#[test]
fn a_required_sink_never_sees_its_gap() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    for tick in (10..=300).step_by(10) {
        fill(&mut wal, tick - 9..=tick);
        let records = drain(&mut wal, "keeper", ALL);
        assert_eq!(ranges_in(&records, tick - 9, tick), []);
    }
    assert!(wal.lost()["lagger"] > 100);
}

#[test]
fn it_loses_nothing_while_it_keeps_up() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    // Always a few records behind, as a sink is that lets fresh ones lie for a while.
    for tick in (7..=350).step_by(7) {
        pass(&mut wal, tick - 6..=tick);
        while let Some(batch) = wal.read("lagger", ALL).unwrap()
            && batch.records[0].seq < tick - 3
        {
            wal.acknowledge("lagger", batch.records.last().unwrap().seq.min(tick - 3)).unwrap();
        }
    }
    assert!(wal.lost().is_empty(), "{:?}", wal.lost());
    assert_eq!(ranges_in(&drain(&mut wal, "lagger", ALL), 348, 350), []);
}

#[test]
fn what_it_takes_meanwhile_is_not_lost() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    fill(&mut wal, 1..=10);
    assert_eq!(wal.read("lagger", ALL).unwrap().unwrap().records.len(), 10);
    pass(&mut wal, 11..=200);
    wal.acknowledge("lagger", 10).unwrap();
    let [(11, last_lost)] = ranges_in(&drain(&mut wal, "lagger", ALL), 11, 200)[..] else {
        panic!("one gap, after what it took")
    };
    assert!(last_lost > 100);
}

#[test]
fn what_it_was_told_does_not_grow() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    pass(&mut wal, 1..=200);
    let first = seen(&wal.read("lagger", ALL).unwrap().unwrap());
    pass(&mut wal, 201..=400);
    assert_eq!(seen(&wal.read("lagger", ALL).unwrap().unwrap()), first);
    let ranges = ranges_in(&drain(&mut wal, "lagger", ALL), 1, 400);
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert_eq!(ranges[0].1, first[0].0);
}

#[test]
fn a_loss_outlives_the_process_with_and_without_its_file() {
    for has_file in [true, false] {
        let directory = fast_directory();
        let mut wal = open(directory.path());
        pass(&mut wal, 1..=200);
        let lost = wal.lost()["lagger"];
        drop(wal);
        if !has_file {
            std::fs::remove_file(directory.path().join("lost")).unwrap();
        }
        let mut wal = open(directory.path());
        assert_eq!(wal.register_as("lagger", BestEffort).unwrap(), 0);
        let records = drain(&mut wal, "lagger", ALL);
        assert_eq!(ranges_in(&records, 1, 200), [(1, lost)]);
        let gap = gaps(&records)[0];
        let samples = if has_file { lost * 10 } else { 0 };
        assert_eq!((gap.records, gap.samples), (lost, samples));
        assert!(gap.from_ms >= time_ms(1) && gap.to_ms >= gap.from_ms, "{gap:?}");
        wal.flush().unwrap();
        drop(wal);
        let mut wal = open(directory.path());
        assert_eq!(wal.register_as("lagger", BestEffort).unwrap(), 200);
        assert!(wal.read("lagger", ALL).unwrap().is_none());
        assert!(!directory.path().join("lost").exists());
    }
}

#[test]
fn both_lose_at_the_bound_and_each_is_told_its_own() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    fill(&mut wal, 1..=20);
    wal.acknowledge("keeper", 15).unwrap();
    fill(&mut wal, 21..=900);
    let dropped = wal.stats().dropped_records;
    assert!(dropped > 100, "{:?}", wal.stats());
    let keepers = ranges_in(&drain(&mut wal, "keeper", ALL), 16, 900);
    assert_eq!(keepers, [(16, 15 + dropped)]);
    let mut wal = open_again(wal, directory.path());
    let laggers = ranges_in(&drain(&mut wal, "lagger", ALL), 1, 900);
    let end = laggers.last().unwrap().1;
    assert!(end >= 15 + dropped && end <= 900, "{laggers:?}");
}

/// As a power cut may leave it: the gap in the place of what was dropped is durable, the note of what only
/// the one that lags lost by that is not.
#[test]
fn what_a_drop_cost_it_is_told_without_the_note_too() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    fill(&mut wal, 1..=20);
    wal.acknowledge("keeper", 15).unwrap();
    fill(&mut wal, 21..=900);
    drop(wal);
    std::fs::remove_file(directory.path().join("lost")).unwrap();
    let mut wal = open(directory.path());
    // From the place of what was dropped, and then, when that is given back, from what is noted of it.
    let first = wal.read("lagger", ALL).unwrap().unwrap();
    let [(last_seq, Seen::Gap(gap))] = &seen(&first)[..] else { panic!("no gap at first") };
    assert_eq!((gap.first_seq, gap.last_seq, gap.records), (1, *last_seq, *last_seq));
    assert_eq!(ranges_in(&drain(&mut wal, "keeper", ALL), 16, 900)[0].0, 16);
    assert_eq!(ranges_in(&drain(&mut wal, "lagger", ALL), 1, 900)[0].0, 1);
}

fn open_again(wal: SledWal, path: &Path) -> SledWal {
    drop(wal);
    open(path)
}

#[test]
fn a_sink_changes_between_required_and_best_effort() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register_as("lagger", Required).unwrap();
    pass(&mut wal, 1..=150);
    assert_eq!(wal.stats().records, 150, "all waits for it");
    assert_eq!(wal.register_as("lagger", BestEffort).unwrap(), 0);
    assert_eq!(wal.stats().records, 0, "nothing does any more");
    let lost = wal.lost()["lagger"];
    // What it lost before stays lost, what comes now waits for it.
    assert_eq!(wal.register_as("lagger", Required).unwrap(), 0);
    pass(&mut wal, 151..=200);
    let mut wal = open_again_as(wal, directory.path());
    assert_eq!(ranges_in(&drain(&mut wal, "lagger", ALL), 1, 200), [(1, lost)]);
    assert_eq!(ranges_in(&drain(&mut wal, "keeper", ALL), 201, 200), []);
}

fn open_again_as(mut wal: SledWal, path: &Path) -> SledWal {
    wal.flush().unwrap();
    drop(wal);
    let mut wal = SledWal::open(path, OPTIONS).unwrap();
    wal.register("lagger").unwrap();
    wal.register("keeper").unwrap();
    wal
}

#[test]
fn a_sink_that_goes_takes_its_losses_along() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    pass(&mut wal, 1..=200);
    assert_eq!(wal.retain_sinks(&["keeper"]).unwrap(), ["lagger"]);
    assert!(wal.lost().is_empty() && !directory.path().join("lost").exists());
    // Under the same name again it is new: it begins with the oldest that is held.
    let begins_after = wal.register_as("lagger", BestEffort).unwrap();
    assert_eq!(ranges_in(&drain(&mut wal, "lagger", ALL), begins_after + 1, 200), []);
}

#[test]
fn damage_costs_it_what_was_hit_and_no_more() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    fill(&mut wal, 1..=80);
    wal.acknowledge("keeper", 5).unwrap();
    drop(wal);
    // In the middle of the first generation, of which the required sink has taken some.
    let first = directory.path().join("00000000000000000001.pack");
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xaa);
    std::fs::write(&first, bytes).unwrap();
    let mut wal = open(directory.path());
    let records = drain(&mut wal, "lagger", ALL);
    let lost: u64 = gaps(&records).iter().map(|gap| gap.records).sum();
    assert!((1..=8).contains(&lost), "{lost} lost, a frame holds fewer");
    assert_eq!((records[0].0, records.last().unwrap().0), (1, 80), "from its own cursor on");
}

#[derive(Clone, Debug)]
enum Operation {
    Append { records: u64 },
    Keep { records: u64 },
    Lag { records: usize, take: u64 },
    Flush,
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1_u64..30).prop_map(|records| Operation::Append { records }),
        6 => (1_u64..60).prop_map(|records| Operation::Keep { records }),
        3 => (1_usize..40, 0_u64..40).prop_map(|(records, take)| Operation::Lag { records, take }),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    last_seq: u64,
    kept_to: u64,
    /// Cursor of the best-effort sink, and the furthest it has ever been.
    lagger: u64,
    furthest: u64,
}

/// Whatever happens, what the best-effort sink reads covers every number once, and only what the other
/// sink had is a gap.
fn check_read(model: &Model, records: &[(u64, Seen)]) {
    let (mut next, mut is_first) = (model.lagger + 1, true);
    for (seq, seen) in records {
        let begins = match seen {
            Seen::Payload(found) => {
                assert!(*found == payload(*seq, RECORD_BYTES), "{seq} came back wrong");
                *seq
            }
            Seen::Gap(gap) => {
                assert_eq!((gap.last_seq, gap.reason), (*seq, GapReason::LogOverflow));
                assert!(*seq <= model.kept_to.max(model.furthest), "{gap:?}");
                gap.first_seq
            }
        };
        // After a crash its cursor may be behind: what it had taken may be gone, and need not be told.
        let known = is_first && (next..=model.furthest + 1).contains(&begins);
        assert!(begins == next || known, "{begins} instead of {next}");
        (next, is_first) = (seq + 1, false);
    }
}

fn run(operations: &[Operation]) {
    let directory = fast_directory();
    let (mut wal, mut model) = (open(directory.path()), Model::default());
    for operation in operations {
        match *operation {
            Operation::Append { records } => {
                fill(&mut wal, model.last_seq + 1..=model.last_seq + records);
                model.last_seq += records;
            }
            Operation::Keep { records } => {
                let batch = wal.read("keeper", ALL).unwrap();
                let found: Vec<(u64, Seen)> = batch.iter().flat_map(seen).collect();
                assert!(gaps(&found).is_empty(), "a required sink saw a gap");
                let to = (model.kept_to + records).min(model.last_seq);
                wal.acknowledge("keeper", to).unwrap();
                model.kept_to = to;
            }
            Operation::Lag { records, take } => {
                let batch = wal.read("lagger", BatchLimits { records, ..ALL }).unwrap();
                let found: Vec<(u64, Seen)> = batch.iter().flat_map(seen).collect();
                check_read(&model, &found);
                let took = found.iter().map(|(seq, _)| *seq).take(take as usize).next_back();
                if let Some(seq) = took {
                    wal.acknowledge("lagger", seq).unwrap();
                    model.lagger = seq;
                    model.furthest = model.furthest.max(seq);
                }
            }
            Operation::Flush => wal.flush().unwrap(),
            Operation::Reopen => {
                wal = open_again(wal, directory.path());
                model.kept_to = wal.register("keeper").unwrap();
                model.lagger = wal.register_as("lagger", BestEffort).unwrap();
                assert!(model.lagger <= model.furthest);
            }
        }
    }
    let rest = drain(&mut wal, "lagger", ALL);
    model.kept_to = model.last_seq;
    check_read(&model, &rest);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_knows_what_it_lost(operations in proptest::collection::vec(operation(), 1..60)) {
        run(&operations);
    }
}
