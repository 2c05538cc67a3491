//! The SQLite file: its tables, how connections are opened, what a version means.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{find, pages};
use crate::store::StoreError;

/// Name of the database in the data directory.
pub(crate) const FILE: &str = "hub.sqlite";

/// "HFhb" in `PRAGMA application_id`.
const APPLICATION_ID: i32 = 0x4846_6862;
/// What this build writes in `PRAGMA user_version`; older ones it brings up to date.
pub(crate) const VERSION: i32 = 5;

/// Pages in the write-ahead log before they are copied to the database: 16 MiB.
const CHECKPOINT_PAGES: i32 = 4_096;
/// Bytes the write-ahead log is cut back to after that.
const WAL_BYTES_KEPT: i32 = 64 << 20;
const WRITER_CACHE_KIB: i32 = 32 << 10;
const READER_CACHE_KIB: i32 = 4 << 10;
/// Only another process can make us wait: one that reads, while the log is cut back.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENTS_KEPT: usize = 64;

/// `streams.sums` is what `sums` makes of the latest records. `series.id` is `groups.id * 64 + slot`; `head.id` is `streams.id << 32 | n`, so that a stream's
/// rows lie side by side without an index. `schemas.series` lists a schema's series (see
/// `registry`). Rows of `blocks` are only ever appended.
const TABLES: &str = "
CREATE TABLE agents (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    hostname TEXT NOT NULL,
    version TEXT NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    series INTEGER NOT NULL
) STRICT;
CREATE INDEX agents_by_hostname ON agents (hostname);

CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    uuid BLOB NOT NULL,
    acked_seq INTEGER NOT NULL,
    last_tick_ms INTEGER,
    last_write_ms INTEGER NOT NULL,
    head_next INTEGER NOT NULL,
    head_ticks INTEGER NOT NULL,
    head_samples INTEGER NOT NULL,
    head_bytes INTEGER NOT NULL,
    head_since_ms INTEGER,
    sums BLOB NOT NULL,
    UNIQUE (agent, uuid)
) STRICT;

CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent INTEGER NOT NULL,
    collector INTEGER NOT NULL,
    slots INTEGER NOT NULL
) STRICT;
CREATE INDEX groups_by_agent ON groups (agent, collector);

CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    name INTEGER NOT NULL,
    labels TEXT NOT NULL,
    kind INTEGER NOT NULL,
    help INTEGER NOT NULL,
    last_day INTEGER NOT NULL,
    UNIQUE (agent, name, labels)
) STRICT;
CREATE INDEX series_by_name ON series (name);

CREATE TABLE schemas (
    agent INTEGER NOT NULL,
    id BLOB NOT NULL,
    series BLOB NOT NULL,
    count INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, id)
) STRICT;

CREATE TABLE head (
    id INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    min_ms INTEGER NOT NULL,
    max_ms INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    grp INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    min_ms INTEGER NOT NULL,
    max_ms INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX blocks_by_time ON blocks (grp, max_ms, min_ms, stream, first_seq);

CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    seq INTEGER,
    reason TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    records INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    detail TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    UNIQUE (stream, seq)
) STRICT;

CREATE TABLE damaged (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    detail TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE checks (
    id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;
INSERT INTO checks VALUES (1, 0);
";
/// The version that [`TABLES`] alone make.
const TABLES_ARE: i32 = 2;
/// What changes tables.
type Change = fn(&Connection) -> rusqlite::Result<()>;
/// What makes each version of the one before.
const CHANGES: [(i32, Change); 4] = [
    (2, |connection| {
        connection.execute_batch("ALTER TABLE streams ADD COLUMN sums BLOB NOT NULL DEFAULT x''")
    }),
    (3, |connection| connection.execute_batch(SUMS)),
    (4, |connection| {
        connection.execute_batch(pages::TABLES)?;
        pages::note_all(connection)
    }),
    (5, |connection| connection.execute_batch(TARGETS)),
];
/// Checksums of records before those in `streams.sums`; new with version 3.
pub(crate) const SUMS: &str = "
CREATE TABLE sums (
    stream INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    sums BLOB NOT NULL,
    PRIMARY KEY (stream, first_seq)
) STRICT, WITHOUT ROWID;
";

/// Which agents are targets of remote write, and the labels that make them one; new with version 5.
const TARGETS: &str = "
CREATE TABLE targets (
    agent INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    instance TEXT NOT NULL
) STRICT;
";

/// Says what was tried when the database refuses.
pub(crate) fn database(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { operation, source: source.into() }
}

/// The database of a data directory.
pub(crate) fn path_in(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Opens the database for writing; makes it if there is none.
pub(crate) fn open_writer(directory: &Path) -> Result<Connection, StoreError> {
    let path = path_in(directory);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = open(&path, flags)?;
    bring_up_to_date(&mut connection, &path)?;
    connection.execute_batch(find::INDEX).map_err(database("make index of series"))?;
    configure(&connection, WRITER_CACHE_KIB)
        .and_then(|()| configure_writer(&connection))
        .map_err(database("configure database"))?;
    Ok(connection)
}

/// The version of the database in a directory, whatever this build writes; never 0.
pub(crate) fn found(directory: &Path) -> Result<i32, StoreError> {
    let path = path_in(directory);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match version(&open(&path, flags)?, &path)? {
        0 => {
            let found = "is an empty file: no hub has written it".to_owned();
            Err(StoreError::Format { path, found })
        }
        found => Ok(found),
    }
}

/// Brings the database in a directory up to date. Returns the version it had, and the one it has.
pub(crate) fn migrate(directory: &Path) -> Result<(i32, i32), StoreError> {
    let before = found(directory)?;
    open_writer(directory).map(|_| (before, VERSION))
}

/// Opens the database for reading; another process may be writing it.
pub(crate) fn open_reader(directory: &Path) -> Result<Connection, StoreError> {
    let path = path_in(directory);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(&path, flags)?;
    let found = version(&connection, &path)?;
    if found != VERSION {
        let found = format!("has format {found}, this build reads {VERSION}");
        return Err(StoreError::Format { path, found });
    }
    configure(&connection, READER_CACHE_KIB).map_err(database("configure database"))?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, flags).map_err(|source| StoreError::Io {
        operation: "open database",
        path: path.to_owned(),
        source: std::io::Error::other(source),
    })
}

fn configure(connection: &Connection, cache_kib: i32) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -cache_kib)
}

