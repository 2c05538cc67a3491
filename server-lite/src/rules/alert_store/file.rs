//! One SQLite file, for a hub that has a store of its own.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Connection;

use super::{AlertStoreError, schema};

/// Somebody may look into the file with another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The file, opened.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl File {
    /// Opens the file at `path`, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, AlertStoreError> {
        let failed =
            |source| AlertStoreError::Database { operation: "open", path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        schema::migrate(&mut connection, path)?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in between rolled its transaction back: the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> AlertStoreError + use<> {
        let path = self.path.clone();
        move |source| AlertStoreError::Database { operation, path, source }
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")
}
