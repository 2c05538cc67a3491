//! Damage to databases costs what it hit: a log always opens, gives what is readable in order, and says
//! what isn't. (Packed generations: `wal_packed`.)

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{fs, path::PathBuf};

use agent_core::wal::Wal;
use wal_support::{
    ALL, Random, Seen,
    damaged::{Damaged, Layout, check, open},
    drain,
};
use wire::GapReason;

/// Damages one data file in `cases` ways; returns records lost in the worst case and in all.
fn damage_data(newest: bool, cases: u64, hit: fn(&mut Vec<u8>, &mut Random)) -> (u64, u64) {
    let mut random = Random(0x5eed + u64::from(newest));
    let (mut worst, mut all) = (0, 0);
    for case in 0..cases {
        let damaged = Damaged::copy(Layout::Databases);
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
        let damaged = Damaged::copy(Layout::Databases);
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
        let damaged = Damaged::copy(Layout::Databases);
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
    let damaged = Damaged::copy(Layout::Databases);
    damaged.generations().iter().for_each(|path| fs::remove_dir_all(path).unwrap());
    let mut wal = open(damaged.path());
    wal.register("hub").unwrap();
    let records = drain(&mut wal, "hub", ALL);
    let [(1, Seen::Gap(gap))] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((gap.reason, gap.records), (GapReason::LogDamaged, 0));
}

#[test]
fn a_snapshot_cut_short_is_no_damage() {
    let damaged = Damaged::copy(Layout::Databases);
    for generation in damaged.generations() {
        fs::write(generation.join("snap.0000000000001234.generating"), b"").unwrap();
    }
    let outcome = check(&damaged, "snapshot");
    assert!(outcome.lost == 0 && !outcome.is_new_stream, "{outcome:?}");
}

#[test]
fn a_sound_log_is_not_repaired() {
    let damaged = Damaged::copy(Layout::Databases);
    let outcome = check(&damaged, "sound");
    assert!(outcome.lost == 0 && !outcome.is_new_stream, "{outcome:?}");
    assert!(!damaged.path().join("quarantine").exists());
}
