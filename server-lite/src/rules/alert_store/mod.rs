//! What outlives the process: states of alerts, their history, and what is still to be told.
//!
//! One SQLite file, `alerts.db`; or tables in PostgreSQL, where hubs share one. What both promise:
//! - **One transaction.** New states, the incidents they begin or end, and the outbox rows that tell
//!   of them are committed together, and are on disk when [`AlertStore::commit`] returns. A restart neither
//!   forgets nor repeats; nor does another hub that takes over.
//! - **Told once.** An outbox row has a unique key made of rule, series, start, transition and
//!   notifier: the same one can't be queued twice.
//! - **Nothing leaves silently.** An outbox row is pending, delivered, or dead with the reason; dead
//!   ones are counted, listed and kept for [`DEAD_KEPT_MS`].
//!
//! A restart between delivery and the mark that says so delivers once more, with the same key: the
//! receiver can tell.
//!
//! - `file`, with `schema`, `states`, `outbox`, `history`: the file. `database`: the tables that hubs share.

mod database;
mod file;
mod history;
mod outbox;
mod schema;
mod states;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch};

use self::{database::Database, file::File};
use super::alert::{AlertStates, Change};
use crate::store::{StoreError, postgres::Shared as SharedDatabase};

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
/// How often who delivers looks whether this hub leads now, or another has left something behind.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Where it is kept, opened. Clones share it. Calls block: on the disk, or for the database.
#[derive(Clone, Debug)]
pub struct AlertStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kept: Kept,
    /// Moves whenever outbox rows were added.
    queued: watch::Sender<()>,
}

#[derive(Debug)]
enum Kept {
    File(File),
    Database(Database),
}

impl AlertStore {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be opened, is damaged, or was written by a newer hub.
    pub fn open(path: &Path) -> Result<Self, AlertStoreError> {
        File::open(path).map(|file| Self::of(Kept::File(file)))
    }

    /// In a database that hubs share. Its connections live in the runtime that this is called in; its
    /// other calls are for threads that aren't the runtime's: see [`AlertStore::blocking`].
    #[must_use]
    pub fn shared(database: SharedDatabase) -> Self {
        Self::of(Kept::Database(Database::new(database, Handle::current())))
    }

    fn of(kept: Kept) -> Self {
        Self { shared: Arc::new(Shared { kept, queued: watch::Sender::new(()) }) }
    }

    /// Changes whenever there is something new to deliver.
    #[must_use]
    pub fn queued(&self) -> watch::Receiver<()> {
        self.shared.queued.subscribe()
    }

    /// Ends when it is time to look for what another hub has left behind; never, if there can be no other.
    pub(crate) async fn look_again(&self) {
        match self.shared.kept {
            Kept::File(_) => std::future::pending().await,
            Kept::Database(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
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

    /// Commits changes: states, the incidents they begin or end, and an outbox row for each
    /// transition and each of `notifiers`. Returns how many notifications were queued. What was
    /// committed before is not queued again.
    ///
    /// # Errors
    /// [`AlertStoreError`]; nothing of it is stored then.
    pub fn commit(
        &self,
        changes: &[Change],
        notifiers: &[String],
        now_ms: i64,
    ) -> Result<usize, AlertStoreError> {
        if changes.is_empty() {
            return Ok(0);
        }
        let queued = match &self.shared.kept {
            Kept::File(file) => file.commit(changes, notifiers, now_ms)?,
            Kept::Database(database) => {
                database.wait(database.commit(changes, notifiers, now_ms))?
            }
        };
        if queued > 0 {
            self.shared.queued.send_replace(());
        }
        Ok(queued)
    }

    /// All alerts as they were committed last.
    ///
    /// # Errors
    /// [`AlertStoreError`] when they can't be read.
    pub fn load(&self) -> Result<AlertStates, AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.load(),
            Kept::Database(database) => database.wait(database.load()),
        }
    }

    /// The oldest notification that waits for this notifier; none while another hub leads.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be read.
    pub fn next_delivery(&self, notifier: &str) -> Result<Option<Delivery>, AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.next_delivery(notifier),
            Kept::Database(database) => database.wait(database.next_delivery(notifier)),
        }
    }

    /// Marks one as delivered.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be written; it is then delivered once more.
    pub fn mark_delivered(&self, id: i64, now_ms: i64) -> Result<(), AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.mark_delivered(id, now_ms),
            Kept::Database(database) => database.wait(database.mark_delivered(id, now_ms)),
        }
    }

    /// Counts a failed attempt; it stays pending.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be written.
    pub fn mark_failed(&self, id: i64, error: &str, refused: bool) -> Result<(), AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.mark_failed(id, error, refused),
            Kept::Database(database) => database.wait(database.mark_failed(id, error, refused)),
        }
    }

    /// Gives up on one: it is kept, with the reason.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be written; it is then tried once more.
    pub fn mark_dead(&self, id: i64, error: &str, now_ms: i64) -> Result<(), AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.mark_dead(id, error, now_ms),
            Kept::Database(database) => database.wait(database.mark_dead(id, error, now_ms)),
        }
    }

    /// Gives up on what waits for notifiers that are no longer configured; returns how many.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be written.
    pub fn bury_unconfigured(
        &self,
        notifiers: &[String],
        now_ms: i64,
    ) -> Result<usize, AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.bury_unconfigured(notifiers, now_ms),
            Kept::Database(database) => {
                database.wait(database.bury_unconfigured(notifiers, now_ms))
            }
        }
    }

    /// How the outbox stands.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be read.
    pub fn outbox_counts(&self) -> Result<OutboxCounts, AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.outbox_counts(),
            Kept::Database(database) => database.wait(database.outbox_counts()),
        }
    }

    /// The newest incidents, newest first.
    ///
    /// # Errors
    /// [`AlertStoreError`] when they can't be read.
    pub fn incidents(&self, limit: u32) -> Result<Vec<IncidentRow>, AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.incidents(limit),
            Kept::Database(database) => database.wait(database.incidents(limit)),
        }
    }

    /// The newest notifications that were given up on, newest first.
    ///
    /// # Errors
    /// [`AlertStoreError`] when they can't be read.
    pub fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.dead_letters(limit),
            Kept::Database(database) => database.wait(database.dead_letters(limit)),
        }
    }

    /// Removes what has been kept for long enough; returns how many rows.
    ///
    /// # Errors
    /// [`AlertStoreError`] when it can't be written.
    pub fn prune(&self, now_ms: i64) -> Result<usize, AlertStoreError> {
        match &self.shared.kept {
            Kept::File(file) => file.prune(now_ms),
            Kept::Database(database) => database.wait(database.prune(now_ms)),
        }
    }
}

/// Why it can't do what was asked.
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
    /// The database that hubs share refused, or can't be reached.
    #[error("keep alerts in the database")]
    Shared(#[source] StoreError),
    /// Nothing is changed by a hub that doesn't lead.
    #[error("another hub leads now")]
    NotLeading,
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
