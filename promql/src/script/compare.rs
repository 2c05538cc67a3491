//! What a script expects, held against an answer.

use std::collections::BTreeMap;

use regex::Regex;

use crate::{
    error::Error,
    labels::Labels,
    query::{SeriesSamples, Steps, Value},
    script::{
        notation::{self, Described},
        run,
    },
    source::{Sample, is_stale},
};

/// What follows an `eval`.
#[derive(Default)]
pub(super) struct Expected {
    fails: Option<Failure>,
    ordered: bool,
    text: Option<String>,
    scalar: Option<f64>,
    samples: Option<Steps>,
    series: Vec<Described>,
}

/// Which error is wanted.
enum Failure {
    Any,
    Message(String),
    Regex(Regex),
}

impl Expected {
    pub(super) fn read(command: &str, body: &[&str]) -> Result<Self, String> {
        let mut expected = Self::default();
        match command {
            "eval" => {}
            "eval_fail" => expected.fails = Some(Failure::Any),
            "eval_ordered" => expected.ordered = true,
            "eval_warn" | "eval_info" => return Err("warnings are not supported".to_owned()),
            other => return Err(format!("{other} is not supported")),
        }
        for line in body {
            expected.read_line(line)?;
        }
        Ok(expected)
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "expect" => self.read_expect(rest),
            "expected_fail_message" => {
                self.fails = Some(Failure::Message(rest.to_owned()));
                Ok(())
            }
            "expected_fail_regexp" => self.fail_regex(rest),
            _ => self.read_series(line),
        }
    }

    fn read_series(&mut self, line: &str) -> Result<(), String> {
        match notation::scalar(line) {
            Some(value) => self.scalar = Some(value),
            None => self.series.push(notation::series(line)?),
        }
        Ok(())
    }

    fn read_expect(&mut self, what: &str) -> Result<(), String> {
        let (word, rest) = what.split_once(char::is_whitespace).unwrap_or((what, ""));
        let mut rest = rest.trim();
        match word {
            "ordered" => self.ordered = true,
            "no_warn" | "no_info" => {}
            "string" => self.text = Some(notation::quoted(rest)?.0),
            "range" => {
                rest = rest.strip_prefix("vector").ok_or("expected `range vector`")?;
                self.samples = Some(run::steps(&mut rest)?);
            }
            "fail" => match rest.split_once(':') {
                None => self.fails = Some(Failure::Any),
                Some(("msg", text)) => {
                    self.fails = Some(Failure::Message(text.trim().to_owned()));
                }
                Some(("regex", text)) => return self.fail_regex(text.trim()),
                Some(_) => return Err(format!("expected `msg:` or `regex:`: {rest}")),
            },
            other => return Err(format!("expect {other} is not supported")),
        }
        Ok(())
    }

    fn fail_regex(&mut self, text: &str) -> Result<(), String> {
        let regex = Regex::new(text).map_err(|error| error.to_string())?;
        self.fails = Some(Failure::Regex(regex));
        Ok(())
    }
}

/// Compares an answer; says around which steps it should be asked again as a range.
pub(super) fn answer(
    answer: Result<Value, Error>,
    expected: &Expected,
    steps: &Steps,
) -> Result<Option<Steps>, String> {
    let value = match (answer, &expected.fails) {
        (Err(error), Some(wanted)) => return failure(&error, wanted).map(|()| None),
        (Ok(_), Some(_)) => return Err("expected a failure, got an answer".to_owned()),
        (Err(error), None) => return Err(format!("failed: {error}")),
        (Ok(value), None) => value,
    };
    let minute = 60_000;
    let around =
        Steps { start_ms: steps.start_ms - minute, end_ms: steps.end_ms + minute, step_ms: minute };
    match value {
        Value::Text(text) if expected.text.as_ref() == Some(&text) => Ok(None),
        Value::Text(text) => Err(format!("got the text {text:?}")),
        Value::Scalar(value) => match expected.scalar {
            Some(wanted) if almost_equal(wanted, value) => Ok(Some(around)),
            _ => Err(format!("got the scalar {value}")),
        },
        Value::Vector(values) if expected.ordered => in_order(&values, expected).map(|()| None),
        Value::Vector(values) => {
            let time_ms = steps.start_ms;
            let series = values.into_iter().map(|(labels, value)| SeriesSamples {
                labels,
                samples: vec![Sample { time_ms, value }],
            });
            matrix(series, &expected.series, steps).map(|()| Some(around))
        }
        Value::Matrix(series) => {
            let steps = expected.samples.as_ref().unwrap_or(steps);
            matrix(series, &expected.series, steps).map(|()| None)
        }
    }
}

