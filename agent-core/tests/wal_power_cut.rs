//! A power cut during an append loses nothing that was appended before.
//!
//! What a cut leaves of a file that is being written is, block by block, the old or the new: the log is
//! copied before and after an append (which syncs), and the two are mixed at random. The file's length
//! is one of the two, or any block's end in between. The witness is written only after the sync, so
//! it says the old.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wal_support;

use std::{fs, path::Path};

use agent_core::wal::Wal;
use wal_support::{
    ALL, Random, Seen, append_with, copy, drain, fast_directory, open, payload, schema,
};
use wire::StreamId;

const BLOCK_BYTES: usize = 4_096;
const APPENDS: u64 = 60;
const CUTS_EACH: u64 = 3;

fn record(seq: u64) -> Vec<u8> {
    payload(seq, if seq.is_multiple_of(6) { 25_000 } else { 300 + 40 * seq as usize })
}

/// Writes a mixture of two states of a file in place of the first.
fn mix(old: &Path, new: &Path, random: &mut Random) {
    let (before, after) = (fs::read(old).unwrap(), fs::read(new).unwrap());
    let grown = after.len().saturating_sub(before.len()) / BLOCK_BYTES;
    let length = match random.below(3) {
        0 => before.len(),
        1 => after.len(),
        _ => before.len() + random.below(grown as u64 + 1) as usize * BLOCK_BYTES,
    };
    let mut mixed = vec![0; length];
    for (index, block) in mixed.chunks_mut(BLOCK_BYTES).enumerate() {
        let from = if random.below(2) == 0 { &before } else { &after };
        let start = (index * BLOCK_BYTES).min(from.len());
        let end = (start + block.len()).min(from.len());
        block[..end - start].copy_from_slice(&from[start..end]);
    }
    fs::write(old, mixed).unwrap();
}

/// Opens what a cut left and checks it; whether the record under way is there doesn't matter. All is
/// given back, and still the next one goes on with stream and numbers.
fn check(directory: &Path, stream: StreamId, appended: u64, what: &str) {
    let mut wal = open(directory);
    wal.register("hub").unwrap();
    let last_seq = wal.stats().last_seq;
    assert!((appended..=appended + 1).contains(&last_seq), "{what}: {last_seq}");
    let records = drain(&mut wal, "hub", ALL);
    assert_eq!(records.len() as u64, last_seq, "{what}");
    for ((seq, found), expected) in records.iter().zip(1..) {
        assert!(*seq == expected && *found == Seen::Payload(record(*seq)), "{what}: {seq}");
    }
    drop(wal);
    let mut wal = open(directory);
    assert_eq!((wal.stream_id(), wal.stats().last_seq), (stream, last_seq), "{what}");
    assert_eq!(append_with(&mut wal, 0, b"after", &[]).unwrap(), last_seq + 1, "{what}");
    assert!(!directory.join("quarantine").exists(), "{what}: taken for damage");
}

#[test]
fn what_was_appended_survives_power_cuts() {
    let directory = fast_directory();
    let (live, states) = (directory.path().join("live"), directory.path().join("states"));
    fs::create_dir(&states).unwrap();
    let schemas = [schema("a", 5), schema("b", 300)];
    let mut random = Random(0xc07);
    let mut wal = open(&live);
    wal.register("hub").unwrap();
    for seq in 1..=APPENDS {
        let old = states.join("old");
        copy(&live, &old);
        append_with(&mut wal, seq, &record(seq), &schemas[..1 + usize::from(seq > 20)]).unwrap();
        let generation = format!("{:020}.gen/db", 1);
        for cut in 0..CUTS_EACH {
            let left = states.join("left");
            copy(&old, &left);
            mix(&left.join(&generation), &live.join(&generation), &mut random);
            check(&left, wal.stream_id(), seq - 1, &format!("append {seq}, cut {cut}"));
            fs::remove_dir_all(left).unwrap();
        }
        fs::remove_dir_all(old).unwrap();
    }
}
