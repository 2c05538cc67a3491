//! Connections for queries: few, on blocking threads, so that a query never holds up the writer.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
};

use super::database;
use crate::store::StoreError;

/// Connections that are opened when they are first needed.
pub(crate) struct Readers {
    directory: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// At most so many at once.
    pub(crate) fn new(directory: &Path, most: usize) -> Self {
        let permits = Arc::new(Semaphore::new(most.max(1)));
        Self { directory: directory.to_owned(), idle: Mutex::default(), permits }
    }

    /// Runs a query and waits for what it finds.
    pub(crate) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.start(query).await?.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Starts a query as soon as a connection is free.
    pub(crate) async fn start<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<task::JoinHandle<Result<T, StoreError>>, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(self);
        Ok(task::spawn_blocking(move || readers.run(query, permit)))
    }

    fn run<T>(
        &self,
        query: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
        _permit: OwnedSemaphorePermit,
    ) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => database::open_reader(&self.directory)?,
        };
        let found = query(&mut connection);
        // A connection that failed is not worth finding out what state it is in.
        if found.is_ok() && !self.permits.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        found
    }

    /// No more queries; those under way end as they will.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
