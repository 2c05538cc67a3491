//! The nearest valid name to one that is not.

use crate::{Key, Keys};

/// Names that a message lists when none is near.
const LISTED_MAX: usize = 24;

/// The candidate that differs least, if it differs by no more than a third of its letters.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(name, candidate);
    let best = candidates.into_iter().min_by_key(distance)?;
    (distance(&best) <= best.chars().count().div_ceil(3)).then_some(best)
}

/// The message for a path that leads to no key: the nearest one, or what would be valid there.
pub(crate) fn unknown(keys: &Keys, path: &[String]) -> String {
    let shown = path.iter().map(|segment| segment.escape_debug().to_string()).collect::<Vec<_>>();
    let shown = shown.join(".");
    let siblings = siblings(keys, path);
    match near_sibling(path, &siblings).or_else(|| elsewhere(keys, path)) {
        Some(near) => format!("unknown key \"{shown}\", did you mean \"{near}\"?"),
        None if siblings.len() <= LISTED_MAX => {
            format!("unknown key \"{shown}\"; valid here: {}", siblings.join(", "))
        }
        None => format!("unknown key \"{shown}\""),
    }
}

/// Names that are valid where the path's last segment stands.
fn siblings<'a>(keys: &'a Keys, path: &[String]) -> Vec<&'a str> {
    let parent = &path[..path.len() - 1];
    let mut names: Vec<&str> = Vec::new();
    for key in keys.keys.iter().filter(|key| key.begins(parent)) {
        let name = key.segments().nth(parent.len());
        names.extend(name.filter(|name| !["*", "#"].contains(name) && !names.contains(name)));
    }
    names
}

fn near_sibling(path: &[String], siblings: &[&str]) -> Option<String> {
    let (name, parent) = path.split_last()?;
    let near = nearest(name, siblings.iter().copied())?;
    let parent: Vec<&str> = parent.iter().map(String::as_str).collect();
    Some([&parent[..], &[near]].concat().join("."))
}

/// A key of the same name in another table, or one whose whole path is near.
fn elsewhere(keys: &Keys, path: &[String]) -> Option<String> {
    let name = path.last()?;
    let same_name = |key: &&Key| key.split().1 == name;
    let dotted = path.join(".");
    let near = || nearest(&dotted, keys.keys.iter().map(|key| &*key.path));
    let same = keys.keys.iter().find(same_name).map(|key| &*key.path);
    same.or_else(near).map(|path| path.replace('*', "<name>").replace('#', "#1"))
}
