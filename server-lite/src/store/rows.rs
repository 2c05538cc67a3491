//! How what names series looks in a row, whichever database it is in.

use std::collections::BTreeMap;

use wire::MetricKind;

/// Labels as they are stored: a JSON object, names ascending.
pub(crate) fn canonical<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let labels: BTreeMap<&str, &str> = labels.collect();
    // A map of strings always serialises.
    serde_json::to_string(&labels).unwrap_or_default()
}

/// What a row of `series` says of a kind.
pub(crate) const fn kind_number(kind: MetricKind) -> i64 {
    match kind {
        MetricKind::Untyped => 0,
        MetricKind::Counter => 1,
        MetricKind::Gauge => 2,
    }
}

/// The kind that a row of `series` says.
pub(crate) const fn kind_of(number: i64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        _ => MetricKind::Untyped,
    }
}
