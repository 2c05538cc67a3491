//! What is on disk when, and what a power cut leaves of the rest.

use std::{fs, path::Path};

use agent_core::wal::{SledWal, WalOptions};
use wire::limits::RECORD_PAYLOAD_BYTES_MAX;

use crate::{
    State, VALUE_BYTES,
    child::{mark, syncs_of, watched},
    close, config, expect_panics, look, names, open, put,
    wal_support::{Random, append, copy, fast_directory, payload},
};

/// Power cuts.
const CUTS: usize = 30;
const BLOCK_BYTES: usize = 4_096;
/// Above a quarter of a segment.
const BLOB_BYTES: usize = 150_000;

/// A job: flushes, closes and opens again.
pub(crate) fn flush(directory: &Path) {
    mark("begin");
    let db = open(directory);
    for number in 0..40 {
        put(&db, number..number + 1);
        db.flush().unwrap();
    }
    mark("flushed");
    drop(db);
    mark("closed");
    let db = open(directory);
    mark("opened");
    put(&db, 40..41);
    db.flush().unwrap();
    mark("end");
}

#[test]
fn flush_syncs_nothing_but_closing_and_opening_do() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("db");
    let Some(calls) = watched("flush", directory.path()) else { return };
    let flushed = calls.between("begin", "flushed");
    let ranges = flushed.iter().filter(|call| call.is("sync_file_range", &log)).count();
    assert!(ranges >= 40, "{ranges} flushes came to the kernel");
    assert_eq!(syncs_of(flushed, directory.path()), 0, "creating and flushing");
    assert_eq!(syncs_of(calls.between("flushed", "closed"), &log), 1, "closing");
    let opened = calls.between("closed", "opened");
    assert_eq!(syncs_of(opened, &log), 1, "opening, the data file, whose end it clears");
    let snapshots = opened.iter().filter(|call| call.is("fsync", directory.path())).count();
    assert_eq!(snapshots, 2, "opening, that and a snapshot of what it found");
    assert_eq!(syncs_of(calls.between("opened", "end"), directory.path()), 0, "flushing later");
    // What holds its configuration, and all names.
    assert_eq!(syncs_of(calls.all(), &directory.path().join("conf")), 0);
    assert!(!calls.all().iter().any(|call| call.is_sync() && call.is_exactly(directory.path())));
}

/// A job: flushes beside sled's own thread that syncs now and then, the next time in an hour.
pub(crate) fn flush_beside_a_flusher(directory: &Path) {
    let db = config(directory).flush_every_ms(Some(3_600_000)).open().unwrap();
    mark("begin");
    for number in 0..40 {
        put(&db, number..number + 1);
        db.flush().unwrap();
    }
    mark("flushed");
}

#[test]
fn a_flush_does_not_wait_for_the_flusher() {
    let directory = tempfile::tempdir().unwrap();
    let Some(calls) = watched("flusher", directory.path()) else { return };
    let syncs = syncs_of(calls.between("begin", "flushed"), directory.path());
    // The thread begins with one.
    assert!(syncs <= 1, "{syncs} syncs for 40 flushes");
}

/// Makes of a data file what a power cut may leave: each block as it was when last synced, or as it
/// was written since.
fn cut(synced: &[u8], written: &[u8], random: &mut Random) -> Vec<u8> {
    let mut left = written.to_vec();
    left.truncate(match random.below(2) {
        0 => written.len(),
        _ => synced.len().max(random.below(written.len() as u64) as usize),
    });
    for (index, block) in left.chunks_mut(BLOCK_BYTES).enumerate() {
        if random.below(2) == 0 {
            let start = index * BLOCK_BYTES;
            let old = synced.iter().skip(start).copied().chain(std::iter::repeat(0));
            block.iter_mut().zip(old).for_each(|(byte, old)| *byte = old);
        }
    }
    left
}

#[test]
fn a_power_cut_takes_what_was_only_flushed() {
    expect_panics();
    let mut random = Random(0xc07);
    let (mut lost, mut shut) = (0, 0);
    for _ in 0..CUTS {
        let directory = fast_directory();
        let db = open(directory.path());
        put(&db, 0..100);
        db.flush().unwrap();
        let synced = fs::read(directory.path().join("db")).unwrap();
        let count = 100 + random.below(100);
        put(&db, 100..count);
        db.flush().unwrap();
        let written = fs::read(directory.path().join("db")).unwrap();
        drop(db);
        let left = |data: &[u8]| {
            let left = fast_directory();
            fs::create_dir(left.path().join("blobs")).unwrap();
            fs::copy(directory.path().join("conf"), left.path().join("conf")).unwrap();
            fs::write(left.path().join("db"), data).unwrap();
            look(left.path(), count, VALUE_BYTES)
        };
        assert_eq!(left(&written), State::Sound, "with all that was written");
        match left(&cut(&synced, &written, &mut random)) {
            State::Sound => {}
            State::Lost => lost += 1,
            State::Error | State::Panic => shut += 1,
        }
    }
    eprintln!("of {CUTS} cuts {lost} lost flushed records, {shut} left what doesn't open");
    assert!(lost + shut > CUTS * 3 / 4, "{lost} lost, {shut} shut");
}

