//! A stopped agent's log, looked at without changing a byte of it.
//!
//! Opening a log for real writes: it cleans up, repairs, and sled itself writes whenever a database is
//! opened. So nothing is opened where it lies. What a generation holds is asked twice:
//!
//! - **As a database**: a copy in the temporary directory is opened and read, exactly as an agent would.
//!   That is what sinks will be given.
//! - **As raw bytes**: a scan of the file where it lies, which finds whole records whatever state the
//!   database is in. That is what can be saved.
//!
//! Where the first fails, the second gives what a repair would leave: the same records, and gaps in the
//! same holes. One generation at a time is copied and in memory.
//!
//! [`StoppedLog`] is the log, [`Place`] a stretch of it, [`Contents`] what lies there; [`Summary`] is
//! how it stands, [`Verdict`] what is wrong with it and what becomes of that; [`repair`] is the only
//! one that writes.

mod contents;
mod generation;
mod places;
mod repair;
mod scratch;
mod summary;
mod verify;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

pub use contents::{Contents, Refused};
pub use places::{Place, What};
pub use repair::{Repaired, repair};
pub use summary::{
    GapState, PlaceState, Quarantined, SinkState, State, StreamState, Summary, Totals,
};
pub use verify::{Checked, Finding, Verdict};

use super::{
    WalError,
    disk::Disk,
    ending::Ending,
    lock::Visit,
    losses::Losses,
    sidecar,
    survey::{Notes, Survey, survey},
};
use crate::Batch;

/// A log that no agent owns, as it lies on disk.
#[derive(Debug)]
pub struct StoppedLog {
    directory: PathBuf,
    visit: Visit,
    places: Vec<Place>,
    /// What a crash left half done, what a gap stands for, what is none of the log's.
    unfinished: Vec<PathBuf>,
    covered: Vec<PathBuf>,
    foreign: Vec<PathBuf>,
    cursors: BTreeMap<String, u64>,
    /// What best-effort sinks lost and have not been told.
    losses: Losses,
    /// What is said of it beside its databases.
    notes: Notes,
    /// How the newest generation ends; [`Ending::Whole`] if there is none.
    ending: Ending,
}

/// Why a log can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It can't be read or written.
    #[error(transparent)]
    Log(WalError),
    /// An agent owns it.
    #[error(
        "the log at {path} is in use by {holder}: stop it first (systemctl stop holdfast-agent)"
    )]
    Owned {
        /// The log's directory.
        path: PathBuf,
        /// Who holds it: process id and name.
        holder: String,
    },
    /// It belongs to somebody else.
    #[error("this user may not: run it as the one that the log belongs to, or as root")]
    Denied(#[source] WalError),
    /// Nothing of a log lies there.
    #[error("{path} is not a log: {found}")]
    NotALog {
        /// What was looked at.
        path: PathBuf,
        /// What lies there, and what would be right.
        found: String,
    },
}

impl From<WalError> for InspectError {
    fn from(error: WalError) -> Self {
        match error {
            WalError::Locked { path, holder } => Self::Owned { path, holder },
            WalError::Io { ref source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Self::Denied(error)
            }
            error => Self::Log(error),
        }
    }
}

impl StoppedLog {
    /// Looks at the log in `directory`.
    ///
    /// # Errors
    /// [`InspectError`] when there is none, when an agent owns it, or when it can't be read.
    pub fn open(directory: &Path) -> Result<Self, InspectError> {
        let io = |source| WalError::Io {
            operation: "read the log at",
            path: directory.to_owned(),
            source,
        };
        check_is_log(directory).map_err(|error| match error {
            NotALog::Found(found) => InspectError::NotALog { path: directory.to_owned(), found },
            NotALog::Io(source) => io(source).into(),
        })?;
        let visit = Visit::begin(directory)?;
        scratch::clean_up();
        let Survey { stretches, covered, unfinished, foreign } = survey(directory).map_err(io)?;
        let mut log = Self {
            directory: directory.to_owned(),
            visit,
            places: Vec::new(),
            unfinished,
            covered: covered.into_iter().map(|stretch| stretch.path).collect(),
            foreign,
            cursors: BTreeMap::new(),
            losses: Losses::open(&Disk::default(), directory),
            notes: Notes::new(&stretches, sidecar::read_last(directory)),
            ending: Ending::Whole,
        };
        log.find_places(stretches)?;
        log.visit.check()?;
        Ok(log)
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its stretches, in the order of their numbers.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The highest number that each sink has acknowledged, as it was last written.
    #[must_use]
    pub const fn cursors(&self) -> &BTreeMap<String, u64> {
        &self.cursors
    }

    /// The gaps that a sink is given before anything else: what it lost while nothing waited for it.
    ///
    /// # Errors
    /// [`InspectError`] when one can't be encoded.
    pub fn lost_by(&self, sink: &str) -> Result<Vec<Batch>, InspectError> {
        let acked_seq = self.cursors.get(sink).copied().unwrap_or(0);
        Ok(self.losses.untold(sink, acked_seq)?)
    }

    /// The highest number that every sink has acknowledged; 0 without sinks.
    #[must_use]
    pub fn acked_seq(&self) -> u64 {
        self.cursors.values().copied().min().unwrap_or(0)
    }
}

enum NotALog {
    Found(String),
    Io(io::Error),
}

/// A directory is a log if anything lies in it that only a log has.
fn check_is_log(directory: &Path) -> Result<(), NotALog> {
    let is_ours = |name: &str| {
        let number =
            |stem: &str| !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
        let numbered = |suffix: &str| name.strip_suffix(suffix).is_some_and(number);
        ["lock", "last"].contains(&name)
            || [".gen", ".pack", ".gap", ".new"].into_iter().any(numbered)
    };
    let entries = match directory.read_dir() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let found = "there is no such directory; --data-dir or --config says where it is";
            return Err(NotALog::Found(found.to_owned()));
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(NotALog::Found("it is a file, a log is a directory".to_owned()));
        }
        entries => entries.map_err(NotALog::Io)?,
    };
    let mut is_empty = true;
    for entry in entries {
        is_empty = false;
        if entry.map_err(NotALog::Io)?.file_name().to_str().is_some_and(is_ours) {
            return Ok(());
        }
    }
    let below = directory.join(crate::builder::WAL_DIRECTORY);
    Err(NotALog::Found(if below.is_dir() {
        format!("did you mean {}?", below.display())
    } else if is_empty {
        "it is empty, no agent has written to it".to_owned()
    } else {
        "neither `lock` nor `last` nor a generation (`<number>.gen`, `<number>.pack`) lies in it"
            .to_owned()
    }))
}
