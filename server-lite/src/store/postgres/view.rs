//! Queries, through connections of their own.

use std::sync::Arc;

use deadpool_postgres::Pool;
use tokio::sync::mpsc;
use wire::Family;

use super::{
    connect::{ANSWER_TIME_MAX, get, within},
    counters::Counters,
    read, rollups, select,
};
use crate::store::{
    BoxFuture, ReadRequest, Reader, RollupRequest, Rollups, Samples, Selector, Series, StoreError,
};

/// Chunks that may wait for whoever reads them.
const CHUNKS_QUEUED: usize = 64;

/// Reads through connections of its own.
pub(super) struct View {
    pub(super) pool: Pool,
    pub(super) counters: Arc<Counters>,
}

impl Reader for View {
    fn series(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Series>, StoreError>> {
        Box::pin(async move {
            let find = async { select::series(&*get(&self.pool).await?, &selector).await };
            within(&self.pool, ANSWER_TIME_MAX, "read series", find).await
        })
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<Samples, StoreError>> {
        Box::pin(async move {
            let client = get(&self.pool).await?;
            let (sink, chunks) = mpsc::channel(CHUNKS_QUEUED);
            tokio::spawn(read::read(client, request, sink));
            Ok(Samples::new(chunks))
        })
    }

    fn rollups(&self, request: RollupRequest) -> BoxFuture<'_, Result<Rollups, StoreError>> {
        Box::pin(async move {
            let client = get(&self.pool).await?;
            let (sink, chunks) = mpsc::channel(CHUNKS_QUEUED);
            tokio::spawn(rollups::read(client, request, sink));
            Ok(Rollups::new(chunks))
        })
    }

    fn dropped_ms(&self) -> Option<i64> {
        self.counters.dropped_ms()
    }

    fn families(&self) -> BoxFuture<'_, Result<Vec<Family>, StoreError>> {
        Box::pin(async move {
            let find = async { select::families(&*get(&self.pool).await?).await };
            within(&self.pool, ANSWER_TIME_MAX, "read what metrics there are", find).await
        })
    }
}
