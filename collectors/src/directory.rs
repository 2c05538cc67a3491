//! Directories that stay open and are listed again and again.
//!
//! readdir(3), as std and nix have it, allocates a name for each entry; a host has ten thousand processes.
//! Here the entries are read where the kernel put them, and what comes of it is the caller's.

use std::{
    ffi::CStr,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    NixPath,
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
    unistd::{Whence, lseek},
};
use rustix::fs::{FileType, RawDir};

/// Room for some hundred entries, on the stack; a directory with more is read in parts.
const ENTRIES_BYTES: usize = 8 << 10;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a CStr,
    pub(crate) inode: u64,
    /// `None` if the file system doesn't say.
    pub(crate) is_directory: Option<bool>,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    descriptor: OwnedFd,
    /// Whether it was read since it was opened, so that reading goes on behind the end.
    was_read: bool,
}

impl Directory {
    /// Opens it.
    pub(crate) fn open<P: NixPath + ?Sized>(path: &P) -> Result<Self, Errno> {
        open(path, flags(), Mode::empty()).map(Self::new)
    }

    /// Opens the one of that path below another.
    pub(crate) fn open_at<P: NixPath + ?Sized>(of: &Self, path: &P) -> Result<Self, Errno> {
        openat(of, path, flags(), Mode::empty()).map(Self::new)
    }

    const fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, was_read: false }
    }

    /// Gives every entry to `each`, but for the directory itself and the one above it.
    pub(crate) fn list(&mut self, mut each: impl FnMut(&Entry<'_>)) -> Result<(), Errno> {
        if std::mem::replace(&mut self.was_read, true) {
            lseek(&self.descriptor, 0, Whence::SeekSet)?;
        }
        let mut room = [MaybeUninit::uninit(); ENTRIES_BYTES];
        let mut reading = RawDir::new(&self.descriptor, &mut room);
        while let Some(entry) = reading.next() {
            let entry = entry.map_err(|error| Errno::from_raw(error.raw_os_error()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = entry.file_type();
            let is_directory = (kind != FileType::Unknown).then_some(kind == FileType::Directory);
            each(&Entry { name, inode: entry.ino(), is_directory });
        }
        Ok(())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn entries_are_listed_again_as_they_are_now() {
        let root = tempfile::tempdir().unwrap();
        let mut directory = Directory::open(root.path()).unwrap();
        let mut check = |expected: &BTreeSet<String>| {
            for _ in 0..2 {
                let mut found = BTreeSet::new();
                directory
                    .list(|entry| {
                        let name = entry.name.to_str().unwrap().to_owned();
                        assert!(entry.inode != 0);
                        assert_eq!(entry.is_directory, Some(name.ends_with('d')));
                        found.insert(name);
                    })
                    .unwrap();
                assert_eq!(found, *expected);
            }
        };
        let mut expected = BTreeSet::new();
        check(&expected);
        for number in 0..1_000 {
            let name = format!("entry number {number}");
            fs::write(root.path().join(&name), "").unwrap();
            expected.insert(name);
        }
        fs::create_dir(root.path().join("d")).unwrap();
        expected.insert("d".to_owned());
        check(&expected);
        fs::remove_file(root.path().join("entry number 7")).unwrap();
        expected.remove("entry number 7");
        check(&expected);
    }

    #[test]
    fn what_is_no_directory_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let check = |name: &str, expected| {
            assert_eq!(Directory::open_at(&directory, name).err(), Some(expected), "{name}");
        };
        check("none", Errno::ENOENT);
        check("file", Errno::ENOTDIR);
    }
}
