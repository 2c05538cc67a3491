//! Reads samples: in order of time, no sample twice, all as they were at one moment.
//!
//! Series are read some at a time in one transaction that sees one state of the database, so memory holds
//! little however much is asked for.

use std::collections::HashMap;

use deadpool_postgres::Object;
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::{
    connect::{READ_TIME_MAX, database, silent},
    stored::{Reading, SERIES_ONCE},
};
use crate::store::{Chunk, ReadRequest, SeriesId, StoreError};

/// Samples of one chunk.
const CHUNK_MAX: usize = 4_096;

/// Where chunks go; the reading ends when nobody takes them any more.
pub(crate) type Sink = mpsc::Sender<Result<Chunk, StoreError>>;

/// Reads what is asked for and sends it, or why it can't be read.
pub(crate) async fn read(mut client: Object, request: ReadRequest, sink: Sink) {
    let error = match timeout(READ_TIME_MAX, read_all(&mut client, &request, &sink)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => database("read samples")(error),
        Err(_) => silent("read samples"),
    };
    // Whatever it is at.
    drop(Object::take(client));
    // Nobody may be listening any more.
    let _ = sink.send(Err(error)).await;
}

/// Begins a transaction that reads, and sees one state of the database.
pub(crate) async fn begin(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.build_transaction();
    transaction.isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await
}

/// The place of each series that is asked for; the first, if it is asked for more than once.
pub(crate) fn places(series: &[SeriesId]) -> HashMap<i64, usize> {
    let mut places = HashMap::new();
    for (place, series) in series.iter().enumerate() {
        places.entry(series.0).or_insert(place);
    }
    places
}

async fn read_all(
    client: &mut Object,
    request: &ReadRequest,
    sink: &Sink,
) -> Result<(), tokio_postgres::Error> {
    let places = places(&request.series);
    let mut series: Vec<i64> = places.keys().copied().collect();
    series.sort_unstable_by_key(|series| places.get(series).copied());
    let transaction = begin(client).await?;
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
    let span = (request.from_ms, request.to_ms);
    let mut samples = Reading::begin(transaction, series, span, |_, _| true).await?;
    let mut chunk = Chunk { series: usize::MAX, times: Vec::new(), values: Vec::new() };
    while let Some(sample) = samples.next().await? {
        let Some(place) = places.get(&sample.series).copied() else { continue };
        if place != chunk.series || chunk.times.len() >= CHUNK_MAX {
            let next = Chunk { series: place, times: Vec::new(), values: Vec::new() };
            if !send(sink, std::mem::replace(&mut chunk, next)).await {
                return Ok(false);
            }
        }
        chunk.times.push(sample.at);
        chunk.values.push(sample.value);
    }
    Ok(send(sink, chunk).await)
}

async fn send(sink: &Sink, chunk: Chunk) -> bool {
    chunk.times.is_empty() || sink.send(Ok(chunk)).await.is_ok()
}
