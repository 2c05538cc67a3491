//! What a database takes on disk and in memory, and what of it comes back.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use agent_core::wal::{SledWal, Wal as _, WalOptions};

use crate::{
    CACHE_BYTES, VALUE_BYTES, child, open, put,
    wal_support::{ALL, append, drain, fast_directory, payload},
};

/// Records of a long outage.
const BACKLOG: u64 = 8_000;
const BACKLOG_BYTES: u64 = BACKLOG * VALUE_BYTES as u64;

fn bytes_on_disk(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    let below = metadata.is_dir().then(|| fs::read_dir(path).unwrap()).into_iter().flatten();
    let below = below.map(|entry| bytes_on_disk(&entry.unwrap().path()));
    if metadata.is_dir() { below.sum() } else { metadata.blocks() * 512 }
}

/// Bytes that this process has in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// A job: puts a backlog in and takes it out again, in one database.
pub(crate) fn fill_and_drain(directory: &Path) {
    let db = open(directory);
    let (data, before) = (directory.join("db"), resident());
    for number in (0..BACKLOG).step_by(8) {
        put(&db, number..number + 8);
        db.flush().unwrap();
    }
    let (full, in_memory) = (bytes_on_disk(&data), resident() - before);
    for number in 0..BACKLOG {
        db.remove(number.to_be_bytes()).unwrap();
        if number.is_multiple_of(8) {
            db.flush().unwrap();
        }
    }
    db.flush().unwrap();
    assert!(db.is_empty());
    let (drained, still_in_memory) = (bytes_on_disk(&data), resident() - before);
    eprintln!(
        "{BACKLOG_BYTES} bytes: {full} on disk, {drained} drained; {in_memory} and {still_in_memory} in memory"
    );
    assert!(full > BACKLOG_BYTES * 3 / 2, "{full} on disk for {BACKLOG_BYTES}");
    assert!(drained >= full * 9 / 10, "{drained} of {full} on disk once it was drained");
    assert!(in_memory > 16 * CACHE_BYTES, "{in_memory} with a cache of {CACHE_BYTES}");
    assert!(still_in_memory > 16 * CACHE_BYTES, "{still_in_memory} once it was drained");
}

#[test]
fn a_database_gives_back_neither_disk_nor_memory() {
    child::done("fill and drain", fast_directory().path());
}

#[test]
fn the_log_gives_the_disk_back_and_knows_what_it_takes() {
    let directory = fast_directory();
    let mut wal = SledWal::open(directory.path(), WalOptions::default()).unwrap();
    wal.register("hub").unwrap();
    let check = |wal: &SledWal, tick: u64| {
        let (known, real) = (wal.stats().disk_bytes, bytes_on_disk(directory.path()));
        // Beside it there are the lock, and notes of a few bytes.
        let is_known = known <= real && real <= known + (64 << 10);
        assert!(is_known, "{known} bytes by what the log says, {real} on disk, tick {tick}");
        real
    };
    let empty = check(&wal, 0);
    for tick in 1..=BACKLOG {
        append(&mut wal, tick, &payload(tick, VALUE_BYTES)).unwrap();
        if tick.is_multiple_of(100) {
            check(&wal, tick);
        }
    }
    let full = check(&wal, BACKLOG);
    assert_eq!(drain(&mut wal, "hub", ALL).len() as u64, BACKLOG);
    let drained = check(&wal, BACKLOG);
    assert!(full > BACKLOG_BYTES, "{full}");
    // One generation stays, to say where the stream is.
    assert!(drained < empty + (6 << 20), "{drained} of {full} on disk, {empty} at first");
}
