//! The specification's rules for the labels of a series.

use crate::{Label, Limits};

/// The label that holds a metric's name.
pub const NAME: &str = "__name__";

/// Labels that make no series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// More than are taken.
    #[error("has {found} labels, at most {max} are taken")]
    TooMany {
        /// As sent.
        found: usize,
        /// As is taken.
        max: usize,
    },
    /// A label without a name.
    #[error("label {at} has an empty name")]
    EmptyName {
        /// Which one, from 0.
        at: usize,
    },
    /// A label without a value, which is none.
    #[error("label {name:?} has an empty value: leave it out")]
    EmptyValue {
        /// Its name.
        name: String,
    },
    /// A name that is longer than is taken.
    #[error("label {at} has a name of {bytes} bytes, at most {max} are taken")]
    NameTooLong {
        /// Which one, from 0.
        at: usize,
        /// As sent.
        bytes: usize,
        /// As is taken.
        max: usize,
    },
    /// A value that is longer than is taken.
    #[error("label {name:?} has a value of {bytes} bytes, at most {max} are taken")]
    ValueTooLong {
        /// Its name.
        name: String,
        /// As sent.
        bytes: usize,
        /// As is taken.
        max: usize,
    },
    /// Two of one name.
    #[error("label {name:?} is there twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// Not in the order of their names.
    #[error("label {name:?} comes after {before:?}: labels have to be sorted by name")]
    Unsorted {
        /// The one that comes too late.
        name: String,
        /// The one before it.
        before: String,
    },
    /// No metric.
    #[error("has no label __name__")]
    NoMetric,
}

/// Checks that labels are sorted by name (by bytes), each there once, none empty, one of them
/// `__name__`, and all within `limits`.
///
/// # Errors
///
/// The first rule that is broken.
pub fn check(labels: &[Label<'_>], limits: &Limits) -> Result<(), LabelError> {
    let (found, max) = (labels.len(), limits.series_labels);
    if found > max {
        return Err(LabelError::TooMany { found, max });
    }
    for (at, label) in labels.iter().enumerate() {
        check_one(at, label, limits)?;
        if let Some(before) = at.checked_sub(1).and_then(|at| labels.get(at)) {
            check_order(before, label)?;
        }
    }
    if metric(labels).is_none() { Err(LabelError::NoMetric) } else { Ok(()) }
}

fn check_one(at: usize, label: &Label<'_>, limits: &Limits) -> Result<(), LabelError> {
    let name = || label.name.to_owned();
    if label.name.is_empty() {
        return Err(LabelError::EmptyName { at });
    }
    let (bytes, max) = (label.name.len(), limits.name_bytes);
    if bytes > max {
        return Err(LabelError::NameTooLong { at, bytes, max });
    }
    if label.value.is_empty() {
        return Err(LabelError::EmptyValue { name: name() });
    }
    let (bytes, max) = (label.value.len(), limits.value_bytes);
    if bytes > max {
        return Err(LabelError::ValueTooLong { name: name(), bytes, max });
    }
    Ok(())
}

fn check_order(before: &Label<'_>, label: &Label<'_>) -> Result<(), LabelError> {
    let name = label.name.to_owned();
    match before.name.cmp(label.name) {
        std::cmp::Ordering::Less => Ok(()),
        std::cmp::Ordering::Equal => Err(LabelError::Twice { name }),
        std::cmp::Ordering::Greater => {
            Err(LabelError::Unsorted { name, before: before.name.to_owned() })
        }
    }
}

/// The metric's name, if there is one. Labels may be in any order.
#[must_use]
pub fn metric<'a>(labels: &[Label<'a>]) -> Option<&'a str> {
    labels.iter().find(|label| label.name == NAME).map(|label| label.value)
}

/// Whether a metric's name is a classic one, `[a-zA-Z_:][a-zA-Z0-9_:]*`: what 1.0 demands and 2.0
/// recommends.
#[must_use]
pub fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

/// Whether a label's name is a classic one, `[a-zA-Z_][a-zA-Z0-9_]*`.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let begins_well = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte);
    begins_well && name.bytes().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Limits =
        || Limits { series_labels: 3, name_bytes: 8, value_bytes: 4, ..Limits::default() };

    fn verdict(labels: &[(&str, &str)]) -> String {
        let labels: Vec<_> = labels.iter().map(|(name, value)| Label::new(name, value)).collect();
        check(&labels, &LIMITS()).map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn rules() {
        let check = |labels: &[(&str, &str)], expected| assert_eq!(verdict(labels), expected);
        let up = ("__name__", "up");
        check(&[up], "good");
        check(&[("A", "1"), up, ("a", "é")], "good");
        check(&[], "has no label __name__");
        check(&[("a", "1")], "has no label __name__");
        check(&[up, ("a", "1"), ("a", "2")], r#"label "a" is there twice"#);
        check(
            &[up, ("b", "1"), ("a", "2")],
            r#"label "a" comes after "b": labels have to be sorted by name"#,
        );
        check(&[("", "1"), up], "label 0 has an empty name");
        check(&[up, ("a", "")], r#"label "a" has an empty value: leave it out"#);
        check(&[up, ("a", "1"), ("b", "1"), ("c", "1")], "has 4 labels, at most 3 are taken");
        check(&[up, ("a23456789", "1")], "label 1 has a name of 9 bytes, at most 8 are taken");
        check(&[up, ("a", "12345")], r#"label "a" has a value of 5 bytes, at most 4 are taken"#);
    }

    #[test]
    fn names() {
        let check = |name, metric, label| {
            assert_eq!((is_metric_name(name), is_label_name(name)), (metric, label), "{name:?}");
        };
        check("node_load1", true, true);
        check("job:up:sum", true, false);
        check("_", true, true);
        check("", false, false);
        check("1a", false, false);
        check("a.b", false, false);
        check("é", false, false);
    }
}
