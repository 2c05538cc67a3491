//! Copies of a generation to open: opening a database writes.

use std::{
    env,
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process,
};

use crate::wal::WalError;

/// A copy of one generation in the system's directory for such things; gone when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Copies a generation's directory.
    pub(super) fn copy(generation: &Path) -> Result<Self, WalError> {
        let scratch = Self { path: make_directory(&env::temp_dir())? };
        copy_files(generation, &scratch.path)?;
        Ok(scratch)
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

/// A directory that nobody else reads, or could have made before.
fn make_directory(below: &Path) -> Result<PathBuf, WalError> {
    let mut n = 0_u32;
    loop {
        let path = below.join(format!("holdfast-wal-{}-{n}", process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => n += 1,
            made => return made.map(|()| path.clone()).map_err(|source| failed(&path, source)),
        }
    }
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
    let mut file = fs::File::open(from).map_err(unreadable)?;
    let mut copy = fs::File::create(to).map_err(|source| failed(to, source))?;
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
}
