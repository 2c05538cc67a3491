//! Copies of a generation to open: opening a database writes.
//!
//! A copy is locked as long as it is used. One that isn't was left by a process that was killed: it goes
//! when somebody next looks at a log.

use std::{
    env,
    fs::{self, DirBuilder, DirEntry, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
};

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::wal::WalError;

/// What names of copies begin with.
const PREFIX: &str = "holdfast-wal-";

/// A copy of one generation in the system's directory for such things; gone when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Scratch {
    /// Copies a generation's directory.
    pub(super) fn copy(generation: &Path) -> Result<Self, WalError> {
        let scratch = Self::make(&env::temp_dir())?;
        copy_files(generation, &scratch.path)?;
        Ok(scratch)
    }

    /// A directory that nobody else reads, or could have made before.
    fn make(below: &Path) -> Result<Self, WalError> {
        let mut n = 0_u32;
        loop {
            let path = below.join(format!("{PREFIX}{}-{n}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(|source| failed(&path, source))?;
                    // Whoever cleans up may have come first.
                    if let Some(lock) = lock(&path).filter(|_| path.exists()) {
                        return Ok(Self { path, _lock: lock });
                    }
                }
            }
            n += 1;
        }
    }

    /// Where the copy lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "can't remove a copy");
        }
    }
}

/// Removes copies that were left by processes of this user which were killed.
pub(super) fn clean_up() {
    clean_up_below(&env::temp_dir());
}

fn clean_up_below(directory: &Path) {
    let is_copy = |entry: &DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(is_copy) {
        if let Some(_lock) = lock(&entry.path()) {
            // Somebody else's stays: the system says so, and it is theirs to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The lock of a copy, if nobody has it. Anybody can put anything into such a directory: what is no
/// directory is not opened.
fn lock(path: &Path) -> Option<Flock<File>> {
    let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
    let directory = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).ok()
}

/// Files and directories; what else lies there is nothing that a database reads.
fn copy_files(from: &Path, to: &Path) -> Result<(), WalError> {
    let unreadable = |source| WalError::Io { operation: "read", path: from.to_owned(), source };
    for entry in fs::read_dir(from).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            DirBuilder::new().mode(0o700).create(&target).map_err(|e| failed(&target, e))?;
            copy_files(&path, &target)?;
        } else if kind.is_file() {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

/// Without its mode: a copy of what can only be read is written to.
fn copy_file(from: &Path, to: &Path) -> Result<(), WalError> {
    let unreadable = |source| WalError::Io { operation: "read", path: from.to_owned(), source };
    let mut file = File::open(from).map_err(unreadable)?;
    let mut copy = File::create(to).map_err(|source| failed(to, source))?;
    io::copy(&mut file, &mut copy).map(drop).map_err(|source| failed(to, source))
}

fn failed(path: &Path, source: io::Error) -> WalError {
    let operation = "copy a generation (TMPDIR says where) to";
    WalError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_copy_can_be_written_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (generation, file) = (directory.path().join("g"), directory.path().join("g/blobs/1"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "one").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();

        let (one, two) = (Scratch::copy(&generation).unwrap(), Scratch::copy(&generation).unwrap());
        assert_ne!(one.path(), two.path());
        let copied = one.path().join("blobs/1");
        assert_eq!(fs::read_to_string(&copied).unwrap(), "one");
        fs::write(&copied, "two").unwrap();
        let gone = one.path().to_owned();
        drop(one);
        assert!(!gone.exists());
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    }

    #[test]
    fn what_a_killed_process_left_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let used = Scratch::make(directory.path()).unwrap();
        let left = directory.path().join(format!("{PREFIX}1-0"));
        let foreign = directory.path().join("holdfast");
        fs::create_dir(&left).unwrap();
        fs::create_dir(&foreign).unwrap();
        clean_up_below(directory.path());
        assert_eq!((used.path().exists(), left.exists(), foreign.exists()), (true, false, true));
    }
}