/// WAL with a flush at each commit: what is committed survives power loss.
fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "temp_store", "memory")
}

fn version(connection: &Connection, path: &Path) -> Result<i32, StoreError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    let read =
        || Ok::<(i32, i32), rusqlite::Error>((pragma("application_id")?, pragma("user_version")?));
    let refused = |found: String| StoreError::Format { path: path.to_owned(), found };
    let (application, version) =
        read().map_err(|error| refused(format!("is not a hub's database: {error}")))?;
    match application {
        APPLICATION_ID if version > VERSION => Err(refused(format!(
            "was written by a newer hub (format {version}, this build knows {VERSION}): start that one, or restore a copy made before it"
        ))),
        APPLICATION_ID => Ok(version),
        0 if version == 0 && is_empty(connection) => Ok(0),
        _ => Err(refused("is not a hub's database: give this hub a `data_dir` of its own".into())),
    }
}

fn is_empty(connection: &Connection) -> bool {
    let count = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    count == Ok(0_i64)
}

fn bring_up_to_date(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(connection, path)?;
    let changes = CHANGES.iter().filter(|(to, _)| *to > found);
    if found == VERSION {
        return Ok(());
    }
    let create = |connection: &mut Connection| {
        let transaction = connection.transaction()?;
        if found == 0 {
            transaction.execute_batch(TABLES)?;
        }
        changes
            .filter(|(to, _)| found > 0 || *to > TABLES_ARE)
            .try_for_each(|(_, change)| change(&transaction))?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()
    };
    create(connection).map_err(database("create tables, or bring them up to date"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::columns::BlockBuilder;

    #[test]
    fn a_newer_or_foreign_file_is_refused_by_name() {
        let check = |change: &str, expected: &str| {
            let directory = tempfile::tempdir().unwrap();
            drop(open_writer(directory.path()).unwrap());
            let connection = Connection::open(path_in(directory.path())).unwrap();
            connection.execute_batch(change).unwrap();
            drop(connection);
            for error in [open_writer(directory.path()), open_reader(directory.path())] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(expected) && error.contains(FILE), "{error}");
            }
        };
        check("PRAGMA user_version = 6", "newer hub (format 6, this build knows 5)");
        check("PRAGMA application_id = 7", "is not a hub's database");
        check("PRAGMA application_id = 0", "is not a hub's database");
    }

    #[test]
    fn an_older_file_is_brought_up_to_date() {
        let version_4 = "DROP TABLE targets; PRAGMA user_version = 4";
        let version_3 = "ALTER TABLE groups DROP COLUMN dropped_ms; DROP TABLE unpaged; \
                         ALTER TABLE series DROP COLUMN is_old; DROP TABLE pages; \
                         PRAGMA user_version = 3; \
                         INSERT INTO streams VALUES (1, 1, x'00', 7, 0, 0, 0, 0, 0, 0, 0, x'')";
        let version_2 = "DROP TABLE sums; PRAGMA user_version = 2";
        let version_1 = "ALTER TABLE streams DROP COLUMN sums; PRAGMA user_version = 1";
        let all = [version_4, version_3, version_2, version_1];
        for older in [&all[..2], &all[..3], &all] {
            let directory = tempfile::tempdir().unwrap();
            drop(open_writer(directory.path()).unwrap());
            let connection = Connection::open(path_in(directory.path())).unwrap();
            connection.execute_batch(&older.join(";")).unwrap();
            let mut builder = BlockBuilder::default();
            for (seq, time_ms) in [(7, 10), (8, 86_400_000), (9, 86_400_001)] {
                builder.push(seq, time_ms, 0, 1.0);
            }
            let block = "INSERT INTO blocks VALUES (8, 5, 1, 7, 10, 86400001, 3, ?1)";
            connection.execute(block, [builder.finish().unwrap()]).unwrap();
            drop(connection);
            let connection = open_writer(directory.path()).unwrap();
            let read = "SELECT acked_seq, length(sums), (SELECT count(*) FROM sums) \
                        + (SELECT count(*) FROM targets) FROM streams";
            let found =
                connection.query_row(read, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            assert_eq!(found, Ok((7, 0, 0)));
            let read = "SELECT group_concat(grp || ' ' || day || ' ' || block, ',') FROM unpaged";
            let unpaged = connection.query_row(read, [], |row| row.get::<_, String>(0));
            assert_eq!(unpaged, Ok("5 0 8,5 1 8".to_owned()));
            open_reader(directory.path()).unwrap();
        }
    }

    #[test]
    fn commits_are_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let connection = open_writer(directory.path()).unwrap();
        let pragma = |name: &str| -> String {
            let value = connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            match value {
                rusqlite::types::Value::Text(text) => text,
                rusqlite::types::Value::Integer(number) => number.to_string(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((pragma("journal_mode"), pragma("synchronous")), ("wal".into(), "2".into()));
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(path_in(directory.path()), "no database at all, but long enough to look")
            .unwrap();
        let error = open_writer(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is not a hub's database"), "{error}");
    }
}
