//! Opening a log, whatever state it was left in.
//!
//! Only the newest generation is opened; of the others names and small files say enough. Its end
//! needs care, for numbers go on from there and none may be given out twice in a stream:
//!
//! | beyond what sled recovered | means | done |
//! |---|---|---|
//! | nothing | closed, or killed between two appends | goes on |
//! | traces of one more record | killed, or power cut, during an append | sealed; if the record is whole it begins the next generation |
//! | a record that was durable (the witness says so), or several | damage | salvaged, gaps for what is missing, a new stream begins with a gap |
//!
//! An error of the disk is not damage: the newest generation is then sealed at its last record as
//! found in the raw file, and read again later.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use wire::StreamId;

use super::{
    WalError, WalOptions,
    carve::{self, Carved},
    disk::Disk,
    generation::{DATA_FILE, Fault, Generation},
    limits::QUARANTINE_PART,
    lock,
    log::{Bounds, SledWal},
    losses::Losses,
    newest::{Cursor, Cursors, Newest},
    quarantine::Quarantine,
    readers::Readers,
    reserve::Reserve,
    row::Entry,
    salvage,
    sidecar::{self, StandIn, Tally, Witness},
    survey::{Stretch, Survey, survey},
};
use crate::shipper::error_chain;

impl SledWal {
    /// Opens the log in `directory`, which is made if it isn't there, and owns it until dropped.
    ///
    /// # Errors
    /// [`WalError::Locked`] if another process owns it; [`WalError::Io`] if the directory can't be
    /// used. Damage is no error: what is readable is saved, and gaps tell of the rest.
    pub fn open(directory: &Path, options: WalOptions) -> Result<Self, WalError> {
        Self::open_on(Disk::default(), directory, Bounds::from(options))
    }

    /// As [`SledWal::open`], on that disk.
    pub(super) fn open_on(disk: Disk, directory: &Path, bounds: Bounds) -> Result<Self, WalError> {
        let io =
            |source| WalError::Io { operation: "open WAL at", path: directory.to_owned(), source };
        create_directories(&disk, directory).map_err(io)?;
        let lock = lock::acquire(&disk, directory)?;
        let (witness, said) = Witness::open(&disk, directory).map_err(io)?;
        let mut survey = survey(directory).map_err(io)?;
        clean_up(&disk, &mut survey).map_err(io)?;
        let quarantine_max = bounds.bytes_max / QUARANTINE_PART;
        let mut log = Self {
            directory: directory.to_owned(),
            stream: Self::new_stream(),
            last_seq: 0,
            last_ms: None,
            row: VecDeque::new(),
            newest: None,
            readers: Readers::default(),
            cursors: Cursors::new(),
            losses: Losses::open(&disk, directory),
            reserve: Reserve::open(&disk, directory),
            quarantine: Quarantine::open(&disk, directory, quarantine_max),
            bounds,
            witness,
            untold: None,
            dropped_records: 0,
            dropped_samples: 0,
            blob_bytes: 0,
            oldest: None,
            _lock: lock,
            disk,
        };
        log.take_over(survey.stretches, said)?;
        Ok(log)
    }

