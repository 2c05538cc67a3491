//! The floor: the files of a tick, read and not parsed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    hint::black_box,
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use agent_core::Roots;

/// The files that are read every tick, each with a buffer for as much as it holds: for a larger one the
/// kernel has to make more room, which for `/proc/sys` costs more than the file.
pub(crate) struct Floor(Vec<Read>);

struct Read {
    file: File,
    buffer: Vec<u8>,
    /// One read gives all of it; of others only the second says that there is no more.
    is_attribute: bool,
}

impl Floor {
    /// What is open after `run` that wasn't before.
    pub(crate) fn of(roots: &Roots, run: impl FnOnce()) -> Self {
        let open = || -> BTreeSet<(PathBuf, PathBuf)> {
            let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            let target = |path: PathBuf| Some((path.clone(), fs::read_link(path).ok()?));
            entries.filter_map(|entry| target(entry.path())).collect()
        };
        let before = open();
        run();
        let after = open();
        let new = after.difference(&before).map(|(_, file)| file).filter(|file| file.is_file());
        let read = |path: &PathBuf| {
            let length = fs::read(path).map_or(0, |content| content.len());
            Some(Read {
                file: File::open(path).ok()?,
                buffer: vec![0; (length + 1).next_multiple_of(4 << 10)],
                is_attribute: path.starts_with(&roots.sysfs),
            })
        };
        Self(new.filter_map(read).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Says how many system calls that took.
    pub(crate) fn read(&mut self) -> usize {
        let mut calls = 0;
        for Read { file, buffer, is_attribute } in &mut self.0 {
            let mut offset = 0;
            loop {
                calls += 1;
                let Ok(read @ 1..) = file.read_at(buffer, offset) else { break };
                offset += read as u64;
                if *is_attribute {
                    break;
                }
            }
            black_box(buffer);
        }
        calls
    }
}
