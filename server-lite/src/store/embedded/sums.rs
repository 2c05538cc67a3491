//! The checksums of a stream's records ([`crate::store::sums`]) in the embedded database: the latest in
//! `streams.sums`, all others in the table `sums`, for as long as samples are kept.

use rusqlite::{Connection, params};

use crate::store::sums::compare;
pub(crate) use crate::store::sums::{Comparison, Known, Sums};

impl Sums {
    /// Remembers records that come after all others.
    pub(crate) fn extend(
        &mut self,
        connection: &Connection,
        stream: i64,
        records: impl Iterator<Item = Known>,
        received_ms: i64,
    ) -> rusqlite::Result<()> {
        for record in records {
            if let Some((first, part)) = self.push(record) {
                connection
                    .prepare_cached(
                        "INSERT INTO sums (stream, first_seq, received_ms, sums) \
                         VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![stream, first.cast_signed(), received_ms, part])?;
            }
        }
        Ok(())
    }

    /// Compares records that are there already, by number.
    pub(crate) fn compare(
        &self,
        connection: &Connection,
        stream: i64,
        again: &[Known],
    ) -> rusqlite::Result<Comparison> {
        let Some(((first, _), (last, _))) = again.first().zip(again.last()) else {
            return Ok(Comparison::Nothing);
        };
        if self.latest.first().is_some_and(|latest| latest.0 <= *first) {
            return Ok(compare(&self.latest, again));
        }
        let mut known = read(connection, stream, *first, *last)?;
        known.extend(&self.latest);
        Ok(compare(&known, again))
    }
}

/// What the rows know of these numbers, and of the one after them.
fn read(
    connection: &Connection,
    stream: i64,
    first: u64,
    last: u64,
) -> rusqlite::Result<Vec<Known>> {
    let mut statement = connection.prepare_cached(
        "SELECT first_seq, sums FROM sums WHERE stream = ?1 AND first_seq >= coalesce( \
         (SELECT max(first_seq) FROM sums WHERE stream = ?1 AND first_seq <= ?2), 0) \
         ORDER BY first_seq",
    )?;
    let mut rows = statement.query(params![stream, first.cast_signed()])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        let part = Sums::decode(row.get_ref(1)?.as_blob()?).latest;
        if part.is_empty() {
            // It can't be read: what lies before is not known either.
            known.clear();
        }
        known.extend(part);
        if row.get::<_, i64>(0)?.cast_unsigned() > last {
            break;
        }
    }
    Ok(known)
}

/// Streams that know checksums from before a time.
pub(crate) fn old(connection: &Connection, cutoff_ms: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM streams WHERE (SELECT received_ms FROM sums WHERE stream = streams.id \
             ORDER BY first_seq LIMIT 1) < ?1",
        )?
        .query_map([cutoff_ms], |row| row.get(0))?
        .collect()
}

