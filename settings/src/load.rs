//! From layers to the program's own structs.

use std::borrow::Cow;

use serde::{Deserialize, de::DeserializeOwned};
use toml::{
    Spanned, Value,
    de::{DeArray, DeTable, DeValue, ValueDeserializer},
};

use crate::{
    Effective, Key, Keys, Layers, Origin, Place, Problem, Problems, Setting,
    key::number,
    tree::{Given, Path, Tree},
    value,
};

/// A configuration, and what it was made of.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The program's own structs.
    pub config: T,
    /// Every value in force and where it came from.
    pub effective: Effective,
}

/// Puts defaults and layers together and reads `T` from them.
///
/// `T` sees the defaults of all keys, so its fields need none of their own; keys without default are
/// `Option`s there.
///
/// # Errors
/// Everything that is wrong, with its place: syntax, unknown keys and variables, values of the wrong
/// kind or out of bounds, missing keys.
pub fn load<T: DeserializeOwned>(keys: &Keys, layers: &Layers<'_>) -> Result<Loaded<T>, Problems> {
    let mut tree = Tree::new(keys, layers);
    let mut problems = std::mem::take(&mut tree.problems);
    let settled = settle(&mut tree, &mut problems);
    Problems::check(problems)?;
    let effective = effective(&settled, &tree)?;
    let config = T::deserialize(ValueDeserializer::from(nested(&settled, &tree)))
        .map_err(|error| unreadable::<T>(&error, &settled, &tree))?;
    Ok(Loaded { config, effective })
}

/// A value that its key agrees with.
struct Settled<'a> {
    key: &'a Key,
    path: Path,
    value: DeValue<'a>,
    origin: Origin,
}

fn settle<'a>(tree: &mut Tree<'a>, problems: &mut Vec<Problem>) -> Vec<Settled<'a>> {
    let keys: &'a Keys = tree.keys;
    let mut settled = Vec::new();
    // Keys that depend on another come after all that don't.
    for conditional in [false, true] {
        for key in keys.keys.iter().filter(|key| key.when.is_some() == conditional) {
            for path in key.instances(tree.tables.keys()) {
                if applies(key, &path, &settled) {
                    settled.extend(settle_one(key, path, tree, problems));
                }
            }
        }
    }
    problems.extend(left_over(tree, &settled));
    // In the table's order, so that what belongs together stays together.
    settled.sort_by_key(|one| keys.keys.iter().position(|key| std::ptr::eq(key, one.key)));
    settled
}

/// Whether the key's condition holds in the table that `path` is in.
fn applies(key: &Key, path: &[String], settled: &[Settled<'_>]) -> bool {
    let Some((_, wanted)) = key.when else {
        return true;
    };
    condition(key, path, settled) == Some(wanted)
}

/// The value of the key that `key` depends on.
fn condition<'s>(key: &Key, path: &[String], settled: &'s [Settled<'_>]) -> Option<&'s str> {
    let (name, _) = key.when?;
    let (_, table) = path.split_last()?;
    let is_it = |one: &&Settled<'_>| {
        one.path.split_last().is_some_and(|(last, parent)| last == name && parent == table)
    };
    settled.iter().find(is_it)?.value.as_str()
}

fn settle_one<'a>(
    key: &'a Key,
    path: Path,
    tree: &mut Tree<'a>,
    problems: &mut Vec<Problem>,
) -> Option<Settled<'a>> {
    let Some((given, place)) = tree.leaves.remove(&path) else {
        problems.extend(missing(key, &path, tree));
        let value = value::from_word(key.kind, key.default.as_deref()?);
        return Some(Settled { key, path, value, origin: Origin::Default });
    };
    let value = match given {
        Given::Toml(value) => value,
        Given::Word(word) => value::from_word(key.kind, word),
    };
    if let Err(wrong) = value::check(key, &value) {
        problems.push(Problem { place, text: format!("{}: {wrong}", path.join(".")) });
        return None;
    }
    Some(Settled { key, path, value, origin: Origin::Given(place) })
}

fn missing(key: &Key, path: &[String], tree: &Tree<'_>) -> Option<Problem> {
    let (name, table) = path.split_last()?;
    let table_place = tree.tables.get(table).cloned().unwrap_or(Place::Everywhere);
    let table = if table.is_empty() { "the configuration".to_owned() } else { table.join(".") };
    let text = format!("{table} needs \"{name}\": {}", key.kind);
    key.required.then_some(Problem { place: table_place, text })
}

