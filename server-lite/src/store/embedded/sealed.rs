//! Sealed records take the place of the head's rows, in one transaction.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};
use wire::AgentId;

use super::{
    catalog::{HeadState, StreamState},
    columns::block::SLOTS,
    database::database,
    ledger::{self, Seqs},
    pages,
    registry::day_of,
    stats::Tally,
    writer::Writing,
};
use crate::store::StoreError;

/// What is to take the place of rows of the head.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Whose.
    pub(crate) agent_id: AgentId,
    /// Row of the stream.
    pub(crate) stream: i64,
    /// First and last row of the head that it stands for.
    pub(crate) ids: (i64, i64),
    /// How many rows there are between them.
    pub(crate) rows: usize,
    /// Ticks in them.
    pub(crate) ticks: u64,
    /// Samples in them.
    pub(crate) samples: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// The columns.
    pub(crate) blocks: Vec<SealedBlock>,
    /// Rows that could not be read.
    pub(crate) damaged: Vec<Damaged>,
}

/// A block and what is looked for it by.
#[derive(Debug)]
pub(crate) struct SealedBlock {
    /// Group of its series.
    pub(crate) group: i64,
    /// Row of its stream.
    pub(crate) stream: i64,
    /// Sequence number of its first tick.
    pub(crate) first_seq: u64,
    /// Earliest and latest time.
    pub(crate) span: (i64, i64),
    /// Days that it has samples of (see [`pages`]).
    pub(crate) days: BTreeSet<i64>,
    /// Samples.
    pub(crate) samples: usize,
    /// Slots of its series.
    pub(crate) slots: Vec<u8>,
    /// See [`super::columns::block`].
    pub(crate) data: Vec<u8>,
}

/// A row of the head that can't be read.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// The row.
    pub(crate) id: i64,
    /// Its records.
    pub(crate) seqs: Seqs,
    /// Earliest and latest time.
    pub(crate) span: (i64, i64),
    /// Samples it had.
    pub(crate) samples: u64,
    /// What is wrong with it.
    pub(crate) detail: String,
}

/// Puts the blocks in and takes the head's rows out.
pub(crate) fn commit(writing: &mut Writing<'_>, sealed: &Sealed) -> Result<(), StoreError> {
    let put = database("store sealed blocks");
    let connection = writing.connection;
    put_aside(connection, sealed).map_err(database("put damaged records aside"))?;
    let removed = remove_head(connection, sealed).map_err(database("remove sealed records"))?;
    if removed != sealed.rows {
        // Nobody else removes them: better to keep both views than to guess.
        return Err(StoreError::Damaged {
            what: format!("head of stream {}", sealed.stream),
            detail: format!("{} rows were read, {removed} found when sealing", sealed.rows),
            series: vec![],
        });
    }
    sealed.blocks.iter().try_for_each(|block| insert(connection, block)).map_err(put)?;
    update_stream(writing, sealed).map_err(database("update stream"))?;
    writing.after.tally = Tally {
        sealed_samples: writing.after.tally.sealed_samples + sealed.samples,
        sealed_bytes: writing.after.tally.sealed_bytes
            + sealed.blocks.iter().map(|block| block.data.len() as u64).sum::<u64>(),
        ..writing.after.tally
    };
    Ok(())
}

fn put_aside(connection: &Connection, sealed: &Sealed) -> rusqlite::Result<()> {
    for row in &sealed.damaged {
        tracing::error!(
            stream = sealed.stream,
            first_seq = row.seqs.first,
            last_seq = row.seqs.last,
            samples = row.samples,
            detail = row.detail,
            "stored records no longer read, put aside"
        );
        connection
            .prepare_cached(
                "INSERT INTO damaged (id, stream, first_seq, last_seq, detail, body) \
                 SELECT id, ?2, first_seq, last_seq, ?3, body FROM head WHERE id = ?1",
            )?
            .execute(params![row.id, sealed.stream, row.detail])?;
        let received_ms = connection
            .prepare_cached("SELECT received_ms FROM head WHERE id = ?1")?
            .query_row([row.id], |row| row.get(0))?;
        ledger::record_damage(
            connection,
            sealed.stream,
            row.seqs,
            row.span,
            row.samples,
            received_ms,
        )?;
    }
    Ok(())
}

fn remove_head(connection: &Connection, sealed: &Sealed) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM head WHERE id BETWEEN ?1 AND ?2")?
        .execute([sealed.ids.0, sealed.ids.1])
}

fn insert(connection: &Connection, block: &SealedBlock) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO blocks (grp, stream, first_seq, min_ms, max_ms, samples, data) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            block.group,
            block.stream,
            block.first_seq.cast_signed(),
            block.span.0,
            block.span.1,
            block.samples,
            block.data
        ])?;
    pages::note_unpaged(connection, block.group, connection.last_insert_rowid(), &block.days)?;
    let mut day = connection
        .prepare_cached("UPDATE series SET last_day = ?2 WHERE id = ?1 AND last_day < ?2")?;
    for slot in &block.slots {
        day.execute(params![
            block.group * i64::from(SLOTS) + i64::from(*slot),
            day_of(block.span.1)
        ])?;
    }
    Ok(())
}

fn update_stream(writing: &mut Writing<'_>, sealed: &Sealed) -> rusqlite::Result<()> {
    let connection = writing.connection;
    let since_ms = connection
        .prepare_cached(
            "SELECT received_ms FROM head WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1",
        )?
        .query_row([sealed.ids.1, super::head::row_ids(sealed.stream).1], |row| row.get(0))
        .optional()?;
    let agent = writing.catalog.known(connection, sealed.agent_id)?;
    let stream = agent
        .and_then(|agent| agent.streams.values_mut().find(|stream| stream.row == sealed.stream))
        .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    stream.head = HeadState {
        ticks: stream.head.ticks.saturating_sub(sealed.ticks),
        samples: stream.head.samples.saturating_sub(sealed.samples),
        bytes: stream.head.bytes.saturating_sub(sealed.bytes),
        since_ms,
    };
    save_head(connection, stream)
}

fn save_head(connection: &Connection, stream: &StreamState) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE streams SET head_ticks = ?2, head_samples = ?3, head_bytes = ?4, \
             head_since_ms = ?5 WHERE id = ?1",
        )?
        .execute(params![
            stream.row,
            stream.head.ticks.cast_signed(),
            stream.head.samples.cast_signed(),
            stream.head.bytes.cast_signed(),
            stream.head.since_ms
        ])?;
    Ok(())
}
