//! Numbers, times, vectors and matrices as Prometheus writes them in JSON.

use std::fmt::Write as _;

use promql::{Labels, Sample, SeriesSamples, Value};

/// From this size on, and below the other, Prometheus writes values with an exponent.
const EXPONENT_FROM: f64 = 1e21;
const EXPONENT_BELOW: f64 = 1e-6;

/// `{"resultType": …, "result": …}` of an instant query.
pub(super) fn instant(value: &Value, time_ms: i64) -> String {
    let mut out = String::new();
    let kind = match value {
        Value::Scalar(_) => "scalar",
        Value::Text(_) => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    begin(&mut out, kind);
    match value {
        Value::Scalar(number) => {
            push(&mut out, format_args!("[{},\"{}\"]", seconds(time_ms), plain(*number)));
        }
        Value::Text(text) => {
            push(&mut out, format_args!("[{},", seconds(time_ms)));
            string(&mut out, text);
            out.push(']');
        }
        Value::Vector(all) => list(&mut out, all, |out, (found, value)| {
            out.push_str("{\"metric\":");
            labels(out, found);
            out.push_str(",\"value\":");
            sample(out, Sample { time_ms, value: *value });
            out.push('}');
        }),
        Value::Matrix(all) => list(&mut out, all, series),
    }
    out.push('}');
    out
}

/// The same of a range query.
pub(super) fn matrix(all: &[SeriesSamples]) -> String {
    let mut out = String::new();
    begin(&mut out, "matrix");
    list(&mut out, all, series);
    out.push('}');
    out
}

/// Labels as an object.
pub(super) fn labels(out: &mut String, labels: &Labels) {
    for (index, label) in labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        string(out, &label.name);
        out.push(':');
        string(out, &label.value);
    }
    out.push_str(if labels.is_empty() { "{}" } else { "}" });
}

/// Each of some things, in brackets.
pub(super) fn list<T>(out: &mut String, all: &[T], each: impl Fn(&mut String, &T)) {
    out.push('[');
    for (index, one) in all.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(out, one);
    }
    out.push(']');
}

/// As Go's `FormatFloat(value, 'e', -1, 64)`.
pub(super) fn exponential(value: f64) -> String {
    if !value.is_finite() {
        return plain(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn begin(out: &mut String, kind: &str) {
    push(out, format_args!("{{\"resultType\":\"{kind}\",\"result\":"));
}

fn series(out: &mut String, series: &SeriesSamples) {
    out.push_str("{\"metric\":");
    labels(out, &series.labels);
    out.push_str(",\"values\":");
    list(out, &series.samples, |out, one| sample(out, *one));
    out.push('}');
}

fn sample(out: &mut String, sample: Sample) {
    out.push('[');
    time(out, sample.time_ms);
    out.push_str(",\"");
    number(out, sample.value);
    out.push_str("\"]");
}

/// Seconds with three digits behind the point, or none.
fn time(out: &mut String, time_ms: i64) {
    let (sign, ms) = (if time_ms < 0 { "-" } else { "" }, time_ms.unsigned_abs());
    push(out, format_args!("{sign}{}", ms / 1_000));
    if ms % 1_000 != 0 {
        push(out, format_args!(".{:03}", ms % 1_000));
    }
}

/// Seconds with as many digits as it takes.
fn seconds(time_ms: i64) -> String {
    plain(time_ms as f64 / 1_000.0)
}

fn number(out: &mut String, value: f64) {
    let size = value.abs();
    if size != 0.0 && size.is_finite() && !(EXPONENT_BELOW..EXPONENT_FROM).contains(&size) {
        out.push_str(&exponential(value));
    } else if value.is_finite() {
        push(out, format_args!("{value}"));
    } else {
        out.push_str(&plain(value));
    }
}

/// As Go's `FormatFloat(value, 'f', -1, 64)`.
fn plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        value.to_string()
    }
}

fn string(out: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.extend(["\"", text, "\""]);
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string never fails.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times() {
        let check = |value: f64, expected: &str| {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, expected);
        };
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e-6, "0.000001");
        check(9.9e-7, "9.9e-07");
        check(1e20, "100000000000000000000");
        check(1e21, "1e+21");
        check(-1.5e300, "-1.5e+300");
        check(5e-324, "5e-324");
        check(f64::NAN, "NaN");
        check(-f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        assert_eq!((plain(1e21).as_str(), plain(0.5).as_str()), ("1000000000000000000000", "0.5"));
        assert_eq!((exponential(1.0), exponential(1234.5)), ("1e+00".into(), "1.2345e+03".into()));
        let check = |time_ms: i64, expected: &str, trimmed: &str| {
            let mut out = String::new();
            time(&mut out, time_ms);
            assert_eq!((out.as_str(), seconds(time_ms).as_str()), (expected, trimmed));
        };
        check(1_435_781_451_781, "1435781451.781", "1435781451.781");
        check(1_500, "1.500", "1.5");
        check(2_000, "2", "2");
        check(-1_001, "-1.001", "-1.001");
        check(5, "0.005", "0.005");
    }

    #[test]
    fn answers_of_all_kinds() {
        let up = Labels::new([("__name__", "up"), ("a", "x\"<\n")]);
        let check = |value: Value, expected: &str| assert_eq!(instant(&value, 1_500), expected);
        check(
            Value::Scalar(1e21),
            r#"{"resultType":"scalar","result":[1.5,"1000000000000000000000"]}"#,
        );
        check(Value::Text("\"".into()), r#"{"resultType":"string","result":[1.5,"\""]}"#);
        check(Value::Vector(vec![]), r#"{"resultType":"vector","result":[]}"#);
        check(
            Value::Vector(vec![(up.clone(), f64::NAN), (Labels::empty(), 1.0)]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","a":"x\"<\n"},"value":[1.500,"NaN"]},{"metric":{},"value":[1.500,"1"]}]}"#,
        );
        let samples = vec![Sample { time_ms: 0, value: 1.0 }, Sample { time_ms: 10, value: -0.5 }];
        check(
            Value::Matrix(vec![SeriesSamples { labels: Labels::empty(), samples }]),
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[0.010,"-0.5"]]}]}"#,
        );
        assert_eq!(matrix(&[]), r#"{"resultType":"matrix","result":[]}"#);
    }
}
