//! The checksums of a stream's records ([`crate::store::sums`]) that are no longer in its row.

use super::{change::Change, state::StreamState};
use crate::store::sums::{Comparison, Known, Sums, compare as compare_known};

/// Compares records that are there already, by number.
pub(crate) async fn compare(
    transaction: &Change<'_>,
    stream: &StreamState,
    again: &[Known],
) -> Result<Comparison, tokio_postgres::Error> {
    let Some(((first, _), (last, _))) = again.first().zip(again.last()) else {
        return Ok(Comparison::Nothing);
    };
    let latest = &stream.sums.latest;
    if latest.first().is_some_and(|latest| latest.0 <= *first) {
        return Ok(compare_known(latest, again));
    }
    let mut known = read(transaction, stream.row, *first, *last).await?;
    known.extend(latest);
    Ok(compare_known(&known, again))
}

/// What the rows know of these numbers, and of the one after them.
async fn read(
    transaction: &Change<'_>,
    stream: i64,
    first: u64,
    last: u64,
) -> Result<Vec<Known>, tokio_postgres::Error> {
    let rows = transaction
        .query(
            "SELECT sums FROM sums WHERE stream = $1 AND first_seq >= coalesce( \
             (SELECT max(first_seq) FROM sums WHERE stream = $1 AND first_seq <= $2), 0) \
             AND first_seq <= coalesce( \
             (SELECT min(first_seq) FROM sums WHERE stream = $1 AND first_seq > $3), \
             9223372036854775807) ORDER BY first_seq",
            &[&stream, &first.cast_signed(), &last.cast_signed()],
        )
        .await?;
    let mut known = Vec::new();
    for row in rows {
        let part = Sums::decode(row.get(0)).latest;
        if part.is_empty() {
            // It can't be read: what lies before is not known either.
            known.clear();
        }
        known.extend(part);
    }
    Ok(known)
}
