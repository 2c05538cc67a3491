//! The text of a rule, with places for what is only known when it fires.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::alert::Labels;

const PLACES: [(&str, Place); 5] = [
    ("host", Place::Host),
    ("metric", Place::Metric),
    ("labels", Place::Labels),
    ("value", Place::Value),
    ("threshold", Place::Threshold),
];

/// A text with `{host}`, `{metric}`, `{labels}`, `{value}` and `{threshold}`; `{{` and `}}` stand
/// for the braces themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Summary {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Host,
    Metric,
    Labels,
    Value,
    Threshold,
}

/// What fills the places.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Name of the host.
    pub host: &'a str,
    /// Name of the metric.
    pub metric: &'a str,
    /// Labels of the series.
    pub labels: &'a Labels,
    /// What was compared.
    pub value: f64,
    /// With what.
    pub threshold: f64,
}

impl Summary {
    /// The text with its places filled.
    #[must_use]
    pub fn render(&self, facts: &Facts<'_>) -> String {
        self.parts.iter().fold(String::new(), |mut out, part| {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place(Place::Host) => out.push_str(facts.host),
                Part::Place(Place::Metric) => out.push_str(facts.metric),
                Part::Place(Place::Labels) => out.push_str(&labels_text(facts.labels)),
                Part::Place(Place::Value) => out.push_str(&number_text(facts.value)),
                Part::Place(Place::Threshold) => out.push_str(&number_text(facts.threshold)),
            }
            out
        })
    }
}

/// Labels as people read them: `device="sda", mode="idle"`.
#[must_use]
pub fn labels_text(labels: &Labels) -> String {
    labels.iter().enumerate().fold(String::new(), |mut out, (index, (name, value))| {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a string doesn't fail.
        let _ = write!(out, "{comma}{name}={value:?}");
        out
    })
}

/// A number as people read it: at most four decimals, exponents where digits would be a wall.
#[must_use]
pub fn number_text(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && size.is_finite() && !(1e-3..1e15).contains(&size) {
        return format!("{value:.4e}");
    }
    let fixed = format!("{value:.4}");
    match fixed.contains('.') {
        true => fixed.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => fixed,
    }
}

/// A text that can't be filled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadSummary {
    /// A place that doesn't exist.
    #[error(
        "unknown place {{{0}}}: expected {{host}}, {{metric}}, {{labels}}, {{value}} or {{threshold}} (and {{{{ for a brace)"
    )]
    Unknown(String),
    /// A brace that opens or closes nothing.
    #[error("single {brace:?} at byte {at}: write it twice for the brace itself")]
    Brace {
        /// Which one.
        brace: char,
        /// Bytes before it.
        at: usize,
    },
}

impl TryFrom<String> for Summary {
    type Error = BadSummary;

    fn try_from(text: String) -> Result<Self, BadSummary> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(found) = text[at..].find(['{', '}']) {
            push_text(&mut parts, &text[at..at + found]);
            at += found;
            at += take_brace(&text, at, &mut parts)?;
        }
        push_text(&mut parts, &text[at..]);
        Ok(Self { text, parts })
    }
}

/// Reads what stands at a brace; returns how many bytes it took.
fn take_brace(text: &str, at: usize, parts: &mut Vec<Part>) -> Result<usize, BadSummary> {
    let rest = &text[at..];
    if rest.starts_with("{{") || rest.starts_with("}}") {
        push_text(parts, &rest[..1]);
        return Ok(2);
    }
    let brace = if rest.starts_with('{') { '{' } else { '}' };
    let name = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
    let (name, _) = name.ok_or(BadSummary::Brace { brace, at })?;
    let place = PLACES.iter().find(|(known, _)| *known == name);
    let (_, place) = place.ok_or_else(|| BadSummary::Unknown(name.to_owned()))?;
    parts.push(Part::Place(*place));
    Ok(name.len() + 2)
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

impl From<Summary> for String {
    fn from(summary: Summary) -> Self {
        summary.text
    }
}

impl Default for Summary {
    /// What is said when a rule has no text of its own.
    fn default() -> Self {
        let text = "{metric} on {host} is {value}, threshold {threshold}".to_owned();
        let (host, metric) = (Part::Place(Place::Host), Part::Place(Place::Metric));
        let (value, threshold) = (Part::Place(Place::Value), Part::Place(Place::Threshold));
        let text_part = |text: &str| Part::Text(text.to_owned());
        let parts = vec![
            metric,
            text_part(" on "),
            host,
            text_part(" is "),
            value,
            text_part(", threshold "),
            threshold,
        ];
        Self { text, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let labels = [("device", "sda"), ("path", "a\"b")];
        let labels = labels.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let facts = Facts {
            host: "web-1",
            metric: "node_load1",
            labels: &labels,
            value: 5.25,
            threshold: 4.0,
        };
        let check = |text: &str, expected: &str| {
            let summary = Summary::try_from(text.to_owned()).unwrap();
            assert_eq!(summary.render(&facts), expected);
            assert_eq!(String::from(summary), text);
        };
        check("", "");
        check("load is high", "load is high");
        check("{host}: {value} > {threshold}", "web-1: 5.25 > 4");
        check("{metric}{{{labels}}}", r#"node_load1{device="sda", path="a\"b"}"#);
        check("{{host}} ünïcode {host}", "{host} ünïcode web-1");
    }

    #[test]
    fn the_default_reads_as_it_is_written() {
        let text = String::from(Summary::default());
        assert_eq!(Summary::try_from(text), Ok(Summary::default()));
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let check = |text: &str, expected: BadSummary| {
            assert_eq!(Summary::try_from(text.to_owned()), Err(expected), "{text:?}");
        };
        check("{hots}", BadSummary::Unknown("hots".to_owned()));
        check("{}", BadSummary::Unknown(String::new()));
        check("50% {host", BadSummary::Brace { brace: '{', at: 4 });
        check("é } x", BadSummary::Brace { brace: '}', at: 3 });
    }

    #[test]
    fn numbers_are_short() {
        let check = |value: f64, expected: &str| assert_eq!(number_text(value), expected);
        check(4.0, "4");
        check(0.0, "0");
        check(-0.5, "-0.5");
        check(0.1 + 0.2, "0.3");
        check(100.0, "100");
        check(1_234_567.891_23, "1234567.8912");
        check(0.000_012_34, "1.2340e-5");
        check(1e18, "1.0000e18");
        check(f64::INFINITY, "inf");
    }
}
