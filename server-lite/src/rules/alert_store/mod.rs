//! What outlives the process: states of alerts, their history, and what is still to be told.
//!
//! One SQLite file, `alerts.db`. What it promises:
//! - **One transaction.** New states, the incidents they begin or end, and the outbox rows that tell
//!   of them are committed together, and are on disk when [`AlertStore::commit`] returns
//!   (`journal_mode = WAL`, `synchronous = FULL`). A restart neither forgets nor repeats.
//! - **Told once.** An outbox row has a unique key made of rule, series, start, transition and
//!   notifier: the same one can't be queued twice.
//! - **Nothing leaves silently.** An outbox row is pending, delivered, or dead with the reason; dead
//!   ones are counted, listed and kept for [`DEAD_KEPT_MS`].
//!
//! A restart between delivery and the mark that says so delivers once more, with the same key: the
//! receiver can tell.

mod history;
mod outbox;
mod schema;
mod states;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::watch;

pub use history::{DeadLetter, IncidentRow};
pub use outbox::{Delivery, OutboxCounts};

/// Name of the file in the hub's data directory.
pub const FILE: &str = "alerts.db";
/// How long an ended incident is kept, in milliseconds: 400 days, so that a year can be looked back.
pub const INCIDENTS_KEPT_MS: i64 = 400 * DAY_MS;
/// How long a delivered outbox row is kept, in milliseconds: a week.
pub const DELIVERED_KEPT_MS: i64 = 7 * DAY_MS;
/// How long a dead outbox row is kept, in milliseconds: 30 days.
pub const DEAD_KEPT_MS: i64 = 30 * DAY_MS;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Somebody may look into the file with another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The file, opened. Clones share it. Calls block on the disk.
#[derive(Clone, Debug)]
pub struct AlertStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Moves whenever outbox rows were added.
    queued: watch::Sender<()>,
}

impl AlertStore {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be opened, is damaged, or was written by a newer hub.
    pub fn open(path: &Path) -> Result<Self, AlertStoreError> {
        let failed =
            |source| AlertStoreError::Database { operation: "open", path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        schema::migrate(&mut connection, path)?;
        let shared = Shared {
            path: path.to_owned(),
            connection: Mutex::new(connection),
            queued: watch::Sender::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Changes whenever there is something new to deliver.
    #[must_use]
    pub fn queued(&self) -> watch::Receiver<()> {
        self.shared.queued.subscribe()
    }

    /// Does `work` with the store where blocking is allowed.
    ///
    /// # Errors
    /// Those of `work`, and [`AlertStoreError::Interrupted`] if it panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, AlertStoreError> + Send + 'static,
    ) -> Result<T, AlertStoreError> {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result,
            Err(error) => Err(AlertStoreError::Interrupted(error)),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in between rolled its transaction back: the connection is as good as before.
        self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(rusqlite::Error) -> AlertStoreError {
        let path = self.shared.path.clone();
        move |source| AlertStoreError::Database { operation, path, source }
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")
}

/// Why the file can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AlertStoreError {
    /// SQLite refused.
    #[error("{operation} {path}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The thread that worked on it ended early.
    #[error("work on alerts was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// Written by a newer hub.
    #[error("{path} has version {found}, this hub reads up to {known}: run the newer hub again")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest this build knows.
        known: i64,
    },
}
