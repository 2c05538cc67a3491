//! Rotation by size, by age, and what is kept.

use std::{fs, path::Path, time::Duration};

use super::{
    super::{FileConfig, FileConfigError, FileSink},
    lines, seqs,
};
use crate::fixture;

fn file_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Records 1 to 9 of a second each, one batch; then the names that are there.
fn check(change: impl Fn(&mut FileConfig), expected: &[&str], kept: &[u64]) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = FileConfig::new(directory.path().join("m.jsonl"));
    change(&mut config);
    assert_eq!(lines(config.clone()).append(&fixture::ticks(1..=9)).unwrap(), 9);
    assert_eq!(file_names(directory.path()), expected);
    assert_eq!(seqs(&config.path), kept);
    // the same by single records, and each by a new process
    let directory = tempfile::tempdir().unwrap();
    config.path = directory.path().join("m.jsonl");
    for seq in 1..=9 {
        lines(config.clone()).append(&fixture::ticks([seq])).unwrap();
    }
    assert_eq!(file_names(directory.path()), expected);
    assert_eq!(seqs(&config.path), kept);
}

fn line_bytes() -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    lines(config.clone()).append(&fixture::ticks([9])).unwrap();
    fs::metadata(&config.path).unwrap().len()
}

const ALL: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9];

#[test]
fn by_age() {
    check(|_| {}, &["m.jsonl"], ALL);
    check(
        |config| config.max_age = Some(Duration::from_secs(4)),
        &["m-19700101T000004.000Z.jsonl", "m-19700101T000008.000Z.jsonl", "m.jsonl"],
        ALL,
    );
    check(|config| config.max_age = None, &["m.jsonl"], ALL);
}

#[test]
fn by_size() {
    let four_lines = 4 * line_bytes() + 1;
    check(
        |config| config.max_bytes = four_lines,
        &["m-19700101T000004.000Z.jsonl", "m-19700101T000008.000Z.jsonl", "m.jsonl"],
        ALL,
    );
    check(
        |config| {
            config.max_bytes = 1;
            config.keep = 2;
        },
        &["m-19700101T000007.000Z.jsonl", "m-19700101T000008.000Z.jsonl", "m.jsonl"],
        &[7, 8, 9],
    );
    check(
        |config| {
            config.max_bytes = four_lines;
            config.max_total_bytes = Some(2 * four_lines);
        },
        &["m-19700101T000008.000Z.jsonl", "m.jsonl"],
        &[5, 6, 7, 8, 9],
    );
    check(
        |config| {
            config.max_bytes = four_lines;
            config.keep = 0;
        },
        &["m.jsonl"],
        &[9],
    );
}

#[test]
fn a_clock_that_was_set_back_ends_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = FileConfig::new(directory.path().join("m.jsonl"));
    config.max_age = Some(Duration::from_secs(4));
    let mut batch = fixture::ticks([10]);
    // record 11 tells of an earlier time than record 10
    let payload = fixture::gap().encode();
    batch.records.push(fixture::record(11, wire::Kind::Gap, &payload));
    lines(config.clone()).append(&batch).unwrap();
    assert_eq!(file_names(directory.path()), ["m-19700101T000010.000Z.jsonl", "m.jsonl"]);
}

#[test]
fn configurations_that_cannot_work_are_said() {
    let check = |config, expected: &str| {
        let error: FileConfigError = FileSink::new(config).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(FileConfig::new("/"), "has no file name");
    let total = FileConfig { max_total_bytes: Some(1), ..FileConfig::new("m.jsonl") };
    check(total, "max_total_bytes is 1, less than max_bytes, 67108864");
}

#[test]
fn what_a_person_must_change_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let check = |path: &str, expected: &str| {
        let config = FileConfig::new(directory.path().join(path));
        let error = lines(config).append(&fixture::ticks([1])).unwrap_err();
        let agent_core::SinkError::Refused { reason } = error else { panic!("{error}") };
        assert!(reason.contains(expected), "{reason}");
    };
    check("missing/m.jsonl", "missing/m.jsonl: No such file or directory");
    fs::create_dir(directory.path().join("m.jsonl")).unwrap();
    check("m.jsonl", "m.jsonl: Is a directory");
    fs::write(directory.path().join("plain"), "").unwrap();
    check("plain/m.jsonl", "plain/m.jsonl: Not a directory");
}

#[test]
fn an_unreadable_record_is_rejected_and_the_ones_before_it_are_durable() {
    let directory = tempfile::tempdir().unwrap();
    let config = FileConfig::new(directory.path().join("m.jsonl"));
    let mut lines = lines(config.clone());
    let mut batch = fixture::ticks(1..=3);
    batch.records[1].bytes[30] ^= 1;
    let error = lines.append(&batch).unwrap_err();
    assert!(matches!(error, agent_core::SinkError::Rejected { seq: 2, .. }), "{error}");
    assert_eq!(seqs(&config.path), [1]);
    batch.records[1] = fixture::gap_record(2);
    assert_eq!(lines.append(&batch).unwrap(), 3);
    assert_eq!(seqs(&config.path), [1, 2, 3]);
}
