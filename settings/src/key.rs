//! The table of keys: everything there is to say about a configuration, said once.

use std::{borrow::Cow, fmt};

use crate::{duration, size};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    String,
    /// Text that is never shown. Not empty.
    Secret,
    /// A [`crate::Duration`].
    Duration,
    /// A [`crate::Size`].
    Size,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// Any number.
    Float,
    /// `http://` or `https://`, host, and no user or password.
    Url,
    /// A path. Not empty.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of strings; `a,b` in the environment.
    Strings,
    /// A table of strings with names of the user's; `a=1,b=2` in the environment.
    Table,
}

impl fmt::Display for Kind {
    /// What is expected, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Secret => "a string that is not empty",
            Self::Duration => duration::EXPECTED,
            Self::Size => size::EXPECTED,
            Self::Bool => "true or false",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Url => "a URL such as \"https://hub.example:8443\", without user or password",
            Self::Path => "a path that is not empty",
            Self::Strings => "a list of strings such as [\"a\", \"b\"]",
            Self::Table => "a table of strings such as { mode = \"idle\" }",
            Self::Choice(choices) => return write!(f, "one of \"{}\"", choices.join("\", \"")),
        })
    }
}

/// What has to happen for a changed value to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Rereading the configuration is enough.
    Live,
    /// The program has to be restarted.
    Restart,
}

/// One key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Dotted path; a segment `*` stands for a name of the user's: `sinks.*.url`; a segment `#` for
    /// the number of a table in a list: `rules.#.metric` for `metric` below `[[rules]]`. The tables
    /// of a list hold no further tables.
    pub path: Cow<'static, str>,
    /// What its value is.
    pub kind: Kind,
    /// One or two sentences: what it does, in which unit.
    pub doc: Cow<'static, str>,
    /// Its default, written as a variable of the environment would be; `None`: absent.
    pub default: Option<Cow<'static, str>>,
    /// Whether its table needs it.
    pub required: bool,
    /// Smallest value, written as the value would be: of durations, sizes and numbers.
    pub min: Option<Cow<'static, str>>,
    /// Largest value.
    pub max: Option<Cow<'static, str>>,
    /// Only for tables in which that other key has that value: `("type", "http")`.
    pub when: Option<(&'static str, &'static str)>,
    /// What the sample file shows where there is no default.
    pub example: Option<Cow<'static, str>>,
    /// Whether its value is never shown, whatever its kind: an address with a key in it.
    pub secret: bool,
    /// What has to happen for a changed value to take effect.
    pub reload: Reload,
}

impl Key {
    /// A key without default that may be absent and takes effect on rereading.
    pub fn new(
        path: impl Into<Cow<'static, str>>,
        kind: Kind,
        doc: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            path: path.into(),
            kind,
            doc: doc.into(),
            default: None,
            required: false,
            min: None,
            max: None,
            when: None,
            example: None,
            secret: kind == Kind::Secret,
            reload: Reload::Live,
        }
    }

    /// With a default, written as a variable of the environment would be: `10s`, not `"10s"`.
    #[must_use]
    pub fn default(mut self, word: impl Into<Cow<'static, str>>) -> Self {
        self.default = Some(word.into());
        self
    }

    /// Its table needs it.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Not less than this.
    #[must_use]
    pub fn min(mut self, word: impl Into<Cow<'static, str>>) -> Self {
        self.min = Some(word.into());
        self
    }

    /// Not more than this.
    #[must_use]
    pub fn max(mut self, word: impl Into<Cow<'static, str>>) -> Self {
        self.max = Some(word.into());
        self
    }

    /// Only for tables in which the other key has that value.
    #[must_use]
    pub fn when(mut self, key: &'static str, value: &'static str) -> Self {
        self.when = Some((key, value));
        self
    }

    /// What the sample file shows where there is no default.
    #[must_use]
    pub fn example(mut self, word: impl Into<Cow<'static, str>>) -> Self {
        self.example = Some(word.into());
        self
    }

    /// Its value is never shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// A change needs a restart.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.reload = Reload::Restart;
        self
    }

    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.path.split('.')
    }

    /// Every path of this key in a configuration with those tables: one for each combination of
    /// names that users gave.
    pub(crate) fn instances<'t>(
        &self,
        tables: impl Iterator<Item = &'t Vec<String>>,
    ) -> Vec<Vec<String>> {
        let segments: Vec<String> = self.segments().map(str::to_owned).collect();
        let Some(last) = segments.iter().rposition(|segment| segment == "*" || segment == "#")
        else {
            return vec![segments];
        };
        let (head, rest) = segments.split_at(last + 1);
        let is_one = |table: &&Vec<String>| {
            table.len() == head.len() && head.iter().zip(*table).all(|(one, part)| fits(one, part))
        };
        let mut paths: Vec<_> =
            tables.filter(is_one).map(|table| [&table[..], rest].concat()).collect();
        // Lists by number, not by letter; names as they come.
        paths.sort_by_key(|path| path.iter().map(|part| number(part)).collect::<Vec<_>>());
        paths
    }

    /// The path of its table and its own name.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.path.rsplit_once('.').unwrap_or(("", &self.path))
    }

    /// Whether `path` is an instance of this key's path.
    pub(crate) fn matches(&self, path: &[String]) -> bool {
        self.segments().count() == path.len() && self.begins(path)
    }

    /// Whether `path` is an instance of this key's path, or of a table above it.
    pub(crate) fn begins(&self, path: &[String]) -> bool {
        let mut segments = self.segments();
        path.iter().all(|part| segments.next().is_some_and(|segment| fits(segment, part)))
    }

    /// Whether it is in a list of tables.
    pub(crate) fn is_in_list(&self) -> bool {
        self.segments().any(|segment| segment == "#")
    }
}

/// Whether a part of a path is what a segment of a key stands for.
fn fits(segment: &str, part: &str) -> bool {
    match segment {
        "*" => true,
        "#" => number(part).is_some(),
        fixed => fixed == part,
    }
}

/// Which table of a list, from 1: of `#3`, 3.
pub(crate) fn number(part: &str) -> Option<usize> {
    part.strip_prefix('#')?.parse().ok()
}

/// A kind of table that the user makes: `sinks.*`, `rules.#`.
#[derive(Clone, Copy, Debug)]
pub struct UserTable {
    /// Path, ending in `*` or `#`.
    pub path: &'static str,
    /// What such a table is, for the documentation.
    pub doc: &'static str,
    /// Names for the sample file, one for each value of the key that [`Key::when`] looks at:
    /// `("http", "hub")`. Where no key has a `when`: `("", name)`; for a list none.
    pub examples: &'static [(&'static str, &'static str)],
}

/// The keys of one program.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Every key, in the order of documentation.
    pub keys: Vec<Key>,
    /// The tables that users name.
    pub tables: Vec<UserTable>,
}

impl Keys {
    /// The key that an instance of a path belongs to, regardless of [`Key::when`].
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Key> {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        self.keys.iter().find(|key| key.matches(&path))
    }

    /// What has to happen for a changed value to take effect; unknown keys take effect never.
    #[must_use]
    pub fn reload(&self, path: &str) -> Reload {
        self.find(path).map_or(Reload::Restart, |key| key.reload)
    }
}
