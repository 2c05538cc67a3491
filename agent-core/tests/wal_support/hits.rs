//! What can happen to a file of a log that is closed.

use std::{
    fs,
    path::{Path, PathBuf},
};

const BLOCK_BYTES: usize = 4_096;
/// Places are given in so many parts of a file.
pub(crate) const PARTS: usize = 1_000;

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hit {
    /// A bit is another one.
    Flip { part: usize, bit: u8 },
    /// It ends there.
    Cut { part: usize },
    /// A block is zeros.
    Zero { part: usize },
    /// It is gone.
    Gone,
}

impl Hit {
    /// Lets it happen; an empty file can only go.
    pub(crate) fn on(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let at = |part: usize| (bytes.len() * part / PARTS).min(bytes.len().saturating_sub(1));
        match self {
            Self::Gone => return fs::remove_file(file).unwrap(),
            _ if bytes.is_empty() => return,
            Self::Flip { part, bit } => {
                let at = at(part);
                bytes[at] ^= 1 << (bit % 8);
            }
            Self::Cut { part } => bytes.truncate(at(part)),
            Self::Zero { part } => {
                let start = at(part) / BLOCK_BYTES * BLOCK_BYTES;
                let end = (start + BLOCK_BYTES).min(bytes.len());
                bytes[start..end].fill(0);
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

/// All files below a directory, in order.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    paths.into_iter().flat_map(below).collect()
}
