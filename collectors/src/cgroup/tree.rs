//! Which control groups there are: the directories below the root, level by level.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::Path};

use agent_core::CollectError;

use crate::directory::Directory;

/// Directories of version 1's controllers, of which a host has some; each has the groups below it.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];
/// How long a container's id is, in hexadecimal digits.
const CONTAINER_ID_DIGITS: usize = 64;

/// The groups that were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Their paths from the root, level by level and by name: `/system.slice/ssh.service`.
    pub(super) ids: Vec<String>,
    /// How many there are beyond the bound.
    pub(super) left_out: usize,
}

/// The groups below the root, which itself is the whole host and so left to other collectors.
pub(super) fn walk(
    root: &Path,
    is_v2: bool,
    max_depth: usize,
    max_cgroups: usize,
) -> Result<Found, CollectError> {
    let unavailable = |error| CollectError::from_io(root, &error);
    fs::read_dir(root).map_err(unavailable)?;
    let controllers: Vec<_> = match is_v2 {
        true => vec![root.to_owned()],
        false => CONTROLLERS.iter().map(|one| root.join(one)).filter(|one| one.is_dir()).collect(),
    };
    if controllers.is_empty() {
        return Err(CollectError::unavailable(format!("no controller in {}", root.display())));
    }
    let mut found = Found::default();
    let mut level = vec![String::new()];
    for _ in 0..max_depth {
        let mut below: Vec<String> = Vec::new();
        for parent in &level {
            for controller in &controllers {
                add_children(controller, parent, &mut below);
            }
        }
        below.sort_unstable();
        below.dedup();
        let room = max_cgroups - found.ids.len();
        found.left_out += below.len().saturating_sub(room);
        found.ids.extend(below.iter().take(room).cloned());
        level = below;
    }
    Ok(found)
}

/// A group may go at any time: one that can't be listed has none below it. Each has dozens of files beside
/// the groups below it.
fn add_children(controller: &Path, parent: &str, below: &mut Vec<String>) {
    let path = controller.join(parent.trim_start_matches('/'));
    let Ok(mut directory) = Directory::open(&path) else { return };
    let _ = directory.list(|entry| {
        let is_group = entry
            .is_directory
            .unwrap_or_else(|| path.join(OsStr::from_bytes(entry.name.to_bytes())).is_dir());
        if is_group {
            below.push(format!("{parent}/{}", entry.name.to_string_lossy()));
        }
    });
}

/// The container's id, where the group is named after one: `docker-<id>.scope`, `cri-containerd-<id>.scope`,
/// or `<id>` alone.
pub(super) fn container_id(id: &str) -> Option<&str> {
    let name = id.rsplit('/').next()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let last = name.rsplit('-').next()?;
    let is_id = last.len() == CONTAINER_ID_DIGITS && last.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_id() {
        let id = "0123456789abcdef".repeat(4);
        let check = |path: &str, expected: Option<&str>| assert_eq!(container_id(path), expected);
        check(&format!("/system.slice/docker-{id}.scope"), Some(&id));
        check(&format!("/kubepods.slice/cri-containerd-{id}.scope"), Some(&id));
        check(&format!("/docker/{id}"), Some(&id));
        check(&format!("/machine.slice/libpod-conmon-{id}.scope"), Some(&id));
        check("/system.slice/ssh.service", None);
        check("/user.slice/user-1000.slice", None);
    }

    #[test]
    fn controllers_of_version_1_share_their_groups() {
        let root = tempfile::tempdir().unwrap();
        for group in ["cpu/a", "memory/a/inner", "memory/b", "freezer/c"] {
            fs::create_dir_all(root.path().join(group)).unwrap();
        }
        let found = walk(root.path(), false, 4, 10).unwrap();
        assert_eq!(found.ids, ["/a", "/b", "/a/inner"]);
    }
}
