//! A configuration file: its name and its text.

use std::path::Path;

use crate::{Place, Problem};

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name for messages, mostly a path.
    pub name: String,
    /// TOML.
    pub text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// Says which file, and what the system said.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                Err(Problem { place: Place::File(name), text: format!("can't be read: {error}") })
            }
        }
    }

    /// Reads a file that may be absent.
    ///
    /// # Errors
    /// Says which file, and what the system said, if it is there and can't be read.
    pub fn read_if_present(path: &Path) -> Result<Option<Self>, Problem> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            _ => Self::read(path).map(Some),
        }
    }

    /// Line and column, from 1, of a byte offset.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::Line {
            file: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
