//! The checksums of a stream's records: what tells a retry from another record under its number.
//!
//! A record that is sent again has the checksum it had. Two hosts that go on with one copied log give
//! the same numbers to different records, and so does a log that was set back: from the first such
//! number on all of them differ. So one record that is the same vouches for those before it.
//!
//! The latest lie with their stream; whenever there are [`PART`] of them, they go to a row of their own
//! in the table `sums`, five bytes a record, for as long as samples are kept. A log that was away for
//! long sends what lies far back; without its checksum, what a second host has written there would pass
//! for a retry.
//!
//! What isn't known here is no evidence: records older than that, and gaps that stand for their own
//! number. An agent puts such a gap in the place of a record that was refused, dropped or damaged,
//! whether or not a hub had stored that record before its reply was lost; after a crash it may send the
//! record again in the place of the gap.

use rusqlite::{Connection, params};

use super::columns::varint;

/// Records of a row.
const PART: usize = 64;
const SUM_BYTES: usize = 4;

/// The latest, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    latest: Vec<Known>,
}

/// A number and its checksum; `None` where it may change its content.
pub(crate) type Known = (u64, Option<u32>);

/// What a request's records say about those stored under their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// They are the same.
    Same,
    /// There are none, or none that would tell.
    Nothing,
    /// They lie too far back to be known.
    Unknown,
    /// This one is another.
    Differs(u64),
}

enum Look {
    Equal,
    Different,
    NoEvidence,
    TooFarBack,
}

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
            if self.latest.len() >= PART {
                let first = self.latest.first().map_or(0, |first| first.0);
                connection
                    .prepare_cached(
                        "INSERT INTO sums (stream, first_seq, received_ms, sums) \
                         VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![stream, first.cast_signed(), received_ms, self.encode()])?;
                self.latest.clear();
            }
            self.latest.push(record);
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

    /// For a column of the database: for each record, how far its number lies beyond the one before and
    /// whether a checksum follows (`distance << 1 | 1`, as a varint), then that, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before = 0;
        for (seq, sum) in &self.latest {
            varint::put(&mut out, (seq - before) << 1 | u64::from(sum.is_some()));
            out.extend(sum.iter().flat_map(|sum| sum.to_le_bytes()));
            before = *seq;
        }
        out
    }

    /// What [`Sums::encode`] wrote; what can't be read is as if it had never been known.
    pub(crate) fn decode(mut bytes: &[u8]) -> Self {
        let mut sums = Self::default();
        let mut seq = 0_u64;
        while !bytes.is_empty() {
            let Some((distance, sum)) = take(&mut bytes) else { return Self::default() };
            let Some(next) = seq.checked_add(distance) else { return Self::default() };
            seq = next;
            sums.latest.push((seq, sum));
        }
        sums
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

fn compare(known: &[Known], again: &[Known]) -> Comparison {
    let (mut is_same, mut is_far_back) = (false, false);
    for (seq, sum) in again {
        match look(known, *seq, *sum) {
            Look::Different => return Comparison::Differs(*seq),
            Look::Equal => is_same = true,
            Look::TooFarBack => is_far_back = true,
            Look::NoEvidence => {}
        }
    }
    match (is_same, is_far_back) {
        (true, _) => Comparison::Same,
        (false, true) => Comparison::Unknown,
        (false, false) => Comparison::Nothing,
    }
}

fn look(known: &[Known], seq: u64, sum: Option<u32>) -> Look {
    let index = known.partition_point(|(known, _)| *known < seq);
    match known.get(index) {
        None => Look::TooFarBack,
        Some((known, stored)) if *known == seq => match (stored, sum) {
            (Some(stored), Some(sum)) if *stored == sum => Look::Equal,
            (Some(_), Some(_)) => Look::Different,
            _ => Look::NoEvidence,
        },
        Some(_) if index == 0 => Look::TooFarBack,
        // A gap may stand for it; without one it was never stored.
        Some((_, None)) => Look::NoEvidence,
        Some((_, Some(_))) => Look::Different,
    }
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

fn take(bytes: &mut &[u8]) -> Option<(u64, Option<u32>)> {
    let head = varint::take(bytes)?;
    if head & 1 == 0 {
        return Some((head >> 1, None));
    }
    let sum = varint::take_bytes(bytes, SUM_BYTES)?.try_into().ok()?;
    Some((head >> 1, Some(u32::from_le_bytes(sum))))
}

#[cfg(test)]
mod tests {
    use super::*;

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
