//! Space kept back for the day the disk is full.
//!
//! Opening a database writes. On a full disk nothing could then be read, shipped and given back, and
//! the disk would stay as full as it is. So a file of [`RESERVE_BYTES`] lies beside the log; it goes
//! when space is needed for opening, and comes back when there is room.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{disk::Disk, fault::Fault, limits::RESERVE_BYTES};

/// Name of the file.
pub(super) const FILE_NAME: &str = "reserve";

/// The file, there or not.
#[derive(Debug)]
pub(super) struct Reserve {
    disk: Disk,
    path: PathBuf,
    there: bool,
}

impl Reserve {
    /// The reserve of a log's directory; makes the file if there is room.
    pub(super) fn open(disk: &Disk, directory: &Path) -> Self {
        let path = directory.join(FILE_NAME);
        let allocated = fs::metadata(&path).map_or(0, |file| file.blocks() * 512);
        let there = allocated >= RESERVE_BYTES;
        let mut reserve = Self { disk: disk.clone(), path, there };
        reserve.refill();
        reserve
    }

    /// Bytes it takes on disk.
    pub(super) const fn disk_bytes(&self) -> u64 {
        if self.there { RESERVE_BYTES } else { 0 }
    }

    /// Gives its space to others; false if there was none to give.
    pub(super) fn release(&mut self) -> bool {
        let released = self.there && self.disk.remove_file(&self.path).is_ok();
        self.there &= !released;
        released
    }

    /// Tries what needs space; if there is none, once more with the reserve's.
    pub(super) fn give_for<T>(
        &mut self,
        mut open: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match open() {
            Err(fault) if fault.is_full() && self.release() => {
                tracing::warn!(
                    "the disk is full, the log's reserve is given up to read what is in it"
                );
                open()
            }
            done => done,
        }
    }

    /// Takes the space back, if there is room.
    pub(super) fn refill(&mut self) {
        if self.there {
            return;
        }
        match self.disk.allocate(&self.path, RESERVE_BYTES) {
            Ok(()) => self.there = true,
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "no room for the log's reserve");
                let _ = self.disk.remove_file(&self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_goes_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let on_disk = || fs::metadata(&path).map_or(0, |file| file.blocks() * 512);
        let mut reserve = Reserve::open(&Disk::default(), directory.path());
        assert_eq!((reserve.disk_bytes(), on_disk()), (RESERVE_BYTES, RESERVE_BYTES));
        assert!(reserve.release());
        assert!(!reserve.release(), "only once");
        assert_eq!((reserve.disk_bytes(), on_disk()), (0, 0));
        reserve.refill();
        assert_eq!((reserve.disk_bytes(), on_disk()), (RESERVE_BYTES, RESERVE_BYTES));
    }
}
