//! One process owns a log.
//!
//! Whoever only looks at a log doesn't own it: an agent that starts meanwhile must not be refused. A
//! [`Visit`] tries the lock for a moment, shared and through a descriptor that can't write, and tries it
//! again after each thing it has read; an owner waits out such a moment.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{
    WalError,
    disk::Disk,
    limits::{LOCK_PAUSE, LOCK_TRIES},
};

/// Name of the file that is locked.
pub(super) const FILE_NAME: &str = "lock";

/// Held as long as it lives; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: Flock<File>,
}

/// Takes the lock of a log's directory, or says who holds it.
pub(super) fn acquire(disk: &Disk, directory: &Path) -> Result<DirLock, WalError> {
    let path = directory.join(FILE_NAME);
    let io = |source| WalError::Io { operation: "lock", path: path.clone(), source };
    let file = disk.create_file(&path).map_err(io)?;
    match lock(file) {
        Ok(file) => {
            let pid = format!("{:<10}\n", std::process::id());
            // Only for the one who comes second: a full disk must not keep the first from starting.
            if let Err(error) = disk.overwrite(&file, &path, pid.as_bytes()) {
                tracing::debug!(path = %path.display(), %error, "can't note who holds the log");
            }
            Ok(DirLock { _file: file })
        }
        Err((file, Errno::EWOULDBLOCK)) => Err(locked(directory, file)),
        Err((_, errno)) => Err(io(errno.into())),
    }
}

/// Waits as long as a visit may take.
fn lock(mut file: File) -> Result<Flock<File>, (File, Errno)> {
    for _ in 1..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((again, Errno::EWOULDBLOCK)) => file = again,
            done => return done,
        }
        thread::sleep(LOCK_PAUSE);
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
}

fn locked(directory: &Path, mut file: File) -> WalError {
    let mut pid = String::new();
    // What it says is for people; unreadable, the refusal stands all the same.
    let _ = file.read_to_string(&mut pid);
    WalError::Locked { path: directory.to_owned(), holder: holder(pid.trim()) }
}

/// A look at a log that nobody owns meanwhile.
#[derive(Debug)]
pub(super) struct Visit {
    directory: PathBuf,
    /// When the log was last taken: whoever takes it writes that down.
    taken: Option<SystemTime>,
}

impl Visit {
    /// Begins to look, or says who holds the log.
    pub(super) fn begin(directory: &Path) -> Result<Self, WalError> {
        Ok(Self { directory: directory.to_owned(), taken: last_taken(directory)? })
    }

    /// Whether nobody has owned the log since.
    pub(super) fn check(&self) -> Result<(), WalError> {
        if last_taken(&self.directory)? == self.taken {
            return Ok(());
        }
        let holder = "a process that has meanwhile taken it".to_owned();
        Err(WalError::Locked { path: self.directory.clone(), holder })
    }
}

/// When the log was last taken; `None` if never.
fn last_taken(directory: &Path) -> Result<Option<SystemTime>, WalError> {
    let path = directory.join(FILE_NAME);
    let io = |source| WalError::Io { operation: "try the lock", path: path.clone(), source };
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io)?,
    };
    let taken = file.metadata().and_then(|metadata| metadata.modified()).map_err(io)?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(Some(taken)),
        Err((file, Errno::EWOULDBLOCK)) => Err(locked(directory, file)),
        Err((_, errno)) => Err(io(io::Error::from(errno))),
    }
}

fn holder(pid: &str) -> String {
    let comm = pid.parse::<u32>().ok().and_then(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
    });
    match (pid, comm) {
        ("", _) => "another process".to_owned(),
        (pid, None) => format!("process {pid}"),
        (pid, Some(name)) => format!("process {pid} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let take = || acquire(&Disk::default(), directory.path());
        let first = take().unwrap();
        let error = take().unwrap_err().to_string();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let expected = format!("in use by process {} ({})", std::process::id(), name.trim());
        assert!(error.contains(&expected), "{error}");
        drop(first);
        take().unwrap();
    }

    #[test]
    fn a_visit_is_told_of_an_owner_and_refuses_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let never_owned = Visit::begin(path).unwrap();
        never_owned.check().unwrap();
        assert!(!path.join(FILE_NAME).exists(), "a visit makes nothing");

        let owner = acquire(&Disk::default(), path).unwrap();
        let expected = format!("in use by process {}", std::process::id());
        for refused in [Visit::begin(path).map(drop), never_owned.check()] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(&expected), "{error}");
        }
        drop(owner);

        let file = File::options().write(true).open(path.join(FILE_NAME)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let visit = Visit::begin(path).unwrap();
        visit.check().unwrap();
        drop(acquire(&Disk::default(), path).unwrap());
        let error = visit.check().unwrap_err().to_string();
        assert!(error.contains("meanwhile taken"), "{error}");
    }

    #[test]
    fn an_owner_waits_out_a_visit() {
        let directory = tempfile::tempdir().unwrap();
        drop(acquire(&Disk::default(), directory.path()).unwrap());
        let file = File::open(directory.path().join(FILE_NAME)).unwrap();
        let visit = Flock::lock(file, FlockArg::LockSharedNonblock).unwrap();
        thread::scope(|scope| {
            let owner = scope.spawn(|| acquire(&Disk::default(), directory.path()).map(drop));
            thread::sleep(LOCK_PAUSE);
            drop(visit);
            owner.join().unwrap().unwrap();
        });
    }

    #[test]
    fn holders_are_named_as_far_as_known() {
        let check = |pid: &str, expected: &str| assert_eq!(holder(pid), expected);
        check("", "another process");
        check("4294967295", "process 4294967295");
        check("x", "process x");
    }
}
