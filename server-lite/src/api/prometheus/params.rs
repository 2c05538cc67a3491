//! Parameters as Prometheus reads them: from the query string and, with POST, from a form; the form
//! comes first. Numbers, times and durations in its forms, refusals in its words.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{Method, header},
};
use promql::Matcher;

use super::answer::Failure;
use crate::api::{body, params::rfc3339_ms};

/// Bytes of a form.
const FORM_BYTES_MAX: usize = 1 << 20;
const FORM: &str = "application/x-www-form-urlencoded";
/// The first and the last time that Prometheus knows, as its own clients send them.
const FIRST_AND_LAST: [&str; 2] =
    ["-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z"];
/// The span of all times that can be asked for, in Unix milliseconds.
pub(super) const EVER_MS: (i64, i64) = (-(1 << 52), 1 << 52);
/// Units of durations, largest first, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads them.
    ///
    /// # Errors
    /// [`Failure`]: the form is too large, too slow or cut off.
    pub(super) async fn of(request: Request) -> Result<Self, Failure> {
        let (parts, content) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_form = kind.is_some_and(|kind| kind.split(';').next().unwrap_or("").trim() == FORM);
        let mut all = Vec::new();
        if parts.method == Method::POST && is_form {
            add(&mut all, &body::read(content, FORM_BYTES_MAX).await?);
        }
        add(&mut all, parts.uri.query().unwrap_or("").as_bytes());
        Ok(Self(all))
    }

    /// A parameter; empty where it isn't there.
    pub(super) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or("")
    }

    /// Every time that a parameter is there.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A time in Unix milliseconds.
    pub(super) fn time_ms(&self, name: &str) -> Result<i64, Failure> {
        let text = self.get(name);
        let unreadable =
            || Failure::parameter(name, format!("cannot parse {text:?} to a valid timestamp"));
        time_ms(text).ok_or_else(unreadable)
    }

    /// The same where it may be left out.
    pub(super) fn time_ms_or(&self, name: &str, default_ms: i64) -> Result<i64, Failure> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(default_ms);
        }
        time_ms(text).ok_or_else(|| {
            let message = format!(
                "Invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"
            );
            Failure::parameter(name, message)
        })
    }

    /// From when to when series are asked for; ever, unless said.
    pub(super) fn span_ms(&self) -> Result<(i64, i64), Failure> {
        Ok((self.time_ms_or("start", EVER_MS.0)?, self.time_ms_or("end", EVER_MS.1)?))
    }

    /// A duration in milliseconds.
    pub(super) fn duration_ms(&self, name: &str) -> Result<i64, Failure> {
        duration_ms(self.get(name)).map_err(|message| Failure::parameter(name, message))
    }

    /// How long the query may take, if it says.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, Failure> {
        if self.get("timeout").is_empty() {
            return Ok(None);
        }
        let ms = self.duration_ms("timeout")?;
        Ok(Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
    }

    /// How far back samples count, if it says.
    pub(super) fn lookback_ms(&self) -> Result<Option<i64>, Failure> {
        let text = self.get("lookback_delta");
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = duration_ms(text).map_err(|message| {
            Failure::bad_data(format!("error parsing lookback delta duration: {message}"))
        });
        Ok(Some(parsed?).filter(|ms| *ms > 0))
    }

    /// How many results at most; all where it is 0 or left out.
    pub(super) fn limit(&self) -> Result<usize, Failure> {
        let text = self.get("limit");
        if text.is_empty() {
            return Ok(usize::MAX);
        }
        match text.parse::<i64>() {
            Ok(0) => Ok(usize::MAX),
            Ok(limit) => usize::try_from(limit)
                .map_err(|_| Failure::parameter("limit", "limit must be non-negative")),
            Err(_) => {
                let message =
                    format!("cannot parse {text:?} to a valid limit: expected a whole number");
                Err(Failure::parameter("limit", message))
            }
        }
    }

    /// The selectors in `match[]`. What is wrong with them comes as a text: not every endpoint names the
    /// parameter before it.
    pub(super) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, String> {
        const EMPTY: &str = "match[] must contain at least one non-empty matcher";
        let one = |text: &str| match promql::matchers(text).map_err(|error| error.to_string()) {
            Err(error) if error.contains("at least one non-empty matcher") => Ok(vec![]),
            other => other,
        };
        let all: Vec<Vec<Matcher>> = self.all("match[]").map(one).collect::<Result<_, _>>()?;
        let is_empty = |matchers: &Vec<Matcher>| matchers.iter().all(|one| one.matches(""));
        if all.iter().any(is_empty) { Err(EMPTY.to_owned()) } else { Ok(all) }
    }
}

