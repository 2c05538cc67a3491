//! The log keeps within its bounds, and says what that cost.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{path::Path, time::Duration};

use agent_core::{
    BatchLimits,
    wal::{MAX_BYTES_MIN, SledWal, Wal, WalOptions},
};
use wal_support::{
    ALL, RECORD_BYTES, Seen, append, check_cover, copy, drain, fast_directory, payload, seen,
    time_ms,
};
use wire::{Gap, GapReason};

const SMALL: WalOptions =
    WalOptions { max_bytes: MAX_BYTES_MIN, max_age: Duration::from_secs(7 * 24 * 3600) };

fn open(path: &Path) -> SledWal {
    SledWal::open(path, SMALL).unwrap()
}

fn fill(wal: &mut SledWal, ticks: std::ops::RangeInclusive<u64>) {
    for tick in ticks {
        append(wal, tick, &payload(tick, RECORD_BYTES)).unwrap();
        let on_disk = wal.stats().disk_bytes;
        assert!(on_disk <= MAX_BYTES_MIN, "{on_disk} bytes at tick {tick}");
    }
}

fn gap(seen: &Seen) -> &Gap {
    match seen {
        Seen::Gap(gap) => gap,
        Seen::Payload(_) => panic!("a record where a gap was to be"),
    }
}

/// Records lost, by gap, where records and gaps cover all from `first` to `last` and gaps say what is known
/// of each record.
fn lost_in(records: &[(u64, Seen)], first: u64, last: u64) -> Vec<u64> {
    let gaps = check_cover(records, first, last);
    for gap in &gaps {
        assert_eq!(gap.samples, gap.records * 10);
        let times = (time_ms(gap.first_seq), time_ms(gap.last_seq));
        assert_eq!((gap.from_ms, gap.to_ms), times);
    }
    gaps.iter().map(|gap| gap.records).collect()
}

#[test]
fn the_oldest_goes_and_one_gap_stands_where_it_lay() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=600);
    let stats = wal.stats();
    assert!(stats.dropped_records > 300, "{stats:?}");
    assert_eq!(stats.dropped_samples, stats.dropped_records * 10);
    assert_eq!(stats.records, 600 - stats.dropped_records + 1);
    assert_eq!(stats.oldest_ms, Some(time_ms(1)), "the gap begins there");
    let lost = lost_in(&drain(&mut wal, "hub", ALL), 1, 600);
    assert_eq!(lost, [stats.dropped_records], "one gap for one outage");
    assert!(wal.stats().records == 0 && wal.read("hub", ALL).unwrap().is_none());
    assert!(std::fs::read_dir(directory.path()).unwrap().all(|entry| {
        entry.unwrap().path().extension().is_none_or(|extension| extension != "gap")
    }));
}

#[test]
fn a_gap_survives_a_restart() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=400);
    let dropped = wal.stats().dropped_records;
    drop(wal);
    let mut wal = open(directory.path());
    let lost = lost_in(&drain(&mut wal, "hub", ALL), 1, 400);
    assert_eq!(lost, [dropped]);
}

#[test]
fn a_gap_that_was_given_does_not_grow() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=400);
    let first = seen(&wal.read("hub", ALL).unwrap().unwrap());
    let told = gap(&first[0].1).clone();
    fill(&mut wal, 401..=600);
    let again = seen(&wal.read("hub", ALL).unwrap().unwrap());
    assert_eq!(gap(&again[0].1), &told, "what was sent may have arrived");
    let lost = lost_in(&drain(&mut wal, "hub", ALL), 1, 600);
    assert_eq!(lost.len(), 2);
    assert_eq!(lost[0], told.records);
}

#[test]
fn what_was_acknowledged_is_not_lost() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=10);
    wal.acknowledge("hub", 7).unwrap();
    fill(&mut wal, 11..=400);
    let records = drain(&mut wal, "hub", ALL);
    let gap = gap(&records[0].1);
    assert_eq!((gap.first_seq, gap.records), (8, gap.last_seq - 7));
    assert_eq!(gap.samples, gap.records * 10);
    assert_eq!(gap.from_ms, time_ms(8));
    assert_eq!(wal.stats().dropped_records, gap.records);
}

