//! Damaged generations, kept for a person to look at: `<log>/quarantine/<first seq>-<n>/`, and
//! `….pack` for those that were packed.
//!
//! Bounded in number and bytes; what lies here goes before any record does.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{disk::Disk, limits::QUARANTINE_ENTRIES_MAX, packed, sidecar};

/// Name of the directory.
pub(super) const DIRECTORY: &str = "quarantine";

/// The directory and what lies in it.
#[derive(Debug)]
pub(super) struct Quarantine {
    disk: Disk,
    directory: PathBuf,
    bytes_max: u64,
    /// Oldest first, with bytes on disk.
    entries: Vec<(PathBuf, u64)>,
}

impl Quarantine {
    /// The quarantine of a log's directory, for at most `bytes_max` bytes on disk.
    pub(super) fn open(disk: &Disk, log: &Path, bytes_max: u64) -> Self {
        let directory = log.join(DIRECTORY);
        let mut entries: Vec<_> =
            fs::read_dir(&directory).into_iter().flatten().flatten().collect();
        entries
            .sort_by_key(|entry| (entry.metadata().and_then(|m| m.modified()).ok(), entry.path()));
        let sized = |path: PathBuf| (path.clone(), sidecar::disk_bytes(&path));
        let entries = entries.into_iter().map(|entry| sized(entry.path())).collect();
        let mut quarantine = Self { disk: disk.clone(), directory, bytes_max, entries };
        quarantine.trim();
        quarantine
    }

    /// Bytes that it takes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.entries.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Moves a damaged generation here; returns where it lies now, as long as there is room for it.
    pub(super) fn put(&mut self, generation: &Path) -> io::Result<PathBuf> {
        if !self.directory.exists() {
            self.disk.create_directory(&self.directory)?;
        }
        let name = generation.file_stem().unwrap_or_default().to_string_lossy();
        let ending = if packed::is_packed(generation) { ".pack" } else { "" };
        let free = |n: &u32| !self.directory.join(format!("{name}-{n}{ending}")).exists();
        let n = (1..).find(free).unwrap_or_default();
        let path = self.directory.join(format!("{name}-{n}{ending}"));
        self.disk.rename(generation, &path)?;
        self.entries.push((path.clone(), sidecar::disk_bytes(&path)));
        self.trim();
        Ok(path)
    }

    /// Removes the oldest; false if there is none.
    pub(super) fn remove_oldest(&mut self) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let (path, bytes) = self.entries.remove(0);
        let removed = match path.is_dir() {
            true => self.disk.remove_directory(&path),
            false => self.disk.remove_file(&path),
        };
        match removed {
            Ok(()) => {
                tracing::info!(path = %path.display(), bytes, "removed a quarantined generation of the log");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "can't remove a quarantined generation");
            }
        }
        true
    }

    fn trim(&mut self) {
        while self.entries.len() > QUARANTINE_ENTRIES_MAX || self.disk_bytes() > self.bytes_max {
            if !self.remove_oldest() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_in_number_and_bytes() {
        let log = tempfile::tempdir().unwrap();
        let damaged = |bytes: usize| {
            let path = log.path().join("00000000000000000007.gen");
            fs::create_dir(&path).unwrap();
            fs::write(path.join("db"), vec![1; bytes]).unwrap();
            path
        };
        let open = || Quarantine::open(&Disk::default(), log.path(), 1 << 20);
        let mut quarantine = open();
        let first = quarantine.put(&damaged(1)).unwrap();
        assert!(first.ends_with("quarantine/00000000000000000007-1"), "{first:?}");
        for _ in 0..QUARANTINE_ENTRIES_MAX {
            assert!(quarantine.put(&damaged(1)).unwrap().exists());
        }
        assert!(!first.exists());
        let large = quarantine.put(&damaged(1_000_000)).unwrap();
        assert!(large.exists());
        assert!(quarantine.disk_bytes() <= 1 << 20);
        assert_eq!(open().entries, quarantine.entries);
    }
}