fn add(all: &mut Vec<(String, String)>, encoded: &[u8]) {
    all.extend(form_urlencoded::parse(encoded).into_owned());
}

/// Unix seconds, or RFC 3339.
fn time_ms(text: &str) -> Option<i64> {
    if let Some(at) = FIRST_AND_LAST.iter().position(|known| *known == text) {
        return Some([EVER_MS.0, EVER_MS.1][at]);
    }
    let Ok(seconds) = text.parse::<f64>() else { return rfc3339_ms(text) };
    let ms = seconds.trunc() * 1_000.0 + (seconds.fract() * 1_000.0).round();
    // Milliseconds of any year that can be meant are exact in a float.
    (ms.abs() <= EVER_MS.1 as f64).then_some(ms as i64)
}

/// Seconds, or a duration with units: the error is Prometheus's.
fn duration_ms(text: &str) -> Result<i64, String> {
    let unreadable = || format!("cannot parse {text:?} to a valid duration");
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.is_nan() {
            return Err(unreadable());
        }
        if seconds.abs() > i64::MAX as f64 / 1e9 {
            return Err(format!("{}. It overflows int64", unreadable()));
        }
        return Ok((seconds * 1_000.0) as i64);
    }
    units_ms(text).ok_or_else(unreadable)
}

/// `1h30m`: whole numbers, each unit once, larger ones first.
fn units_ms(text: &str) -> Option<i64> {
    let (mut rest, mut left, mut sum) = (text, &UNITS[..], 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let at = left.iter().position(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(left[at].1)?)?;
        (rest, left) = (after, &left[at + 1..]);
    }
    if text.is_empty() { None } else { i64::try_from(sum).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expected| assert_eq!(time_ms(text), expected, "{text:?}");
        check("0", Some(0));
        check("1435781451.781", Some(1_435_781_451_781));
        check("1.0006", Some(1_001));
        check("-1.5", Some(-1_500));
        check("1e3", Some(1_000_000));
        check("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781));
        check("2015-07-01T22:10:51.781+02:00", Some(1_435_781_451_781));
        check("-292273086-05-16T16:47:06Z", Some(EVER_MS.0));
        check("292277025-08-18T07:12:54.999999999Z", Some(EVER_MS.1));
        for wrong in ["", "now", "1h", "NaN", "Inf", "1e300", "2015-07-01"] {
            check(wrong, None);
        }
    }

    #[test]
    fn durations() {
        let check = |text: &str, expected: Result<i64, &str>| {
            assert_eq!(duration_ms(text), expected.map_err(str::to_owned), "{text:?}");
        };
        check("15", Ok(15_000));
        check("0.5", Ok(500));
        check("-1", Ok(-1_000));
        check("1m", Ok(60_000));
        check("1h30m", Ok(5_400_000));
        check("1y2w3d4h5m6s7ms", Ok(33_019_506_007));
        check("", Err("cannot parse \"\" to a valid duration"));
        check("1", Ok(1_000));
        for wrong in ["m", "1m1h", "1m1m", "1.5m", "1x", "1h 1m", "99999999999999999999y"] {
            check(wrong, Err(&format!("cannot parse {wrong:?} to a valid duration")));
        }
        let large = "cannot parse \"1e30\" to a valid duration. It overflows int64";
        check("1e30", Err(large));
    }

    #[test]
    fn limits_and_matchers() {
        let params = |name: &str, value: &str| Params(vec![(name.to_owned(), value.to_owned())]);
        let limit = |text: &str| params("limit", text).limit();
        assert_eq!((limit(""), limit("0"), limit("7")), (Ok(usize::MAX), Ok(usize::MAX), Ok(7)));
        assert!(limit("-1").is_err() && limit("x").is_err());
        let check = |text: &str, expected: &str| {
            let refused = params("match[]", text).matchers().unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        };
        check("{x=\"\"}", "at least one non-empty matcher");
        check("{}", "at least one non-empty matcher");
        check("up offset 5m", "series selector and nothing else");
        check("up{", "parse error");
        assert_eq!(params("match[]", "up{a!=\"b\"}").matchers().unwrap()[0].len(), 2);
    }
}
