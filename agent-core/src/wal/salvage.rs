//! What becomes of a damaged generation.
//!
//! Its file is carved for whole records; a packed generation is made of them, with a gap in every hole,
//! and takes its place; the original goes to quarantine. If nothing is left of it, a gap takes its
//! place. Nothing of this is done for an I/O error: a full disk is no damage.
//!
//! The new one is whole and durable as `<first seq>.new` before the original goes, and gets its name
//! after that: a crash in between leaves it alone in its place, and the next opening names it.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{EncodedSchema, Gap, GapReason, Kind, SchemaId, StreamId, envelope, request::Body};

use super::{
    WalError,
    carve::{self, Carved},
    fault::{Fault, io_fault},
    generation::Generation,
    log::SledWal,
    packed::{self, Item, Packed},
    packer::Packer,
    raw::Raw,
    readers::Reader,
    row::Entry,
    sidecar::{self, StandIn, Tally},
};

/// A stretch of the log whose generation is damaged.
struct Damaged {
    path: PathBuf,
    stream: StreamId,
    /// First number that it held.
    entry_first_seq: u64,
    missing: Missing,
}

/// What is known of what may be missing in a damaged generation.
pub(super) struct Missing {
    /// First number that is still wanted.
    pub(super) from: u64,
    /// Last number that was in it.
    pub(super) last_seq: u64,
    /// Times that it lies between, as far as known.
    pub(super) first_ms: Option<i64>,
    pub(super) last_ms: Option<i64>,
    /// What is wrong with it.
    pub(super) reason: String,
}

impl Missing {
    /// Everything from `from` up to `last_seq`, of which `tally` is known. Where nothing is wanted any
    /// more, it is still the last: something has to stand there.
    pub(super) fn new(from: u64, last_seq: u64, tally: &Tally, reason: &str) -> Self {
        let from = from.min(last_seq);
        let known = |time_ms| (tally.records > 0 && time_ms != 0).then_some(time_ms);
        let (first_ms, last_ms) = (known(tally.first_ms), known(tally.last_ms));
        Self { from, last_seq, first_ms, last_ms, reason: reason.to_owned() }
    }

    /// Where its own times aren't known, those of what lies before and after it.
    pub(super) fn between(mut self, before: Option<&Tally>, after: Option<&Tally>) -> Self {
        let known = |time_ms: &i64| *time_ms != 0;
        let before_ms = before.map(|tally| tally.last_ms).filter(known);
        let after_ms = after.map(|tally| tally.first_ms).filter(known);
        self.first_ms = self.first_ms.or(before_ms).or(after_ms);
        self.last_ms = self.last_ms.or(after_ms).or(before_ms);
        self
    }
}

/// A record of the new generation.
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) kind: Kind,
    pub(super) time_ms: i64,
    pub(super) samples: u64,
    pub(super) bytes: Vec<u8>,
}

impl SledWal {
    /// Makes sure that a generation of the row is open; false if it was damaged and is now replaced.
    pub(super) fn open_reader(&mut self, index: usize) -> Result<bool, WalError> {
        let Some(entry) = self.row.get(index) else { return Ok(false) };
        let (first_seq, last_seq) = (entry.first_seq, entry.last_seq);
        if self.readers.peek(first_seq).is_some() {
            return Ok(true);
        }
        let (path, is_database) = (entry.path.clone(), entry.is_database());
        // Opening makes sled cut off what it can't read: what is there is looked at before.
        let from = first_seq.max(self.unread_seq() + 1);
        let carved = is_database.then(|| carve::of(&path, from)).transpose();
        let carved = carved.map_err(|source| io_error("scan", &path, source))?;
        let opened = match is_database {
            true => self.open_whole(&path, (first_seq, last_seq)),
            false => open_packed(&path, last_seq),
        };
        match opened {
            Ok(reader) => {
                self.readers.keep(first_seq, reader);
                if let Some(entry) = self.row.get_mut(index) {
                    entry.disk_bytes = sidecar::disk_bytes(&path);
                }
                Ok(true)
            }
            Err(Fault::Damaged(reason)) => {
                self.repair(index, &reason, carved)?;
                Ok(false)
            }
            Err(fault) => Err(fault.into_error("open generation", &path)),
        }
    }

