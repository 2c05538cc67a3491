//! One value: reading it from a word, checking it against its key, saying what is wrong with it.

use std::borrow::Cow;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{Duration, Key, Kind, Size, nearest::nearest};

/// Longest part of a found value that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A text that is no value of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected {expected}")]
pub struct ValueError {
    /// What was found.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

/// Reads a word, as defaults, environment and flags have it, the way the kind wants it. What can't be
/// read stays a string, which [`check`] then refuses.
pub(crate) fn from_word(kind: Kind, word: &str) -> DeValue<'_> {
    match kind {
        Kind::Bool | Kind::Integer | Kind::Float => literal(word).unwrap_or_else(|| string(word)),
        Kind::Strings => strings(word),
        Kind::Table => pairs(word).unwrap_or_else(|| string(word)),
        _ => string(word),
    }
}

fn string(text: &str) -> DeValue<'_> {
    DeValue::String(Cow::Borrowed(text))
}

fn literal(word: &str) -> Option<DeValue<'_>> {
    let value = DeValue::parse(word.trim()).ok()?.into_inner();
    let plain = matches!(value, DeValue::Boolean(_) | DeValue::Integer(_) | DeValue::Float(_));
    plain.then_some(value)
}

/// `a, b` as `["a", "b"]`.
fn strings(word: &str) -> DeValue<'_> {
    DeValue::Array(parts(word).map(|part| unplaced(string(part))).collect())
}

/// `mode=idle, cpu=0` as `{ mode = "idle", cpu = "0" }`.
fn pairs(word: &str) -> Option<DeValue<'_>> {
    let mut table = DeTable::new();
    for part in parts(word) {
        let (name, value) = part.split_once('=')?;
        table.insert(unplaced(Cow::Borrowed(name.trim())), unplaced(string(value.trim())));
    }
    Some(DeValue::Table(table))
}

fn parts(word: &str) -> impl Iterator<Item = &str> {
    word.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Whether the value is what its key wants; otherwise what was found and what was expected.
pub(crate) fn check(key: &Key, value: &DeValue<'_>) -> Result<(), String> {
    if !is_of_kind(key.kind, value) {
        let found = if hides(key, value) { found_kind(value) } else { found(value) };
        return Err(format!("found {found}, expected {}", expected(key, value)));
    }
    let Some(amount) = amount(key.kind, value) else {
        return Ok(());
    };
    let bound = |text: &Option<Cow<'static, str>>| {
        text.as_deref().and_then(|text| amount_of_bound(key.kind, text))
    };
    let below = bound(&key.min).is_some_and(|min| amount < min);
    let above = bound(&key.max).is_some_and(|max| amount > max);
    if below || above {
        let found = if hides(key, value) { found_kind(value) } else { found(value) };
        return Err(format!("found {found}, expected {}", bounds(key)));
    }
    Ok(())
}

/// Whether a message must not repeat the value: a secret, or a URL with a password in it.
fn hides(key: &Key, value: &DeValue<'_>) -> bool {
    let has_user = || value.as_str().is_some_and(|text| text.contains('@'));
    key.secret || key.kind == Kind::Url && has_user()
}

fn is_of_kind(kind: Kind, value: &DeValue<'_>) -> bool {
    let text = value.as_str();
    let parses = |parse: fn(&str) -> bool| text.is_some_and(parse);
    match kind {
        Kind::String => text.is_some(),
        Kind::Secret | Kind::Path => parses(|text| !text.is_empty()),
        Kind::Duration => parses(|text| text.parse::<Duration>().is_ok()),
        Kind::Size => parses(|text| text.parse::<Size>().is_ok()) || whole(value).is_some(),
        Kind::Bool => value.is_bool(),
        Kind::Integer => value.is_integer(),
        Kind::Float => amount(kind, value).is_some_and(f64::is_finite),
        Kind::Url => parses(is_url),
        Kind::Choice(choices) => text.is_some_and(|text| choices.contains(&text)),
        Kind::Strings => {
            value.as_array().is_some_and(|list| list.iter().all(|item| item.get_ref().is_str()))
        }
        Kind::Table => {
            value.as_table().is_some_and(|table| table.values().all(|item| item.get_ref().is_str()))
        }
    }
}

/// `http` or `https`, a host, and no user and password, which would end up in logs.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let plain = |host: &str| !host.contains(|c: char| c.is_whitespace() || c == '@');
    authority.is_some_and(|host| !host.is_empty() && !host.starts_with(':') && plain(host))
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The value as a number to compare with bounds.
fn amount(kind: Kind, value: &DeValue<'_>) -> Option<f64> {
    match (kind, value) {
        (Kind::Size, DeValue::Integer(_)) => whole(value).map(|bytes| bytes as f64),
        (_, DeValue::String(text)) => amount_of_bound(kind, text),
        (_, DeValue::Integer(number)) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
        }
        (_, DeValue::Float(number)) => number.as_str().parse().ok(),
        _ => None,
    }
}

fn amount_of_bound(kind: Kind, text: &str) -> Option<f64> {
    match kind {
        Kind::Duration => text.parse::<Duration>().ok().map(|value| value.get().as_secs_f64()),
        Kind::Size => text.parse::<Size>().ok().map(|value| value.bytes() as f64),
        Kind::Integer | Kind::Float => text.parse().ok(),
        _ => None,
    }
}

/// What was found, as a message shows it.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            format!("{:?}…", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(yes) => format!("the boolean {yes}"),
        _ => found_kind(value),
    }
}

fn found_kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.is_empty() => "an empty string".to_owned(),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(_) => "an integer".to_owned(),
        DeValue::Float(_) => "a number".to_owned(),
        DeValue::Boolean(_) => "a boolean".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn expected(key: &Key, value: &DeValue<'_>) -> String {
    if let (Kind::Choice(choices), DeValue::String(text)) = (key.kind, value)
        && let Some(near) = nearest(text, choices.iter().copied())
    {
        return format!("{}; did you mean {near:?}?", key.kind);
    }
    if let (Kind::Duration, DeValue::Integer(number)) = (key.kind, value) {
        return format!("a duration with its unit, as \"{number}s\"");
    }
    key.kind.to_string()
}

/// The bounds in words: `at least 1s and at most 1h`.
pub(crate) fn bounds(key: &Key) -> String {
    match (&key.min, &key.max) {
        (Some(min), Some(max)) => format!("at least {min} and at most {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => String::new(),
    }
}
