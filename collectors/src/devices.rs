//! The devices of a directory of `/sys`, looked up every tick and made anew only when others are there.
//!
//! The directory stays open: to read it again costs two or three system calls. What a collector knows of
//! a device (its labels, its open attributes) is made when the device is first seen; again in the tick
//! after that, since the kernel lists a device before it has all its attributes; and every
//! [`REDISCOVERY_TICKS`], since a driver may add attributes to a device it has.

use std::{
    fs, mem,
    path::{Path, PathBuf},
};

use agent_core::CollectError;
use nix::errno::Errno;

use crate::directory::Directory;

/// Ticks after which everything is looked up anew.
const REDISCOVERY_TICKS: u32 = 64;

/// The entries of a directory, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listing {
    /// Each with a zero behind it.
    names: Vec<u8>,
    /// Another device under the same name is another inode.
    inodes: Vec<u64>,
}

/// What is known of each device in a directory.
pub(crate) struct Devices<T> {
    directory: PathBuf,
    open: Option<Directory>,
    /// What the directory held when devices were made of it.
    seen: Listing,
    /// What it holds now.
    fresh: Listing,
    known: Vec<T>,
    /// Whether others were there in the tick before, which may not have been complete.
    is_new: bool,
    age_ticks: u32,
}

impl<T> Devices<T> {
    /// Those in that directory.
    pub(crate) fn new(directory: PathBuf) -> Self {
        let (seen, fresh) = (Listing::default(), Listing::default());
        Self { directory, open: None, seen, fresh, known: Vec::new(), is_new: false, age_ticks: 0 }
    }

    /// The devices as they are now, ordered by name. `make` is given the name and path of an entry that
    /// may be one, and says `None` if it isn't. A directory without any means that this machine has
    /// none, like no directory at all.
    pub(crate) fn current(
        &mut self,
        make: impl FnMut(&str, &Path) -> Option<T>,
    ) -> Result<&mut [T], CollectError> {
        self.list().map_err(|error| CollectError::from_io(&self.directory, &error.into()))?;
        self.age_ticks += 1;
        let was_new = mem::replace(&mut self.is_new, self.fresh != self.seen);
        if self.is_new || was_new || self.age_ticks > REDISCOVERY_TICKS {
            self.discover(make);
        }
        if self.known.is_empty() {
            return Err(CollectError::unavailable(format!(
                "nothing in {}",
                self.directory.display()
            )));
        }
        Ok(&mut self.known)
    }

    /// As [`Devices::current`], where a machine that has none is no news.
    pub(crate) fn current_or_none(
        &mut self,
        make: impl FnMut(&str, &Path) -> Option<T>,
    ) -> &mut [T] {
        self.current(make).unwrap_or_default()
    }

    fn discover(&mut self, mut make: impl FnMut(&str, &Path) -> Option<T>) {
        mem::swap(&mut self.seen, &mut self.fresh);
        self.age_ticks = 0;
        // what is known has attributes open: first give those back
        self.known.clear();
        let names = self.seen.names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut names: Vec<_> = names.map(String::from_utf8_lossy).collect();
        names.sort_unstable();
        let directory = &self.directory;
        let made = names.iter().filter_map(|name| make(name, &directory.join(name.as_ref())));
        self.known.extend(made);
    }

    /// Names into `fresh`. A directory that was removed reads as empty, even when there is another of
    /// its name by now: so an empty one is opened again.
    fn list(&mut self) -> Result<(), Errno> {
        if let Some(open) = &mut self.open
            && self.fresh.read(open).is_ok()
            && !self.fresh.inodes.is_empty()
        {
            return Ok(());
        }
        self.open = None;
        let listed = Directory::open(&self.directory).and_then(|mut open| {
            self.fresh.read(&mut open)?;
            Ok(open)
        });
        match listed {
            Ok(open) => self.open = Some(open),
            Err(error) => {
                self.known.clear();
                self.seen = Listing::default();
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Listing {
    fn read(&mut self, open: &mut Directory) -> Result<(), Errno> {
        self.names.clear();
        self.inodes.clear();
        open.list(|entry| {
            self.names.extend_from_slice(entry.name.to_bytes_with_nul());
            self.inodes.push(entry.inode);
        })
    }
}

/// Names of what isn't a directory in a directory, ordered; none if it can't be read.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut names: Vec<_> =
        files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_made_when_others_are_there() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("hwmon");
        let mut devices = Devices::new(class.clone());
        let mut check = |expected: &str, expected_made: usize| {
            let mut made = 0;
            let current = devices.current(|name, path| {
                made += 1;
                assert_eq!(path, class.join(name));
                (name != "odd").then(|| name.to_owned())
            });
            let got = match current {
                Ok(names) => names.join(" "),
                Err(error) => error.to_string().replace(&class.display().to_string(), "CLASS"),
            };
            assert_eq!((got.as_str(), made), (expected, expected_made));
        };
        let add = |name: &str| fs::create_dir_all(class.join(name)).unwrap();
        check("unavailable: CLASS: No such file or directory (os error 2)", 0);
        fs::create_dir(&class).unwrap();
        check("unavailable: nothing in CLASS", 0);
        add("odd");
        check("unavailable: nothing in CLASS", 1);
        check("unavailable: nothing in CLASS", 1);
        check("unavailable: nothing in CLASS", 0);
        add("hwmon1");
        add("hwmon0");
        check("hwmon0 hwmon1", 3);
        check("hwmon0 hwmon1", 3);
        for _ in 0..REDISCOVERY_TICKS {
            check("hwmon0 hwmon1", 0);
        }
        check("hwmon0 hwmon1", 3);
        check("hwmon0 hwmon1", 0);
        // the module is loaded again
        fs::remove_dir_all(&class).unwrap();
        add("hwmon0");
        check("hwmon0", 1);
        check("hwmon0", 1);
        check("hwmon0", 0);
        fs::remove_dir_all(&class).unwrap();
        check("unavailable: CLASS: No such file or directory (os error 2)", 0);
        add("hwmon0");
        check("hwmon0", 1);
    }

    #[test]
    fn files_are_listed_without_directories() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("temp1_input"), "").unwrap();
        fs::write(directory.path().join("name"), "").unwrap();
        fs::create_dir(directory.path().join("power")).unwrap();
        assert_eq!(files(directory.path()), ["name", "temp1_input"]);
        assert_eq!(files(&directory.path().join("none")), [""; 0]);
    }
}
