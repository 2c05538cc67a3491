//! Where the log ends, when it is opened. The end needs care, for numbers go on from there and none may
//! be given out twice in a stream:
//!
//! | beyond what sled recovered | means | done |
//! |---|---|---|
//! | nothing | closed, or killed between two appends | goes on |
//! | traces of one more record | killed, or power cut, during an append | sealed; if the record is whole it begins the next generation |
//! | a record that was durable (the witness says so), or several | damage | salvaged, gaps for what is missing, a new stream begins with a gap |
//! | the newest generation is gone | damage | a gap, and a new stream |
//!
//! An error of the disk is not damage: the newest generation is then sealed at its last record as
//! found in the raw file, and read again later.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use wire::StreamId;

use super::{
    WalError,
    carve::{self, Carved},
    disk::Disk,
    fault::Fault,
    generation::{DATA_FILE, Generation},
    log::SledWal,
    newest::{Cursor, Cursors, Newest},
    row::Entry,
    salvage,
    sidecar::{self, StandIn, Tally},
    survey::{Notes, Stretch},
};
use crate::shipper::error_chain;

impl SledWal {
    /// Takes over the newest generation; whether it is as it was left.
    pub(super) fn take_over_newest(
        &mut self,
        stretch: Stretch,
        notes: &Notes,
    ) -> Result<bool, WalError> {
        let Stretch { first_seq, path, stream, .. } = stretch;
        let data = path.join(DATA_FILE);
        let carved = carve::scan(&data, first_seq).map_err(|source| WalError::Io {
            operation: "scan",
            path: data.clone(),
            source,
        })?;
        let open = || Opened::open(&self.disk, &path, first_seq, stream);
        let opened = self.reserve.give_for(open);
        let known = opened.as_ref().ok().map(|opened| opened.stream).or(stream);
        if let Some(stream) = known {
            self.stream = stream;
        }
        let said = notes.said_of(self.stream);
        let reach = said.max(carved.traces_to).max(first_seq - 1);
        match opened {
            Ok(opened) => Ok(self.take_over_opened(opened, carved, reach, notes, path)),
            Err(Fault::Io(error)) => {
                let reason = error.to_string();
                tracing::warn!(
                    reason,
                    "can't open the newest generation of the log, going on without it"
                );
                let whole = carved.records.last_key_value().map_or(first_seq - 1, |(seq, _)| *seq);
                let reach = said.max(whole);
                self.last_seq = reach;
                // Without records it is no entry: the next generation will take its very path.
                if reach >= first_seq {
                    let stream = Some(self.stream);
                    let stretch = Stretch { first_seq, path, stream, gap: None, packed: None };
                    let entry = self.sealed(stretch, reach);
                    self.row.push_back(entry);
                }
                self.add_cursors(&notes.cursors);
                Ok(false)
            }
            Err(Fault::Damaged(reason)) => {
                self.add_cursors(&notes.cursors);
                self.take_over_damaged(Damage { first_seq, path, reason, reach }, carved);
                Ok(false)
            }
        }
    }

    fn take_over_opened(
        &mut self,
        opened: Opened,
        carved: Carved,
        reach: u64,
        notes: &Notes,
        path: PathBuf,
    ) -> bool {
        let Opened { newest, cursors, last_seq, torn, .. } = opened;
        let said = notes.said_of(self.stream);
        self.cursors = cursors;
        self.last_seq = last_seq;
        match ending(last_seq, torn, reach, said) {
            Ending::Whole => {
                self.newest = Some(newest);
                true
            }
            Ending::CutShort => {
                self.newest = Some(newest);
                self.seal_or_replace();
                if let Err(error) = self.adopt(last_seq + 1, carved) {
                    let reason = error_chain(&error);
                    tracing::warn!(reason, "can't keep a record whose append was cut short");
                }
                true
            }
            Ending::Lost(reason) => {
                let first_seq = newest.first_seq;
                drop(newest);
                self.add_cursors(&notes.cursors);
                self.take_over_damaged(Damage { first_seq, path, reason, reach }, carved);
                false
            }
        }
    }

    /// Appends a whole record, if it was carved, of which it isn't known whether its append had
    /// returned: if it had, nothing is lost; if not, nothing was promised.
    fn adopt(&mut self, seq: u64, mut carved: Carved) -> Result<(), WalError> {
        let Some(bytes) = carved.records.remove(&seq) else { return Ok(()) };
        self.make_newest()?;
        let piece = salvage::piece(seq, bytes);
        let Some(newest) = &mut self.newest else { return Ok(()) };
        let adopted = newest
            .put_schemas(carved.schemas.values())
            .and_then(|()| {
                newest.put_record(seq, &piece.bytes, piece.kind, piece.time_ms, piece.samples)
            })
            .and_then(|()| newest.sync(&mut self.cursors));
        adopted.map_err(|fault| self.fail("append", fault))?;
        self.last_seq = seq;
        Ok(())
    }

    /// The end of the stream is uncertain, so another one begins. Numbers go on: that keeps the row in
    /// order, and cursors single numbers.
    fn take_over_damaged(&mut self, damage: Damage, carved: Carved) {
        let Damage { first_seq, path, reason, reach } = damage;
        let before_ms = self.row.back().map(|entry| entry.tally.last_ms);
        let (from_ms, to_ms) = damage_times(&path, &carved, before_ms);
        let last_seq = reach.max(first_seq);
        let tally = Tally {
            records: last_seq + 1 - first_seq,
            samples: 0,
            first_ms: before_ms.unwrap_or(0),
            last_ms: to_ms,
        };
        let disk_bytes = sidecar::disk_bytes(&path);
        let stream = self.stream;
        self.row.push_back(Entry {
            first_seq,
            last_seq,
            stream,
            tally,
            path,
            disk_bytes,
            gap: None,
        });
        self.last_seq = last_seq;
        self.stream = Self::new_stream();
        self.untold = Some(salvage::uncertain(&reason, from_ms, to_ms));
        if let Err(error) = self.repair(self.row.len() - 1, &reason, Some(carved)) {
            let reason = error_chain(&error);
            tracing::warn!(reason, "can't save what is readable of a damaged generation yet");
        }
    }