/// Compares the step in the middle of a range with what was expected of that time alone.
pub(super) fn middle(
    all: Vec<SeriesSamples>,
    expected: &Expected,
    around: &Steps,
) -> Result<(), String> {
    let time_ms = around.start_ms + around.step_ms;
    let alone = Steps { start_ms: time_ms, end_ms: time_ms, step_ms: around.step_ms };
    let then = all.into_iter().filter_map(|mut series| {
        series.samples.retain(|sample| sample.time_ms == time_ms);
        (!series.samples.is_empty()).then_some(series)
    });
    let scalar = expected
        .scalar
        .map(|value| Described { labels: Labels::empty(), values: vec![Some(value)] });
    match scalar {
        Some(scalar) => matrix(then, &[scalar], &alone),
        None => matrix(then, &expected.series, &alone),
    }
}

fn failure(error: &Error, wanted: &Failure) -> Result<(), String> {
    let message = error.to_string();
    let fits = match wanted {
        Failure::Any => true,
        Failure::Message(text) => *text == message,
        Failure::Regex(regex) => regex.is_match(&message),
    };
    if fits { Ok(()) } else { Err(format!("failed with other words: {message}")) }
}

fn in_order(values: &[(Labels, f64)], expected: &Expected) -> Result<(), String> {
    let same = |(found, wanted): (&(Labels, f64), &Described)| {
        let value = wanted.values.first().copied().flatten();
        found.0 == wanted.labels && value.is_some_and(|value| almost_equal(value, found.1))
    };
    if values.len() == expected.series.len() && values.iter().zip(&expected.series).all(same) {
        return Ok(());
    }
    let got = values.iter().map(|(labels, value)| format!("{labels} {value}"));
    Err(format!("got in this order: {}", got.collect::<Vec<_>>().join(", ")))
}

fn matrix(
    found: impl IntoIterator<Item = SeriesSamples>,
    wanted: &[Described],
    steps: &Steps,
) -> Result<(), String> {
    let mut left = BTreeMap::new();
    for series in wanted {
        let values = series.values.iter().enumerate();
        let values = values.filter_map(|(step, value)| Some((time(steps, step), (*value)?)));
        if left.insert(&series.labels, values.collect::<BTreeMap<_, _>>()).is_some() {
            return Err(format!("expected twice: {}", series.labels));
        }
    }
    for series in found {
        let got = told(&series);
        let Some(wanted) = left.remove(&series.labels) else {
            return Err(format!("got unexpected {got}"));
        };
        let same = |sample: &Sample| {
            wanted.get(&sample.time_ms).is_some_and(|value| almost_equal(*value, sample.value))
        };
        if series.samples.len() != wanted.len() || !series.samples.iter().all(same) {
            return Err(format!("got {got}"));
        }
    }
    left.retain(|_, values| !values.is_empty());
    match left.keys().next() {
        Some(labels) => Err(format!("missing: {labels}")),
        None => Ok(()),
    }
}

fn time(steps: &Steps, step: usize) -> i64 {
    steps.start_ms + i64::try_from(step).unwrap_or(i64::MAX) * steps.step_ms
}

fn told(series: &SeriesSamples) -> String {
    let samples = series.samples.iter().map(|s| format!("{}@{}s", s.value, s.time_ms as f64 / 1e3));
    format!("{} {}", series.labels, samples.collect::<Vec<_>>().join(" "))
}

/// Equal but for rounding: one part in a million.
fn almost_equal(one: f64, other: f64) -> bool {
    if is_stale(one) || is_stale(other) {
        return one.to_bits() == other.to_bits();
    }
    if one == other || (one.is_nan() && other.is_nan()) {
        return true;
    }
    let difference = (one - other).abs();
    if one == 0.0 || other == 0.0 || difference < f64::MIN_POSITIVE {
        return difference < 1e-6 * f64::MIN_POSITIVE;
    }
    difference / (one.abs() + other.abs()) < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_but_for_rounding() {
        let check =
            |a: f64, b: f64, expected: bool| assert_eq!(almost_equal(a, b), expected, "{a} {b}");
        check(1.0, 1.000_000_1, true);
        check(1.0, 1.000_01, false);
        check(0.0, 1e-9, false);
        check(f64::NAN, f64::NAN, true);
        check(f64::INFINITY, f64::INFINITY, true);
        check(f64::INFINITY, f64::NEG_INFINITY, false);
        check(f64::INFINITY, 1.0, false);
    }
}
