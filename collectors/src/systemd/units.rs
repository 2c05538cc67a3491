//! The units that systemd has loaded, as `ListUnits` tells them.

use crate::{
    dbus::{Body, Malformed},
    filter::WholeFilter,
};

use super::STATES;

/// What `ListUnits` returns.
pub(super) const LIST_SIGNATURE: &str = "a(ssssssouso)";

/// One unit, from one tick to the next.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    /// Of its object on the bus.
    pub(super) path: String,
    /// Its state: one of [`STATES`] or another.
    pub(super) active: String,
    /// Type of a service, file system of a mount.
    pub(super) kind: String,
    /// Whether the type isn't known, or may have changed.
    pub(super) kind_is_stale: bool,
    /// Whether the filter takes it.
    matches: bool,
    is_loaded: bool,
}

/// A unit in the list.
struct Listed<'a> {
    name: &'a str,
    is_loaded: bool,
    active: &'a str,
    path: &'a str,
}

/// All units, by name, and how many are in which state.
#[derive(Debug, Default)]
pub(super) struct Units {
    units: Vec<Unit>,
    pub(super) states: States,
}

impl Units {
    /// Takes the list of this tick. A unit that was there before keeps what is known of it.
    pub(super) fn renew(&mut self, list: Body<'_>, filter: &WholeFilter) -> Result<(), Malformed> {
        let mut listed = parse(list)?;
        listed.sort_unstable_by_key(|unit| unit.name);
        listed.dedup_by_key(|unit| unit.name);
        self.states.count(listed.iter().map(|unit| unit.active));
        let count = listed.len();
        let mut before = std::mem::replace(&mut self.units, Vec::with_capacity(count)).into_iter();
        let mut next = before.next();
        for unit in listed {
            while next.as_ref().is_some_and(|known| known.name.as_str() < unit.name) {
                next = before.next();
            }
            let known = match next.take() {
                Some(known) if known.name == unit.name => {
                    next = before.next();
                    known
                }
                later => {
                    next = later;
                    Unit::new(unit.name, filter)
                }
            };
            self.units.push(known.now(&unit));
        }
        Ok(())
    }

    /// The first `count` of those that are loaded and that the filter takes, and how many there are.
    pub(super) fn taken(&self, count: usize) -> (impl Iterator<Item = &Unit> + Clone, usize) {
        let taken = self.units.iter().filter(|unit| unit.is_taken());
        (taken.clone().take(count), taken.count())
    }

    /// Those of [`Units::taken`] that have a type.
    pub(super) fn typed(&mut self, count: usize) -> impl Iterator<Item = &mut Unit> {
        let taken = self.units.iter_mut().filter(|unit| unit.is_taken()).take(count);
        taken.filter(|unit| unit.type_property().is_some())
    }
}

impl Unit {
    fn new(name: &str, filter: &WholeFilter) -> Self {
        Self {
            name: name.to_owned(),
            path: String::new(),
            active: String::new(),
            kind: String::new(),
            kind_is_stale: true,
            matches: filter.takes(name),
            is_loaded: false,
        }
    }

    fn now(mut self, listed: &Listed<'_>) -> Self {
        self.kind_is_stale |= self.active != listed.active || self.is_loaded != listed.is_loaded;
        self.is_loaded = listed.is_loaded;
        renew(&mut self.active, listed.active);
        renew(&mut self.path, listed.path);
        self
    }

    const fn is_taken(&self) -> bool {
        self.matches && self.is_loaded
    }

    /// The part of the name after the last dot.
    pub(super) fn suffix(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(_, suffix)| suffix)
    }

    /// The property that is its type, as interface and name.
    pub(super) fn type_property(&self) -> Option<&'static [&'static str; 2]> {
        match self.suffix() {
            "service" => Some(&["org.freedesktop.systemd1.Service", "Type"]),
            "mount" => Some(&["org.freedesktop.systemd1.Mount", "Type"]),
            _ => None,
        }
    }
}

fn renew(text: &mut String, now: &str) {
    if text != now {
        now.clone_into(text);
    }
}

/// Name, description, load state, active state, sub state, followed unit, path, job, its type, its path.
fn parse(mut list: Body<'_>) -> Result<Vec<Listed<'_>>, Malformed> {
    let mut units = Vec::new();
    list.structs(|unit| {
        let name = unit.text()?;
        unit.text()?;
        let is_loaded = unit.text()? == "loaded";
        let active = unit.text()?;
        unit.text()?;
        unit.text()?;
        let path = unit.object_path()?;
        unit.number()?;
        unit.text()?;
        unit.text()?;
        units.push(Listed { name, is_loaded, active, path });
        Ok(())
    })?;
    Ok(units)
}

/// How many units are in each state.
#[derive(Debug, Default)]
pub(super) struct States {
    known: [u64; STATES.len()],
    /// Others, by name: `reloading`, `maintenance`.
    others: Vec<(String, u64)>,
}

/// States beyond those we know: systemd has three.
const OTHER_STATES_MAX: usize = 16;

impl States {
    fn count<'a>(&mut self, states: impl Iterator<Item = &'a str>) {
        self.known = Default::default();
        self.others.clear();
        for state in states {
            if let Some(index) = STATES.iter().position(|known| *known == state) {
                self.known[index] += 1;
            } else if let Some((_, count)) = self.others.iter_mut().find(|(one, _)| one == state) {
                *count += 1;
            } else if self.others.len() < OTHER_STATES_MAX {
                self.others.push((state.to_owned(), 1));
            }
        }
        self.others.sort_unstable();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let known = STATES.iter().copied().zip(self.known);
        known.chain(self.others.iter().map(|(state, count)| (state.as_str(), *count)))
    }
}
