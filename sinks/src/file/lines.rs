//! Appending to the file, and what stays true while any step may fail:
//!
//! - `written` is the extent of whole lines; what may lie behind it is cut off before the next line.
//! - `synced` is the extent that is durable; `held` names the last record in it, for each stream.
//!   Only what is held is skipped when it comes again, and acknowledged.
//! - Never more than [`UNSYNCED_BYTES_MAX`], or one longer line, is written and not synced.
//! - After a failed sync nothing beyond `synced` counts: it is cut off and written again.

use std::{collections::HashMap, io};

use agent_core::{Batch, SinkError};
use wire::StreamId;

use super::{
    FileConfig,
    disk::{Disk, FileId, LineFile, file_at},
    opening,
    recover::{Mark, UNSYNCED_BYTES_MAX},
    rotation::{self, Names},
};
use crate::{
    records::{Decoded, decode_records},
    render::{Heading, json},
};

/// The last record that is durable, for each stream.
pub(crate) type Held = HashMap<StreamId, u64>;

/// The file, the records it holds, and the next line.
pub(crate) struct Lines {
    config: FileConfig,
    names: Names,
    disk: Box<dyn Disk>,
    /// `None` before the files were looked at.
    held: Option<Held>,
    current: Option<Current>,
    line: Vec<u8>,
}

/// The file that is written.
pub(crate) struct Current {
    pub(crate) file: Box<dyn LineFile>,
    pub(crate) id: FileId,
    pub(crate) written: Extent,
    pub(crate) synced: Extent,
    /// Something may lie behind `written`.
    pub(crate) torn: bool,
}

/// Whole lines from the beginning of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    pub(crate) first_ms: Option<i64>,
    pub(crate) last: Option<Mark>,
}

impl Lines {
    pub(crate) fn new(config: FileConfig, names: Names, disk: Box<dyn Disk>) -> Self {
        Self { config, names, disk, held: None, current: None, line: Vec::new() }
    }