    fn take_over(
        &mut self,
        mut stretches: Vec<Stretch>,
        said: Option<(StreamId, u64)>,
    ) -> Result<(), WalError> {
        let is_lost = stretches.is_empty() && said.is_some();
        if let Some(stream) = stretches.iter().rev().find_map(|stretch| stretch.stream) {
            self.stream = stream;
        }
        let newest = stretches.pop_if(|last| last.gap.is_none());
        let mut next_seq = newest.as_ref().map(|newest| newest.first_seq);
        for stretch in stretches.into_iter().rev() {
            let before_next = next_seq.map_or(stretch.first_seq, |next| next - 1);
            let last_seq = stretch.gap.as_ref().map_or(before_next, |gap| gap.last_seq);
            next_seq = Some(stretch.first_seq);
            self.last_seq = self.last_seq.max(last_seq);
            let entry = self.sealed(stretch, last_seq);
            if last_seq < before_next {
                self.tell_hole(&entry, before_next);
            }
            self.row.push_front(entry);
        }
        if let Some(last) = self.row.back() {
            self.stream = last.stream;
        }
        match newest {
            Some(newest) => self.take_over_newest(newest, said)?,
            None if is_lost => {}
            None => self.find_cursors(),
        }
        self.last_ms = self.witness.last_ms(self.last_seq, self.held_ms());
        if is_lost {
            let gone_ms = self.last_ms.unwrap_or(0);
            self.untold = Some(salvage::uncertain("its generations are gone", gone_ms, gone_ms));
        }
        let sinks: Vec<String> = self.cursors.keys().cloned().collect();
        for gap in self.row.iter_mut().filter_map(|entry| entry.gap.as_mut()) {
            // Whether a sink was given it is not known any more.
            gap.given.extend(sinks.iter().cloned());
        }
        self.reclaim();
        if let Err(error) = self.begin() {
            let reason = error_chain(&error);
            tracing::warn!(reason, "can't write to the log yet");
        }
        Ok(())
    }

    /// The time of the last record held, as far as that is known without looking for it.
    fn held_ms(&self) -> Option<i64> {
        let newest = self.newest.as_ref().map(|newest| newest.counts.tally);
        let sealed = self.row.iter().rev().map(|entry| entry.tally);
        let held = newest.into_iter().chain(sealed).find(|tally| tally.records > 0)?;
        (held.last_ms != 0).then_some(held.last_ms)
    }

    /// Puts a gap in the place of what is gone between a gap and what comes next: generations cover all
    /// numbers up to the next one, gaps don't.
    fn tell_hole(&mut self, before: &Entry, last_seq: u64) {
        let (first_seq, stream) = (before.last_seq + 1, before.stream);
        let (from_ms, records) = (before.tally.last_ms, last_seq - before.last_seq);
        let detail = "its generation is gone";
        let gap = salvage::damage_gap(detail, from_ms, from_ms, (first_seq, last_seq), records);
        let stand_in = StandIn { stream, first_seq, gap };
        tracing::error!(first_seq, last_seq, "a generation of the log is gone");
        match sidecar::write_gap(&self.disk, &self.directory, &stand_in) {
            Ok(path) => self.row.push_front(Entry::of_gap(stand_in, path)),
            Err(error) => tracing::warn!(%error, "can't note a gap, it will be noted later"),
        }
    }

    /// What is to be on disk from the start: the gap for what was found damaged, and a new log's stream.
    fn begin(&mut self) -> Result<(), WalError> {
        self.tell()?;
        if self.row.is_empty() { self.make_newest() } else { Ok(()) }
    }

    /// The entry of a generation that is not the newest, or of a gap.
    fn sealed(&mut self, stretch: Stretch, last_seq: u64) -> Entry {
        let Stretch { first_seq, path, stream, gap } = stretch;
        if let (Some(gap), Some(stream)) = (gap, stream) {
            return Entry::of_gap(StandIn { stream, first_seq, gap }, path);
        }
        let tail = sidecar::read_tail(&path).filter(|(seq, _)| *seq == last_seq);
        let counted = || salvage::tally(&path, first_seq, last_seq);
        let tally = tail.map_or_else(counted, |(_, tally)| tally);
        let stored = || {
            let open = || Generation::open(&self.disk, &path);
            let generation = self.reserve.give_for(open).ok()?;
            heal_head(&self.disk, &generation, first_seq)
        };
        let stream = stream.or_else(stored);
        let disk_bytes = sidecar::disk_bytes(&path);
        let stream = stream.unwrap_or(self.stream);
        Entry { first_seq, last_seq, stream, tally, path, disk_bytes, gap: None }
    }