    fn open_whole(&self, path: &Path, (first_seq, last_seq): (u64, u64)) -> Result<Reader, Fault> {
        let generation = match Generation::open(&self.disk, path) {
            Err(fault) if fault.is_full() => {
                let carved =
                    carve::of(path, first_seq).map_err(|error| io_fault("scan", path, error));
                let raw = Raw::of(path, carved?, first_seq, last_seq);
                return raw.map(Reader::Raw).ok_or(fault);
            }
            opened => opened?,
        };
        check_end(generation.end()?.last_seq.unwrap_or(0), last_seq)?;
        let schemas = generation.schemas()?;
        Ok(Reader::Sled(generation, schemas))
    }

    /// Replaces a damaged generation of the row by what can be saved of it.
    pub(super) fn repair(
        &mut self,
        index: usize,
        reason: &str,
        carved: Option<Carved>,
    ) -> Result<(), WalError> {
        if index + 1 == self.row.len() {
            // Repaired, it looks sound: that the log goes on elsewhere has to be on disk before.
            self.make_newest()?;
        }
        let Some(entry) = self.row.get(index) else { return Ok(()) };
        let from = entry.first_seq.max(self.unread_seq() + 1);
        let before = index.checked_sub(1).and_then(|before| self.row.get(before));
        let newest = self.newest.as_ref().map(|newest| &newest.counts.tally);
        let after = self.row.get(index + 1).map(|entry| &entry.tally).or(newest);
        let damaged = Damaged {
            path: entry.path.clone(),
            stream: entry.stream,
            entry_first_seq: entry.first_seq,
            missing: Missing::new(from, entry.last_seq, &entry.tally, reason)
                .between(before.map(|entry| &entry.tally), after),
        };
        self.readers.close(entry.first_seq);
        let carved = match carved {
            Some(carved) => Ok(carved),
            None => carve::of(&damaged.path, from),
        };
        let carved = carved.map_err(|source| io_error("scan", &damaged.path, source))?;
        self.row[index] = self.rebuild(&damaged, &carved)?;
        self.find_oldest();
        Ok(())
    }

    /// Makes what is to stand in the place of a damaged generation, and puts it there.
    fn rebuild(&mut self, damaged: &Damaged, carved: &Carved) -> Result<Entry, WalError> {
        let pieces = pieces(&damaged.missing, carved);
        let gaps = pieces.iter().filter(|piece| piece.kind == Kind::Gap).count();
        let (path, reason, records) =
            (damaged.path.display(), &damaged.missing.reason, pieces.len() - gaps);
        tracing::error!(%path, reason, records, gaps, "a generation of the log is damaged, saving what is readable");
        // A gap that tells of something else, as one that begins a stream does, is a record like others.
        if let [only] = pieces.as_slice()
            && let Some(gap) = gap_of(&only.bytes).filter(|gap| gap.last_seq == only.seq)
        {
            return self.stand_in(damaged, gap);
        }
        let schemas = self.schemas_of(&pieces, carved);
        let aside = damaged.path.with_extension("new");
        let place = damaged.path.with_extension(packed::EXTENSION);
        let (bytes, tally) = self.pack_pieces(damaged, &pieces, &schemas)?;
        sidecar::write_aside(&self.disk, &aside, &bytes)
            .and_then(|()| self.disk.sync_directory(&self.directory))
            .map_err(|source| io_error("write", &aside, source))?;
        self.put_aside(&damaged.path)?;
        self.disk
            .rename(&aside, &place)
            .and_then(|()| self.disk.sync_directory(&self.directory))
            .map_err(|source| io_error("rename", &aside, source))?;
        let (stream, missing) = (damaged.stream, &damaged.missing);
        let (first_seq, last_seq) = (missing.from, missing.last_seq);
        let disk_bytes = sidecar::disk_bytes(&place);
        Ok(Entry { first_seq, last_seq, stream, tally, path: place, disk_bytes, gap: None })
    }

