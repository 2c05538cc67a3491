//! What the file sink asks of the file system, so that tests can make any part of it fail.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Readable by the owner and the group: metrics are not for everybody.
const MODE: u32 = 0o640;

/// Device and inode: which file it is, whatever its name.
pub(crate) type FileId = (u64, u64);

/// A file that lines are appended to.
pub(crate) trait LineFile: Read + Write + Seek + Send {
    /// Cuts or extends it.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Which file it is.
    fn id(&self) -> io::Result<FileId>;
}

/// A file system.
pub(crate) trait Disk: Send {
    /// Opens a file to read and append, makes it if it isn't there, and locks it for this process.
    fn open(&self, path: &Path) -> io::Result<Box<dyn LineFile>>;
    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

impl LineFile for File {
    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // the length goes along; times don't matter
        self.sync_data()
    }

    fn id(&self) -> io::Result<FileId> {
        self.metadata().map(|found| (found.dev(), found.ino()))
    }
}

/// The host's file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LineFile>> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process writes it: give each a file of its own",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Which file has this name now; `None` if none has.
pub(crate) fn file_at(path: &Path) -> io::Result<Option<FileId>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
