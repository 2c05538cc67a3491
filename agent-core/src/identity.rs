//! Who this agent is: one id for as long as its data directory lives, and one for each start.
//!
//! A copied data directory is a copied identity: a hub that sees two processes in turn under one id
//! refuses one of them. Deleting the file `agent-id` of one makes it an agent of its own; its log, and
//! what waits there to be delivered, stays.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use uuid::Uuid;
use wire::{AgentId, InstanceId};

const FILE_NAME: &str = "agent-id";

/// Why the identity can't be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody wrote something else there.
    #[error(
        "{path} holds {found:?} instead of an agent id: restore it, or delete the file to make this a new agent"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its beginning.
        found: String,
    },
}

/// Reads the agent's id below `data_dir`, or makes one and stores it durably.
///
/// # Errors
/// [`IdentityError`] when the file can't be read, written or understood. An unreadable id is never
/// replaced: a new one would make a new host of this one.
pub fn load_or_create(data_dir: &Path) -> Result<AgentId, IdentityError> {
    let path = data_dir.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == ErrorKind::NotFound => create(data_dir, &path),
        Err(source) => Err(IdentityError::Io { operation: "read", path, source }),
    }
}

/// The id of this start; kept nowhere.
#[must_use]
pub fn instance() -> InstanceId {
    InstanceId::from(Uuid::new_v4())
}

fn parse(path: PathBuf, text: &str) -> Result<AgentId, IdentityError> {
    text.trim().parse().map_err(|_| {
        let found = text.chars().take(80).collect();
        IdentityError::Malformed { path, found }
    })
}

fn create(data_dir: &Path, path: &Path) -> Result<AgentId, IdentityError> {
    let id = AgentId::from(Uuid::new_v4());
    let temporary = data_dir.join(format!("{FILE_NAME}.new"));
    write_durably(data_dir, &temporary, path, &format!("{id}\n")).map_err(|source| {
        IdentityError::Io { operation: "write", path: path.to_owned(), source }
    })?;
    Ok(id)
}

/// Whole or not at all, also after a power cut: written aside, synced, renamed, directory synced.
pub(crate) fn write_durably(
    directory: &Path,
    aside: &Path,
    path: &Path,
    text: &str,
) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(aside, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let id = load_or_create(directory.path()).unwrap();
        assert_eq!(load_or_create(directory.path()).unwrap(), id);
    }

    #[test]
    fn a_foreign_file_is_left_alone_and_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for foreign in ["", "hello", "07070707-0707-0707-0707"] {
            fs::write(&path, foreign).unwrap();
            let error = load_or_create(directory.path()).unwrap_err().to_string();
            assert!(error.contains("instead of an agent id"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = load_or_create(Path::new("/nonexistent/data")).unwrap_err();
        assert_eq!(error.to_string(), "write /nonexistent/data/agent-id");
    }
}