    /// Takes over a log without a newest generation; whether it may be without one. One that was dropped
    /// leaves a gap; otherwise it is gone, and with it maybe the end of the stream.
    pub(super) fn take_over_end(&mut self, notes: &Notes) -> bool {
        self.add_cursors(&notes.cursors);
        let (held, said) = (self.last_seq, notes.said_of(self.stream));
        if !is_end_gone(held, said, self.row.back().is_none_or(|entry| entry.gap.is_some())) {
            return true;
        }
        let reason = END_GONE;
        let from_ms = self.held_ms().unwrap_or(0);
        let to_ms = self.witness.last_ms(said, self.held_ms()).unwrap_or(from_ms).max(from_ms);
        if said > held {
            let range = (held + 1, said);
            let gap = salvage::damage_gap(reason, from_ms, to_ms, range, said - held);
            let stand_in = StandIn { stream: self.stream, first_seq: held + 1, gap };
            match sidecar::write_gap(&self.disk, &self.directory, &stand_in) {
                Ok(path) => self.row.push_back(Entry::of_gap(stand_in, path)),
                Err(error) => tracing::warn!(%error, "can't note a gap at the end of the log"),
            }
            self.last_seq = said;
        }
        self.stream = Self::new_stream();
        self.untold = Some(salvage::uncertain(reason, from_ms, to_ms));
        false
    }
}

/// What is wrong with a log without a newest generation.
pub(super) const END_GONE: &str = "its newest generation is gone";

/// Whether that is wrong. If the newest was dropped, a gap is the last of the row, and the witness says
/// nothing beyond what it holds.
pub(super) const fn is_end_gone(held: u64, said: u64, ends_with_gap: bool) -> bool {
    said > held || !ends_with_gap
}

/// How the newest generation ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It goes on.
    Whole,
    /// An append was cut short behind it.
    CutShort,
    /// Something that was durable is gone.
    Lost(String),
}

/// How the newest generation ends whose database gives records up to `last_seq` and maybe the torn
/// beginning of another, if there are traces up to `reach` and the witness `said` so much.
pub(super) fn ending(last_seq: u64, torn: bool, reach: u64, said: u64) -> Ending {
    if reach <= last_seq && !torn {
        Ending::Whole
    } else if reach <= last_seq + 1 && said <= last_seq {
        Ending::CutShort
    } else {
        Ending::Lost(format!("ends with record {last_seq} instead of {reach}"))
    }
}

struct Damage {
    first_seq: u64,
    path: PathBuf,
    reason: String,
    reach: u64,
}

/// The newest generation as sled gives it.
struct Opened {
    newest: Newest,
    stream: StreamId,
    cursors: Cursors,
    last_seq: u64,
    torn: bool,
}

impl Opened {
    fn open(
        disk: &Disk,
        path: &Path,
        first_seq: u64,
        stream: Option<StreamId>,
    ) -> Result<Self, Fault> {
        let generation = Generation::open(disk, path)?;
        // A database that was lost and made anew by opening it has none.
        let stored = generation.stream()?;
        if stream.is_none() {
            heal_head(disk, &generation, first_seq);
        }
        let stream = stream.unwrap_or(stored);
        let end = generation.end()?;
        let last_seq = end.last_seq.unwrap_or(first_seq - 1);
        let counts = generation.counts(last_seq)?;
        let cursors = generation.cursors()?;
        let schemas = generation.schemas()?;
        let cursors =
            cursors.into_iter().map(|(sink, seq)| (sink, Cursor { seq, written: true })).collect();
        let newest = Newest::found(generation, stream, first_seq, counts, schemas);
        Ok(Self { newest, stream, cursors, last_seq, torn: end.torn })
    }
}

/// Writes a lost or damaged head again, as the database has it.
pub(super) fn heal_head(disk: &Disk, generation: &Generation, first_seq: u64) -> Option<StreamId> {
    let stream = generation.stream().ok()?;
    let path = generation.path();
    match sidecar::write_head(disk, path, stream, first_seq) {
        Ok(()) => tracing::warn!(path = %path.display(), "wrote a damaged file of the log again"),
        Err(error) => tracing::debug!(path = %path.display(), %error, "can't write a head again"),
    }
    Some(stream)
}

/// When what is damaged in the newest generation was written, as near as is known: from the last record
/// that is whole, else the end of the generation before, to when its file was last written.
pub(super) fn damage_times(path: &Path, carved: &Carved, before_ms: Option<i64>) -> (i64, i64) {
    let written_ms = written_ms(&path.join(DATA_FILE));
    let saved = carved.records.last_key_value();
    let saved_ms = saved.map(|(seq, bytes)| salvage::piece(*seq, bytes.clone()).time_ms);
    let known_ms = [saved_ms, before_ms, written_ms].into_iter().flatten();
    let from_ms = known_ms.into_iter().find(|time_ms| *time_ms != 0).unwrap_or(0);
    (from_ms, written_ms.unwrap_or(from_ms).max(from_ms))
}

fn written_ms(file: &Path) -> Option<i64> {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified()).ok()?;
    (modified > UNIX_EPOCH).then(|| crate::clock::unix_ms(modified))
}
