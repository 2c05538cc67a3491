//! Space kept back for the day the disk is full.
//!
//! Opening a database writes. On a full disk nothing could then be read, shipped and given back, and
//! the disk would stay as full as it is. So a file of [`RESERVE_BYTES`] lies beside the log; it goes
//! when space is needed for opening, and comes back when there is room.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{FallocateFlags, fallocate};

use super::{WalError, generation::Fault, limits::RESERVE_BYTES};

/// Name of the file.
pub(super) const FILE_NAME: &str = "reserve";

/// The file, there or not.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    there: bool,
}

impl Reserve {
    /// The reserve of a log's directory; makes the file if there is room.
    pub(super) fn open(directory: &Path) -> Self {
        let path = directory.join(FILE_NAME);
        let allocated = fs::metadata(&path).map_or(0, |file| file.blocks() * 512);
        let mut reserve = Self { there: allocated >= RESERVE_BYTES, path };
        reserve.refill();
        reserve
    }

    /// Bytes it takes on disk.
    pub(super) const fn disk_bytes(&self) -> u64 {
        if self.there { RESERVE_BYTES } else { 0 }
    }

    /// Gives its space to others; false if there was none to give.
    pub(super) fn release(&mut self) -> bool {
        let released = self.there && fs::remove_file(&self.path).is_ok();
        self.there &= !released;
        released
    }

    /// Tries what needs space; if there is none, once more with the reserve's.
    pub(super) fn give_for<T>(
        &mut self,
        mut open: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match open() {
            Err(Fault::Io(error)) if is_full(&error) && self.release() => {
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
        match allocate(&self.path) {
            Ok(()) => self.there = true,
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "no room for the log's reserve");
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}

fn is_full(error: &WalError) -> bool {
    match error {
        WalError::Io { source, .. } => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        WalError::Database { reason, .. } => reason.contains("StorageFull"),
        _ => false,
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let bytes = i64::try_from(RESERVE_BYTES).unwrap_or(i64::MAX);
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_goes_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let on_disk = || fs::metadata(&path).map_or(0, |file| file.blocks() * 512);
        let mut reserve = Reserve::open(directory.path());
        assert_eq!((reserve.disk_bytes(), on_disk()), (RESERVE_BYTES, RESERVE_BYTES));
        assert!(reserve.release());
        assert!(!reserve.release(), "only once");
        assert_eq!((reserve.disk_bytes(), on_disk()), (0, 0));
        reserve.refill();
        assert_eq!((reserve.disk_bytes(), on_disk()), (RESERVE_BYTES, RESERVE_BYTES));
    }
}