    fn take_over_newest(
        &mut self,
        stretch: Stretch,
        said: Option<(StreamId, u64)>,
    ) -> Result<(), WalError> {
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
        let said = said.filter(|(stream, _)| *stream == self.stream).map_or(0, |(_, seq)| seq);
        let reach = said.max(carved.traces_to).max(first_seq - 1);
        match opened {
            Ok(opened) => {
                self.take_over_opened(opened, carved, reach, said, path);
                Ok(())
            }
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
                    let entry = self.sealed(Stretch { first_seq, path, stream, gap: None }, reach);
                    self.row.push_back(entry);
                }
                self.find_cursors();
                Ok(())
            }
            Err(Fault::Damaged(reason)) => {
                self.find_cursors();
                self.take_over_damaged(Damage { first_seq, path, reason, reach }, carved);
                Ok(())
            }
        }
    }

    fn take_over_opened(
        &mut self,
        opened: Opened,
        carved: Carved,
        reach: u64,
        said: u64,
        path: PathBuf,
    ) {
        let Opened { newest, cursors, last_seq, torn, .. } = opened;
        self.cursors = cursors;
        self.last_seq = last_seq;
        match ending(last_seq, torn, reach, said) {
            Ending::Whole => self.newest = Some(newest),
            Ending::CutShort => {
                self.newest = Some(newest);
                self.seal_or_replace();
                if let Err(error) = self.adopt(last_seq + 1, carved) {
                    let reason = error_chain(&error);
                    tracing::warn!(reason, "can't keep a record whose append was cut short");
                }
            }
            Ending::Lost(reason) => {
                let first_seq = newest.first_seq;
                drop(newest);
                self.find_cursors();
                self.take_over_damaged(Damage { first_seq, path, reason, reach }, carved);
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

    /// Cursors as the last readable generation of the row has them, where that is further than what is
    /// known. They may be old: some records are then sent again.
    fn find_cursors(&mut self) {
        for entry in self.row.iter().rev().filter(|entry| entry.gap.is_none()) {
            let opened = self.reserve.give_for(|| Generation::open(&self.disk, &entry.path));
            if let Ok(cursors) = opened.and_then(|generation| generation.cursors()) {
                for (sink, seq) in cursors {
                    let cursor = self.cursors.entry(sink).or_insert(Cursor { seq, written: false });
                    *cursor = Cursor { seq: cursor.seq.max(seq), written: false };
                }
                return;
            }
        }
    }
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
fn heal_head(disk: &Disk, generation: &Generation, first_seq: u64) -> Option<StreamId> {
    let stream = generation.stream().ok()?;
    let path = generation.path();
    match sidecar::write_head(disk, path, stream, first_seq) {
        Ok(()) => tracing::warn!(path = %path.display(), "wrote a damaged file of the log again"),
        Err(error) => tracing::debug!(path = %path.display(), %error, "can't write a head again"),
    }
    Some(stream)
}

/// Makes a directory and what is missing above it, each durable in the one above it.
fn create_directories(disk: &Disk, directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| is_missing(path)).collect();
    missing.into_iter().rev().try_for_each(|path| {
        disk.create_directory(path)?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        disk.sync_directory(above.unwrap_or(Path::new(".")))
    })
}

fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && !path.exists()
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

/// Removes what a crash left half done, and what a gap stands for; a generation that was rebuilt takes
/// its place.
fn clean_up(disk: &Disk, survey: &mut Survey) -> io::Result<()> {
    for path in survey.unfinished.drain(..) {
        match path.is_dir() {
            true => disk.remove_directory(&path)?,
            false => disk.remove_file(&path)?,
        }
    }
    for rebuilt in survey.stretches.iter_mut().filter(|stretch| stretch.is_rebuilt()) {
        let place = rebuilt.path.with_extension("gen");
        disk.rename(&rebuilt.path, &place)?;
        rebuilt.path = place;
    }
    for covered in survey.covered.drain(..) {
        match covered.gap {
            Some(_) => disk.remove_file(&covered.path)?,
            None => sidecar::remove_directory(disk, &covered.path)?,
        }
    }
    Ok(())
}
