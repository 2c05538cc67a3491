//! Files as a crash leaves them.

use std::fs;

use super::{super::FileConfig, lines, seqs};
use crate::fixture;

/// Writes five records, lets `damage` have the file, and hands the last four over again, as a log
/// does whose cursor stands at the first.
fn check(damage: impl Fn(&mut Vec<u8>)) {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    lines(config.clone()).append(&fixture::ticks(1..=5)).unwrap();
    let whole = fs::read(&config.path).unwrap();
    let mut damaged = whole.clone();
    damage(&mut damaged);
    fs::write(&config.path, &damaged).unwrap();
    assert_eq!(lines(config.clone()).append(&fixture::ticks(1..=5)).unwrap(), 5);
    assert_eq!(fs::read(&config.path).unwrap(), whole);
}

#[test]
fn cut_at_every_byte() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    lines(config.clone()).append(&fixture::ticks(1..=3)).unwrap();
    let whole = fs::read(&config.path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&config.path, &whole[..cut]).unwrap();
        assert_eq!(lines(config.clone()).append(&fixture::ticks(1..=3)).unwrap(), 3);
        assert_eq!(fs::read(&config.path).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn an_end_that_never_reached_the_disk() {
    check(|bytes| bytes.extend_from_slice(&[0; 4096]));
    check(|bytes| bytes.fill(0));
    check(|bytes| {
        let from = bytes.len() - 100;
        bytes[from..].fill(0);
    });
    check(|bytes| bytes.extend_from_slice(b"{\"stream_id\":\"02"));
}

#[test]
fn a_hole_is_filled_again_and_what_lay_behind_it_is_kept_aside() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    lines(config.clone()).append(&fixture::ticks(1..=5)).unwrap();
    let whole = fs::read(&config.path).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut damaged = whole.clone();
    damaged[second + 20..second + 60].fill(0);
    fs::write(&config.path, &damaged).unwrap();
    assert_eq!(lines(config.clone()).append(&fixture::ticks(1..=5)).unwrap(), 5);
    assert_eq!(fs::read(&config.path).unwrap(), whole);
    let aside = directory.path().join("m-19700101T000001.000Z.jsonl.damaged");
    assert_eq!(fs::read(aside).unwrap(), &damaged[second..]);
}

#[test]
fn a_foreign_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    fs::write(&config.path, "somebody's notes\n").unwrap();
    let error = lines(config.clone()).append(&fixture::ticks([1])).unwrap_err();
    let agent_core::SinkError::Refused { reason } = error else { panic!("{error}") };
    assert!(reason.contains("m.jsonl: holds something else"), "{reason}");
    assert_eq!(fs::read_to_string(&config.path).unwrap(), "somebody's notes\n");
}

#[test]
fn an_empty_file_after_a_rotated_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    lines(config.clone()).append(&fixture::ticks(1..=5)).unwrap();
    fs::rename(&config.path, directory.path().join("m-19700101T000005.000Z.jsonl")).unwrap();
    for empty in [false, true] {
        if empty {
            fs::write(&config.path, "").unwrap();
        }
        assert_eq!(lines(config.clone()).append(&fixture::ticks(3..=5)).unwrap(), 5);
        assert_eq!(seqs(&config.path), [1, 2, 3, 4, 5]);
    }
    lines(config.clone()).append(&fixture::ticks(3..=7)).unwrap();
    assert_eq!(seqs(&config.path), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_file_that_somebody_moved_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    let mut lines = lines(config.clone());
    lines.append(&fixture::ticks(1..=3)).unwrap();
    fs::rename(&config.path, directory.path().join("taken.jsonl")).unwrap();
    lines.append(&fixture::ticks(2..=5)).unwrap();
    assert_eq!(seqs(&config.path), [4, 5]);
    assert_eq!(seqs(&directory.path().join("taken.jsonl")), [1, 2, 3]);
}

#[test]
fn one_process_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    let mut first = lines(config.clone());
    first.append(&fixture::ticks([1])).unwrap();
    let error = lines(config).append(&fixture::ticks([1])).unwrap_err().to_string();
    assert!(error.contains("another process writes it"), "{error}");
}

#[test]
fn a_new_stream_begins_after_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    lines(config.clone()).append(&fixture::ticks(1..=5)).unwrap();
    let mut batch = fixture::ticks(1..=2);
    batch.stream_id = wire::StreamId::from_bytes([3; 16]);
    let mut lines = lines(config.clone());
    lines.append(&batch).unwrap();
    lines.append(&batch).unwrap();
    let text = fs::read_to_string(&config.path).unwrap();
    assert_eq!(text.lines().count(), 7);
}
