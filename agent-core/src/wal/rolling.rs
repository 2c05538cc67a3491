//! The newest generation: when it is left behind, and how the next one comes to be.

use std::path::{Path, PathBuf};

use super::{
    WalError,
    fault::{Fault, io_fault},
    generation::Generation,
    limits,
    log::SledWal,
    newest::Newest,
    readers::Reader,
    row::Entry,
    sidecar,
};

impl SledWal {
    /// Seals the newest generation; one without records makes room for another.
    pub(super) fn seal_or_replace(&mut self) {
        if self.newest.take_if(|newest| newest.is_empty()).is_none() {
            self.roll();
        }
    }

    pub(super) fn is_full(&self, time_ms: i64) -> bool {
        let Some(newest) = &self.newest else { return false };
        let idle = self.acked_seq() >= self.last_seq;
        let (bytes, full) = (newest.counts.bytes, self.bounds.generation_bytes);
        let span_ms = time_ms.saturating_sub(newest.counts.tally.first_ms);
        let old = span_ms > self.bounds.age_ms_max / limits::AGE_ROLL_PART;
        !newest.is_empty()
            && (bytes >= full || old || (idle && bytes >= full / limits::IDLE_ROLL_PART))
    }

    /// A page too large for its segment lies in a file of its own, which nobody syncs.
    pub(super) fn look_for_blobs(&mut self) {
        self.blob_bytes = self.newest.as_ref().map_or(0, Newest::blob_bytes);
        if self.blob_bytes > 0 {
            tracing::error!(
                bytes = self.blob_bytes,
                "sled keeps pages outside of its log, a power cut may lose them"
            );
        }
    }

    /// Seals the newest generation.
    pub(super) fn roll(&mut self) {
        self.look_for_blobs();
        let Some(newest) = self.newest.take() else { return };
        let entry = newest.entry(self.last_seq);
        let Entry { last_seq, stream, .. } = entry;
        let told = sidecar::write_tail(&self.disk, &entry.path, last_seq, &entry.tally, stream);
        if let Err(error) = told {
            tracing::debug!(path = %entry.path.display(), %error, "can't note what a generation holds");
        }
        // It is read by a sink, or packed.
        self.readers.keep(entry.first_seq, Reader::Sled(newest.generation, newest.schemas));
        self.row.push_back(entry);
        self.reserve.refill();
        self.reclaim();
    }

    /// Creates the newest generation if there is none.
    pub(super) fn make_newest(&mut self) -> Result<(), WalError> {
        if self.newest.is_some() {
            return Ok(());
        }
        let (first_seq, path) = (self.last_seq + 1, self.generation_path(self.last_seq + 1));
        let created = if path.exists() { self.replace_failed(&path) } else { self.create(&path) };
        let generation = created.map_err(|fault| fault.into_error("create generation", &path))?;
        self.cursors.values_mut().for_each(|cursor| cursor.written = true);
        self.newest = Some(Newest::empty(generation, self.stream, first_seq));
        Ok(())
    }

    fn create(&self, path: &Path) -> Result<Generation, Fault> {
        let cursors = self.cursors.iter().map(|(sink, cursor)| (sink.as_str(), cursor.seq));
        Generation::create(&self.disk, path, self.stream, self.last_seq + 1, cursors)
    }

    /// Creates one in place of an empty one to which a write failed: that goes only when the new one is
    /// there, for it may be all that says where the stream is.
    fn replace_failed(&self, path: &Path) -> Result<Generation, Fault> {
        let aside = path.with_extension("new");
        drop(self.create(&aside)?);
        sidecar::remove_directory(&self.disk, path)
            .and_then(|()| self.disk.rename(&aside, path))
            .and_then(|()| self.disk.sync_directory(&self.directory))
            .map_err(|source| io_fault("create generation", path, source))?;
        Generation::open(&self.disk, path)
    }

    pub(super) fn generation_path(&self, first_seq: u64) -> PathBuf {
        self.directory.join(format!("{first_seq:020}.gen"))
    }

    /// Gives up the newest generation after a failed call: nothing more is written to it, and what
    /// lies behind the last durable record is never looked at.
    pub(super) fn fail(&mut self, operation: &'static str, fault: Fault) -> WalError {
        let Some(newest) = self.newest.take() else {
            return fault.into_error(operation, &self.directory);
        };
        let error = fault.into_error(operation, newest.path());
        self.cursors.values_mut().for_each(|cursor| cursor.written = false);
        // One without records stays where it is until another takes its place.
        if self.last_seq >= newest.first_seq {
            self.row.push_back(newest.entry(self.last_seq));
        }
        error
    }
}
