//! Reads samples: in order of time, no sample twice, all as they were at one moment.
//!
//! Series are read some at a time in one transaction that sees one state of the database, so memory holds
//! little however much is asked for.

use std::{collections::HashMap, pin::pin};

use deadpool_postgres::Object;
use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::{IsolationLevel, Transaction};

use super::connect::database;
use crate::store::{Chunk, ReadRequest, StoreError};

/// Series read by one statement.
const SERIES_ONCE: usize = 64;
/// Samples of one chunk.
const CHUNK_MAX: usize = 4_096;

/// Where chunks go; the reading ends when nobody takes them any more.
pub(crate) type Sink = mpsc::Sender<Result<Chunk, StoreError>>;

/// Of several samples at one time the one that was sent last counts: it has the highest tick.
const SELECT: &str = "SELECT series, at, value FROM (\
    SELECT series, at, value, tick FROM samples \
    WHERE series = ANY($1) AND at >= $2 AND at <= $3 UNION ALL \
    SELECT series, at, value, tick FROM stray_samples \
    WHERE series = ANY($1) AND at >= $2 AND at <= $3) s ORDER BY series, at, tick";

/// Reads what is asked for and sends it, or why it can't be read.
pub(crate) async fn read(mut client: Object, request: ReadRequest, sink: Sink) {
    match read_all(&mut client, &request, &sink).await {
        Ok(()) => {}
        Err(error) => {
            if client.is_closed() {
                drop(Object::take(client));
            }
            // Nobody may be listening any more.
            let _ = sink.send(Err(database("read samples")(error))).await;
        }
    }
}

async fn read_all(
    client: &mut Object,
    request: &ReadRequest,
    sink: &Sink,
) -> Result<(), tokio_postgres::Error> {
    let mut places = HashMap::new();
    for (place, series) in request.series.iter().enumerate() {
        places.entry(series.0).or_insert(place);
    }
    let mut series: Vec<i64> = places.keys().copied().collect();
    series.sort_unstable_by_key(|series| places.get(series).copied());
    let client: &mut tokio_postgres::Client = client;
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    for some in series.chunks(SERIES_ONCE) {
        if !read_some(&transaction, some, request, &places, sink).await? {
            return Ok(());
        }
    }
    transaction.commit().await
}

/// Reads some series; `false` when nobody takes chunks any more.
async fn read_some(
    transaction: &Transaction<'_>,
    series: &[i64],
    request: &ReadRequest,
    places: &HashMap<i64, usize>,
    sink: &Sink,
) -> Result<bool, tokio_postgres::Error> {
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&series, &request.from_ms, &request.to_ms];
    let statement = transaction.prepare(SELECT).await?;
    let mut rows = pin!(transaction.query_raw(&statement, values).await?);
    let mut chunk = Chunk { series: usize::MAX, times: Vec::new(), values: Vec::new() };
    while let Some(row) = rows.try_next().await? {
        let (series, at, value): (i64, i64, f64) = (row.get(0), row.get(1), row.get(2));
        let Some(place) = places.get(&series).copied() else { continue };
        if place == chunk.series && chunk.times.last() == Some(&at) {
            // The one before was sent earlier.
            chunk.values.pop();
            chunk.values.push(value);
            continue;
        }
        if place != chunk.series || chunk.times.len() >= CHUNK_MAX {
            let next = Chunk { series: place, times: Vec::new(), values: Vec::new() };
            if !send(sink, std::mem::replace(&mut chunk, next)).await {
                return Ok(false);
            }
        }
        chunk.times.push(at);
        chunk.values.push(value);
    }
    Ok(send(sink, chunk).await)
}

async fn send(sink: &Sink, chunk: Chunk) -> bool {
    chunk.times.is_empty() || sink.send(Ok(chunk)).await.is_ok()
}
