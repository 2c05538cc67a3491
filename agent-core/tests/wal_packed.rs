//! Packed generations: damage costs the frames it hit, a crash while packing costs nothing, and nothing
//! but the newest generation is ever opened as a database.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use agent_core::wal::Wal;
use wal_support::{
    Random, append_with, copy,
    damaged::{Damaged, Layout, Outcome, RECORDS, check, open, paths_in, tick},
    fast_directory,
};

/// Records in one frame at most, see `wal/limits.rs`.
const FRAME_RECORDS: u64 = 32;

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn packed_in(log: &Path) -> Vec<PathBuf> {
    paths_in(log).into_iter().filter(|path| is(path, "pack")).collect()
}

/// Damages one packed generation; returns what came of it.
fn hit(index: usize, what: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let damaged = Damaged::copy(Layout::Packed);
    let file = &packed_in(damaged.path())[index];
    let mut bytes = fs::read(file).unwrap();
    damage(&mut bytes);
    fs::write(file, &bytes).unwrap();
    let what = format!("{what} in {}", file.display());
    let outcome = check(&damaged, &what);
    assert!(!outcome.is_new_stream, "{what}: the end was not hit");
    let original = damaged
        .path()
        .join("quarantine")
        .join(format!("{}-1.pack", file.file_stem().unwrap().to_str().unwrap()));
    assert!(fs::read(original).unwrap() == bytes, "{what}: the original is kept");
    outcome
}

#[test]
fn a_flipped_bit_costs_one_frame() {
    let mut random = Random(0xf11b);
    let mut untouched = 0;
    for case in 0..60 {
        let index = random.below(2) as usize;
        let outcome = hit(index, &format!("case {case}"), |bytes| {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        });
        assert!(outcome.lost <= FRAME_RECORDS, "case {case}: {}", outcome.lost);
        untouched += u64::from(outcome.lost == 0);
    }
    assert!(untouched < 20, "{untouched} of 60 hit no record");
}

#[test]
fn a_damaged_head_costs_nothing() {
    for (at, what) in [(0, "magic"), (4, "what"), (9, "length"), (20, "stream"), (60, "counts")] {
        let outcome = hit(0, what, |bytes| bytes[at] ^= 0x11);
        assert_eq!(outcome.lost, 0, "{what}");
    }
}

#[test]
fn lost_schemas_are_found_again() {
    // The first frame after the head, and the last of the file, hold the same.
    assert_eq!(hit(0, "first schemas", |bytes| bytes[300] ^= 1).lost, 0);
    assert_eq!(hit(1, "last schemas", |bytes| *bytes.last_mut().unwrap() ^= 1).lost, 0);
}

#[test]
fn what_is_cut_off_zeroed_or_foreign_costs_no_more() {
    let mut random = Random(0xc07);
    for case in 0..12 {
        hit(case % 2, &format!("cut {case}"), |bytes| {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        });
        hit(case % 2, &format!("zero-filled tail {case}"), |bytes| {
            let from = random.below(bytes.len() as u64) as usize;
            bytes[from..].fill(0);
        });
        let outcome = hit(case % 2, &format!("zeroed block {case}"), |bytes| {
            let at = random.below(bytes.len() as u64 / 4_096) as usize * 4_096;
            bytes[at..at + 4_096].fill(0);
        });
        assert!(outcome.lost <= 3 * FRAME_RECORDS, "zeroed block {case}: {}", outcome.lost);
    }
    assert!(hit(0, "empty", Vec::clear).lost > 100);
    assert!(hit(0, "foreign", |bytes| bytes.fill(0x5a)).lost > 100);
    assert_eq!(hit(0, "longer", |bytes| bytes.extend_from_slice(b"HFP1 and more")).lost, 0);
}

#[test]
fn files_gone() {
    let damaged = Damaged::copy(Layout::Packed);
    fs::remove_file(&packed_in(damaged.path())[1]).unwrap();
    let outcome = check(&damaged, "packed one gone");
    assert!(outcome.lost > 100 && !outcome.is_new_stream, "{outcome:?}");

    let damaged = Damaged::copy(Layout::Packed);
    fs::remove_dir_all(damaged.generations().pop().unwrap()).unwrap();
    let outcome = check(&damaged, "newest gone");
    assert!(outcome.lost > 10 && outcome.is_new_stream, "{outcome:?}");
}

