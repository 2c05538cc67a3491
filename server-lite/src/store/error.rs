//! Why a store can't do what was asked.

/// Why nothing of a request was stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// This record can never be stored.
    #[error("record {index} (seq {seq}): {reason}")]
    BadRecord {
        /// Counted from 0 in the request.
        index: usize,
        /// Its sequence number.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else writes this stream: what it brings under this number is not what is stored.
    #[error("{reason}")]
    Conflict {
        /// The lowest number of which that is known.
        seq: u64,
        /// How it is known.
        reason: String,
    },
    /// More waits to be written than may: ask again.
    #[error("store is busy: {0}")]
    Busy(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("{operation}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried: `create`, `lock`.
        operation: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another hub owns the directory.
    #[error(
        "data directory {path} is in use by {holder}: stop it first, or give this hub a `data_dir` of its own"
    )]
    Locked {
        /// The directory.
        path: std::path::PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// Written by a newer hub, or not by a hub at all.
    #[error("{path} {found}")]
    Format {
        /// The file.
        path: std::path::PathBuf,
        /// What was found, and what would be right.
        found: String,
    },
    /// The database is none that this hub can use: what was found, and what would be right.
    #[error("{0}")]
    Unusable(String),
    /// What was stored doesn't read back.
    #[error("damaged {what}: {detail}")]
    Damaged {
        /// Which row.
        what: String,
        /// What is wrong with it.
        detail: String,
        /// Which series of a [`super::ReadRequest`] lack samples by it: their places there, ascending.
        series: Vec<usize>,
    },
    /// The store was closed, or its writer ended.
    #[error("store is closed")]
    Closed,
}
