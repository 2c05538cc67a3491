//! A configuration in force: every value with where it came from.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use toml::Value;

use crate::{Place, Problem, Reload, key::number, secret::REDACTED};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is the key's default.
    Default,
    /// What the default comes to here, and why.
    Here(String),
    /// It was given there.
    Given(Place),
}

impl Origin {
    /// The place, if it was given at one.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Default | Self::Here(_) => Place::Everywhere,
            Self::Given(place) => place.clone(),
        }
    }
}

/// One value in force.
#[derive(Clone, PartialEq)]
pub struct Setting {
    /// Whole path: `sinks.hub.url`.
    pub path: String,
    /// Where it came from.
    pub origin: Origin,
    /// Whether it must not be shown.
    pub is_secret: bool,
    /// What has to happen for a changed value to take effect.
    pub reload: Reload,
    pub(crate) value: Value,
}

impl Setting {
    /// The value as TOML, or `<redacted>`.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.is_secret { REDACTED.to_owned() } else { self.value.to_string() }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({:?})", self.path, self.shown(), self.origin)
    }
}

/// A configuration in force, in the order of its table of keys. It never shows a secret.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    pub(crate) settings: Vec<Setting>,
    /// Tables that were given, for the places of problems.
    pub(crate) tables: Vec<(String, Place)>,
}

/// A value that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whole path.
    pub path: String,
    /// As TOML, or `<redacted>`; `None`: was absent.
    pub old: Option<String>,
    /// As TOML, or `<redacted>`; `None`: is absent.
    pub new: Option<String>,
    /// What has to happen for it to take effect.
    pub reload: Reload,
}

/// `interval: "10s" -> "30s"`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
        write!(f, "{}: {} -> {}", self.path, shown(&self.old), shown(&self.new))
    }
}

impl Effective {
    /// Every value in force.
    pub fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.settings.iter()
    }

    /// The value at a path, unless absent.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.path == path)
    }

    /// Whether the value at a path was given, by whatever layer.
    #[must_use]
    pub fn is_given(&self, path: &str) -> bool {
        self.get(path).is_some_and(|setting| matches!(setting.origin, Origin::Given(_)))
    }

    /// Puts what a default comes to here in its place: for what the machine decides, and no key says. A
    /// value that was given stays.
    pub fn put_here(&mut self, path: &str, value: bool, why: &str) {
        let is_it = |setting: &&mut Setting| {
            setting.path == path && !matches!(setting.origin, Origin::Given(_))
        };
        if let Some(setting) = self.settings.iter_mut().find(is_it) {
            setting.value = Value::Boolean(value);
            setting.origin = Origin::Here(why.to_owned());
        }
    }

    /// A problem with the value at a path, or with a table; placed where it was given. For checks that
    /// look at several keys.
    #[must_use]
    pub fn problem(&self, path: &str, text: impl fmt::Display) -> Problem {
        let setting = self.get(path).map(|setting| setting.origin.place());
        let table = || self.tables.iter().find(|(table, _)| table == path);
        let place = setting.or_else(|| table().map(|(_, place)| place.clone()));
        let place = place.unwrap_or(Place::Everywhere);
        Problem { place, text: format!("{path}: {text}") }
    }

    /// What differs in `new`, in the order of the keys; a secret shows that it differs, not how.
    #[must_use]
    pub fn changes_to(&self, new: &Self) -> Vec<Change> {
        let (before, after) = (self.by_path(), new.by_path());
        let differs = |path: &str| match (before.get(path), after.get(path)) {
            (Some(old), Some(new)) => old.value != new.value,
            (old, new) => old.is_some() != new.is_some(),
        };
        let shown = |setting: Option<&&Setting>| setting.map(|setting| setting.shown());
        let gone = self.settings.iter().filter(|setting| !after.contains_key(&*setting.path));
        let all = new.settings.iter().chain(gone);
        let change = |setting: &Setting| Change {
            path: setting.path.clone(),
            old: shown(before.get(&*setting.path)),
            new: shown(after.get(&*setting.path)),
            reload: setting.reload,
        };
        all.filter(|setting| differs(&setting.path)).map(change).collect()
    }

    fn by_path(&self) -> BTreeMap<&str, &Setting> {
        self.settings.iter().map(|setting| (&*setting.path, setting)).collect()
    }

    /// As TOML that can be read again, each value with where it came from. Secrets stand as comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for table in self.table_names() {
            match split(table) {
                (list, part) if number(part).is_some() => _ = write!(text, "\n[[{list}]]\n"),
                _ if table.is_empty() => {}
                _ => _ = write!(text, "\n[{table}]\n"),
            }
            for setting in self.settings.iter().filter(|setting| split(&setting.path).0 == table) {
                setting.write_line(&mut text);
            }
        }
        text
    }

    /// Every table with values, the nameless first.
    fn table_names(&self) -> Vec<&str> {
        let mut names = vec![""];
        for setting in &self.settings {
            let (table, _) = split(&setting.path);
            if !names.contains(&table) {
                names.push(table);
            }
        }
        names
    }
}

impl Setting {
    fn write_line(&self, text: &mut String) {
        let (_, name) = split(&self.path);
        let origin = match &self.origin {
            Origin::Default => "default".to_owned(),
            Origin::Here(why) => why.clone(),
            Origin::Given(place) => place.to_string(),
        };
        let comment = if self.is_secret { "# " } else { "" };
        let _ = writeln!(text, "{comment}{name} = {}  # {origin}", self.shown());
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}