/// A log whose sealed generations lie in databases, and the same generations as packed files.
fn both_forms() -> (Damaged, Vec<(PathBuf, Vec<u8>)>) {
    let aside = Damaged::copy(Layout::Databases);
    let mut wal = open(aside.path());
    for seq in RECORDS + 1..RECORDS + 5 {
        append_with(&mut wal, seq, tick(1), &[]).unwrap();
    }
    drop(wal);
    let original = Damaged::copy(Layout::Databases);
    let moved = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (original.path().join(path.file_name().unwrap()), bytes)
    };
    let packed: Vec<_> = packed_in(aside.path()).into_iter().map(moved).collect();
    assert!(packed.len() >= 2, "older logs are packed too: {packed:?}");
    (original, packed)
}

#[test]
fn a_crash_while_packing_costs_nothing() {
    let state = |what: &str, left: &dyn Fn(&Path, &[u8])| {
        let (log, packed) = both_forms();
        packed.iter().for_each(|(place, bytes)| left(place, bytes));
        let outcome = check(&log, what);
        assert!(outcome.lost == 0 && !outcome.is_new_stream, "{what}: {outcome:?}");
        assert!(!log.path().join("quarantine").exists(), "{what}: taken for damage");
        let odd = |path: &PathBuf| {
            is(path, "new")
                || is(path, "del")
                || (is(path, "gen") && path.with_extension("pack").exists())
        };
        assert!(!paths_in(log.path()).iter().any(odd), "{what}: {:?}", paths_in(log.path()));
    };
    let database = |place: &Path| place.with_extension("gen");
    let aside = |place: &Path| place.with_extension("new");
    state("nothing written", &|place, _| fs::write(aside(place), b"").unwrap());
    state("a part written", &|place, bytes| {
        fs::write(aside(place), &bytes[..bytes.len() / 2]).unwrap();
    });
    state("length written, content not", &|place, bytes| {
        fs::write(aside(place), vec![0; bytes.len()]).unwrap();
    });
    state("written", &|place, bytes| fs::write(aside(place), bytes).unwrap());
    state("renamed", &|place, bytes| fs::write(place, bytes).unwrap());
    // A disk that lied about the sync.
    state("renamed, but not whole", &|place, bytes| {
        let mut bytes = bytes.to_vec();
        let from = bytes.len() - 5_000;
        bytes[from..].fill(0);
        fs::write(place, bytes).unwrap();
    });
    state("the database half removed", &|place, bytes| {
        fs::write(place, bytes).unwrap();
        fs::remove_file(database(place).join("db")).unwrap();
    });
    state("the database being removed", &|place, bytes| {
        fs::write(place, bytes).unwrap();
        fs::rename(database(place), place.with_extension("del")).unwrap();
    });
    state("done", &|place, bytes| {
        fs::write(place, bytes).unwrap();
        fs::remove_dir_all(database(place)).unwrap();
    });
    // A crash of a repair: the original is in quarantine, what was saved has no name yet.
    state("saved", &|place, bytes| {
        fs::write(aside(place), bytes).unwrap();
        fs::remove_dir_all(database(place)).unwrap();
    });
}

#[test]
fn opening_a_log_opens_no_sealed_database() {
    let damaged = Damaged::copy(Layout::Databases);
    let aside = fast_directory();
    let before = aside.path().join("before");
    copy(damaged.path(), &before);
    let mut wal = open(damaged.path());
    let sealed = wal.stats().generations - 1;
    assert_eq!(wal.register("hub").unwrap(), 10);
    let generations = damaged.generations();
    for generation in &generations[..sealed as usize] {
        for file in paths_in(generation) {
            let old = before.join(file.strip_prefix(damaged.path()).unwrap());
            if file.is_file() {
                assert!(fs::read(&file).unwrap() == fs::read(old).unwrap(), "{}", file.display());
            }
        }
    }
}

#[test]
fn cursors_outlive_the_newest_generation() {
    let check = |what: &str, layout: Layout, prepare: &dyn Fn(&Path)| {
        let damaged = Damaged::copy(layout);
        prepare(damaged.path());
        let newest = damaged.generations().pop().unwrap();
        fs::write(newest.join("db"), b"").unwrap();
        let mut wal = open(damaged.path());
        assert_eq!(
            (wal.register("hub").unwrap(), wal.register("slow").unwrap()),
            (10, 0),
            "{what}"
        );
        assert_eq!(
            wal.read("hub", wal_support::ALL).unwrap().unwrap().records[0].seq,
            11,
            "{what}"
        );
    };
    let without_witness = |log: &Path| fs::remove_file(log.join("last")).unwrap();
    check("witness", Layout::Packed, &|_| {});
    check("head", Layout::Packed, &without_witness);
    check("witness, not packed", Layout::Databases, &|_| {});
    check("sealed database", Layout::Databases, &without_witness);
}
