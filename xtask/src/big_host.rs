//! A `/proc` and `/sys` of a host of any size, written when it is needed: for tests and benches.
//!
//! It is the committed tree `collectors/fixtures/large`, so that every collector finds something, with as
//! many CPUs, processes, mounts, interfaces, disks, interrupts, sensors, sockets and control groups as are
//! asked for. The same size is the same tree every time.

mod cpus;
mod devices;
mod tasks;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::chore;

/// How many there are of what large hosts have many of.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// CPUs, each with frequencies and throttle counts, two to a core.
    pub cpus: usize,
    /// Processes; every tenth has a second thread.
    pub processes: usize,
    /// Mounts of file systems that can be asked how full they are.
    pub mounts: usize,
    /// Network interfaces, each with a neighbour.
    pub interfaces: usize,
    /// Block devices, each known to udev.
    pub disks: usize,
    /// Numbered interrupts; each counts on every CPU.
    pub interrupts: usize,
    /// Temperature sensors, of one chip.
    pub sensors: usize,
    /// UDP and TCP sockets, of each.
    pub sockets: usize,
    /// Control groups.
    pub cgroups: usize,
}

/// One of each, or a few.
pub const SMALL: Size = Size {
    cpus: 2,
    processes: 10,
    mounts: 3,
    interfaces: 2,
    disks: 2,
    interrupts: 4,
    sensors: 2,
    sockets: 2,
    cgroups: 3,
};

/// What the agent has to bear: as many as the largest hosts in use have, or some more.
pub const LARGE: Size = Size {
    cpus: 256,
    processes: 10_000,
    mounts: 1_000,
    interfaces: 200,
    disks: 300,
    interrupts: 600,
    sensors: 300,
    sockets: 5_000,
    cgroups: 300,
};

/// Such a tree, gone when it is dropped.
pub struct BigHost {
    directory: TempDir,
}

impl BigHost {
    /// Writes one, in memory if there is such a place.
    ///
    /// # Errors
    /// The system's.
    pub fn write(size: &Size) -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? };
        copy(&chore::root().join("collectors/fixtures/large"), directory.path())?;
        let tree = Tree(directory.path());
        cpus::write(&tree, size)?;
        devices::write(&tree, size)?;
        tasks::write(&tree, size)?;
        Ok(Self { directory })
    }

    /// What stands for `/proc`.
    #[must_use]
    pub fn procfs(&self) -> PathBuf {
        self.directory.path().join("proc")
    }

    /// What stands for `/sys`.
    #[must_use]
    pub fn sysfs(&self) -> PathBuf {
        self.directory.path().join("sys")
    }

    /// What stands for `/`.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.directory.path().join("root")
    }
}

/// Where it is written.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    /// A file instead of the one that is there.
    fn file(&self, path: &str, text: &str) -> io::Result<()> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)
    }

    /// More lines for a file that is there.
    fn append(&self, path: &str, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.0.join(path))?;
        file.write_all(text.as_bytes())
    }

    /// A directory with a file for each attribute.
    fn attributes(&self, directory: &str, attributes: &[(&str, String)]) -> io::Result<()> {
        let directory = self.0.join(directory);
        fs::create_dir_all(&directory)?;
        attributes.iter().try_for_each(|(name, value)| fs::write(directory.join(name), value))
    }
}

/// As many lines as are asked for.
fn lines(count: usize, line: impl FnMut(usize) -> String) -> String {
    (0..count).map(line).collect()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(path)?, target)?;
        } else if kind.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::write(&target, fs::read(&path)?)?;
        }
    }
    Ok(())
}
