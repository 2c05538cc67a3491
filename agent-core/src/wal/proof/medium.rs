//! What a disk may hold when the power is cut.
//!
//! A [`Medium`] looks on at all that a log does and knows what of it is durable: the bytes of a file
//! as of its last sync, the names in a directory as of the directory's. Of sled's own syncs only the one
//! of a finished snapshot counts, which no later write touches.
//! A cut makes a directory tree of that, in which everything else is left to chance:
//!
//! - of a file each block of 4 KiB is as it was when last synced, or as it was written since (in a
//!   file that was never synced: nothing but zeros, or as written); the length is either, or between;
//! - a name that was made, changed or removed since its directory was last synced is there or not. A
//!   rename in one directory happens or doesn't: no file system in use does half of it. Which of them
//!   happen is, from cut to cut, those up to some point in time (a journal), those up to some point
//!   in each directory, or any.
//!
//! A [`Fault`] lets calls fail, before they have any effect or after. What a sync was to make durable that
//! failed is never durable, however often the file is synced later: so Linux does.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use nix::errno::Errno;

use super::{
    super::disk::{Act, Observer},
    support::Random,
};

const BLOCK_BYTES: usize = 4_096;

/// Acts that a failure tells of.
const RECENT_MAX: usize = 12;

/// A sync that is taken for none: to see that it was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    Nothing,
    /// The one after each flush of a database.
    Data,
    /// Those of directories.
    Directories,
}

/// Calls that fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) act: Act,
    /// The first of this kind that fails, from 1.
    pub(super) nth: u64,
    /// How many do.
    pub(super) times: u64,
    pub(super) errno: Errno,
    /// Whether they have had their effect then.
    pub(super) is_late: bool,
}

/// What lies under a name, however it is called meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Node {
    inode: u64,
    /// Some file systems give an inode's number out again.
    born: Option<SystemTime>,
    is_directory: bool,
}

type Names = BTreeMap<OsString, Node>;

/// Something that happened to the names of a directory.
#[derive(Clone, Debug)]
enum Change {
    Add(OsString, Node),
    Move(OsString, OsString, Node),
    Remove(OsString, Node),
}

/// Which changes of names a cut leaves.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// Those before a point in time.
    Until(u64),
    /// In each directory the first ones.
    FirstOfEach,
    Any,
}

#[derive(Debug)]
struct State {
    random: Random,
    ignored: Ignored,
    /// The last acts, for telling where a cut came.
    recent: VecDeque<String>,
    /// Acts until the next cut.
    countdown: u64,
    /// What cuts left, and where they came.
    images: Vec<(PathBuf, String)>,
    made: u64,
    /// Where everything lies now.
    paths: HashMap<Node, PathBuf>,
    /// Names as they are now.
    names: HashMap<Node, Names>,
    durable_names: HashMap<Node, Names>,
    durable_bytes: HashMap<Node, Vec<u8>>,
    /// What happened to names since they were durable, with when.
    changes: HashMap<Node, Vec<(u64, Change)>>,
    clock: u64,
    /// Bytes of a file before it is synced.
    syncing: Vec<u8>,
    /// Bytes of files as they were when a sync failed.
    dropped: HashMap<Node, Vec<u8>>,
    fault: Option<Fault>,
    /// Whether there is no space left.
    is_full: bool,
    /// Calls of the fault's kind so far, and how many of them failed.
    calls: u64,
    failed: u64,
}

/// A disk with a power switch.
#[derive(Debug)]
pub(super) struct Medium {
    root: PathBuf,
    images: PathBuf,
    state: Mutex<State>,
}