/// Values that belong to a key whose condition doesn't hold.
fn left_over(tree: &Tree<'_>, settled: &[Settled<'_>]) -> Vec<Problem> {
    let problem = |(path, (_, place)): (&Path, &(Given<'_>, Place))| {
        let keys: Vec<&Key> = tree.keys.keys.iter().filter(|key| key.matches(path)).collect();
        let (name, _) = keys.first()?.when?;
        // Unsettled: it is wrong itself, and has been told.
        let is = condition(keys.first()?, path, settled)?;
        let wanted: Vec<String> = keys.iter().filter_map(|key| key.when).map(quoted).collect();
        let text = format!(
            "{} is only for {name} = {}, and here {name} is \"{is}\"",
            path.join("."),
            wanted.join(" or ")
        );
        Some(Problem { place: place.clone(), text })
    };
    tree.leaves.iter().filter_map(problem).collect()
}

fn quoted((_, value): (&str, &str)) -> String {
    format!("\"{value}\"")
}

/// The values as nested tables. As positions they carry their numbers, first all values, then all
/// tables, so that an error of `T`'s own can be traced to its place.
fn nested<'a>(settled: &[Settled<'a>], tree: &Tree<'a>) -> Spanned<DeValue<'a>> {
    let mut root = DeValue::Table(DeTable::new());
    for (number, path) in (settled.len()..).zip(tree.tables.keys()) {
        insert(&mut root, path, Spanned::new(number..number + 1, DeValue::Table(DeTable::new())));
    }
    for (number, one) in settled.iter().enumerate() {
        insert(&mut root, &one.path, Spanned::new(number..number + 1, one.value.clone()));
    }
    let outside = settled.len() + tree.tables.len();
    Spanned::new(outside..outside, root)
}

/// Puts a value where its path leads, and the tables and lists on the way there.
fn insert<'a>(container: &mut DeValue<'a>, path: &[String], value: Spanned<DeValue<'a>>) {
    let Some((part, rest)) = path.split_first() else {
        return;
    };
    let Some(slot) = slot(container, part, &value) else {
        return;
    };
    match rest.first() {
        None => *slot = value,
        Some(next) => {
            if number(next).is_some() && !slot.get_ref().is_array() {
                *slot.get_mut() = DeValue::Array(DeArray::new());
            }
            insert(slot.get_mut(), rest, value);
        }
    }
}

/// The place in a table or list that a part of a path names; an empty table if nothing was there.
fn slot<'t, 'a>(
    container: &'t mut DeValue<'a>,
    part: &str,
    value: &Spanned<DeValue<'a>>,
) -> Option<&'t mut Spanned<DeValue<'a>>> {
    let empty = || Spanned::new(value.span(), DeValue::Table(DeTable::new()));
    match container {
        DeValue::Table(table) => {
            let key = Spanned::new(value.span(), Cow::Owned(part.to_owned()));
            Some(table.entry(key).or_insert_with(empty))
        }
        DeValue::Array(list) => {
            let index = number(part)?.checked_sub(1)?;
            while list.len() <= index {
                list.push(empty());
            }
            list.get_mut(index)
        }
        _ => None,
    }
}

/// An error of `T`'s own, at the place of the value that caused it.
fn unreadable<T: DeserializeOwned>(
    error: &toml::de::Error,
    settled: &[Settled<'_>],
    tree: &Tree<'_>,
) -> Problems {
    let number = error.span().map_or(usize::MAX, |span| span.start);
    let table = || tree.tables.keys().nth(number.checked_sub(settled.len())?);
    let text = error.message();
    let problem = match (settled.get(number), table()) {
        (Some(one), _) => {
            Problem { place: one.origin.place(), text: format!("{}: {text}", one.path.join(".")) }
        }
        (None, Some(table)) => {
            let item = bad_item::<T>(&nested(settled, tree), table);
            let path = item.as_ref().unwrap_or(table);
            let place = tree.tables.get(path).cloned().unwrap_or(Place::Everywhere);
            Problem { place, text: format!("{}: {text}", path.join(".")) }
        }
        (None, None) => Problem::new(text),
    };
    problem.into()
}

/// Which table of a list an error is about, for that isn't told: the last one of the shortest
/// beginning of the list that can't be read.
fn bad_item<T: DeserializeOwned>(root: &Spanned<DeValue<'_>>, path: &Path) -> Option<Path> {
    let count = list_at(&mut root.clone(), path)?.len();
    let counts: Vec<usize> = (1..=count).collect();
    let readable = counts.partition_point(|count| {
        let mut root = root.clone();
        if let Some(list) = list_at(&mut root, path) {
            *list = list.iter().take(*count).cloned().collect();
        }
        T::deserialize(ValueDeserializer::from(root)).is_ok()
    });
    let mut item = path.clone();
    item.push(format!("#{}", counts.get(readable)?));
    Some(item)
}

fn list_at<'t, 'a>(
    root: &'t mut Spanned<DeValue<'a>>,
    path: &[String],
) -> Option<&'t mut DeArray<'a>> {
    let mut value = root.get_mut();
    for part in path {
        let DeValue::Table(table) = value else { return None };
        value = table.get_mut(part.as_str())?.get_mut();
    }
    match value {
        DeValue::Array(list) => Some(list),
        _ => None,
    }
}

fn effective(settled: &[Settled<'_>], tree: &Tree<'_>) -> Result<Effective, Problems> {
    let settings = settled.iter().map(|one| {
        let value = ValueDeserializer::from(Spanned::new(0..0, one.value.clone()));
        let out_of_range = |error: toml::de::Error| Problem {
            place: one.origin.place(),
            text: format!("{}: {}", one.path.join("."), error.message()),
        };
        Ok(Setting {
            path: one.path.join("."),
            origin: one.origin.clone(),
            is_secret: one.key.secret,
            reload: one.key.reload,
            value: Value::deserialize(value).map_err(out_of_range)?,
        })
    });
    let tables = tree.tables.iter().map(|(path, place)| (path.join("."), place.clone()));
    Ok(Effective { settings: settings.collect::<Result<_, Problem>>()?, tables: tables.collect() })
}
