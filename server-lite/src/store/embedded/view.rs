//! Queries: each in a read transaction of its own, on a thread that may block.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::mpsc;
use wire::Family;

use super::{
    database::database, find, head_cache::HeadCache, read, readers::Readers, rollups, select,
    stats::Counters,
};
use crate::store::{
    BoxFuture, ReadRequest, Reader, RollupRequest, Rollups, Samples, Selector, Series, StoreError,
};

/// Chunks that may wait for whoever reads them.
const CHUNKS_QUEUED: usize = 64;

/// Reads through connections of its own.
pub(super) struct View {
    pub(super) readers: Arc<Readers>,
    pub(super) counters: Arc<Counters>,
    pub(super) cache: Arc<HeadCache>,
}

impl Reader for View {
    fn series(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Series>, StoreError>> {
        Box::pin(self.readers.with(move |connection| {
            find::series(connection, &selector).map_err(database("read series"))
        }))
    }

    fn label_names(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(self.readers.with(move |connection| {
            find::label_names(connection, &selector).map_err(database("read names of labels"))
        }))
    }

    fn label_values(
        &self,
        name: String,
        selector: Selector,
    ) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(self.readers.with(move |connection| {
            find::label_values(connection, &name, &selector)
                .map_err(database("read values of a label"))
        }))
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<Samples, StoreError>> {
        Box::pin(async move {
            let (sink, chunks) = mpsc::channel(CHUNKS_QUEUED);
            let (counters, cache) = (Arc::clone(&self.counters), Arc::clone(&self.cache));
            let reading = move |connection: &mut Connection| {
                if let Err(error) = read::read(connection, &counters, &cache, &request, &sink) {
                    // Nobody may be listening any more.
                    let _ = sink.blocking_send(Err(error));
                }
                Ok(())
            };
            self.readers.start(reading).await?;
            Ok(Samples::new(chunks))
        })
    }

    fn rollups(&self, request: RollupRequest) -> BoxFuture<'_, Result<Rollups, StoreError>> {
        Box::pin(async move {
            let (sink, chunks) = mpsc::channel(CHUNKS_QUEUED);
            let (counters, cache) = (Arc::clone(&self.counters), Arc::clone(&self.cache));
            let reading = move |connection: &mut Connection| {
                if let Err(error) = rollups::read(connection, &counters, &cache, &request, &sink) {
                    // Nobody may be listening any more.
                    let _ = sink.blocking_send(Err(error));
                }
                Ok(())
            };
            self.readers.start(reading).await?;
            Ok(Rollups::new(chunks))
        })
    }

    fn dropped_ms(&self) -> Option<i64> {
        self.counters.dropped.get()
    }

    fn families(&self) -> BoxFuture<'_, Result<Vec<Family>, StoreError>> {
        Box::pin(self.readers.with(|connection| {
            select::families(connection).map_err(database("read what metrics there are"))
        }))
    }
}