    fn pack_pieces(
        &self,
        damaged: &Damaged,
        pieces: &[Piece],
        schemas: &[Arc<EncodedSchema>],
    ) -> Result<(Vec<u8>, Tally), WalError> {
        let cursors = self.cursors.iter().map(|(sink, cursor)| (sink.as_str(), cursor.seq));
        let from = damaged.missing.from;
        let mut packer = Packer::new(damaged.stream, from, cursors, schemas)?;
        let mut tally = Tally::default();
        for Piece { seq, time_ms, samples, bytes, .. } in pieces {
            packer.put(Item { seq: *seq, time_ms: *time_ms, samples: *samples, bytes });
            tally.add(*time_ms, *samples);
        }
        Ok((packer.finish(tally, schemas)?, tally))
    }

    /// Puts a gap in the place of a generation of which nothing is left.
    fn stand_in(&mut self, damaged: &Damaged, gap: Gap) -> Result<Entry, WalError> {
        let (stream, first_seq) = (damaged.stream, damaged.entry_first_seq);
        let stand_in = StandIn { stream, first_seq, gap };
        let path = sidecar::write_gap(&self.disk, &self.directory, &stand_in)
            .map_err(|source| io_error("write gap", &self.directory, source))?;
        self.put_aside(&damaged.path)?;
        Ok(Entry::of_gap(stand_in, path))
    }

    fn put_aside(&mut self, path: &Path) -> Result<(), WalError> {
        let moved = self.quarantine.put(path);
        let moved = moved.map_err(|source| io_error("quarantine", path, source))?;
        tracing::warn!(path = %moved.display(), "the damaged original lies in quarantine");
        Ok(())
    }

    /// Every schema that was carved, and those that the pieces name and another generation has.
    fn schemas_of(&self, pieces: &[Piece], carved: &Carved) -> Vec<Arc<EncodedSchema>> {
        let mut schemas = carved.schemas.clone();
        let named: BTreeSet<SchemaId> =
            pieces.iter().flat_map(|piece| schemas_named(&piece.bytes)).collect();
        for id in &named {
            if let Some(schema) = self.known_schema(*id) {
                schemas.entry(*id).or_insert(schema);
            }
        }
        let others = self.row.iter().rev().filter(|entry| entry.gap.is_none());
        find_schemas(&mut schemas, &named, others.map(|entry| entry.path.as_path()));
        schemas.into_values().collect()
    }
}

/// Looks for schemas that are named and not known in other generations, until all are there. Those are
/// not opened: they may be damaged too.
pub(super) fn find_schemas<'a>(
    known: &mut HashMap<SchemaId, Arc<EncodedSchema>>,
    named: &BTreeSet<SchemaId>,
    generations: impl Iterator<Item = &'a Path>,
) {
    for path in generations {
        if named.iter().all(|id| known.contains_key(id)) {
            break;
        }
        if let Ok(other) = carve::of(path, u64::MAX) {
            for (id, schema) in other.schemas {
                if named.contains(&id) {
                    known.entry(id).or_insert(schema);
                }
            }
        }
    }
}

fn open_packed(path: &Path, last_seq: u64) -> Result<Reader, Fault> {
    let packed = Packed::open(path)?;
    check_end(packed.head().last_seq, last_seq)?;
    Ok(Reader::Packed(Box::new(packed)))
}

/// Whether a generation reaches as far as it has to.
pub(super) fn check_end(found: u64, expected: u64) -> Result<(), Fault> {
    match found < expected {
        true => Err(Fault::Damaged(format!("ends with record {found} instead of {expected}"))),
        false => Ok(()),
    }
}

/// The records from `from` to `last_seq` that were carved, and gaps for those that were not.
pub(super) fn pieces(missing: &Missing, carved: &Carved) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut expected = missing.from;
    for (seq, bytes) in carved.records.range(missing.from..=missing.last_seq) {
        let piece = piece(*seq, bytes.clone());
        let covered =
            gap_of(bytes).is_some_and(|gap| gap.last_seq == *seq && gap.first_seq <= expected);
        if *seq > expected && !covered {
            let from_ms = pieces.last().map(|piece| piece.time_ms).or(missing.first_ms);
            pieces.push(hole(missing, expected, seq - 1, from_ms, Some(piece.time_ms)));
        }
        expected = seq + 1;
        pieces.push(piece);
    }
    if expected <= missing.last_seq {
        let from_ms = pieces.last().map(|piece| piece.time_ms).or(missing.first_ms);
        pieces.push(hole(missing, expected, missing.last_seq, from_ms, missing.last_ms));
    }
    pieces
}

