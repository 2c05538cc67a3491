//! Opening a log, whatever state it was left in.
//!
//! Only the newest generation is opened ([`ending`](super::ending)); of the others names, heads and small
//! files say enough. One that was never packed is opened only if both of the files that name its stream
//! are damaged, or if nothing else says how far sinks had come; and then it is carved before, for sled
//! cuts off what it can't read.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::Path,
};

use super::{
    WalError, WalOptions,
    disk::Disk,
    ending::heal_head,
    limits::QUARANTINE_PART,
    lock,
    log::{Bounds, SledWal},
    losses::Losses,
    newest::{Cursor, Cursors},
    packed,
    packing::Attempts,
    quarantine::Quarantine,
    readers::{Reader, Readers},
    reserve::Reserve,
    row::Entry,
    salvage,
    sidecar::{self, Said, StandIn, Witness},
    survey::{NOTE_DAMAGED, Notes, Stretch, Survey, survey},
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
            attempts: Attempts::default(),
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
        said: Option<Said>,
    ) -> Result<(), WalError> {
        let ended = said.as_ref().filter(|said| stretches.is_empty() && said.holds_nothing());
        let is_ended = ended.is_some();
        if let Some(Said { stream, last_seq, .. }) = ended {
            (self.stream, self.last_seq) = (*stream, *last_seq);
        }
        let is_lost = stretches.is_empty() && said.is_some() && !is_ended;
        if let Some(stream) = stretches.iter().rev().find_map(|stretch| stretch.stream) {
            self.stream = stream;
        }
        let notes = Notes::new(&stretches, said);
        let newest = stretches.pop_if(|last| last.is_database());
        let unsure = self.take_over_sealed(stretches, newest.as_ref());
        let is_sound = match newest {
            Some(newest) => self.take_over_newest(newest, &notes)?,
            None if is_lost => true,
            None if is_ended => {
                self.add_cursors(&notes.cursors);
                true
            }
            None => self.take_over_end(&notes),
        };
        self.last_ms = self.witness.last_ms(self.last_seq, self.held_ms());
        if is_lost {
            let gone_ms = self.last_ms.unwrap_or(0);
            self.untold = Some(salvage::uncertain("its generations are gone", gone_ms, gone_ms));
        }
        // A sink can't have more than there is: it had what damage took.
        for cursor in self.cursors.values_mut().filter(|cursor| cursor.seq > self.last_seq) {
            *cursor = Cursor { seq: self.last_seq, written: false };
        }
        self.widen_damaged_note();
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
        self.ask_databases(&unsure, !is_sound && self.cursors.is_empty());
        if notes.said.is_none() {
            // It was damaged: nothing else would say where the log ends if its end is hit next.
            self.note_last(None);
        }
        Ok(())
    }

    /// Puts what is sealed in the row; returns the first numbers of databases whose stream isn't known.
    fn take_over_sealed(
        &mut self,
        stretches: Vec<Stretch>,
        newest: Option<&Stretch>,
    ) -> BTreeSet<u64> {
        let mut unsure = BTreeSet::new();
        let mut next_seq = newest.map(|newest| newest.first_seq);
        for stretch in stretches.into_iter().rev() {
            let before_next = next_seq.map(|next| next - 1);
            let own = stretch.last_seq().or(before_next).unwrap_or(stretch.first_seq);
            // A generation reaches to the next one; what it lacks is found when it is read.
            let reached = before_next.filter(|_| stretch.gap.is_none());
            let last_seq = reached.unwrap_or(own);
            next_seq = Some(stretch.first_seq);
            self.last_seq = self.last_seq.max(last_seq);
            if stretch.is_database() && stretch.stream.is_none() {
                unsure.insert(stretch.first_seq);
            }
            let entry = self.sealed(stretch, last_seq);
            if let Some(before_next) = before_next.filter(|before_next| last_seq < *before_next) {
                self.tell_hole(&entry, before_next);
            }
            self.row.push_front(entry);
        }
        if let Some(last) = self.row.back() {
            self.stream = last.stream;
        }
        unsure
    }

    /// A gap at the beginning that can't say where it begins covers all that a sink still waits for.
    /// Anywhere else what lies before it tells.
    fn widen_damaged_note(&mut self) {
        let unread = self.unread_seq() + 1;
        let Some(entry) = self.row.front_mut().filter(|entry| unread < entry.first_seq) else {
            return;
        };
        if let Some(gap) = entry.gap.as_mut().filter(|gap| gap.gap.detail == NOTE_DAMAGED) {
            gap.gap.first_seq = unread;
            gap.gap.records = gap.gap.last_seq + 1 - unread;
            entry.first_seq = unread;
        }
    }

    /// The time of the last record held, as far as that is known without looking for it.
    pub(super) fn held_ms(&self) -> Option<i64> {
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
    pub(super) fn sealed(&mut self, stretch: Stretch, last_seq: u64) -> Entry {
        let Stretch { first_seq, path, stream, gap, .. } = stretch;
        // Streams are long: most likely it is that of the next one.
        let next = self.row.front().map_or(self.stream, |next| next.stream);
        let stream = stream.unwrap_or(next);
        if let Some(gap) = gap {
            return Entry::of_gap(StandIn { stream, first_seq, gap }, path);
        }
        let tally = salvage::tally(&path, first_seq, last_seq);
        let disk_bytes = sidecar::disk_bytes(&path);
        Entry { first_seq, last_seq, stream, tally, path, disk_bytes, gap: None }
    }

    /// Adds cursors where they are further than what is known. They may be old: some records are then
    /// sent again.
    pub(super) fn add_cursors(&mut self, found: &BTreeMap<String, u64>) {
        for (sink, &seq) in found {
            let known = self.cursors.get(sink).map_or(0, |cursor| cursor.seq);
            self.cursors.insert(sink.clone(), Cursor { seq: known.max(seq), written: false });
        }
    }

    /// Asks sealed databases for what nothing else says. What is damaged is repaired on the way.
    fn ask_databases(&mut self, unsure: &BTreeSet<u64>, for_cursors: bool) {
        let mut for_cursors = for_cursors;
        for index in (0..self.row.len()).rev() {
            let Some(entry) = self.row.get(index).filter(|entry| entry.is_database()) else {
                continue;
            };
            let first_seq = entry.first_seq;
            if !for_cursors && !unsure.contains(&first_seq) {
                continue;
            }
            if let Err(error) = self.open_reader(index) {
                let reason = error_chain(&error);
                tracing::warn!(reason, "can't ask a generation of the log yet");
                continue;
            }
            let Some(Reader::Sled(generation, _)) = self.readers.peek(first_seq) else { continue };
            let cursors = generation.cursors().ok().filter(|_| for_cursors);
            if unsure.contains(&first_seq)
                && let Some(stream) = heal_head(&self.disk, generation, first_seq)
            {
                self.row[index].stream = stream;
            }
            if let Some(cursors) = cursors {
                self.add_cursors(&cursors);
                for_cursors = false;
            }
        }
        if !self.row.is_empty() {
            self.reclaim();
        }
    }
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
        let ending = if rebuilt.path.is_dir() { "gen" } else { packed::EXTENSION };
        let place = rebuilt.path.with_extension(ending);
        disk.rename(&rebuilt.path, &place)?;
        rebuilt.path = place;
    }
    for covered in survey.covered.drain(..) {
        sidecar::remove(disk, &covered.path)?;
    }
    Ok(())
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
