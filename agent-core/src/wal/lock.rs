//! One process owns a log.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{WalError, disk::Disk};

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
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => {
            let pid = format!("{:<10}\n", std::process::id());
            // Only for the one who comes second: a full disk must not keep the first from starting.
            if let Err(error) = disk.overwrite(&file, &path, pid.as_bytes()) {
                tracing::debug!(path = %path.display(), %error, "can't note who holds the log");
            }
            Ok(DirLock { _file: file })
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            // What it says is for people; unreadable, the refusal stands all the same.
            let _ = file.read_to_string(&mut pid);
            Err(WalError::Locked { path: directory.to_owned(), holder: holder(pid.trim()) })
        }
        Err((_, errno)) => Err(io(errno.into())),
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
    fn holders_are_named_as_far_as_known() {
        let check = |pid: &str, expected: &str| assert_eq!(holder(pid), expected);
        check("", "another process");
        check("4294967295", "process 4294967295");
        check("x", "process x");
    }
}
