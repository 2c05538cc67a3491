//! Samples as they lie in the tables: each series' in order of time, no time twice.
//!
//! They are read by slices of time, as they lie, and put in order here: PostgreSQL would sort all of them by
//! way of its disk. Slices are as long as memory allows, and skip days of which there is nothing. COPY in
//! binary costs both sides less than rows do.

use std::{collections::BTreeSet, pin::pin, vec};

use bytes::{Buf as _, BytesMut};
use futures_util::TryStreamExt as _;
use tokio_postgres::Transaction;

use crate::store::rollup::kept::{day_of, start_of};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Series that are best read at one time.
pub(crate) const SERIES_ONCE: usize = 64;
/// Samples of a slice, as near as can be told before it is read.
const SLICE: i64 = 200_000;
/// Time between two samples of a series, before any has been seen.
const INTERVAL_MS: i64 = 10_000;
/// Signature and flags of a COPY in binary, without its extension.
const COPY_HEADER: usize = 15;
/// Four fields of eight bytes, each with its length, and their number.
const COPY_ROW: usize = 2 + 4 * (4 + 8);

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stored {
    /// Of which series.
    pub(crate) series: i64,
    /// Unix milliseconds.
    pub(crate) at: i64,
    /// Its value.
    pub(crate) value: f64,
    /// In which tick it came.
    tick: i64,
}

/// Samples of which some count.
pub(crate) struct Reading<'a, F> {
    transaction: &'a Transaction<'a>,
    /// Ascending.
    series: Vec<i64>,
    /// Days that have samples, or had.
    days: BTreeSet<i64>,
    /// Where the next slice begins; `None` when all has been read.
    next_ms: Option<i64>,
    to_ms: i64,
    /// Length of a slice.
    length_ms: i64,
    counts: F,
    slice: vec::IntoIter<Stored>,
}

impl<'a, F: FnMut(i64, i64) -> bool> Reading<'a, F> {
    /// Reads some series from a time to another. Only those samples count of whose time and tick `counts`
    /// says so.
    pub(crate) async fn begin(
        transaction: &'a Transaction<'a>,
        series: &[i64],
        (from_ms, to_ms): (i64, i64),
        counts: F,
    ) -> Result<Self> {
        let days = "SELECT DISTINCT day FROM (SELECT agent, day FROM paged UNION ALL \
            SELECT agent, day FROM unpaged) d WHERE day BETWEEN $2 AND $3 \
            AND agent IN (SELECT agent FROM series WHERE id = ANY($1))";
        let asked = [day_of(from_ms), day_of(to_ms)];
        let days = transaction.query(days, &[&series, &asked[0], &asked[1]]).await?;
        let mut series = series.to_vec();
        series.sort_unstable();
        let count = i64::try_from(series.len()).unwrap_or(i64::MAX).max(1);
        Ok(Self {
            transaction,
            series,
            days: days.iter().map(|row| row.get(0)).collect(),
            next_ms: Some(from_ms),
            to_ms,
            length_ms: SLICE / count * INTERVAL_MS,
            counts,
            slice: vec::IntoIter::default(),
        })
    }

    /// The next. Those of a series come in order of time; between them others may come.
    pub(crate) async fn next(&mut self) -> Result<Option<Stored>> {
        loop {
            if let Some(next) = self.slice.next() {
                return Ok(Some(next));
            }
            let Some((from_ms, to_ms)) = self.next_slice() else { return Ok(None) };
            let slice = self.read((from_ms, to_ms)).await?;
            if slice.len() > usize::try_from(2 * SLICE).unwrap_or(usize::MAX) {
                self.length_ms = (self.length_ms / 2).max(1);
            }
            self.slice = slice.into_iter();
        }
    }

    /// The slice that is to be read next.
    fn next_slice(&mut self) -> Option<(i64, i64)> {
        let next_ms = self.next_ms.take()?;
        let day = *self.days.range(day_of(next_ms)..).next()?;
        let is_later = day > day_of(next_ms);
        let from_ms = if is_later { start_of(day).saturating_add(1) } else { next_ms };
        let to_ms = from_ms.saturating_add(self.length_ms).min(self.to_ms);
        self.next_ms = to_ms.checked_add(1).filter(|next_ms| *next_ms <= self.to_ms);
        (from_ms <= to_ms).then_some((from_ms, to_ms))
    }