#[test]
fn a_sink_that_keeps_up_sees_no_gap() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("fast").unwrap();
    wal.register("away").unwrap();
    let mut taken = Vec::new();
    for start in (0..600).step_by(5) {
        fill(&mut wal, start + 1..=start + 5);
        taken.extend(drain(&mut wal, "fast", ALL));
    }
    assert_eq!(lost_in(&taken, 1, 600), [0; 0]);
    let away = drain(&mut wal, "away", ALL);
    assert_eq!(lost_in(&away, 1, 600).len(), 1, "it was away for all of it");
}

#[test]
fn records_grow_too_old() {
    let directory = fast_directory();
    let options = WalOptions { max_age: Duration::from_secs(1_000), ..SMALL };
    let mut wal = SledWal::open(directory.path(), options).unwrap();
    wal.register("hub").unwrap();
    for tick in 1..=300 {
        append(&mut wal, tick, &payload(tick, RECORD_BYTES)).unwrap();
    }
    let oldest_ms = drain(&mut wal, "hub", ALL)
        .iter()
        .find_map(|(seq, seen)| matches!(seen, Seen::Payload(_)).then(|| time_ms(*seq)));
    let age_s = (time_ms(300) - oldest_ms.unwrap()) / 1_000;
    assert!((800..=1_250).contains(&age_s), "{age_s} s");
}

#[test]
fn a_clock_set_wrong_costs_nothing() {
    // For less than a generation; for several; for ever.
    for wrong in [40..45, 40..80, 40..101] {
        let directory = fast_directory();
        let mut wal = open(directory.path());
        wal.register("hub").unwrap();
        let years = 1_000_000_000;
        for seq in 1..=100 {
            let tick = if wrong.contains(&seq) { years + seq } else { seq };
            append(&mut wal, tick, &payload(seq, RECORD_BYTES)).unwrap();
        }
        assert_eq!(wal.stats().dropped_records, 0, "{wrong:?}");
        assert_eq!(drain(&mut wal, "hub", ALL).len(), 100, "{wrong:?}");
    }
}

#[test]
fn a_crash_while_dropping_leaves_no_record_twice() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=20);
    let database = directory.path().join(format!("{:020}.gen", 1));
    let kept = directory.path().join("kept");
    copy(&database, &kept);
    fill(&mut wal, 21..=90);
    let packed = directory.path().join(format!("{:020}.pack", 1));
    let kept_packed = std::fs::read(&packed).unwrap();
    fill(&mut wal, 91..=400);
    drop(wal);
    // As if the gap had been written and the generation not yet been removed.
    assert!(!packed.exists() && !database.exists());
    let aside = fast_directory();
    let again = aside.path().join("log");
    copy(directory.path(), &again);
    std::fs::write(&packed, kept_packed).unwrap();
    let mut wal = open(directory.path());
    lost_in(&drain(&mut wal, "hub", ALL), 1, 400);
    drop(wal);
    copy(&kept, &again.join(database.file_name().unwrap()));
    let mut wal = open(&again);
    lost_in(&drain(&mut wal, "hub", ALL), 1, 400);
}

#[test]
fn a_damaged_gap_still_covers_what_it_stood_for() {
    let directory = fast_directory();
    let mut wal = open(directory.path());
    wal.register("hub").unwrap();
    fill(&mut wal, 1..=3);
    wal.acknowledge("hub", 3).unwrap();
    fill(&mut wal, 4..=400);
    let stream = wal.stream_id();
    drop(wal);
    let names = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let gaps = names.filter(|path| path.extension().is_some_and(|extension| extension == "gap"));
    let [gap] = &gaps.collect::<Vec<_>>()[..] else { panic!("one gap for one outage") };
    let mut bytes = std::fs::read(gap).unwrap();
    bytes[40] ^= 1;
    std::fs::write(gap, bytes).unwrap();
    for opened in 0..2 {
        let mut wal = open(directory.path());
        wal.register("hub").unwrap();
        let all = BatchLimits { records: usize::MAX, bytes: usize::MAX };
        let first = wal.read("hub", all).unwrap().unwrap();
        assert_eq!(first.stream_id, stream, "opened {opened}");
        let [(seq, Seen::Gap(gap))] = &seen(&first)[..] else { panic!("the gap comes first") };
        assert_eq!(gap.reason, GapReason::LogDamaged);
        assert_eq!((gap.first_seq, gap.last_seq, gap.records), (4, *seq, seq - 3));
        if opened == 1 {
            wal.acknowledge("hub", *seq).unwrap();
            assert!(check_cover(&drain(&mut wal, "hub", ALL), seq + 1, 400).is_empty());
        }
    }
}
