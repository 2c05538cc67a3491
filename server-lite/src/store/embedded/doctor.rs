//! Looks a store over, beside a running hub or without one, and says plainly what it finds. Changes nothing.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, Row};

use super::{
    columns::{Block, Malformed, Page},
    database::{self, database},
    head::HeadReader,
    ledger::Seqs,
    pages,
};
use crate::store::{Finding, StoreError, Verdict, rollup::Level};

/// Rollups that wait longer than this after their day was over are waiting for something.
const UNPAGED_DAYS_MAX: i64 = 3;
/// An agent heard of further in the future than this was heard by another clock.
const CLOCK_MS_MAX: i64 = 5 * 60 * 1_000;
/// The hub can't go on long with less.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// Share of a file system that had better be free.
const FREE_SHARE_MIN: u64 = 10;
/// Faults of one kind that are told one by one.
const TOLD_MAX: usize = 5;

/// Looks at everything.
///
/// # Errors
/// [`StoreError`] when the store can't be opened or read at all.
pub fn examine(data_dir: &Path, now_ms: i64) -> Result<Vec<Finding>, StoreError> {
    let found = database::found(data_dir)?;
    let mut findings = vec![format(found), space(data_dir)?];
    if found != database::VERSION {
        // What comes below reads tables of this version.
        return Ok(findings);
    }
    let mut connection = database::open_reader(data_dir)?;
    // One moment for all of it.
    let connection = connection.transaction().map_err(database("begin reading"))?;
    findings.push(integrity(&connection).map_err(database("check integrity"))?);
    findings.push(checksums(&connection)?);
    findings.push(set_aside(&connection).map_err(database("count damaged records"))?);
    findings.push(rollups(&connection, now_ms).map_err(database("look for rollups due"))?);
    findings.push(clock(&connection, now_ms).map_err(database("read times"))?);
    Ok(findings)
}

fn format(found: i32) -> Finding {
    match found {
        database::VERSION => {
            Finding::new(Verdict::Good, "format", format!("{found}, this build's"))
        }
        _ => Finding::new(
            Verdict::Doubtful,
            "format",
            format!(
                "{found}, this build writes {}: it is brought up to date by `migrate`, or when the \
                 hub starts; the rest was not looked at",
                database::VERSION
            ),
        ),
    }
}

fn space(data_dir: &Path) -> Result<Finding, StoreError> {
    let stat = nix::sys::statvfs::statvfs(data_dir).map_err(|errno| StoreError::Io {
        operation: "ask for free space of",
        path: data_dir.to_owned(),
        source: errno.into(),
    })?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let all = stat.blocks().saturating_mul(stat.fragment_size());
    let verdict = match free {
        free if free < FREE_BYTES_MIN => Verdict::Bad,
        free if free < all / 100 * FREE_SHARE_MIN => Verdict::Doubtful,
        _ => Verdict::Good,
    };
    let mib = |bytes: u64| bytes >> 20;
    let says = format!(
        "{} MiB of {} free, the store takes {}",
        mib(free),
        mib(all),
        mib(super::disk_bytes(data_dir))
    );
    Ok(Finding::new(verdict, "disk", says))
}

fn integrity(connection: &Connection) -> rusqlite::Result<Finding> {
    let mut statement = connection.prepare("PRAGMA integrity_check(5)")?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(match lines.as_slice() {
        [line] if line == "ok" => Finding::new(Verdict::Good, "database", "is whole"),
        _ => Finding::new(Verdict::Bad, "database", lines.join("; ")),
    })
}

/// Looks at a row, and at the bytes that have a checksum.
type Check<'a> = dyn FnMut(&Row<'_>, &[u8]) -> rusqlite::Result<Result<(), Malformed>> + 'a;

fn checksums(connection: &Connection) -> Result<Finding, StoreError> {
    let mut heads = HeadReader::new().map_err(|error| StoreError::Database {
        operation: "start decompressing",
        source: error.into(),
    })?;
    let mut faults = BTreeMap::new();
    let mut count = 0_u64;
    let mut each = |sql: &str, check: &mut Check<'_>| {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            count += 1;
            let (kind, id): (String, i64) = (row.get(0)?, row.get(1)?);
            if let Err(Malformed(detail)) = check(row, row.get_ref(2)?.as_blob()?)? {
                faults.insert(format!("{kind} {id}"), detail);
            }
        }
        Ok(())
    };
    let mut all = || {
        each("SELECT 'block', id, data FROM blocks", &mut |_, data| {
            Ok(Block::open(data).map(|_| ()))
        })?;
        each("SELECT 'page', id, data, level FROM pages", &mut |row, data| {
            let number: i64 = row.get(3)?;
            let level = Level::ALL.into_iter().find(|level| pages::level_number(*level) == number);
            Ok(match level {
                Some(level) => Page::open(data, level, 0).map(|_| ()),
                None => Err(Malformed(format!("level {number} is unknown"))),
            })
        })?;
        each("SELECT 'records', id, body, first_seq, last_seq FROM head", &mut |row, body| {
            let seq = |index| super::catalog::unsigned(row, index);
            let seqs = Seqs { first: seq(3)?, last: seq(4)? };
            Ok(heads.ticks(body, seqs, |_, _| Ok(())))
        })
    };
    all().map_err(database("check checksums"))?;
    if faults.is_empty() {
        let says = format!("{count} blocks, pages and requests read back");
        return Ok(Finding::new(Verdict::Good, "checksums", says));
    }
    let told: Vec<String> =
        faults.iter().take(TOLD_MAX).map(|(what, detail)| format!("{what}: {detail}")).collect();
    let says = format!("{} of {count} no longer read back: {}", faults.len(), told.join("; "));
    Ok(Finding::new(Verdict::Bad, "checksums", says))
}

fn set_aside(connection: &Connection) -> rusqlite::Result<Finding> {
    let count: i64 = connection.query_row("SELECT count(*) FROM damaged", [], |row| row.get(0))?;
    Ok(match count {
        0 => Finding::new(Verdict::Good, "records", "none was ever put aside"),
        _ => Finding::new(
            Verdict::Doubtful,
            "records",
            format!("{count} requests once no longer read and were put aside: see the gap ledger"),
        ),
    })
}

fn rollups(connection: &Connection, now_ms: i64) -> rusqlite::Result<Finding> {
    let over = pages::over(connection, now_ms)?;
    let oldest = over.iter().map(pages::Due::day).min();
    let late =
        oldest.map(|day| pages::day_of(now_ms) - day).filter(|days| *days > UNPAGED_DAYS_MAX);
    let says = format!("{} pages due", over.len());
    Ok(match late {
        None => Finding::new(Verdict::Good, "rollups", says),
        Some(days) => Finding::new(
            Verdict::Doubtful,
            "rollups",
            format!("{says}, of up to {days} days ago: is the hub running, does its log say why?"),
        ),
    })
}

fn clock(connection: &Connection, now_ms: i64) -> rusqlite::Result<Finding> {
    let sql = "SELECT max(last_seen_ms) FROM agents";
    let latest: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(match latest.map(|latest| latest - now_ms).filter(|ahead| *ahead > CLOCK_MS_MAX) {
        None => Finding::new(Verdict::Good, "clock", "no agent was heard of in the future"),
        Some(ahead) => Finding::new(
            Verdict::Doubtful,
            "clock",
            format!(
                "an agent was heard of {} s in the future: was this clock set back?",
                ahead / 1_000
            ),
        ),
    })
}
