//! What comes after a call that failed, and after a kill.

use std::{io::ErrorKind, path::Path};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    State, VALUE_BYTES, child, close, look, open, put, try_open,
    wal_support::{fast_directory, payload},
};

const KILLS: u64 = 8;
/// Values put in between two flushes.
const FLUSH_EVERY: u64 = 50;

fn limit_files(bytes: Option<u64>) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, bytes.unwrap_or(hard), hard).unwrap();
}

/// A job: lets one flush fail.
pub(crate) fn fail_once(directory: &Path) {
    let db = open(directory);
    put(&db, 0..20);
    db.flush().unwrap();
    limit_files(Some(0));
    let failed = db.insert(20_u64.to_be_bytes(), payload(20, VALUE_BYTES)).and_then(|_| db.flush());
    let Err(sled::Error::Io(error)) = failed else { panic!("{failed:?}") };
    assert_eq!(
        error.kind(),
        ErrorKind::FileTooLarge,
        "the disk's own error, if without its number"
    );
    limit_files(None);
    for _ in 0..3 {
        let again = db.insert(21_u64.to_be_bytes(), b"21").and_then(|_| db.flush());
        assert!(again.is_err(), "the disk takes it again, {again:?}");
    }
    drop(db);
    assert_eq!(look(directory, 20, VALUE_BYTES), State::Sound, "opened again");
    let db = open(directory);
    db.insert(21_u64.to_be_bytes(), b"21").unwrap();
    db.flush().unwrap();
}

#[test]
fn after_one_error_every_call_fails_until_it_is_opened_again() {
    child::done_with_limits("fail", fast_directory().path());
}

/// A job: opens a sound database where nothing can be written.
pub(crate) fn open_on_a_full_disk(directory: &Path) {
    let db = open(directory);
    put(&db, 0..20);
    close(db, directory);
    limit_files(Some(0));
    let opened = try_open(directory);
    let Err(sled::Error::Io(error)) = opened else { panic!("{opened:?}") };
    assert_eq!(error.kind(), ErrorKind::FileTooLarge, "it can be told from damage");
    limit_files(None);
    assert_eq!(look(directory, 20, VALUE_BYTES), State::Sound);
}

#[test]
fn opening_needs_room() {
    child::done_with_limits("open on a full disk", fast_directory().path());
}

/// A job: puts values in two trees in turn until it is killed, and says what it has flushed.
pub(crate) fn put_for_ever(directory: &Path) {
    let db = open(directory);
    let trees = [db.open_tree("first").unwrap(), db.open_tree("then").unwrap()];
    let begin = trees[1].len() as u64;
    for number in begin.. {
        for tree in &trees {
            tree.insert(number.to_be_bytes(), payload(number, VALUE_BYTES)).unwrap();
        }
        if number.is_multiple_of(FLUSH_EVERY) {
            db.flush().unwrap();
            child::say(&number.to_string());
        }
    }
}

#[test]
fn a_kill_takes_nothing_flushed_and_leaves_a_prefix() {
    let directory = fast_directory();
    for kill in 0..KILLS {
        let flushed = child::killed_after(2 + kill as usize % 3, "put", directory.path());
        let db = open(directory.path());
        let [first, then] = ["first", "then"].map(|tree| db.open_tree(tree).unwrap());
        let counts = [&first, &then].map(|tree| tree.len() as u64);
        assert!(counts[1] > flushed, "kill {kill}: {counts:?}, said {flushed}");
        let is_prefix = counts[0] == counts[1] || counts[0] == counts[1] + 1;
        assert!(is_prefix, "kill {kill}: {counts:?}, they were written in turn");
        for (tree, count) in [(&first, counts[0]), (&then, counts[1])] {
            for number in 0..count {
                let found = tree.get(number.to_be_bytes()).unwrap();
                let is_there = found.is_some_and(|found| found == payload(number, VALUE_BYTES));
                assert!(is_there, "kill {kill}: {number} of {count}");
            }
        }
    }
}
