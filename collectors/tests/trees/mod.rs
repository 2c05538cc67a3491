//! Copies of the committed trees that tests and fuzz targets may damage, and which files of one a
//! collector reads.
//!
//! Nothing here knows a collector: it is built from its line of the registry with everything switched on
//! that an option can switch on, and inotify(7) tells which files it opens. So a new collector is
//! covered as soon as it is in the registry and a tree has something for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use agent_core::{CollectError, Collector, Registration, Roots, Samples};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tempfile::TempDir;

/// The committed trees; `broken` is `large` with files that are cut off.
pub(crate) const FIXTURES: [&str; 3] = ["vm", "large", "bare"];

/// A copy of a committed tree.
pub(crate) struct Tree {
    directory: TempDir,
}

impl Tree {
    /// A copy of `collectors/fixtures/<fixture>`, in memory if there is such a place: some disks are
    /// waited for when a file is written anew.
    pub(crate) fn copy(fixture: &str) -> io::Result<Self> {
        let original = Path::new(env!("CARGO_MANIFEST_DIR"));
        // from `collectors` itself, or from `fuzz` beside it
        let fixtures = [original.join("fixtures"), original.join("../collectors/fixtures")];
        let original = fixtures.iter().map(|path| path.join(fixture)).find(|path| path.exists());
        let original = original.ok_or_else(|| io::Error::other(format!("no fixture {fixture}")))?;
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? };
        copy_all(&original, directory.path())?;
        Ok(Self { directory })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The collector, reading this tree, with all that its options can switch on.
    pub(crate) fn build(&self, line: &'static Registration) -> Box<dyn Collector> {
        let below = |name: &str| self.path().join(name);
        let (procfs, sysfs, rootfs) = (below("proc"), below("sys"), below("root"));
        let roots = Roots { procfs, sysfs, rootfs };
        let built = collectors::build(line, &roots, &self.options(line));
        built.unwrap_or_else(|error| panic!("{error}"))
    }

    fn options(&self, line: &Registration) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        for option in line.options {
            match (option.key, option.default) {
                ("directory", _) => {
                    let directory = self.path().join(line.name);
                    options.insert(option.key.to_owned(), directory.display().to_string());
                }
                (key, "false") => _ = options.insert(key.to_owned(), "true".to_owned()),
                _ => {}
            }
        }
        options
    }

    /// The files of this tree that the collector opens while it is built and in two ticks.
    pub(crate) fn read_by(&self, line: &'static Registration) -> io::Result<BTreeSet<PathBuf>> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK)?;
        let mut directories = HashMap::new();
        for directory in all_directories(self.path())? {
            directories.insert(inotify.add_watch(&directory, AddWatchFlags::IN_OPEN)?, directory);
        }
        let mut collector = self.build(line);
        let mut samples = Samples::new(line.name);
        for _ in 0..2 {
            let _ = tick(collector.as_mut(), &mut samples);
        }
        let mut opened = BTreeSet::new();
        while let Ok(events) = inotify.read_events() {
            let of_file = |event: &nix::sys::inotify::InotifyEvent| {
                let name = event.name.as_ref()?;
                let path = directories.get(&event.wd)?.join(name);
                path.is_file().then_some(path)
            };
            opened.extend(events.iter().filter_map(of_file));
        }
        Ok(opened)
    }
}

/// One tick of a collector.
pub(crate) fn tick(
    collector: &mut dyn Collector,
    samples: &mut Samples,
) -> Result<(), CollectError> {
    samples.clear();
    collector.collect(samples)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(path)?, target)?;
        } else if kind.is_dir() {
            copy_all(&path, &target)?;
        } else {
            fs::write(&target, fs::read(&path)?)?;
        }
    }
    Ok(())
}

fn all_directories(below: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![below.to_owned()];
    for entry in fs::read_dir(below)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(all_directories(&entry.path())?);
        }
    }
    Ok(found)
}
