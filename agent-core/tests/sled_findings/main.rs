//! What is known of sled 0.34.7, found again: each thing that the log is built around, shown on a bare
//! database, and beside it what the log makes of it.
//!
//! | what sled does | shown by | so the log |
//! |---|---|---|
//! | `flush` syncs nothing; closing does, and opening what it found | [`durability`] | syncs the data file after each flush |
//! | pages above a quarter of a segment become files that are never synced | [`durability`] | splits values |
//! | neither disk nor memory comes back, and the cache has no bound | [`space`] | is a row of generations, each removed whole |
//! | space on disk is more than what was put in | [`space`] | is bounded by what the disk says |
//! | a kill while opening keeps it shut for ever | [`opening`] | deletes unfinished snapshots first |
//! | who opens what is still being closed is refused at once | [`opening`] | waits and tries again |
//! | damage makes it panic, or stay shut | [`opening`] | catches panics, and carves |
//! | opening writes: it fails on a full disk | [`failing`] | has a reserve, and takes that for no damage |
//! | after one failed call every call fails | [`failing`] | gives the generation up |
//! | a kill costs nothing flushed, and what is left is a prefix | [`failing`] | writes a record's first part last |
//!
//! If a newer sled fails one of these, look at what is done about it before the test is changed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod child;
mod durability;
mod failing;
mod opening;
mod space;
#[path = "../wal_support/mod.rs"]
mod wal_support;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use wal_support::payload;

/// As the log opens its generations.
fn config(path: &Path) -> sled::Config {
    sled::Config::new()
        .path(path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
}

const CACHE_BYTES: u64 = 256 << 10;
const SEGMENT_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
const VALUE_BYTES: usize = 1_800;

fn open(path: &Path) -> sled::Db {
    try_open(path).unwrap()
}

/// Opens a database as soon as nobody has it any more: whoever dropped one may keep it for a moment.
fn try_open(path: &Path) -> sled::Result<sled::Db> {
    let begin = Instant::now();
    loop {
        let opened = config(path).open();
        let is_refused = opened.as_ref().is_err_and(is_refusal);
        if !is_refused || begin.elapsed() > PATIENCE {
            return opened;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether another has the database.
fn is_refusal(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// Puts in one value for each number.
fn put(db: &sled::Db, numbers: std::ops::Range<u64>) {
    for number in numbers {
        db.insert(number.to_be_bytes(), payload(number, VALUE_BYTES)).unwrap();
    }
}

/// Closes a database. sled's threads may write and hold it for a moment after it was dropped: what they
/// leave is what a test copies or damages.
fn close(db: sled::Db, directory: &Path) {
    drop(db);
    fs::File::open(directory.join("db")).unwrap().lock().unwrap();
}

/// What became of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It opens and gives what was put in.
    Sound,
    /// It opens; something is missing or wrong.
    Lost,
    /// It doesn't open, or what is in it can't be read.
    Error,
    /// The same, by a panic.
    Panic,
}

/// Opens a database and looks for the values of all numbers below `count`.
fn look(path: &Path, count: u64, value_bytes: usize) -> State {
    let found = catch_unwind(AssertUnwindSafe(|| -> sled::Result<bool> {
        let db = try_open(path)?;
        (0..count).try_fold(true, |sound, number| {
            let found = db.get(number.to_be_bytes())?;
            Ok(sound && found.is_some_and(|found| found == payload(number, value_bytes)))
        })
    }));
    match found {
        Err(_) => State::Panic,
        Ok(Err(_)) => State::Error,
        Ok(Ok(true)) => State::Sound,
        Ok(Ok(false)) => State::Lost,
    }
}

/// Panics are expected here, and a backtrace of each would take longer than the test.
fn expect_panics() {
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries.map(|e| name(e).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A process of its own. Not a test of its own.
#[test]
fn child() {
    let Some((job, directory)) = child::given() else { return };
    match job.as_str() {
        "flush" => durability::flush(&directory),
        "flusher" => durability::flush_beside_a_flusher(&directory),
        "blob" => durability::make_a_blob(&directory),
        "log" => durability::append_to_a_log(&directory),
        "open" => drop(open(&directory)),
        "close and open" => opening::close_and_open(&directory),
        "fill and drain" => space::fill_and_drain(&directory),
        "fail" => failing::fail_once(&directory),
        "open on a full disk" => failing::open_on_a_full_disk(&directory),
        "put" => failing::put_for_ever(&directory),
        other => panic!("no such job: {other}"),
    }
}

/// Damage makes sled panic, so the agent must be built such that panics can be caught.
#[test]
fn the_agent_is_built_to_catch_panics() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(manifest).unwrap()).unwrap();
    let strategy = &manifest["profile"]["release"]["panic"];
    assert_eq!(strategy.as_str(), Some("unwind"));
}