impl Medium {
    /// A disk on which all that lies below `root` is durable; what cuts leave comes below `images`.
    pub(super) fn new(root: &Path, images: &Path, seed: u64, ignored: Ignored) -> Self {
        let mut state = State {
            random: Random(seed),
            ignored,
            recent: VecDeque::new(),
            countdown: 0,
            images: Vec::new(),
            made: 0,
            paths: HashMap::new(),
            names: HashMap::new(),
            durable_names: HashMap::new(),
            durable_bytes: HashMap::new(),
            changes: HashMap::new(),
            clock: 0,
            syncing: Vec::new(),
            dropped: HashMap::new(),
            fault: None,
            is_full: false,
            calls: 0,
            failed: 0,
        };
        state.look(root);
        state.durable_names = state.names.clone();
        state.changes.clear();
        for (node, path) in state.paths.iter().filter(|(node, _)| !node.is_directory) {
            state.durable_bytes.insert(*node, fs::read(path).unwrap());
        }
        state.wind();
        Self { root: root.to_owned(), images: images.to_owned(), state: Mutex::new(state) }
    }

    /// Lets calls fail from here on, and cuts the power no more unless told to.
    pub(super) fn fail(&self, fault: Fault) {
        let state = &mut *self.state();
        (state.fault, state.calls, state.countdown) = (Some(fault), 0, u64::MAX);
    }

