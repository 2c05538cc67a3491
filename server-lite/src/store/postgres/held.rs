//! What is stored at some times of some series: looked at when samples come that may be there already.

use std::collections::HashMap;

use super::change::Change;

/// Pairs looked for by one statement.
const PAIRS_ONCE: usize = 20_000;

/// Bits of values by series and time.
pub(crate) type Held = HashMap<(i64, i64), u64>;

/// Each is looked for by itself, in the one partition where it can be and among strays. Of two at one time,
/// the one sent last counts.
const SELECT: &str = "SELECT w.series, w.at, f.value FROM unnest($1::bigint[], $2::bigint[]) \
    AS w (series, at) CROSS JOIN LATERAL (SELECT s.value FROM (\
    SELECT value, tick FROM samples WHERE series = w.series AND at = w.at UNION ALL \
    SELECT value, tick FROM stray_samples WHERE series = w.series AND at = w.at) s \
    ORDER BY s.tick DESC LIMIT 1) f";

/// The values that series have at times: `(series, at)`.
pub(crate) async fn held(
    transaction: &Change<'_>,
    mut wanted: Vec<(i64, i64)>,
) -> Result<Held, tokio_postgres::Error> {
    wanted.sort_unstable();
    wanted.dedup();
    let mut held = Held::new();
    for some in wanted.chunks(PAIRS_ONCE) {
        let series: Vec<i64> = some.iter().map(|pair| pair.0).collect();
        let times: Vec<i64> = some.iter().map(|pair| pair.1).collect();
        let rows = transaction.query(SELECT, &[&series, &times]).await?;
        let row =
            |row: &tokio_postgres::Row| ((row.get(0), row.get(1)), row.get::<_, f64>(2).to_bits());
        held.extend(rows.iter().map(row));
    }
    Ok(held)
}
