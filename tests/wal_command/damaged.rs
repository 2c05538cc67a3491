//! Damaged logs: what is found, exported around and repaired.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::log::{Log, RECORDS, damage, flip_last, numbers, waiting};

/// Verifies, exports and repairs a damaged log; returns how many records are lost.
fn check_damage(log: &Log, what: &str) -> u64 {
    let summary = serde_json::from_str(&log.look(&["inspect", "--format", "json"]).out).unwrap();
    // With the newest generation its cursors may be gone: an older one's count then.
    let (acked_seq, _) = waiting(&summary, "hub");
    let is_wanted = |seq: &u64| *seq > acked_seq;
    let verdict = log.look(&["verify"]);
    assert_eq!((verdict.code, verdict.err.as_str()), (1, ""), "{what}");
    let dry = log.look(&["repair", "--dry-run"]);
    assert_eq!((dry.code, &dry.out), (1, &verdict.out), "{what}");
    let exported = log.look(&["export"]);
    assert_eq!(exported.code, 1, "{what}");
    assert!(exported.err.starts_with("damage: "), "{what}: {}", exported.err);
    let (seqs, lost) = numbers(&exported.out);
    let all: Vec<u64> = seqs.iter().chain(&lost).copied().collect();
    let covered = all.iter().collect::<BTreeSet<_>>().len() as u64;
    assert_eq!(
        (all.len() as u64, covered),
        (RECORDS, RECORDS),
        "{what}: a record is neither here nor lost"
    );

    let wanted = lost.iter().filter(|seq| is_wanted(seq)).count() as u64;
    let said = format!("damaged: {wanted} record");
    assert!(verdict.out.contains(&said), "{what}: no {said:?} in\n{}", verdict.out);

    let repaired = log.run(&["repair"]);
    assert_eq!((repaired.code, repaired.err.as_str()), (0, ""), "{what}: {}", repaired.out);
    assert!(repaired.out.contains("\nsound: repaired, "), "{what}: {}", repaired.out);
    let again = log.look(&["verify"]);
    assert!(again.code == 0 && again.out.ends_with("\nsound\n"), "{what}: {}", again.out);
    let after = log.look(&["export", "--sink", "hub"]);
    assert_eq!(after.code, 0, "{what}: {}", after.err);
    let (kept, told) = numbers(&after.out);
    let kept: Vec<u64> = kept.into_iter().filter(|seq| *seq <= RECORDS).collect();
    assert_eq!(kept, seqs.into_iter().filter(is_wanted).collect::<Vec<_>>(), "{what}: kept");
    assert_eq!(told, lost.into_iter().filter(is_wanted).collect::<Vec<_>>(), "{what}: told");
    wanted
}

#[test]
fn damage_is_found_exported_around_and_repaired_as_said() {
    type Hit = fn(&mut Vec<u8>);
    let flip: Hit = |bytes| bytes[5_000] ^= 1;
    let flip_last: Hit = |bytes| flip_last(bytes);
    let cut: Hit = |bytes| bytes.truncate(bytes.len() / 2);
    let mut lost = 0;
    for (what, hit, is_newest) in [
        ("a bit flipped in an old one", flip, false),
        ("a bit flipped in the newest", flip_last, true),
        ("an old one cut short", cut, false),
        ("the newest cut short", cut, true),
        ("an old one emptied", Vec::clear, false),
    ] {
        let log = Log::copy();
        let generations = log.generations();
        damage(&generations[if is_newest { generations.len() - 1 } else { 1 }], hit);
        lost += check_damage(&log, what);
    }
    assert!(lost > 100, "{lost}: nothing was lost, so nothing was proven");
}

#[test]
fn files_that_are_gone_or_unreadable_are_named() {
    let check = |hit: &dyn Fn(&Log), place: &str, what: &str, lost: u64| {
        let log = Log::copy();
        hit(&log);
        let said = log.look(&["verify"]);
        assert_eq!(said.code, 1, "{said:?}");
        let line = said.out.lines().find(|line| line.starts_with("damage: ")).unwrap();
        assert!(line.contains(place) && line.contains(what), "{line}");
        assert!(said.out.contains(&format!("damaged: {lost} record")), "{}", said.out);
        assert_eq!(log.run(&["repair"]).code, 0);
        assert_eq!(log.look(&["verify"]).code, 0);
    };
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let newest = |log: &Log| log.generations().pop().unwrap();
    check(&|log| fs::remove_file(newest(log).join("head")).unwrap(), "/head", "is gone", 0);
    check(&|log| flip(newest(log).join("head")), "/head", "is unreadable", 0);
}

#[test]
fn a_generation_gone_behind_a_gap_is_told() {
    let log = Log::copy();
    let generations = log.generations();
    let name =
        |path: &Path| -> u64 { path.file_stem().unwrap().to_str().unwrap().parse().unwrap() };
    let (first, second, third) = (&generations[0], &generations[1], &generations[2]);
    // What is left of the first is a gap; the second is taken away.
    damage(first, Vec::clear);
    assert_eq!(log.run(&["repair"]).code, 0);
    assert!(log.generations()[0].extension().unwrap() == "gap", "{:?}", log.generations());
    fs::remove_dir_all(second).or_else(|_| fs::remove_file(second)).unwrap();
    let gone = name(third) - name(second);
    let (from, to) = (name(second), name(third) - 1);

    let said = log.look(&["verify"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.contains(&format!("records {from} to {to} before it are gone")),
        "{}",
        said.out
    );
    let exported = log.look(&["export"]);
    assert_eq!(exported.code, 1);
    assert!(exported.err.contains(&format!("records {from} to {to} are gone")), "{}", exported.err);
    let repaired = log.run(&["repair"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    assert!(
        repaired.out.contains(&format!("sound: repaired, {gone} records lost")),
        "{}",
        repaired.out
    );
    let (_, lost) = numbers(&log.look(&["export"]).out);
    assert!((from..=to).all(|seq| lost.contains(&seq)), "{lost:?}");
}
