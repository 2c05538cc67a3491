//! Why a generation can't do what was asked: damage is mended, a refusal waited out.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use super::WalError;

/// Why a generation can't do what was asked.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system refused: nothing is wrong with what is on disk.
    Io(WalError),
    /// What is on disk is not what was written.
    Damaged(String),
}

impl Fault {
    /// As an error of the log, for when damage can't be dealt with.
    pub(super) fn into_error(self, operation: &'static str, path: &Path) -> WalError {
        match self {
            Self::Io(error) => error,
            Self::Damaged(reason) => {
                WalError::Database { operation, path: path.to_owned(), reason }
            }
        }
    }

    /// Whether there was no space.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Io(WalError::Io { source, .. }) => {
                matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            }
            Self::Io(WalError::Database { reason, .. }) => reason.contains("StorageFull"),
            _ => false,
        }
    }
}

/// An I/O error of that operation on that path.
pub(super) fn io_fault(operation: &'static str, path: &Path, source: io::Error) -> Fault {
    Fault::Io(WalError::Io { operation, path: path.to_owned(), source })
}
