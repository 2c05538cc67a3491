//! Partitions by day, in a database without TimescaleDB: made when something of a day first comes, dropped
//! when the day is over for long enough.
//!
//! Only days near to when something comes get partitions, so that a clock that is wrong can't make more
//! than so many; the rest goes to tables of its own, `stray_samples` and `stray_ticks`.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use deadpool_postgres::Pool;
use tokio_postgres::Client;

use super::{
    connect::{database, get},
    migrate::Layout,
};
use crate::store::StoreError;

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Held while partitions are made or dropped: an advisory lock.
const LOCK: i64 = 0x686f_6c64_6461_7973;
/// A time is a stray when it came so many days later, or more,
const PAST_DAYS: i64 = 45;
/// or so many days before it.
const FUTURE_DAYS: i64 = 2;

/// The tables that have partitions.
const TABLES: [&str; 2] = ["samples", "ticks"];

/// Whether a time is so far from when it came that no partition is made for it.
pub(crate) const fn is_stray(at: i64, received_ms: i64) -> bool {
    let days = day_of(at) - day_of(received_ms);
    days <= -PAST_DAYS || days >= FUTURE_DAYS
}

/// The day of a partition, counted from 1970: it begins with midnight. That of a page ends with it.
pub(crate) const fn day_of(at: i64) -> i64 {
    at.div_euclid(DAY_MS)
}

/// The partitions that are known to be there.
#[derive(Debug)]
pub(crate) struct Days {
    layout: Layout,
    known: Mutex<HashSet<i64>>,
    /// Days before this one had been dropped when last looked.
    dropped_before: AtomicI64,
}

impl Days {
    /// None known yet.
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, known: Mutex::default(), dropped_before: AtomicI64::new(i64::MIN) }
    }

    /// Sees to it that partitions for these times are there, but for strays.
    pub(crate) async fn ensure(&self, pool: &Pool, times: &[(i64, i64)]) -> Result<(), StoreError> {
        if self.layout == Layout::Hypertable {
            return Ok(());
        }
        let days = self.unknown(times);
        if days.is_empty() {
            return Ok(());
        }
        let mut client = get(pool).await?;
        make(&mut client, &days).await.map_err(database("make partitions for a day"))?;
        self.lock().extend(days);
        Ok(())
    }

    fn unknown(&self, times: &[(i64, i64)]) -> BTreeSet<i64> {
        let known = self.lock();
        let times = times.iter().filter(|(at, received_ms)| !is_stray(*at, *received_ms));
        let dropped_before = self.dropped_before.load(Relaxed);
        let days = times.map(|(at, _)| day_of(*at)).filter(|day| *day >= dropped_before);
        days.filter(|day| !known.contains(day)).collect()
    }

    /// None is made any more of days before this one.
    pub(crate) fn note_dropped(&self, before: i64) {
        self.dropped_before.fetch_max(before, Relaxed);
    }

    /// One was dropped that was thought to be there.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make(client: &mut Client, days: &BTreeSet<i64>) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    let tables = TABLES.iter().flat_map(|table| days.iter().map(move |day| (*table, *day)));
    for (table, day) in tables.collect::<Vec<_>>() {
        let name = format!("{table}_{}", date(day));
        let attached = "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = \
                        to_regclass('holdfast.' || $1) AND inhparent = to_regclass($2) \
                        AND NOT inhdetachpending)";
        if transaction.query_one(attached, &[&name, &table]).await?.get(0) {
            continue;
        }
        let (from, to) = (day * DAY_MS, (day + 1) * DAY_MS);
        // One that was left behind detached was to be dropped. Attaching, other than making it a partition
        // at once, doesn't hold up who reads and writes.
        let make = format!(
            "DROP TABLE IF EXISTS holdfast.{name}; CREATE TABLE holdfast.{name} (LIKE {table}) \
             WITH (autovacuum_vacuum_insert_scale_factor = 0.05); \
             ALTER TABLE {table} ATTACH PARTITION holdfast.{name} FOR VALUES FROM ({from}) TO ({to})"
        );
        transaction.batch_execute(&make).await?;
    }
    transaction.commit().await
}

/// Drops the partitions of days that are over at a time. The connection is for nothing else meanwhile.
pub(crate) async fn drop_before(
    client: &Client,
    cutoff_ms: i64,
) -> Result<u64, tokio_postgres::Error> {
    client.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
    let dropped = drop_old(client, cutoff_ms).await;
    client.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await?;
    dropped
}

async fn drop_old(client: &Client, cutoff_ms: i64) -> Result<u64, tokio_postgres::Error> {
    let before = date(day_of(cutoff_ms));
    let find = "SELECT c.relname, p.relname, i.inhdetachpending FROM pg_class c \
                JOIN pg_namespace n ON n.oid = c.relnamespace \
                LEFT JOIN pg_inherits i ON i.inhrelid = c.oid \
                LEFT JOIN pg_class p ON p.oid = i.inhparent \
                WHERE n.nspname = 'holdfast' AND c.relkind = 'r' \
                AND c.relname ~ '^(samples|ticks)_[0-9]{8}$' AND right(c.relname, 8) < $1 \
                ORDER BY 1";
    let mut dropped = 0;
    for row in client.query(find, &[&before]).await? {
        let (name, parent): (String, Option<String>) = (row.get(0), row.get(1));
        if let Some(parent) = parent {
            // Waits for who reads it without holding up others; an earlier try may not have come to an end.
            let how = if row.get(2) { "FINALIZE" } else { "CONCURRENTLY" };
            let detach = format!("ALTER TABLE {parent} DETACH PARTITION holdfast.{name} {how}");
            client.batch_execute(&detach).await?;
        }
        client.batch_execute(&format!("DROP TABLE holdfast.{name}")).await?;
        dropped += 1;
    }
    Ok(dropped)
}

/// A day as `YYYYMMDD`; days before 1970 get no partitions.
fn date(day: i64) -> String {
    let (mut year, mut rest) = (1970, day.max(0));
    let days_of = |year: i64| {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        (365 + i64::from(is_leap), is_leap)
    };
    while rest >= days_of(year).0 {
        rest -= days_of(year).0;
        year += 1;
    }
    let february = if days_of(year).1 { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    format!("{year:04}{month:02}{:02}", rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        let check = |at_s: i64, expected: &str| {
            assert_eq!(date(day_of(at_s * 1_000)), expected);
        };
        check(0, "19700101");
        check(86_399, "19700101");
        check(951_782_400, "20000229");
        check(951_868_800, "20000301");
        check(1_700_000_000, "20231114");
        check(4_107_542_399, "21000228");
        check(4_107_542_400, "21000301");
        check(-1, "19700101");
    }

    #[test]
    fn a_time_far_from_when_it_came_is_a_stray() {
        let now_ms = 20_000 * DAY_MS + 5;
        let check = |days: i64, expected| {
            assert_eq!(is_stray(now_ms + days * DAY_MS, now_ms), expected, "{days}");
        };
        check(0, false);
        check(1, false);
        check(2, true);
        check(-44, false);
        check(-45, true);
        assert!(is_stray(i64::MIN, now_ms) && is_stray(i64::MAX, now_ms));
    }
}
