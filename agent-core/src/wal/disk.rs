//! What the log does to its disk: every change, every sync and every call of a database, at one place.
//!
//! Whether the log keeps its promises when the power is cut or the disk refuses is decided here and
//! nowhere else, so here is where tests look on and step in (see [`Observer`]). In an agent nobody
//! looks on. sled's own file calls don't come by: they stand between the ends of a database's call.

use std::{
    fmt::Debug,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use nix::fcntl::{FallocateFlags, fallocate};

/// What is done, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Act {
    /// A directory is made.
    CreateDirectory,
    /// A file is made, if it isn't there; what is in it stays.
    CreateFile,
    /// A file is written as a whole.
    WriteFile,
    /// Bytes of a file are written over.
    Overwrite,
    /// A file is given its space.
    Allocate,
    /// A file's bytes become durable.
    SyncData,
    /// A file becomes durable.
    SyncFile,
    /// The names in a directory become durable.
    SyncDirectory,
    /// A file or directory gets another name.
    Rename,
    /// A file goes.
    RemoveFile,
    /// A directory goes, with all below it.
    RemoveDirectory,
    /// A database is opened or made.
    OpenDatabase,
    /// Something is put into a database.
    WriteDatabase,
    /// A database hands all it was given to the kernel, which is not yet the disk.
    FlushDatabase,
    /// Something is looked up in a database.
    ReadDatabase,
}

/// Looks on at what is done to a disk: a test.
pub(super) trait Observer: Debug + Send + Sync {
    /// Called before an act; an error takes its place.
    fn before(&self, act: Act, path: &Path) -> io::Result<()>;

    /// Called after an act that went well; an error hides that it did.
    fn after(&self, act: Act, path: &Path) -> io::Result<()>;
}

/// The disk, as the log sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    observer: Option<Arc<dyn Observer>>,
}

impl Disk {
    /// A disk with someone looking on.
    #[cfg(test)]
    pub(super) fn observed(observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer) }
    }

    /// Does something in sight of the observer.
    pub(super) fn act<T, E: From<io::Error>>(
        &self,
        act: Act,
        path: &Path,
        done: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(observer) = &self.observer else { return done() };
        observer.before(act, path)?;
        let value = done()?;
        observer.after(act, path)?;
        Ok(value)
    }

    /// Makes a directory; the one above must be there.
    pub(super) fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.act(Act::CreateDirectory, path, || DirBuilder::new().mode(0o700).create(path))
    }

    /// Opens a file for reading and writing, making it if it isn't there.
    pub(super) fn create_file(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        self.act(Act::CreateFile, path, || options.open(path))
    }

    /// Writes a file as a whole, in place of what was in it.
    pub(super) fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        self.act(Act::WriteFile, path, || {
            let mut file = truncated(path)?;
            file.write_all(bytes)?;
            Ok(file)
        })
    }

    /// Writes over the beginning of a file.
    pub(super) fn overwrite(&self, file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.act(Act::Overwrite, path, || file.write_all_at(bytes, 0))
    }

    /// Makes a file that takes that much space on disk.
    pub(super) fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.act(Act::Allocate, path, || {
            let file = truncated(path)?;
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
            Ok(())
        })
    }

    /// Makes the bytes of a file durable.
    pub(super) fn sync_data(&self, file: &File, path: &Path) -> io::Result<()> {
        self.act(Act::SyncData, path, || file.sync_data())
    }

    /// Makes a file durable.
    pub(super) fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.act(Act::SyncFile, path, || file.sync_all())
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.act(Act::SyncDirectory, path, || File::open(path)?.sync_all())
    }

    /// Gives a file or directory another name.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Act::Rename, from, || fs::rename(from, to))
    }

    /// Removes a file.
    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.act(Act::RemoveFile, path, || fs::remove_file(path))
    }

    /// Removes a directory with all below it.
    pub(super) fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.act(Act::RemoveDirectory, path, || fs::remove_dir_all(path))
    }
}

fn truncated(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use wire::Kind;

    use super::{
        super::{NewRecord, SledWal, Wal as _, WalOptions},
        *,
    };

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Observer for Recorder {
        fn before(&self, act: Act, path: &Path) -> io::Result<()> {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = format!("{act:?} {}", name.trim_start_matches('0'));
            self.0.lock().unwrap().push(text);
            Ok(())
        }

        fn after(&self, _: Act, _: &Path) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn creating_and_appending_sync_what_they_write_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Arc::new(Recorder::default());
        let check = |expected: &[&str]| {
            assert_eq!(*recorder.0.lock().unwrap(), expected);
            recorder.0.lock().unwrap().clear();
        };
        let above = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let disk = Disk::observed(recorder.clone());
        let options = WalOptions::default();
        let mut wal =
            SledWal::open_on(disk, &directory.path().join("wal"), options.into()).unwrap();
        check(&[
            "CreateDirectory wal",
            &format!("SyncDirectory {above}"),
            "CreateFile lock",
            "Overwrite lock",
            "CreateFile last",
            "Allocate reserve",
            // Anything unfinished would go first; there is nothing.
            "Rename 1.gen",
            "CreateDirectory 1.gen",
            "OpenDatabase 1.gen",
            "WriteDatabase 1.gen",
            "FlushDatabase 1.gen",
            "SyncData db",
            "SyncFile conf",
            "SyncDirectory 1.gen",
            "WriteFile head.part",
            "SyncFile head.part",
            "Rename head.part",
            "SyncDirectory 1.gen",
            "SyncDirectory wal",
        ]);
        let (kind, time_ms, samples, payload) = (Kind::Metrics, 1, 1, &b"payload"[..]);
        let record = NewRecord { kind, time_ms, samples, payload, schemas: &[] };
        let expected =
            ["WriteDatabase 1.gen", "FlushDatabase 1.gen", "SyncData db", "Overwrite last"];
        wal.append(&record).unwrap();
        check(&[expected.as_slice(), &["ReadDatabase 1.gen"]].concat());
        wal.append(&record).unwrap();
        check(&expected);
    }
}
