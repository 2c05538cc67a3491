//! Giving back what every required sink has acknowledged, oldest first and a whole generation at a time,
//! on a full disk too.

use std::io;

use super::{
    log::SledWal,
    row::{self, Entry},
    sidecar,
};

/// What to keep of what every required sink has acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// What best-effort sinks still read of the youngest sealed generation.
    Youngest,
    /// Nothing: space is short.
    Nothing,
}

impl SledWal {
    /// Gives back what every required sink has acknowledged.
    pub(super) fn reclaim(&mut self) {
        self.give_back(Keep::Youngest);
    }

    /// Gives back what every required sink has acknowledged, but for what is to be kept. Something
    /// always stays to say where the stream is: another generation or, if the disk is too full for one,
    /// a note.
    pub(super) fn give_back(&mut self, keep: Keep) {
        let acked_seq = self.acked_seq();
        while let Some(entry) = self.row.front().filter(|entry| entry.last_seq <= acked_seq) {
            if keep == Keep::Youngest && self.row.len() == 1 && self.is_lagged_behind(entry) {
                break;
            }
            if self.row.len() == 1
                && let Err(error) = self.make_newest()
                && self.note_end(self.last_seq + 1).is_err()
            {
                tracing::debug!(%error, "the last generation of the log stays until there is another");
                break;
            }
            let Some(entry) = self.row.pop_front() else { break };
            if let Err(error) = self.remove(&entry) {
                tracing::warn!(path = %entry.path.display(), %error, "can't give back a part of the log");
                self.row.push_front(entry);
                break;
            }
            self.lose(&entry, entry.last_seq);
            self.reserve.refill();
        }
        self.find_oldest();
    }

    /// Removes an entry's files.
    pub(super) fn remove(&mut self, entry: &Entry) -> io::Result<()> {
        self.readers.close(entry.first_seq);
        sidecar::remove(&self.disk, &entry.path)
    }

    /// Finds the time of the oldest record that a required sink waits for.
    pub(super) fn find_oldest(&mut self) {
        let acked_seq = self.acked_seq();
        let seq = self.first_seq().max(acked_seq + 1);
        if seq > self.last_seq {
            self.oldest = None;
        } else if self.oldest.is_none_or(|(known, _)| known != seq) {
            self.oldest = self.time_of(seq, acked_seq).map(|time_ms| (seq, time_ms));
        }
    }

    /// The time of the oldest record held, or of the last one if none is; 0 if neither is known.
    pub(super) fn oldest_ms(&self) -> i64 {
        let held = self.time_of(self.first_seq(), 0);
        held.or(self.last_ms).unwrap_or(0)
    }

    fn time_of(&self, seq: u64, acked_seq: u64) -> Option<i64> {
        let Some(entry) = row::position(&self.row, seq).and_then(|index| self.row.get(index))
        else {
            return self.newest.as_ref()?.generation.time_of(seq);
        };
        let exact = || self.readers.peek(entry.first_seq)?.time_of(seq);
        exact().or_else(|| Some(entry.after(acked_seq).first_ms))
    }
}