    /// A slice, in order.
    async fn read(&mut self, (from_ms, to_ms): (i64, i64)) -> Result<Vec<Stored>> {
        let numbers: Vec<String> = self.series.iter().map(ToString::to_string).collect();
        // COPY takes no parameters.
        let wanted = format!(
            "WHERE series = ANY('{{{}}}'::bigint[]) AND at >= '{from_ms}'::bigint AND at <= '{to_ms}'::bigint",
            numbers.join(",")
        );
        let copy = format!(
            "COPY (SELECT series, at, value, tick FROM samples {wanted} UNION ALL \
             SELECT series, at, value, tick FROM stray_samples {wanted}) TO STDOUT BINARY"
        );
        let mut rows = pin!(self.transaction.copy_out(&copy).await?);
        let mut by_series = vec![Vec::new(); self.series.len()];
        let (mut waiting, mut has_begun) = (BytesMut::new(), false);
        while let Some(more) = rows.try_next().await? {
            waiting.extend_from_slice(&more);
            if !has_begun {
                has_begun = skip_header(&mut waiting);
            }
            while has_begun && waiting.len() >= COPY_ROW {
                let row = take_row(&mut waiting);
                if (self.counts)(row.at, row.tick)
                    && let Ok(place) = self.series.binary_search(&row.series)
                {
                    by_series[place].push(row);
                }
            }
        }
        Ok(by_series.into_iter().flat_map(in_order).collect())
    }
}

/// Skips what a COPY begins with; `false` if not all of it has come.
fn skip_header(bytes: &mut BytesMut) -> bool {
    let Some(extension) = bytes.get(COPY_HEADER..).and_then(|rest| rest.first_chunk()) else {
        return false;
    };
    let extension = usize::try_from(u32::from_be_bytes(*extension)).unwrap_or(usize::MAX);
    let length = extension.saturating_add(COPY_HEADER + 4);
    let is_there = bytes.len() >= length;
    if is_there {
        bytes.advance(length);
    }
    is_there
}

/// None of the columns can be NULL: rows are all of one length.
fn take_row(bytes: &mut BytesMut) -> Stored {
    bytes.advance(2 + 4);
    let series = bytes.get_i64();
    bytes.advance(4);
    let at = bytes.get_i64();
    bytes.advance(4);
    let value = bytes.get_f64();
    bytes.advance(4);
    Stored { series, at, value, tick: bytes.get_i64() }
}

/// The samples of one series. Of several at one time the one that was sent last counts: it has the highest
/// tick.
fn in_order(mut samples: Vec<Stored>) -> Vec<Stored> {
    // As they were stored they mostly lie in order.
    if !samples.is_sorted_by_key(|one| (one.at, one.tick)) {
        samples.sort_unstable_by_key(|one| (one.at, one.tick));
    }
    samples.dedup_by(|later, kept| {
        let is_same = later.at == kept.at;
        if is_same {
            *kept = *later;
        }
        is_same
    });
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: i64, tick: i64) -> Stored {
        Stored { series: 1, at, value: 0.0, tick }
    }

    #[test]
    fn of_several_samples_at_one_time_the_last_counts() {
        let check = |given: &[(i64, i64)], expected: &[(i64, i64)]| {
            let given = given.iter().map(|(at, tick)| sample(*at, *tick)).collect();
            let expected: Vec<_> = expected.iter().map(|(at, tick)| sample(*at, *tick)).collect();
            assert_eq!(in_order(given), expected);
        };
        check(&[], &[]);
        check(&[(1, 1), (2, 2), (3, 3)], &[(1, 1), (2, 2), (3, 3)]);
        check(&[(3, 1), (1, 2), (3, 4), (3, 3)], &[(1, 2), (3, 4)]);
    }

    #[test]
    fn a_copy_is_read_as_it_is_written() {
        let mut bytes = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0"[..]);
        assert!(!skip_header(&mut bytes));
        bytes.extend_from_slice(&[0, 0, 0, 2]);
        assert!(!skip_header(&mut bytes));
        bytes.extend_from_slice(b"xx\0\x04");
        for field in [7_i64.to_be_bytes(), 8_i64.to_be_bytes(), 0.5_f64.to_be_bytes(), [0xff; 8]] {
            bytes.extend_from_slice(&[0, 0, 0, 8]);
            bytes.extend_from_slice(&field);
        }
        assert!(skip_header(&mut bytes));
        assert_eq!(bytes.len(), COPY_ROW);
        let expected = Stored { series: 7, at: 8, value: 0.5, tick: -1 };
        assert_eq!(take_row(&mut bytes), expected);
        assert!(bytes.is_empty());
    }
}
