//! What a configuration is made of, besides its defaults: file, environment, flags.

use crate::Source;

/// Where values come from; a later layer wins: defaults, `file`, `shorts`, other `variables`, `flags`.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// The configuration file.
    pub file: Option<Source>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// Variables `PREFIX_KEY_PATH` set `key.path`; an unknown one is a problem. Empty: none do.
    pub prefix: &'a str,
    /// Prefixes below `prefix`, and whole names, that belong to others: `HOLDFAST_HUB`.
    pub foreign: &'a [&'a str],
    /// Variables with names of their own: `("SERVER_URL", "sinks.hub.url")`.
    pub shorts: &'a [(&'a str, &'a str)],
    /// Flags of the command line.
    pub flags: Vec<Flag>,
}

/// A value given as a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As the user writes it, for messages: `--procfs`.
    pub name: String,
    /// The key that it sets.
    pub path: String,
    /// The value, written as a variable of the environment would be.
    pub word: String,
}

impl Flag {
    /// A flag, the key that it sets, and its value.
    pub fn new(name: &str, path: &str, word: impl Into<String>) -> Self {
        Self { name: name.to_owned(), path: path.to_owned(), word: word.into() }
    }
}

/// The environment of this process. What isn't Unicode keeps its name and loses what can't be read: a
/// stray variable of somebody else's is no reason not to start.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, word)| (text(name), text(word))).collect()
}
