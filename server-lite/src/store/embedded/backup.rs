//! A copy of the store, taken beside the hub that runs on it, and put back.
//!
//! A backup is a directory with a database of the same name as the store's, as it was at one moment: all
//! that was acknowledged before it began is in it. SQLite writes it out of one read transaction, packed;
//! writing goes on meanwhile, and the write-ahead log grows until it is done. Each file is there under its
//! name only when it is whole and on disk.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{database, lock::DirectoryLock, make_directory};
use crate::store::StoreError;

/// Copies the store in a data directory, and other databases that may lie there, to a directory that is new
/// or empty. Returns the bytes of the copies.
///
/// # Errors
/// [`StoreError`]: there is no store, or the copy can't be written.
pub fn backup(data_dir: &Path, others: &[&str], target: &Path) -> Result<u64, StoreError> {
    database::found(data_dir)?;
    expect_empty(target, "give the backup a directory of its own")?;
    make_directory(target)?;
    let mut bytes = 0;
    for file in [database::FILE].iter().chain(there(others, data_dir)) {
        let partial = target.join(format!("{file}.partial"));
        copy_database(&data_dir.join(file), &partial)?;
        bytes += put_in_place(&partial, &target.join(file))?;
    }
    Ok(bytes)
}

/// Puts a backup into a data directory that is new or empty. The store comes last: without it a directory is
/// no hub's.
///
/// # Errors
/// [`StoreError`]: it is no backup or a newer hub's, or something lies in the data directory.
pub fn restore(source: &Path, others: &[&str], data_dir: &Path) -> Result<(), StoreError> {
    let path = database::path_in(source);
    if !path.exists() {
        let found = "is not there: this is no backup of a hub".to_owned();
        return Err(StoreError::Format { path, found });
    }
    database::found(source)?;
    expect_empty(data_dir, "stop the hub and move what is there aside, then restore")?;
    make_directory(data_dir)?;
    let _lock = DirectoryLock::take(data_dir)?;
    for file in there(others, source).chain(&[database::FILE]) {
        let partial = data_dir.join(format!("{file}.partial"));
        copy_database(&source.join(file), &partial)?;
        put_in_place(&partial, &data_dir.join(file))?;
    }
    Ok(())
}

fn there<'a>(files: &'a [&'a str], directory: &'a Path) -> impl Iterator<Item = &'a &'a str> {
    files.iter().filter(|file| directory.join(file).exists())
}

/// A database as it is at this moment, checked.
fn copy_database(from: &Path, to: &Path) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = || {
        let connection = Connection::open_with_flags(from, flags)?;
        connection.busy_timeout(database::BUSY_TIMEOUT)?;
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        let copy = Connection::open_with_flags(to, flags)?;
        copy.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    };
    let checked = copy().map_err(database::database("copy database"))?;
    if checked == "ok" {
        return Ok(());
    }
    let what = format!("database {}", from.display());
    Err(StoreError::Damaged { what, detail: checked, series: vec![] })
}

/// Gives a file that is written its name, when it is on disk. Returns its bytes.
fn put_in_place(partial: &Path, path: &Path) -> Result<u64, StoreError> {
    let io = |source| StoreError::Io { operation: "write", path: path.to_owned(), source };
    let put = || {
        let file = File::open(partial)?;
        file.sync_all()?;
        fs::rename(partial, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        file.metadata().map(|metadata| metadata.len())
    };
    put().map_err(io)
}

fn expect_empty(directory: &Path, advice: &str) -> Result<(), StoreError> {
    let path = PathBuf::from(directory);
    let first = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(StoreError::Io { operation: "read", path, source }),
    };
    let Some(first) = first else { return Ok(()) };
    let name = first.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found = format!("is not empty (there is {:?}): {advice}", name.unwrap_or_default());
    Err(StoreError::Format { path, found })
}