    /// Appends the records that the files don't hold yet. Returns the last one's number once all are
    /// durable; after an error, those before the one at fault are.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<u64, SinkError> {
        self.make_ready()?;
        let written = self.write_new(batch);
        self.sync()?;
        written?;
        Ok(batch.records.last().map_or(0, |record| record.seq))
    }

    fn make_ready(&mut self) -> Result<(), SinkError> {
        let there = file_at(&self.names.current).map_err(|e| self.failed("look for", &e))?;
        match &mut self.current {
            // somebody else may have moved or removed it: lines written to it would be lost
            Some(current) if there == Some(current.id) => {
                let cut = current.cut_off();
                cut.map_err(|e| self.failed("cut the torn end off", &e))
            }
            _ => self.open(),
        }
    }

    fn open(&mut self) -> Result<(), SinkError> {
        self.current = None;
        let opened = opening::open(self.disk.as_ref(), &self.names);
        let current = opened.map_err(|e| self.failed("open", &e))?;
        if self.held.is_none() {
            let held = opening::held_by_rotated(&self.names);
            self.held = Some(held.map_err(|e| self.failed("read what was rotated from", &e))?);
        }
        self.hold(current.synced.last);
        self.current = Some(current);
        Ok(())
    }

    fn write_new(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let held = self.held.as_ref().and_then(|held| held.get(&batch.stream_id).copied());
        for decoded in decode_records(batch) {
            let decoded = decoded?;
            if held.is_none_or(|held| decoded.seq > held) {
                self.write_record(batch.stream_id, &decoded)?;
            }
        }
        Ok(())
    }

    fn write_record(&mut self, stream_id: StreamId, found: &Decoded<'_>) -> Result<(), SinkError> {
        let (seq, time_ms) = (found.seq, found.time_ms());
        let host = self.config.host.as_deref();
        let heading = Heading { stream_id: Some(stream_id), seq: Some(seq), time_ms, host };
        self.line.clear();
        let rendered = json::write(&mut self.line, &heading, &found.content());
        rendered.map_err(|e| self.failed("render a line of", &e))?;
        if self.is_due(time_ms) {
            self.rotate()?;
        }
        if self.is_much_unsynced() {
            self.sync()?;
        }
        self.write_line(Mark { stream_id, seq, time_ms })
    }

    /// Whether the file is full or old enough before this line goes in.
    fn is_due(&self, time_ms: i64) -> bool {
        let Some(Current { written, .. }) = &self.current else { return false };
        let full = written.bytes + self.line.len() as u64 > self.config.max_bytes;
        let aged = |first_ms: i64| {
            // a clock that was set back ends the file too: its name stays near what is in it
            let age_ms = u128::from(time_ms.abs_diff(first_ms));
            self.config.max_age.is_some_and(|most| age_ms >= most.as_millis())
        };
        written.bytes > 0 && (full || written.first_ms.is_some_and(aged))
    }

    fn is_much_unsynced(&self) -> bool {
        self.current.as_ref().is_some_and(|Current { written, synced, .. }| {
            let unsynced = written.bytes - synced.bytes;
            unsynced > 0 && unsynced + self.line.len() as u64 > UNSYNCED_BYTES_MAX
        })
    }

    fn write_line(&mut self, mark: Mark) -> Result<(), SinkError> {
        let Some(current) = &mut self.current else {
            return Err(self.failed("write", &io::ErrorKind::NotFound.into()));
        };
        current.write(&self.line, mark).map_err(|e| self.failed("write", &e))
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let synced = current.sync();
        let last = current.synced.last;
        self.hold(last);
        synced.map_err(|e| self.failed("sync", &e))
    }

    fn hold(&mut self, mark: Option<Mark>) {
        if let (Some(held), Some(mark)) = (&mut self.held, mark) {
            let last = held.entry(mark.stream_id).or_insert(mark.seq);
            *last = mark.seq.max(*last);
        }
    }

    /// Gives the file its last name and begins the next. Durable before the first new line: opening
    /// syncs the directory.
    fn rotate(&mut self) -> Result<(), SinkError> {
        self.sync()?;
        let last = self.current.as_ref().and_then(|current| current.synced.last);
        let to = self.names.free(last.map_or(0, |mark| mark.time_ms), false);
        let to = to.map_err(|e| self.failed("find a name to rotate", &e))?;
        let renamed = self.disk.rename(&self.names.current, &to);
        renamed.map_err(|e| self.failed("rotate", &e))?;
        self.current = None;
        if let Err(error) = self.prune() {
            tracing::warn!(%error, directory = %self.names.directory.display(), "old files are not removed");
        }
        self.open()
    }

    fn prune(&self) -> io::Result<()> {
        let FileConfig { keep, max_bytes, max_total_bytes, .. } = self.config;
        let rotated = self.names.rotated()?;
        let most_bytes = max_total_bytes.map(|total| total.saturating_sub(max_bytes));
        let old = rotation::too_many(&rotated, keep, most_bytes);
        old.iter().try_for_each(|file| self.disk.remove(&file.path))
    }

    fn failed(&self, operation: &str, error: &io::Error) -> SinkError {
        use io::ErrorKind::{
            InvalidData, IsADirectory, NotADirectory, NotFound, PermissionDenied,
            ReadOnlyFilesystem, ResourceBusy,
        };
        let reason = format!("{operation} {}: {error}", self.names.current.display());
        match error.kind() {
            NotFound | PermissionDenied | IsADirectory | NotADirectory | ReadOnlyFilesystem
            | InvalidData | ResourceBusy => SinkError::Refused { reason },
            _ => SinkError::Transient { reason, retry_after: None },
        }
    }
}

impl Current {
    /// Appends a whole line, or none of it.
    fn write(&mut self, line: &[u8], mark: Mark) -> io::Result<()> {
        self.torn = true;
        if let Err(error) = self.file.write_all(line) {
            // if this fails too, it is tried again before the next line
            let _ = self.cut_off();
            return Err(error);
        }
        self.torn = false;
        self.written.bytes += line.len() as u64;
        self.written.first_ms.get_or_insert(mark.time_ms);
        self.written.last = Some(mark);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.synced == self.written {
            return Ok(());
        }
        if let Err(error) = self.file.sync() {
            // the kernel may have dropped what it could not write, and says so only once
            self.written = self.synced;
            self.torn = true;
            let _ = self.cut_off();
            return Err(error);
        }
        self.synced = self.written;
        Ok(())
    }

    fn cut_off(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.written.bytes)?;
            self.torn = false;
        }
        Ok(())
    }
}
