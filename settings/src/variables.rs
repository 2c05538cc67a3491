//! Which key a variable of the environment means.

use std::collections::BTreeMap;

use crate::{Key, Keys, Kind, Layers, Place, nearest::nearest, tree::Path};

/// What a variable means.
pub(crate) enum Variable {
    /// Nothing to us.
    NotOurs,
    /// That key, of that kind.
    Key(Path, Kind),
    /// It has our prefix, but no key is meant: says so.
    Unknown(String),
}

/// The variable's name for a key: `wal.max_bytes` as `HOLDFAST_WAL_MAX_BYTES`.
pub(crate) fn name(prefix: &str, path: &str) -> String {
    let word = path.replace(['.', '-'], "_").to_ascii_uppercase();
    format!("{prefix}_{word}").replace('*', "<NAME>")
}

pub(crate) fn resolve(
    variable: &str,
    layers: &Layers<'_>,
    keys: &Keys,
    tables: &BTreeMap<Path, Place>,
) -> Variable {
    let Some(word) = below(variable, layers.prefix).filter(|_| !layers.prefix.is_empty()) else {
        return Variable::NotOurs;
    };
    let foreign = |other: &&str| variable == *other || below(variable, other).is_some();
    let short = |(name, _): &(&str, &str)| variable == *name;
    if layers.foreign.iter().any(foreign) || layers.shorts.iter().any(short) {
        return Variable::NotOurs;
    }
    let candidates = keys.keys.iter().filter(|key| !key.is_in_list()).filter_map(|key| {
        let path = instance(key, word, tables)?;
        Some((rank(key, &path, tables), path, key.kind))
    });
    match candidates.min_by_key(|(rank, ..)| *rank) {
        Some((_, path, kind)) => Variable::Key(path, kind),
        None => Variable::Unknown(unknown(variable, layers.prefix, keys, tables)),
    }
}

/// What follows `prefix_`.
fn below<'a>(variable: &'a str, prefix: &str) -> Option<&'a str> {
    variable.strip_prefix(prefix)?.strip_prefix('_')
}

/// Where several keys fit: tables that are there before new ones, then the shorter name.
fn rank(key: &Key, path: &[String], tables: &BTreeMap<Path, Place>) -> (bool, usize) {
    let names = || key.segments().zip(path).filter(|(segment, _)| *segment == "*");
    let is_new = names().count() > 0 && !tables.contains_key(&path[..path.len() - 1]);
    (is_new, names().map(|(_, name)| name.len()).sum())
}

/// The path that `word` means if it means this key.
fn instance(key: &Key, word: &str, tables: &BTreeMap<Path, Place>) -> Option<Path> {
    let segments: Vec<&str> = key.segments().collect();
    let mut path = Path::new();
    for (segment, name) in segments.iter().zip(capture(&segments, word)?) {
        path.push(if *segment == "*" {
            known_name(&path, name, tables)
        } else {
            (*segment).to_owned()
        });
    }
    Some(path)
}

/// The parts of `word` that belong to each segment; names as short as they can be.
fn capture<'a>(segments: &[&str], word: &'a str) -> Option<Vec<&'a str>> {
    let (segment, others) = segments.split_first()?;
    let fits = |part: &str| match *segment {
        "*" => !part.is_empty(),
        fixed => part.eq_ignore_ascii_case(&fixed.replace('-', "_")),
    };
    if others.is_empty() {
        return fits(word).then(|| vec![word]);
    }
    let cuts = word.match_indices('_').map(|(cut, _)| (&word[..cut], &word[cut + 1..]));
    cuts.filter(|(part, _)| fits(part)).find_map(|(part, rest)| {
        let mut parts = capture(others, rest)?;
        parts.insert(0, part);
        Some(parts)
    })
}

/// The table of that name, however it is written; a new one is lower case.
fn known_name(parent: &[String], part: &str, tables: &BTreeMap<Path, Place>) -> String {
    let named = |path: &&Path| {
        path.len() == parent.len() + 1
            && path.starts_with(parent)
            && path[parent.len()].replace('-', "_").eq_ignore_ascii_case(part)
    };
    let known = tables.keys().find(named).and_then(|path| path.last());
    known.cloned().unwrap_or_else(|| part.to_ascii_lowercase())
}

fn unknown(variable: &str, prefix: &str, keys: &Keys, tables: &BTreeMap<Path, Place>) -> String {
    let names: Vec<String> = keys
        .keys
        .iter()
        .filter(|key| !key.is_in_list())
        .flat_map(|key| key.instances(tables.keys()))
        .map(|path| name(prefix, &path.join(".")))
        .collect();
    match nearest(variable, names.iter().map(String::as_str)) {
        Some(near) => format!("sets no key, did you mean {near}?"),
        None => format!("sets no key; a key such as a.b is set by {prefix}_A_B"),
    }
}