fn hole(
    missing: &Missing,
    first: u64,
    last: u64,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
) -> Piece {
    let (from_ms, to_ms) = (from_ms.or(to_ms).unwrap_or(0), to_ms.or(from_ms).unwrap_or(0));
    let records = last + 1 - first;
    let gap = damage_gap(&missing.reason, from_ms, to_ms.max(from_ms), (first, last), records);
    // Far shorter than the longest payload: it always has an envelope.
    let bytes = envelope::encode(Kind::Gap, last, &gap.encode()).unwrap_or_default();
    Piece { seq: last, kind: Kind::Gap, time_ms: from_ms, samples: 0, bytes }
}

/// A gap for what damage took.
pub(super) fn damage_gap(
    reason: &str,
    from_ms: i64,
    to_ms: i64,
    (first_seq, last_seq): (u64, u64),
    records: u64,
) -> Gap {
    let cut = reason.floor_char_boundary(wire::limits::TEXT_BYTES_MAX);
    let detail = reason[..cut].to_owned();
    let reason = GapReason::LogDamaged;
    Gap { reason, from_ms, to_ms, first_seq, last_seq, records, samples: 0, detail }
}

/// The gap that begins a stream which took over from one whose end is uncertain.
pub(super) fn uncertain(reason: &str, from_ms: i64, to_ms: i64) -> Gap {
    let detail = format!("the end of the log is uncertain: {reason}");
    damage_gap(&detail, from_ms, to_ms, (0, 0), 0)
}

/// What lies in a sealed generation, as it was noted, or as far as it can be counted.
pub(super) fn tally(generation: &Path, first_seq: u64, last_seq: u64) -> Tally {
    let noted = match packed::is_packed(generation) {
        true => packed::look(generation).ok().flatten().map(|head| (head.last_seq, head.tally)),
        false => sidecar::read_tail(generation).map(|tail| (tail.last_seq, Some(tail.tally))),
    };
    let noted = noted.filter(|(seq, _)| *seq == last_seq).and_then(|(_, tally)| tally);
    noted.unwrap_or_else(|| count(generation, first_seq, last_seq))
}

fn count(generation: &Path, first_seq: u64, last_seq: u64) -> Tally {
    let mut tally = Tally::default();
    let carved = carve::of(generation, first_seq).unwrap_or_default();
    for (seq, bytes) in carved.records.into_iter().take_while(|(seq, _)| *seq <= last_seq) {
        let piece = piece(seq, bytes);
        tally.add(piece.time_ms, piece.samples);
    }
    tally.records = (last_seq + 1).saturating_sub(first_seq);
    tally
}

/// A carved record with what its payload says of it.
pub(super) fn piece(seq: u64, bytes: Vec<u8>) -> Piece {
    let found = envelope::split_first(&bytes).ok().map(|(found, _)| found);
    let kind = found.as_ref().map_or(Kind::Metrics, |found| found.kind);
    let (time_ms, samples) = match found.as_ref().map(Body::decode) {
        Some(Ok(Body::Metrics(tick))) => (tick.time_ms, tick.values.len() as u64),
        Some(Ok(Body::Gap(gap))) => (gap.from_ms, 0),
        _ => (0, 0),
    };
    Piece { seq, kind, time_ms, samples, bytes }
}

/// The gap that a record is.
pub(super) fn gap_of(bytes: &[u8]) -> Option<Gap> {
    let (found, _) = envelope::split_first(bytes).ok()?;
    Gap::decode(found.payload).ok().filter(|_| found.kind == Kind::Gap)
}

/// Schemas that a record names.
pub(super) fn schemas_named(bytes: &[u8]) -> Vec<SchemaId> {
    let found = envelope::split_first(bytes).ok().map(|(found, _)| Body::decode(&found));
    match found {
        Some(Ok(Body::Metrics(tick))) => tick.schemas,
        _ => Vec::new(),
    }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> WalError {
    WalError::Io { operation, path: path.to_owned(), source }
}
