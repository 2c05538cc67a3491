//! The row of a log's stretches, as an agent would find it that starts now.
//!
//! Follows `open` step by step, but for writing.

use std::path::PathBuf;

use wire::{Gap, StreamId};

use super::{StoppedLog, generation};
use crate::wal::{
    WalError,
    ending::{END_GONE, Ending, ending, is_end_gone},
    fault::Fault,
    packed, sidecar,
    survey::Stretch,
};

/// A stretch of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// First number it covers.
    pub first_seq: u64,
    /// Last number it covers; less than the first if nothing is in it.
    pub last_seq: u64,
    /// The stream its records belong to; all zeros if nothing says which.
    pub stream: StreamId,
    /// Where: a generation's directory, or the file of a packed one or of a gap.
    pub path: PathBuf,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// What it is.
    pub what: What,
}

/// What a stretch of a log is.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The generation that is written.
    Newest,
    /// A generation that is only read.
    Sealed,
    /// A gap in the place of what was dropped.
    Gap(Gap),
}

impl Place {
    /// Its name in the log's directory.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn new(stretch: Stretch, last_seq: u64, stream: Option<StreamId>, what: What) -> Self {
        Self {
            first_seq: stretch.first_seq,
            last_seq,
            stream: stream.unwrap_or(StreamId::from_bytes([0; 16])),
            disk_bytes: sidecar::disk_bytes(&stretch.path),
            path: stretch.path,
            what,
        }
    }
}

impl StoppedLog {
    /// Finds places, cursors and how the log ends.
    pub(super) fn find_places(&mut self, mut stretches: Vec<Stretch>) -> Result<(), WalError> {
        let latest = stretches.iter().rev().find_map(|stretch| stretch.stream);
        let newest = stretches.pop_if(|last| last.is_database());
        let mut next_seq = newest.as_ref().map(|newest| newest.first_seq);
        for stretch in stretches.into_iter().rev() {
            let own = stretch.last_seq().unwrap_or(stretch.first_seq);
            let last_seq = next_seq.map_or(own, |next| next - 1);
            next_seq = Some(stretch.first_seq);
            self.places.push(sealed(stretch, last_seq, latest)?);
        }
        self.places.reverse();
        match newest {
            Some(newest) => self.find_newest(newest, latest)?,
            None => self.find_end()?,
        }
        let given_back_to = self.places.first().map_or(0, |place| place.first_seq - 1);
        // As when they are registered: a required sink had taken what was given back.
        let cursors = self.cursors.iter_mut().filter(|(sink, _)| !self.losses.is_noted(sink));
        cursors.for_each(|(_, cursor)| *cursor = given_back_to.max(*cursor));
        Ok(())
    }

    fn find_newest(&mut self, stretch: Stretch, latest: Option<StreamId>) -> Result<(), WalError> {
        let (first_seq, head) = (stretch.first_seq, stretch.stream);
        let carved = generation::raw(&stretch.path, first_seq)?;
        let asked = generation::newest(&stretch.path, first_seq);
        let before = self.places.last().map(|place| place.stream);
        let stored = asked.as_ref().ok().map(|newest| newest.stream);
        let stream = head.or(stored).or(before).or(latest);
        let said = stream.map_or(0, |stream| self.notes.said_of(stream));
        let reach = said.max(carved.traces_to).max(first_seq - 1);
        let mut last_seq = reach.max(first_seq);
        self.ending = match asked {
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Damaged(reason)) => Ending::Lost(reason),
            Ok(newest) => {
                let end = newest.end.last_seq.unwrap_or(first_seq - 1);
                self.cursors = newest.cursors;
                let ending = ending(end, newest.end.torn, reach, said);
                if !matches!(ending, Ending::Lost(_)) {
                    // A whole record that was being appended is kept.
                    let kept =
                        ending == Ending::CutShort && carved.records.contains_key(&(end + 1));
                    last_seq = end + u64::from(kept);
                }
                ending
            }
        };
        if matches!(self.ending, Ending::Lost(_)) {
            self.find_cursors()?;
        }
        self.places.push(Place::new(stretch, last_seq, stream, What::Newest));
        Ok(())
    }

    /// How a log without a newest generation ends.
    fn find_end(&mut self) -> Result<(), WalError> {
        if let Some(last) = self.places.last() {
            let said = self.notes.said_of(last.stream);
            if is_end_gone(last.last_seq, said, matches!(last.what, What::Gap(_))) {
                self.ending = Ending::Lost(END_GONE.to_owned());
            }
        }
        self.find_cursors()
    }

    /// Cursors as they were noted beside the databases, where that is further than what is known; if
    /// nothing was, as the last readable sealed database has them.
    fn find_cursors(&mut self) -> Result<(), WalError> {
        for (sink, &seq) in &self.notes.cursors {
            let cursor = self.cursors.entry(sink.clone()).or_insert(seq);
            *cursor = seq.max(*cursor);
        }
        if !self.cursors.is_empty() {
            return Ok(());
        }
        let is_asked =
            |place: &&Place| place.what == What::Sealed && !packed::is_packed(&place.path);
        for place in self.places.iter().rev().filter(is_asked) {
            let found = match generation::cursors(&place.path) {
                Ok(found) => found,
                Err(Fault::Damaged(_)) => continue,
                Err(Fault::Io(error)) => return Err(error),
            };
            self.cursors = found;
            return Ok(());
        }
        Ok(())
    }
}

/// A generation that is not the newest, or a gap.
fn sealed(
    mut stretch: Stretch,
    last_seq: u64,
    latest: Option<StreamId>,
) -> Result<Place, WalError> {
    if let Some(gap) = stretch.gap.take() {
        let stream = stretch.stream.or(latest);
        return Ok(Place::new(stretch, gap.last_seq, stream, What::Gap(gap)));
    }
    let asked = || match stretch.is_database() {
        true => generation::stream(&stretch.path),
        false => Err(Fault::Damaged(String::new())),
    };
    let stream = match stretch.stream.map_or_else(asked, Ok) {
        Ok(stream) => Some(stream),
        Err(Fault::Damaged(_)) => latest,
        Err(Fault::Io(error)) => return Err(error),
    };
    Ok(Place::new(stretch, last_seq, stream, What::Sealed))
}