/// Forgets a stream's checksums from before a time.
pub(crate) fn drop_old(
    connection: &Connection,
    stream: i64,
    cutoff_ms: i64,
) -> rusqlite::Result<()> {
    let drop = "DELETE FROM sums WHERE stream = ?1 AND first_seq < coalesce( \
         (SELECT first_seq FROM sums WHERE stream = ?1 AND received_ms >= ?2 \
         ORDER BY first_seq LIMIT 1), 9223372036854775807)";
    connection.prepare_cached(drop)?.execute([stream, cutoff_ms]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sums::{PART, SUM_BYTES};

    /// Records `from` to `to`; the checksum of each is its number plus `more`.
    fn records(from: u64, to: u64, more: u32) -> Vec<Known> {
        (from..=to).map(|seq| (seq, Some(seq as u32 + more))).collect()
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(crate::store::embedded::database::SUMS).unwrap();
        connection.execute_batch("CREATE TABLE streams (id INTEGER PRIMARY KEY)").unwrap();
        connection.execute_batch("INSERT INTO streams VALUES (6), (7), (8)").unwrap();
        connection
    }

    fn sums(connection: &Connection, records: &[Known]) -> Sums {
        let mut sums = Sums::default();
        for (received_ms, records) in (0..).zip(records.chunks(10)) {
            sums.extend(connection, 7, records.iter().copied(), received_ms).unwrap();
        }
        sums
    }

    fn check(stored: &[Known], again: &[Known], expected: Comparison) {
        let connection = database();
        let stored = sums(&connection, stored);
        assert_eq!(stored.compare(&connection, 7, again).unwrap(), expected, "{again:?}");
        let bytes = stored.encode();
        assert_eq!(Sums::decode(&bytes), stored);
        assert!(bytes.len() <= PART * (SUM_BYTES + 2) + 8, "{} bytes", bytes.len());
    }

    #[test]
    fn a_retry_is_the_same_and_anything_else_differs() {
        use Comparison::{Differs, Nothing, Same};
        for records_from in [101, 1] {
            let stored = records(records_from, 150, 0);
            check(&[], &[], Nothing);
            check(&stored, &[], Nothing);
            check(&stored, &records(101, 150, 0), Same);
            check(&stored, &records(140, 150, 0), Same);
            check(&stored, &records(140, 150, 1), Differs(140));
            check(&stored, &[(149, Some(149)), (150, Some(1))], Differs(150));
        }
    }

    #[test]
    fn every_record_is_known_however_far_back() {
        use Comparison::{Differs, Same, Unknown};
        let stored = records(1, 1_000, 0);
        check(&stored, &records(1, 1_000, 0), Same);
        for seq in 1..=1_000 {
            check(&stored, &records(seq, seq, 0), Same);
            check(&stored, &records(seq, seq, 7), Differs(seq));
        }
        let forked: Vec<Known> =
            records(1, 500, 0).into_iter().chain(records(501, 900, 7)).collect();
        check(&stored, &forked, Differs(501));
        check(&[], &records(1, 9, 0), Unknown);
        check(&records(500, 1_000, 0), &records(1, 499, 0), Unknown);
        check(&records(500, 1_000, 0), &records(1, 500, 0), Same);
    }

    #[test]
    fn gaps_that_stand_for_their_number_are_no_evidence() {
        use Comparison::{Differs, Nothing};
        // Also where they are the first of a row.
        for before in [0, 63, 64, 65] {
            let at = |seq| before + seq;
            let mut stored = records(1, before, 0);
            stored.extend([(at(1), Some(1)), (at(2), None), (at(5), Some(5)), (at(9), None)]);
            check(&stored, &[(at(2), Some(7))], Nothing);
            check(&stored, &[(at(5), None)], Nothing);
            // Lost before the gap that tells of it; not told of by any.
            check(&stored, &[(at(7), Some(7))], Nothing);
            check(&stored, &[(at(4), Some(4))], Differs(at(4)));
        }
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let connection = database();
        let stored = sums(&connection, &records(1, 1_000, 0));
        let compare = |seq| stored.compare(&connection, 7, &records(seq, seq, 0)).unwrap();
        assert_eq!(old(&connection, 6).unwrap(), [0; 0], "a row is as old as what came after it");
        assert_eq!(old(&connection, 7).unwrap(), [7]);
        drop_old(&connection, 7, 50).unwrap();
        assert_eq!(old(&connection, 50).unwrap(), [0; 0]);
        let known = (1..=1_000).find(|seq| compare(*seq) == Comparison::Same).unwrap();
        assert!((449..=513).contains(&known), "{known}");
        assert_eq!(compare(known - 1), Comparison::Unknown);
        drop_old(&connection, 7, i64::MAX).unwrap();
        assert_eq!(compare(1_000), Comparison::Same, "the latest are kept with the stream");
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let connection = database();
        let bytes = sums(&connection, &records(1, 3, 0)).encode();
        for cut in 1..bytes.len() {
            let read = Sums::decode(&bytes[..cut]);
            assert!(read.latest.len() < 3, "{cut}: {read:?}");
        }
        assert_eq!(Sums::decode(&[0xff; 40]), Sums::default());
        let stored = sums(&connection, &records(1, 400, 0));
        connection.execute("UPDATE sums SET sums = x'ff' WHERE first_seq = 129", []).unwrap();
        let compare = |seq| stored.compare(&connection, 7, &records(seq, seq, 9)).unwrap();
        let expected = [Comparison::Differs(1), Comparison::Unknown, Comparison::Differs(193)];
        assert_eq!([compare(1), compare(150), compare(193)], expected);
        let across = stored.compare(&connection, 7, &records(1, 150, 0)).unwrap();
        assert_eq!(across, Comparison::Unknown);
    }
}
