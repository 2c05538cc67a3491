//! Writes what a group of requests brings: a statement for each table, and samples by COPY in PostgreSQL's
//! binary format.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::CopyInSink;
use uuid::Uuid;

use super::{
    apply::{Batch, TickRow},
    change::Change,
    state::{AgentState, uuid_of},
};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Numbers of one block of `tick_blocks`.
const TICK_BLOCK: usize = 4_096;
/// Bytes handed to the connection at one time.
const COPY_BYTES: usize = 256 << 10;
/// Signature, no flags, no extension: how a binary COPY begins.
const COPY_BEGIN: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_END: i16 = -1;
const FIELDS: i16 = 4;
const FIELD_BYTES: i32 = 8;

/// Writes all of it.
pub(crate) async fn flush(
    transaction: &Change<'_>,
    changed: &[&AgentState],
    batch: &Batch,
) -> Result<()> {
    streams(transaction, changed).await?;
    agents(transaction, changed).await?;
    sums(transaction, batch).await?;
    unpaged(transaction, changed).await?;
    let numbers = numbers(transaction, batch.ticks.len()).await?;
    for is_stray in [false, true] {
        let ticks = batch.ticks.iter().zip(&numbers).filter(|(tick, _)| tick.is_stray == is_stray);
        let ticks: Vec<(&TickRow, i64)> = ticks.map(|(tick, number)| (tick, *number)).collect();
        if !ticks.is_empty() {
            copy(transaction, &ticks, if is_stray { "stray_" } else { "" }).await?;
        }
    }
    Ok(())
}

async fn streams(transaction: &Change<'_>, agents: &[&AgentState]) -> Result<()> {
    let touched = || {
        agents.iter().flat_map(|agent| {
            let touched =
                agent.streams.iter().filter(|(_, stream)| agent.touched.contains(&stream.row));
            touched.map(move |(name, stream)| (agent.row, name, stream))
        })
    };
    if touched().next().is_none() {
        return Ok(());
    }
    let rows: Vec<i64> = touched().map(|(_, _, stream)| stream.row).collect();
    let owners: Vec<i64> = touched().map(|(agent, _, _)| agent).collect();
    let names: Vec<Uuid> = touched().map(|(_, name, _)| uuid_of(name.as_bytes())).collect();
    let acked: Vec<i64> = touched().map(|(_, _, stream)| stream.acked_seq.cast_signed()).collect();
    let ticks: Vec<Option<i64>> = touched().map(|(_, _, stream)| stream.last_tick_ms).collect();
    let writes: Vec<i64> = touched().map(|(_, _, stream)| stream.last_write_ms).collect();
    let sums: Vec<Vec<u8>> = touched().map(|(_, _, stream)| stream.sums.encode()).collect();
    let upsert = "INSERT INTO streams (id, agent, uuid, acked_seq, last_tick_ms, last_write_ms, sums) \
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[], \
        $6::bigint[], $7::bytea[]) ON CONFLICT (id) DO UPDATE SET uuid = excluded.uuid, \
        acked_seq = excluded.acked_seq, last_tick_ms = excluded.last_tick_ms, \
        last_write_ms = excluded.last_write_ms, sums = excluded.sums";
    let values: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&rows, &owners, &names, &acked, &ticks, &writes, &sums];
    transaction.execute(upsert, values).await.map(|_| ())
}

async fn agents(transaction: &Change<'_>, agents: &[&AgentState]) -> Result<()> {
    if agents.is_empty() {
        return Ok(());
    }
    let rows: Vec<i64> = agents.iter().map(|agent| agent.row).collect();
    let hostnames: Vec<&str> = agents.iter().map(|agent| agent.hostname.as_str()).collect();
    let versions: Vec<&str> = agents.iter().map(|agent| agent.version.as_str()).collect();
    let series: Vec<i64> = agents.iter().map(|agent| agent.series.cast_signed()).collect();
    let update = "UPDATE agents a SET hostname = n.hostname, version = n.version, \
        series = n.series, changed = a.changed + 1 FROM unnest($1::bigint[], $2::text[], \
        $3::text[], $4::bigint[]) AS n (id, hostname, version, series) WHERE a.id = n.id";
    transaction.execute(update, &[&rows, &hostnames, &versions, &series]).await.map(|_| ())
}

