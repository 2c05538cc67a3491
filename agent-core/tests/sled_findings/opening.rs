//! What keeps a database from opening.

use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::Duration,
};

use agent_core::wal::{SledWal, Wal as _, WalOptions};

use crate::{
    State, VALUE_BYTES, child, close, config, expect_panics, is_refusal, look, names, open, put,
    try_open,
    wal_support::{ALL, Random, append, copy, drain, fast_directory, payload},
};

/// Writes of a process that opens a database: to its files, and to say how it goes.
const WRITES_MAX: usize = 40;
const DAMAGES: u64 = 100;
const CLOSINGS: u64 = 40;
const VALUES: u64 = 300;

fn unfinished(directory: &Path) -> Option<String> {
    names(directory).into_iter().find(|name| name.ends_with(".generating"))
}

/// A log of one generation with a few records, closed; its generation.
fn log(directory: &Path) -> std::path::PathBuf {
    let mut wal = SledWal::open(directory, WalOptions::default()).unwrap();
    wal.register("hub").unwrap();
    for tick in 1..=10 {
        append(&mut wal, tick, &payload(tick, 500)).unwrap();
    }
    directory.join(format!("{:020}.gen", 1))
}

fn check_log(directory: &Path) {
    let mut wal = SledWal::open(directory, WalOptions::default()).unwrap();
    wal.register("hub").unwrap();
    assert_eq!(drain(&mut wal, "hub", ALL).len(), 10);
    assert!(!directory.join("quarantine").exists(), "taken for damage");
}

#[test]
fn an_unfinished_snapshot_keeps_a_database_shut() {
    let directory = fast_directory();
    let generation = log(directory.path());
    let unfinished = generation.join("snap.0000000000001234.generating");
    fs::write(&unfinished, b"").unwrap();
    for _ in 0..3 {
        let opened = try_open(&generation);
        assert!(matches!(opened, Err(sled::Error::Corruption { .. })), "{opened:?}");
    }
    check_log(directory.path());
    assert!(!unfinished.exists());
}

/// The process that opens is killed at its first write, its second, and so on.
#[test]
fn a_kill_while_opening_leaves_one() {
    let directory = fast_directory();
    let made = directory.path().join("made");
    let db = open(&made);
    put(&db, 0..100);
    close(db, &made);
    let mut left = 0;
    for nth in 1..WRITES_MAX {
        let path = directory.path().join(format!("{nth}"));
        copy(&made, &path);
        let Some(is_killed) = child::killed_at_write(nth, "open", &path) else { return };
        if let Some(name) = unfinished(&path) {
            assert!(is_killed, "{name}");
            left += 1;
            assert_eq!(look(&path, 100, VALUE_BYTES), State::Error, "with {name}, kill {nth}");
            fs::remove_file(path.join(name)).unwrap();
        }
        assert_eq!(look(&path, 100, VALUE_BYTES), State::Sound, "kill {nth}");
        if !is_killed {
            assert!(left > 0, "none of {nth} kills left an unfinished snapshot");
            return;
        }
    }
    panic!("it opens with more than {WRITES_MAX} writes");
}

#[test]
fn a_database_that_is_still_being_closed_is_refused_and_the_log_waits() {
    let directory = fast_directory();
    let generation = log(directory.path());
    // sled's threads may hold it for a moment after it was dropped, as this does.
    let closing = File::open(generation.join("db")).unwrap();
    closing.lock().unwrap();
    let refused = config(&generation).open().unwrap_err();
    assert!(is_refusal(&refused), "{refused}");
    let closed = thread::spawn(move || {
        // It comes out right however long this takes, but for the log's patience.
        thread::sleep(Duration::from_millis(30));
        drop(closing);
    });
    check_log(directory.path());
    closed.join().unwrap();
}

/// A job: opens a database that was dropped just before, and says whether it was refused.
pub(crate) fn close_and_open(directory: &Path) {
    let db = open(directory);
    put(&db, 0..20);
    drop(db);
    let refused = config(directory).open().err();
    if let Some(error) = refused {
        assert!(is_refusal(&error), "{error}");
        child::say("refused");
    }
    assert_eq!(look(directory, 20, VALUE_BYTES), State::Sound, "a moment later");
}

/// How often depends on the machine: here it is only shown that this is all that can happen.
#[test]
fn a_database_that_was_closed_opens_at_once_or_a_moment_later() {
    let is_refused = |_: &u64| {
        let said = child::done("close and open", fast_directory().path());
        said.lines().any(|line| line == "refused")
    };
    let refused = (0..CLOSINGS).filter(is_refused).count();
    eprintln!("{refused} of {CLOSINGS} that were closed were still locked");
}

#[test]
fn damage_keeps_a_database_shut_or_makes_it_panic() {
    expect_panics();
    let directory = fast_directory();
    let made = directory.path().join("made");
    let db = open(&made);
    // One flush for each, as the log does: else it depends on sled's threads how the values lie in its file,
    // and with that on the machine's load how many flips it opens with.
    for number in 0..VALUES {
        put(&db, number..number + 1);
        db.flush().unwrap();
    }
    close(db, &made);
    let sound = fs::read(made.join("db")).unwrap();
    let mut random = Random(0xda4a6e);
    let mut states = Vec::new();
    for case in 0..DAMAGES {
        let path = directory.path().join(format!("{case}"));
        copy(&made, &path);
        let mut bytes = sound.clone();
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        fs::write(path.join("db"), bytes).unwrap();
        states.push(look(&path, VALUES, VALUE_BYTES));
        fs::remove_dir_all(path).unwrap();
    }
    let count = |state: State| states.iter().filter(|found| **found == state).count() as u64;
    let (shut, panics) = (count(State::Error) + count(State::Panic), count(State::Panic));
    eprintln!(
        "{DAMAGES} flipped bits: {shut} shut, {panics} of them by a panic, {} lost",
        count(State::Lost)
    );
    assert!(shut > DAMAGES / 4 && panics > 0, "{shut} {panics}");
}
