//! How far sending came, for the life after a crash.
//!
//! The log moves a sink's cursor with its next tick, so after a `kill -9` the last few records of a
//! backlog are sent again. A receiver that takes samples in order refuses them: it has them, and newer
//! ones. A record that was never sent and is refused is lost to that receiver. To tell one from the
//! other, a backlog's sender writes down the number of each record before it sends it, in a file that
//! the next life reads.
//!
//! What is written is in the kernel's hands, and outlives the process; it isn't synced, for a flush a
//! request would cost more than the request. After a power cut the file may be behind: then records
//! that the receiver has are told as refused, which is the lesser evil. Without a backlog nothing is
//! written: the one record in doubt is the receiver's newest, and the same again is no error.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use wire::StreamId;

/// Bytes of the file: stream, space, number in 20 digits, newline.
const LENGTH: usize = 36 + 1 + 20 + 1;

#[derive(Debug)]
pub(super) struct Sent {
    path: Option<PathBuf>,
    file: Option<File>,
    /// What the life before wrote last.
    before: Option<(StreamId, u64)>,
    has_failed: bool,
}

impl Sent {
    /// Reads what the life before has left at `path`; without one nothing is known or kept.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let before = path.as_deref().and_then(read);
        Self { path, file: None, before, has_failed: false }
    }

    /// Whether the life before began to send that record.
    pub(super) fn was_before(&self, stream_id: StreamId, seq: u64) -> bool {
        self.before.is_some_and(|(stream, last)| stream == stream_id && seq <= last)
    }

    /// Writes down that a record is about to be sent. A disk that takes nothing must not hold up what
    /// goes over the network: then it is told once.
    pub(super) fn note(&mut self, stream_id: StreamId, seq: u64) {
        let Some(path) = &self.path else { return };
        // behind what the life before wrote nothing is news, and its word must stay
        if self.was_before(stream_id, seq) {
            return;
        }
        match write(&mut self.file, path, stream_id, seq) {
            Ok(()) => self.has_failed = false,
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                let path = path.display();
                tracing::warn!(%path, %error, "can't note how far sending came: after a crash, \
                                records that are sent again may be told as refused");
            }
            Err(_) => {}
        }
    }
}

fn read(path: &Path) -> Option<(StreamId, u64)> {
    let text = std::fs::read_to_string(path).ok()?;
    let (stream, seq) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((stream.parse().ok()?, seq.parse().ok()?))
}

fn write(open: &mut Option<File>, path: &Path, stream_id: StreamId, seq: u64) -> io::Result<()> {
    let file = match open {
        Some(file) => file,
        None => {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            file.set_len(LENGTH as u64)?;
            open.insert(file)
        }
    };
    // one write of one length: a reader finds the old number or the new one
    file.write_all_at(format!("{stream_id} {seq:020}\n").as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([7; 16]);

    #[test]
    fn the_next_life_knows_how_far_it_came() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sinks/mimir.sent");
        let life = || Sent::new(Some(path.clone()));
        let mut first = life();
        assert!(!first.was_before(STREAM, 0), "nothing is known");
        first.note(STREAM, 7);
        first.note(STREAM, 8);
        assert!(!first.was_before(STREAM, 8), "this life's own are no retries");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LENGTH as u64);

        let mut second = life();
        assert!(second.was_before(STREAM, 8));
        assert!(!second.was_before(STREAM, 9));
        assert!(!second.was_before(StreamId::from_bytes([8; 16]), 8), "another stream");
        // killed again before it has caught up
        second.note(STREAM, 6);
        assert!(life().was_before(STREAM, 8));
        second.note(STREAM, 9);
        assert!(life().was_before(STREAM, 9));
    }

    #[test]
    fn what_isnt_whole_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        for text in ["", "\0\0\0", "x 7\n", &format!("{STREAM} 7"), &format!("{STREAM} x\n")] {
            std::fs::write(&path, text).unwrap();
            assert!(!Sent::new(Some(path.clone())).was_before(STREAM, 1), "{text:?}");
        }
        Sent::new(None).note(STREAM, 1);
        // a directory in its place: told, and no more
        Sent::new(Some(directory.path().to_owned())).note(STREAM, 1);
    }
}