async fn sums(transaction: &Change<'_>, batch: &Batch) -> Result<()> {
    if batch.sums.is_empty() {
        return Ok(());
    }
    let streams: Vec<i64> = batch.sums.iter().map(|row| row.0).collect();
    let firsts: Vec<i64> = batch.sums.iter().map(|row| row.1).collect();
    let received: Vec<i64> = batch.sums.iter().map(|row| row.2).collect();
    let sums: Vec<&[u8]> = batch.sums.iter().map(|row| row.3.as_slice()).collect();
    let insert = "INSERT INTO sums (stream, first_seq, received_ms, sums) SELECT * FROM \
        unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])";
    transaction.execute(insert, &[&streams, &firsts, &received, &sums]).await.map(|_| ())
}

/// Days that have got samples which are in no page of rollups.
async fn unpaged(transaction: &Change<'_>, agents: &[&AgentState]) -> Result<()> {
    let new = || {
        let days = |agent: &'_ AgentState| agent.newly_unpaged.clone().into_iter();
        agents.iter().flat_map(move |agent| days(agent).map(|(day, ms)| (agent.row, day, ms)))
    };
    if new().next().is_none() {
        return Ok(());
    }
    let agents: Vec<i64> = new().map(|(agent, _, _)| agent).collect();
    let days: Vec<i64> = new().map(|(_, day, _)| day).collect();
    let since: Vec<i64> = new().map(|(_, _, since_ms)| since_ms).collect();
    let insert = "INSERT INTO unpaged (agent, day, taken, since_ms) SELECT agent, day, 0, since_ms \
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n (agent, day, since_ms) \
        ON CONFLICT DO NOTHING";
    transaction.execute(insert, &[&agents, &days, &since]).await.map(|_| ())
}

/// So many numbers for ticks, ascending, above all that their agents' ticks have: these are locked.
async fn numbers(transaction: &Change<'_>, count: usize) -> Result<Vec<i64>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let blocks = count.div_ceil(TICK_BLOCK) as i64;
    let next = "SELECT nextval('tick_blocks') FROM generate_series(1, $1::bigint)";
    let rows = transaction.query(next, &[&blocks]).await?;
    let mut firsts: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    firsts.sort_unstable();
    Ok(firsts.into_iter().flat_map(|first| first..first + TICK_BLOCK as i64).take(count).collect())
}

async fn copy(transaction: &Change<'_>, ticks: &[(&TickRow, i64)], stray: &str) -> Result<()> {
    let into = format!("COPY {stray}ticks (id, stream, seq, at) FROM STDIN BINARY");
    copy_rows(transaction.copy_in(&into).await?, ticks, put_tick).await?;
    let into = format!("COPY {stray}samples (series, at, value, tick) FROM STDIN BINARY");
    copy_rows(transaction.copy_in(&into).await?, ticks, put_samples).await
}

fn put_tick(out: &mut BytesMut, tick: &TickRow, number: i64) {
    let row = [number, tick.stream, tick.seq.cast_signed(), tick.at];
    put_row(out, row.map(i64::to_be_bytes));
}

fn put_samples(out: &mut BytesMut, tick: &TickRow, number: i64) {
    let (at, number) = (tick.at.to_be_bytes(), number.to_be_bytes());
    let series = tick.series.iter().flat_map(|series| series.iter());
    for (series, value) in series.zip(tick.values.iter()).filter(|(series, _)| **series != 0) {
        put_row(out, [series.to_be_bytes(), at, value.to_be_bytes(), number]);
    }
}

fn put_row(out: &mut BytesMut, row: [[u8; 8]; 4]) {
    out.put_i16(FIELDS);
    for field in row {
        out.put_i32(FIELD_BYTES);
        out.put_slice(&field);
    }
}

async fn copy_rows(
    sink: CopyInSink<Bytes>,
    ticks: &[(&TickRow, i64)],
    put: fn(&mut BytesMut, &TickRow, i64),
) -> Result<()> {
    let mut sink = pin!(sink);
    let mut out = BytesMut::with_capacity(COPY_BYTES);
    out.put_slice(COPY_BEGIN);
    for (tick, number) in ticks {
        put(&mut out, tick, *number);
        if out.len() >= COPY_BYTES {
            sink.send(out.split().freeze()).await?;
        }
    }
    out.put_i16(COPY_END);
    sink.send(out.freeze()).await?;
    sink.finish().await.map(|_| ())
}
