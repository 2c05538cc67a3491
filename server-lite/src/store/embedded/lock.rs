//! One hub owns a data directory; a second says who holds it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::store::StoreError;

const FILE: &str = "hub.lock";

/// Held as long as it lives; the kernel lets go of it whichever way the process ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: Flock<File>,
}

impl DirectoryLock {
    /// Takes the directory, or says who has it.
    pub(crate) fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let io = |operation, source| StoreError::Io { operation, path: path.clone(), source };
        // Not truncated: if another holds it, its name stands there.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| io("open lock", source))?;
        let mut file =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| {
                match errno {
                    Errno::EWOULDBLOCK => {
                        StoreError::Locked { path: directory.to_owned(), holder: holder(&mut file) }
                    }
                    errno => io("lock", errno.into()),
                }
            })?;
        sign(&mut file).map_err(|source| io("write lock", source))?;
        Ok(Self { _file: file })
    }
}

fn sign(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    let name = std::env::args().next().unwrap_or_else(|| "holdfast-hub".to_owned());
    write!(file, "process {} ({name})", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => text,
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_says_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(directory.path()).unwrap();
        let error = DirectoryLock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DirectoryLock::take(directory.path()).unwrap();
    }
}