    /// Takes all space there is, or gives it back.
    pub(super) fn fill(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// How many calls failed.
    pub(super) fn failed(&self) -> u64 {
        self.state().failed
    }

    /// How many calls of the fault's kind there were.
    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Cuts the power now; returns what is left.
    pub(super) fn cut(&self) -> PathBuf {
        let state = &mut *self.state();
        self.leave(state).0
    }

    /// What the cuts since the last call left.
    pub(super) fn take_images(&self) -> Vec<(PathBuf, String)> {
        std::mem::take(&mut self.state().images)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn maybe_cut(&self, state: &mut State, act: Act, path: &Path) {
        let path = path.strip_prefix(&self.root).unwrap_or(path).display();
        state.recent.push_back(format!("{act:?} {path}"));
        while state.recent.len() > RECENT_MAX {
            state.recent.pop_front();
        }
        state.countdown = state.countdown.saturating_sub(1);
        if state.countdown == 0 {
            let (image, mode) = self.leave(state);
            let cut = format!("cut before the last of {:?}, names left {mode:?}", state.recent);
            state.images.push((image, cut));
            state.wind();
        }
    }

    fn leave(&self, state: &mut State) -> (PathBuf, Left) {
        state.look(&self.root);
        state.made += 1;
        let image = self.images.join(format!("cut-{}", state.made));
        let mode = state.leave(node_at(&self.root).unwrap(), &image);
        (image, mode)
    }
}

impl Observer for Medium {
    fn before(&self, act: Act, path: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        if matches!(act, Act::SyncData | Act::SyncFile) {
            // What is written while it is being synced may come too late.
            state.syncing = fs::read(path)?;
        }
        if act != Act::ReadDatabase {
            self.maybe_cut(state, act, path);
        }
        if state.is_full && takes_space(act) && !(act == Act::CreateFile && path.exists()) {
            state.failed += 1;
            return Err(Errno::ENOSPC.into());
        }
        state.calls += u64::from(state.fault.is_some_and(|fault| fault.act == act));
        let failed = state.fail(act, false);
        if let (Err(_), Some(node)) = (&failed, node_at(path)) {
            let bytes = std::mem::take(&mut state.syncing);
            state.dropped.insert(node, bytes);
        }
        failed
    }

    fn after(&self, act: Act, path: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        if act != Act::ReadDatabase {
            state.look(&self.root);
        }
        let node = node_at(path);
        match (act, node) {
            (Act::SyncData, _) if state.ignored == Ignored::Data => {}
            (Act::SyncDirectory, _) if state.ignored == Ignored::Directories => {}
            (Act::SyncData | Act::SyncFile, Some(node)) => {
                let bytes = std::mem::take(&mut state.syncing);
                let bytes = state.synced(node, bytes);
                state.durable_bytes.insert(node, bytes);
            }
            (Act::SyncDirectory, Some(node)) => {
                state.changes.remove(&node);
                let names = state.names.get(&node).cloned().unwrap_or_default();
                state.durable_names.insert(node, names);
            }
            _ => {}
        }
        state.fail(act, true)
    }
}

impl State {
    /// The fault's error, if the call is one of those that fail.
    fn fail(&mut self, act: Act, is_late: bool) -> io::Result<()> {
        let hits = |fault: &Fault| {
            let range = fault.nth..fault.nth + fault.times;
            fault.act == act && fault.is_late == is_late && range.contains(&self.calls)
        };
        let Some(fault) = self.fault.filter(hits) else { return Ok(()) };
        self.failed += 1;
        Err(fault.errno.into())
    }

    /// What a sync makes durable of a file: all but what an earlier one failed to.
    fn synced(&self, node: Node, mut bytes: Vec<u8>) -> Vec<u8> {
        let Some(dropped) = self.dropped.get(&node) else { return bytes };
        let old = self.durable_bytes.get(&node).cloned().unwrap_or_default();
        let blocks = bytes.chunks_mut(BLOCK_BYTES).zip(dropped.chunks(BLOCK_BYTES));
        for (index, (block, _)) in blocks.enumerate().filter(|(_, (block, lost))| block == lost) {
            let start = (index * BLOCK_BYTES).min(old.len());
            let end = (start + block.len()).min(old.len());
            block.fill(0);
            block[..end - start].copy_from_slice(&old[start..end]);
        }
        bytes
    }

    /// Sets when the next cut comes: now and then two in one operation.
    fn wind(&mut self) {
        self.countdown = 1 + self.random.below(40);
    }

    /// Notes what happened to names since the last look.
    fn look(&mut self, root: &Path) {
        let mut paths = HashMap::new();
        let mut names = HashMap::new();
        walk(root, &mut paths, &mut names);
        let gone = self.names.keys().filter(|node| !names.contains_key(*node)).copied();
        let emptied: Vec<_> = gone.map(|node| (node, Names::new())).collect();
        for (directory, now) in
            names.iter().chain(emptied.iter().map(|(node, names)| (node, names)))
        {
            let before = self.names.get(directory).cloned().unwrap_or_default();
            for change in changes(&before, now) {
                self.clock += 1;
                self.changes.entry(*directory).or_default().push((self.clock, change));
            }
        }
        for (node, path) in &paths {
            if is_snapshot(path) && !self.durable_bytes.contains_key(node) {
                let bytes = fs::read(path).unwrap_or_default();
                self.durable_bytes.insert(*node, bytes);
            }
        }
        (self.paths, self.names) = (paths, names);
    }

    /// Makes what a cut leaves of a directory.
    fn leave(&mut self, root: Node, image: &Path) -> Left {
        let oldest = self.changes.values().flatten().map(|(time, _)| *time).min();
        let oldest = oldest.unwrap_or(self.clock);
        let left = match self.random.below(3) {
            0 => Left::Until(oldest + self.random.below(self.clock + 2 - oldest)),
            1 => Left::FirstOfEach,
            _ => Left::Any,
        };
        self.leave_directory(root, image, left);
        left
    }

    fn leave_directory(&mut self, directory: Node, image: &Path, left: Left) {
        fs::create_dir(image).unwrap();
        for (name, node) in self.names_left(directory, left) {
            let place = image.join(name);
            match node.is_directory {
                true => self.leave_directory(node, &place, left),
                false => fs::write(place, self.bytes_left(node)).unwrap(),
            }
        }
    }

    fn names_left(&mut self, directory: Node, left: Left) -> Names {
        let mut names = self.durable_names.get(&directory).cloned().unwrap_or_default();
        let changes = self.changes.get(&directory).cloned().unwrap_or_default();
        let count = self.random.below(changes.len() as u64 + 1) as usize;
        for (index, (time, change)) in changes.into_iter().enumerate() {
            let happened = match left {
                Left::Until(until) => time < until,
                Left::FirstOfEach => index < count,
                Left::Any => self.random.below(2) == 0,
            };
            if happened {
                apply(&mut names, change);
            }
        }
        names
    }

    fn bytes_left(&mut self, node: Node) -> Vec<u8> {
        let old = self.durable_bytes.get(&node).cloned();
        let new = self.paths.get(&node).and_then(|path| fs::read(path).ok());
        let old = old.unwrap_or_default();
        // Of a file that is gone only what was durable is known.
        let new = new.unwrap_or_else(|| old.clone());
        let grown = new.len().abs_diff(old.len()).div_ceil(BLOCK_BYTES);
        let blocks = self.random.below(grown as u64 + 1) as usize;
        let length = match self.random.below(3) {
            0 => old.len(),
            1 => new.len(),
            _ => (new.len().min(old.len()) + blocks * BLOCK_BYTES).min(new.len().max(old.len())),
        };
        let mut left = vec![0; length];
        for (index, block) in left.chunks_mut(BLOCK_BYTES).enumerate() {
            let from = if self.random.below(2) == 0 { &old } else { &new };
            let start = (index * BLOCK_BYTES).min(from.len());
            let end = (start + block.len()).min(from.len());
            block[..end - start].copy_from_slice(&from[start..end]);
        }
        left
    }
}

/// Whether an act may need space that a file or directory doesn't have yet.
const fn takes_space(act: Act) -> bool {
    match act {
        Act::CreateDirectory
        | Act::CreateFile
        | Act::WriteFile
        | Act::Allocate
        | Act::OpenDatabase
        | Act::WriteDatabase
        | Act::FlushDatabase => true,
        Act::Overwrite
        | Act::SyncData
        | Act::SyncFile
        | Act::SyncDirectory
        | Act::Rename
        | Act::RemoveFile
        | Act::RemoveDirectory
        | Act::ReadDatabase => false,
    }
}

/// Whether it is a snapshot of sled's that has its final name.
fn is_snapshot(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("snap.") && !name.ends_with(".generating")
}

fn node_at(path: &Path) -> Option<Node> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let (inode, born) = (metadata.ino(), metadata.created().ok());
    Some(Node { inode, born, is_directory: metadata.is_dir() })
}

fn walk(directory: &Path, paths: &mut HashMap<Node, PathBuf>, names: &mut HashMap<Node, Names>) {
    let Some(node) = node_at(directory) else { return };
    let mut found = Names::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        // sled may remove it meanwhile.
        let Some(node) = node_at(&path) else { continue };
        found.insert(entry.file_name(), node);
        match node.is_directory {
            true => walk(&path, paths, names),
            false => drop(paths.insert(node, path)),
        }
    }
    names.insert(node, found);
}

