//! Finds records in the raw bytes of a generation, without its database. (One that is packed has frames
//! instead: see [`packed`].)
//!
//! Everything the log writes to a database is an envelope with a magic and a checksum, or, where it was
//! split, a beginning that says how long it is and parts that are envelopes. So whatever the damage
//! around it, an undamaged record is found. sled moves pages: the same record may lie in the file several times;
//! a number is used once in a generation, so every whole one is as good as the other.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, ErrorKind, Read as _},
    path::Path,
    sync::Arc,
};

use memchr::memmem;
use wire::{
    EncodedSchema, Envelope, Kind, SchemaId,
    envelope::{self, HEADER_BYTES, MAGIC},
};

use super::{
    generation::DATA_FILE,
    limits::{PART_BYTES, SCAN_BYTES},
    packed, parts,
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Carved {
    /// Whole records by number.
    pub(super) records: BTreeMap<u64, Vec<u8>>,
    /// Whole schemas.
    pub(super) schemas: HashMap<SchemaId, Arc<EncodedSchema>>,
    /// The highest number of which anything undamaged was found; 0 if nothing.
    pub(super) traces_to: u64,
}

/// Everything readable of a generation, packed or not, with numbers from `from` on.
pub(super) fn of(generation: &Path, from: u64) -> io::Result<Carved> {
    match packed::is_packed(generation) {
        true => packed::carve(generation, from),
        false => scan(&generation.join(DATA_FILE), from),
    }
}

/// Scans a data file for records with numbers from `from` on. An absent file has none.
pub(super) fn scan(data_file: &Path, from: u64) -> io::Result<Carved> {
    let mut file = match File::open(data_file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Carved::default()),
        file => file?,
    };
    let mut scanner = Scanner { from, ..Scanner::default() };
    let (mut window, mut done) = (Vec::new(), false);
    while !done {
        done = file.by_ref().take(SCAN_BYTES).read_to_end(&mut window)? < SCAN_BYTES as usize;
        // What begins in the last bytes of a window may end in the next one.
        let end = if done { window.len() } else { window.len().saturating_sub(PART_BYTES) };
        scanner.window(&window, end);
        window.drain(..end);
    }
    Ok(scanner.finish())
}

#[derive(Default)]
struct Scanner {
    from: u64,
    carved: Carved,
    /// Beginnings of what was split, by kind and number.
    firsts: HashMap<(u8, u64), Vec<Vec<u8>>>,
    later: HashMap<(u8, u64), BTreeMap<u16, Vec<u8>>>,
}

impl Scanner {
    /// Everything that begins before `end`.
    fn window(&mut self, window: &[u8], end: usize) {
        let mut at = 0;
        while let Some(found) = memmem::find(&window[at..], &MAGIC) {
            at += found;
            if at >= end {
                break;
            }
            at += self.candidate(&window[at..]).max(1);
        }
    }

    /// Something that begins with the magic; returns how much of it is known to be good.
    fn candidate(&mut self, bytes: &[u8]) -> usize {
        let Ok(total) = envelope::total_len(bytes) else { return 0 };
        match envelope::split_first(bytes) {
            Ok((found, rest)) => {
                self.intact(&found, &bytes[..bytes.len() - rest.len()]);
                bytes.len() - rest.len()
            }
            // Split beginnings fill their value, bar a lead of a few bytes.
            Err(_) if total > PART_BYTES - HEADER_BYTES => {
                self.beginning(bytes, total);
                0
            }
            Err(_) => 0,
        }
    }

    fn intact(&mut self, found: &Envelope<'_>, whole: &[u8]) {
        if let Some(part) = parts::part(found) {
            if part.kind != Kind::Schema as u8 && part.number < self.from {
                return;
            }
            if part.kind != Kind::Schema as u8 {
                self.carved.traces_to = self.carved.traces_to.max(part.number);
            }
            let later = self.later.entry((part.kind, part.number)).or_default();
            later.entry(part.index).or_insert_with(|| whole.to_vec());
        } else {
            self.whole(found, whole);
        }
    }

    fn whole(&mut self, found: &Envelope<'_>, whole: &[u8]) {
        if found.kind == Kind::Schema {
            if let Ok(schema) = EncodedSchema::from_payload(found.payload) {
                self.carved.schemas.entry(schema.id).or_insert(schema);
            }
        } else if found.kind.is_record() && found.seq >= self.from {
            self.carved.traces_to = self.carved.traces_to.max(found.seq);
            self.carved.records.entry(found.seq).or_insert_with(|| whole.to_vec());
        }
    }

    fn beginning(&mut self, bytes: &[u8], total: usize) {
        let Some(kind) = bytes.get(6) else { return };
        let Some(seq) = bytes.get(16..HEADER_BYTES).and_then(|seq| seq.try_into().ok()) else {
            return;
        };
        let first = &bytes[..bytes.len().min(total).min(PART_BYTES)];
        let firsts = self.firsts.entry((*kind, u64::from_le_bytes(seq))).or_default();
        if !firsts.iter().any(|known| known == first) {
            firsts.push(first.to_vec());
        }
    }

    fn finish(mut self) -> Carved {
        for ((kind, number), later) in std::mem::take(&mut self.later) {
            let whole = if kind == Kind::Schema as u8 {
                // A schema's envelope has no number: only its content tells which it is.
                let firsts = self.firsts.get(&(kind, 0)).into_iter().flatten();
                let joined = firsts.filter_map(|first| join(first, 0, &later));
                joined.into_iter().find(|whole| schema_id(whole) == Some(number))
            } else {
                let firsts = self.firsts.get(&(kind, number)).into_iter().flatten();
                firsts.filter_map(|first| join(first, parts::RECORD_LEAD_BYTES, &later)).next()
            };
            if let Some(whole) = whole
                && let Ok((found, _)) = envelope::split_first(&whole)
            {
                self.whole(&found, &whole);
            }
        }
        self.carved
    }
}

/// Joins a beginning with the parts after it. It may carry bytes that follow its value.
fn join(first: &[u8], lead_bytes: usize, later: &BTreeMap<u16, Vec<u8>>) -> Option<Vec<u8>> {
    let first = &first[..first.len().min(PART_BYTES - lead_bytes)];
    let count = parts::count(first, lead_bytes)?;
    let later: Option<Vec<&Vec<u8>>> = (1..count).map(|index| later.get(&index)).collect();
    parts::join(first, &later?)
}

fn schema_id(whole: &[u8]) -> Option<u64> {
    let (found, _) = envelope::split_first(whole).ok()?;
    let schema = EncodedSchema::from_payload(found.payload).ok()?;
    Some(u64::from_be_bytes(schema.id.0))
}