/// A job: appends to a log.
pub(crate) fn append_to_a_log(directory: &Path) {
    mark("begin");
    let mut wal = SledWal::open(&directory.join("wal"), WalOptions::default()).unwrap();
    mark("made");
    for tick in 1..=20 {
        mark(&format!("append {tick}"));
        append(&mut wal, tick, &payload(tick, 5_000)).unwrap();
        mark(&format!("appended {tick}"));
    }
}

#[test]
fn the_log_syncs_what_it_makes_and_what_it_appends() {
    let directory = tempfile::tempdir().unwrap();
    let Some(calls) = watched("log", directory.path()) else { return };
    let wal = directory.path().join("wal");
    let generation = wal.join(format!("{:020}.gen", 1));
    let data = generation.join("db");
    let made = calls.between("begin", "made");
    for path in [directory.path(), &wal, &generation, &generation.join("conf"), &data] {
        let is_synced = made.iter().any(|call| call.is_sync() && call.is_exactly(path));
        assert!(is_synced, "{} is not synced", path.display());
    }
    for tick in 1..=20 {
        let appended = calls.between(&format!("append {tick}"), &format!("appended {tick}"));
        let last_write = appended.iter().rposition(|call| call.is("pwrite64", &data)).unwrap();
        assert_eq!(syncs_of(&appended[last_write..], &data), 1, "append {tick}: {appended:?}");
    }
}

/// A job: puts in a value that is too large for a page.
pub(crate) fn make_a_blob(directory: &Path) {
    let db = open(directory);
    mark("begin");
    db.insert(0_u64.to_be_bytes(), payload(0, BLOB_BYTES)).unwrap();
    db.flush().unwrap();
    let blobs = names(&directory.join("blobs"));
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    drop(db);
    mark("end");
}

#[test]
fn blob_files_are_never_synced() {
    let directory = tempfile::tempdir().unwrap();
    let Some(calls) = watched("blob", directory.path()) else { return };
    let blobs = directory.path().join("blobs");
    let calls = calls.between("begin", "end");
    assert!(calls.iter().any(|call| call.is("write", &blobs)), "nothing was written to a blob");
    assert_eq!(syncs_of(calls, &blobs), 0);
    assert_eq!(syncs_of(calls, &directory.path().join("db")), 1, "closing syncs the data file");
}

#[test]
fn a_power_cut_takes_what_lies_in_blobs() {
    expect_panics();
    let check = |what: &str, hit: &dyn Fn(&Path)| {
        let directory = fast_directory();
        let path = directory.path().join("cut");
        let sound = directory.path().join("sound");
        let db = open(&sound);
        db.insert(0_u64.to_be_bytes(), payload(0, BLOB_BYTES)).unwrap();
        db.flush().unwrap();
        close(db, &sound);
        copy(&sound, &path);
        assert_eq!(look(&sound, 1, BLOB_BYTES), State::Sound);
        let blob = path.join("blobs").join(&names(&path.join("blobs"))[0]);
        hit(&blob);
        assert_ne!(look(&path, 1, BLOB_BYTES), State::Sound, "{what}");
    };
    check("its name is gone", &|blob| fs::remove_file(blob).unwrap());
    check("nothing was written", &|blob| fs::write(blob, b"").unwrap());
    check("zeros", &|blob| fs::write(blob, vec![0; BLOB_BYTES]).unwrap());
    check("half of it", &|blob| {
        fs::File::options().write(true).open(blob).unwrap().set_len(80_000).unwrap();
    });
}

#[test]
fn the_log_makes_no_blobs() {
    let directory = fast_directory();
    let mut wal = SledWal::open(directory.path(), WalOptions::default()).unwrap();
    let sizes = [1, 2_000, 3_600, BLOB_BYTES, RECORD_PAYLOAD_BYTES_MAX, 30_000];
    for (tick, bytes) in (1..).zip(sizes) {
        append(&mut wal, tick, &payload(tick, bytes)).unwrap();
        let generations = names(directory.path()).into_iter().filter(|name| name.ends_with(".gen"));
        for generation in generations {
            let blobs = names(&directory.path().join(generation).join("blobs"));
            assert!(blobs.is_empty(), "{bytes} bytes: {blobs:?}");
        }
    }
}