/// What turns one state of a directory into another: moves, then what is new, then what is gone.
fn changes(before: &Names, now: &Names) -> Vec<Change> {
    let is_old = |(name, node): &(&OsString, &Node)| now.get(*name) != Some(*node);
    let is_new = |(name, node): &(&OsString, &Node)| before.get(*name) != Some(*node);
    let mut gone: Vec<(&OsString, &Node)> = before.iter().filter(is_old).collect();
    let (mut moves, mut added) = (Vec::new(), Vec::new());
    for (name, node) in now.iter().filter(is_new) {
        match gone.iter().position(|(_, old)| *old == node) {
            Some(index) => {
                let (from, _) = gone.remove(index);
                moves.push(Change::Move(from.clone(), name.clone(), *node));
            }
            None => added.push(Change::Add(name.clone(), *node)),
        }
    }
    // What another took the name of went with that, in one.
    let removed = gone.into_iter().filter(|(name, _)| !now.contains_key(*name));
    let removed = removed.map(|(name, node)| Change::Remove(name.clone(), *node));
    moves.into_iter().chain(added).chain(removed).collect()
}

fn apply(names: &mut Names, change: Change) {
    let mut forget = |name: &OsString, node: Node| {
        if names.get(name) == Some(&node) {
            names.remove(name);
        }
    };
    match change {
        Change::Add(name, node) => drop(names.insert(name, node)),
        Change::Move(from, to, node) => {
            forget(&from, node);
            names.insert(to, node);
        }
        Change::Remove(name, node) => forget(&name, node),
    }
}
