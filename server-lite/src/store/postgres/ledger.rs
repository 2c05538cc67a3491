//! The gap ledger of one stream: what its agent says is missing, and what is missing although nobody says
//! so. A hole is *unexplained* until a gap record covers it; that may come later than what follows the
//! hole, so the ledger is set right when it does.

use wire::Gap;

use super::{change::Change, state::text};
use crate::store::{
    LedgerReason,
    holes::{Seqs, without},
};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Entries of the series limit that follow each other within this become one.
const SERIES_LIMIT_MERGE_MS: i64 = 60 * 60 * 1_000;

/// The ledger of a stream, in a transaction.
pub(crate) struct Ledger<'a> {
    /// Inside of which all is written.
    pub(crate) transaction: &'a Change<'a>,
    /// Its row.
    pub(crate) stream: i64,
    /// When the request came that tells of it.
    pub(crate) received_ms: i64,
}

struct Entry<'a> {
    seq: Option<u64>,
    reason: LedgerReason,
    span: (i64, i64),
    seqs: Seqs,
    records: u64,
    samples: u64,
    detail: &'a str,
}

impl Ledger<'_> {
    /// Writes down a gap record; one that is there already changes nothing.
    pub(crate) async fn record_gap(&self, seq: u64, gap: &Gap) -> Result<()> {
        let seqs = Seqs { first: gap.first_seq, last: gap.last_seq };
        self.insert(Entry {
            seq: Some(seq),
            reason: LedgerReason::Agent(gap.reason),
            span: (gap.from_ms, gap.to_ms),
            seqs,
            records: gap.records,
            samples: gap.samples,
            detail: &gap.detail,
        })
        .await?;
        if gap.first_seq > 0 { self.explain(seqs).await } else { Ok(()) }
    }

    /// Writes down what of a hole no gap record explains, and returns it.
    pub(crate) async fn record_hole(&self, hole: Seqs, span: (i64, i64)) -> Result<Vec<Seqs>> {
        let left = without(hole, &self.explanations(hole).await?);
        for seqs in &left {
            self.insert(Entry {
                seq: None,
                reason: LedgerReason::Unexplained,
                span,
                seqs: *seqs,
                records: seqs.last - seqs.first + 1,
                samples: 0,
                detail: "no gap record says why",
            })
            .await?;
        }
        Ok(left)
    }

    /// Writes down samples that were not stored because their agent has too many series.
    pub(crate) async fn record_series_limit(&self, span: (i64, i64), samples: u64) -> Result<()> {
        let reason = LedgerReason::SeriesLimit;
        let since = self.received_ms.saturating_sub(SERIES_LIMIT_MERGE_MS);
        let merged = self
            .transaction
            .execute(
                "UPDATE gaps SET from_ms = least(from_ms, $4), to_ms = greatest(to_ms, $5), \
                 samples = samples + $6 WHERE id = (SELECT id FROM gaps WHERE stream = $1 \
                 AND seq IS NULL AND reason = $2 AND received_ms > $3 ORDER BY id DESC LIMIT 1)",
                &[&self.stream, &reason.as_str(), &since, &span.0, &span.1, &samples.cast_signed()],
            )
            .await?;
        if merged > 0 {
            return Ok(());
        }
        self.insert(Entry {
            seq: None,
            reason,
            span,
            seqs: Seqs { first: 0, last: 0 },
            records: 0,
            samples,
            detail: "the agent has more series than limits.series_per_agent",
        })
        .await
    }

    async fn insert(&self, entry: Entry<'_>) -> Result<()> {
        let Entry { seq, reason, span, seqs, records, samples, detail } = entry;
        self.transaction
            .execute(
                "INSERT INTO gaps (stream, seq, reason, from_ms, to_ms, first_seq, last_seq, \
                 records, samples, detail, received_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                 ON CONFLICT (stream, seq) DO NOTHING",
                &[
                    &self.stream,
                    &seq.map(u64::cast_signed),
                    &reason.as_str(),
                    &span.0,
                    &span.1,
                    &seqs.first.cast_signed(),
                    &seqs.last.cast_signed(),
                    &records.cast_signed(),
                    &samples.cast_signed(),
                    &text(detail),
                    &self.received_ms,
                ],
            )
            .await
            .map(|_| ())
    }

    /// Gap records that cover part of a hole.
    async fn explanations(&self, hole: Seqs) -> Result<Vec<Seqs>> {
        let rows = self
            .transaction
            .query(
                "SELECT first_seq, last_seq FROM gaps WHERE stream = $1 AND seq IS NOT NULL \
                 AND first_seq > 0 AND first_seq <= $3 AND last_seq >= $2",
                &[&self.stream, &hole.first.cast_signed(), &hole.last.cast_signed()],
            )
            .await?;
        Ok(rows.iter().map(|row| seqs(row, 0)).collect())
    }

    /// Takes what a gap record explains out of the unexplained entries.
    async fn explain(&self, cover: Seqs) -> Result<()> {
        let rows = self
            .transaction
            .query(
                "DELETE FROM gaps WHERE stream = $1 AND seq IS NULL AND reason = $2 \
                 AND first_seq <= $4 AND last_seq >= $3 \
                 RETURNING first_seq, last_seq, from_ms, to_ms, received_ms",
                &[
                    &self.stream,
                    &LedgerReason::Unexplained.as_str(),
                    &cover.first.cast_signed(),
                    &cover.last.cast_signed(),
                ],
            )
            .await?;
        for row in rows {
            // What is left is explained no better than before.
            let then = Ledger { received_ms: row.get(4), ..*self };
            then.record_hole(seqs(&row, 0), (row.get(2), row.get(3))).await?;
        }
        Ok(())
    }
}

fn seqs(row: &tokio_postgres::Row, at: usize) -> Seqs {
    let seq = |at| row.get::<_, i64>(at).cast_unsigned();
    Seqs { first: seq(at), last: seq(at + 1) }
}
