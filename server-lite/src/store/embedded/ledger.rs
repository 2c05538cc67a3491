//! The gap ledger: what agents say is missing, and what is missing although nobody says so.
//!
//! A hole in the sequence numbers is *unexplained* until a gap record covers it; that may come later
//! than what follows the hole, so the ledger is set right when it does.

use rusqlite::{Connection, OptionalExtension as _, params};
use wire::Gap;

use super::catalog::unsigned;
use crate::store::LedgerReason;
pub(crate) use crate::store::holes::{Seqs, holes, without};

/// Entries of the series limit that follow each other within this become one.
const SERIES_LIMIT_MERGE_MS: i64 = 60 * 60 * 1_000;

/// Writes down a gap record; one that is there already changes nothing.
pub(crate) fn record_gap(
    connection: &Connection,
    stream: i64,
    seq: u64,
    gap: &Gap,
    received_ms: i64,
) -> rusqlite::Result<()> {
    let entry = Entry {
        reason: LedgerReason::Agent(gap.reason),
        from_ms: gap.from_ms,
        to_ms: gap.to_ms,
        seqs: Seqs { first: gap.first_seq, last: gap.last_seq },
        records: gap.records,
        samples: gap.samples,
        detail: &gap.detail,
    };
    entry.insert(connection, stream, Some(seq), received_ms)?;
    if gap.first_seq > 0 { explain(connection, stream, entry.seqs) } else { Ok(()) }
}

/// Writes down what of a hole no gap record explains, and returns it.
pub(crate) fn record_hole(
    connection: &Connection,
    stream: i64,
    hole: Seqs,
    (from_ms, to_ms): (i64, i64),
    received_ms: i64,
) -> rusqlite::Result<Vec<Seqs>> {
    let left = without(hole, &explanations(connection, stream, hole)?);
    for seqs in &left {
        let entry = Entry {
            reason: LedgerReason::Unexplained,
            from_ms,
            to_ms,
            seqs: *seqs,
            records: seqs.last - seqs.first + 1,
            samples: 0,
            detail: "no gap record says why",
        };
        entry.insert(connection, stream, None, received_ms)?;
    }
    Ok(left)
}

/// Writes down samples that were not stored because their agent has too many series.
pub(crate) fn record_series_limit(
    connection: &Connection,
    stream: i64,
    (from_ms, to_ms): (i64, i64),
    samples: u64,
    received_ms: i64,
) -> rusqlite::Result<()> {
    let reason = LedgerReason::SeriesLimit;
    let latest: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM gaps WHERE stream = ?1 AND seq IS NULL AND reason = ?2 \
             AND received_ms > ?3 ORDER BY id DESC LIMIT 1",
        )?
        .query_row(
            params![stream, reason.as_str(), received_ms.saturating_sub(SERIES_LIMIT_MERGE_MS)],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(id) = latest {
        connection
            .prepare_cached(
                "UPDATE gaps SET from_ms = min(from_ms, ?2), to_ms = max(to_ms, ?3), \
                 samples = samples + ?4 WHERE id = ?1",
            )?
            .execute(params![id, from_ms, to_ms, samples.cast_signed()])?;
        return Ok(());
    }
    let entry = Entry {
        reason,
        from_ms,
        to_ms,
        seqs: Seqs { first: 0, last: 0 },
        records: 0,
        samples,
        detail: "the agent has more series than limits.series_per_agent",
    };
    entry.insert(connection, stream, None, received_ms)
}

/// Writes down records of the head that no longer read back.
pub(crate) fn record_damage(
    connection: &Connection,
    stream: i64,
    seqs: Seqs,
    span: (i64, i64),
    samples: u64,
    received_ms: i64,
) -> rusqlite::Result<()> {
    let entry = Entry {
        reason: LedgerReason::StoreDamaged,
        from_ms: span.0,
        to_ms: span.1,
        seqs,
        records: seqs.last - seqs.first + 1,
        samples,
        detail: "the hub's store no longer reads them; their bytes are kept in its table `damaged`",
    };
    entry.insert(connection, stream, None, received_ms)
}

struct Entry<'a> {
    reason: LedgerReason,
    from_ms: i64,
    to_ms: i64,
    seqs: Seqs,
    records: u64,
    samples: u64,
    detail: &'a str,
}

impl Entry<'_> {
    fn insert(
        &self,
        connection: &Connection,
        stream: i64,
        seq: Option<u64>,
        received_ms: i64,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO gaps (stream, seq, reason, from_ms, to_ms, first_seq, \
                 last_seq, records, samples, detail, received_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                stream,
                seq.map(u64::cast_signed),
                self.reason.as_str(),
                self.from_ms,
                self.to_ms,
                self.seqs.first.cast_signed(),
                self.seqs.last.cast_signed(),
                self.records.cast_signed(),
                self.samples.cast_signed(),
                self.detail,
                received_ms
            ])?;
        Ok(())
    }
}

/// Gap records that cover part of a hole.
fn explanations(connection: &Connection, stream: i64, hole: Seqs) -> rusqlite::Result<Vec<Seqs>> {
    connection
        .prepare_cached(
            "SELECT first_seq, last_seq FROM gaps WHERE stream = ?1 AND seq IS NOT NULL \
             AND first_seq > 0 AND first_seq <= ?3 AND last_seq >= ?2",
        )?
        .query_map(params![stream, hole.first.cast_signed(), hole.last.cast_signed()], |row| {
            Ok(Seqs { first: unsigned(row, 0)?, last: unsigned(row, 1)? })
        })?
        .collect()
}

/// Takes what a gap record explains out of the unexplained entries.
fn explain(connection: &Connection, stream: i64, cover: Seqs) -> rusqlite::Result<()> {
    let unexplained: Vec<(i64, Seqs, (i64, i64), i64)> = connection
        .prepare_cached(
            "SELECT id, first_seq, last_seq, from_ms, to_ms, received_ms FROM gaps \
             WHERE stream = ?1 AND seq IS NULL AND reason = ?2 AND first_seq <= ?4 \
             AND last_seq >= ?3",
        )?
        .query_map(
            params![
                stream,
                LedgerReason::Unexplained.as_str(),
                cover.first.cast_signed(),
                cover.last.cast_signed()
            ],
            |row| {
                let seqs = Seqs { first: unsigned(row, 1)?, last: unsigned(row, 2)? };
                Ok((row.get(0)?, seqs, (row.get(3)?, row.get(4)?), row.get(5)?))
            },
        )?
        .collect::<rusqlite::Result<_>>()?;
    for (id, seqs, span, received_ms) in unexplained {
        connection.prepare_cached("DELETE FROM gaps WHERE id = ?1")?.execute([id])?;
        // What is left is explained no better than before.
        record_hole(connection, stream, seqs, span, received_ms)?;
    }
    Ok(())
}
