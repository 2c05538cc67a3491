//! Parameters of queries, read so that a mistake is named with what would be right.

use std::str::FromStr;

use axum::{extract::Query, http::Uri};
use settings::Duration;

use super::error::ApiError;
use crate::store::{Host, Labels};

const HOUR_MS: i64 = 60 * 60 * 1_000;
const DAY_S: i64 = 24 * 60 * 60;
/// Years 0 to 9999, as RFC 3339 has them.
const TIMES_MS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;

/// The parameters of one query, each at most once.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query string that may hold these parameters and no others.
    pub(crate) fn parse(raw: &str, names: &[&str]) -> Result<Self, ApiError> {
        let uri = Uri::builder().path_and_query(format!("/?{raw}")).build();
        let pairs =
            uri.ok().and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
        let Some(Query(pairs)) = pairs else {
            return Err(ApiError::bad_parameter("the query string can't be read"));
        };
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let known = names.join(", ");
                return Err(ApiError::bad_parameter(format!(
                    "unknown parameter {name:?}, expected one of {known}"
                )));
            }
            if pairs[..index].iter().any(|(before, _)| before == name) {
                return Err(ApiError::bad_parameter(format!("parameter {name} is there twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter; an empty one is as if it weren't there.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str, ApiError> {
        let missing = || ApiError::bad_parameter(format!("parameter {name} is missing"));
        self.get(name).ok_or_else(missing)
    }

    pub(crate) fn host(&self) -> Option<Host> {
        self.get("host").map(Host::parse)
    }

    /// `from` and `to`; by default the last hour.
    pub(crate) fn span(&self, now_ms: i64) -> Result<(i64, i64), ApiError> {
        self.span_of(now_ms, HOUR_MS)
    }

    /// `from` and `to`; by default the last so many milliseconds.
    pub(crate) fn span_of(&self, now_ms: i64, default_ms: i64) -> Result<(i64, i64), ApiError> {
        let time = |name| {
            self.get(name).map(|text| parse_time(text, now_ms).ok_or((name, text))).transpose()
        };
        let both = || Ok((time("from")?, time("to")?));
        let (from, to) = both().map_err(|(name, text)| {
            ApiError::bad_parameter(format!(
                "{name}: found {text:?}, expected Unix milliseconds, a time such as \
                 \"2026-01-31T12:00:00Z\", \"now\", or a duration before now such as \"-1h\""
            ))
        })?;
        let to = to.unwrap_or(now_ms);
        Ok((from.unwrap_or_else(|| to.saturating_sub(default_ms)), to))
    }

    /// A duration, in milliseconds; a bare number is one already.
    pub(crate) fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let parsed = text.parse().ok().or_else(|| duration_ms(text));
        parsed.map(Some).ok_or_else(|| {
            let expected = "expected a duration such as \"10s\" or \"1h30m\", or milliseconds";
            ApiError::bad_parameter(format!("{name}: found {text:?}, {expected}"))
        })
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| Some(*value)).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let expected = words.join(", ");
            ApiError::bad_parameter(format!("{name}: found {text:?}, expected one of {expected}"))
        })
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn number(&self, name: &str, default: u32, most: u32) -> Result<u32, ApiError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let number = u32::from_str(text).ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| {
            let message =
                format!("{name}: found {text:?}, expected a whole number from 1 to {most}");
            ApiError::bad_parameter(message)
        })
    }

    /// `labels`: `k=v,k2=v2`, or a JSON object.
    pub(crate) fn labels(&self) -> Result<Labels, ApiError> {
        let text = self.get("labels").unwrap_or("").trim();
        let parsed = match text {
            "" => Some(Labels::new()),
            text if text.starts_with('{') => serde_json::from_str(text).ok(),
            text => text
                .split(',')
                .map(|pair| pair.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.to_owned())))
                .collect(),
        };
        let named = |labels: &Labels| labels.keys().all(|name| wire::schema::is_label_name(name));
        parsed.filter(named).ok_or_else(|| {
            ApiError::bad_parameter(format!(
                "labels: found {text:?}, expected \"name=value,name=value\" or a JSON object of strings"
            ))
        })
    }
}

fn duration_ms(text: &str) -> Option<i64> {
    let duration: Duration = text.parse().ok()?;
    i64::try_from(duration.get().as_millis()).ok()
}

fn parse_time(text: &str, now_ms: i64) -> Option<i64> {
    let time = match text {
        "now" => Some(now_ms),
        text => text
            .strip_prefix('-')
            .and_then(duration_ms)
            .map(|before| now_ms.saturating_sub(before))
            .or_else(|| text.parse().ok())
            .or_else(|| rfc3339_ms(text)),
    };
    time.filter(|time| TIMES_MS.contains(time))
}

/// RFC 3339's `date-time`, in Unix milliseconds; digits beyond are cut off.
pub(crate) fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (time, zone) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_time = hour < 24 && minute < 60 && second <= 60;
    let days = days_from_civil(year, month, day).filter(|_| is_time)?;
    let (fraction_ms, zone) = fraction(zone)?;
    let seconds = days * DAY_S + hour * 3_600 + minute * 60 + second - offset_s(zone)?;
    Some(seconds * 1_000 + fraction_ms)
}

fn numbers<const N: usize>(text: &str, separator: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, length) in found.iter_mut().zip(lengths) {
        *number = digits(parts.next().filter(|part| part.len() == length)?)?;
    }
    parts.next().is_none().then_some(found)
}

fn digits(text: &str) -> Option<i64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (fraction, zone) = rest.split_at(end);
    digits(fraction)?;
    let ms: String = fraction.chars().chain("00".chars()).take(3).collect();
    Some((digits(&ms)?, zone))
}

fn offset_s(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match zone.chars().next()? {
        '+' => 1,
        // In a query string an unescaped plus is a space.
        ' ' => 1,
        '-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Days from 1970-01-01 of a date of the Gregorian calendar; `None` if there is no such day.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    let before: i64 = lengths.get(..month)?.iter().sum();
    let is_day = (1..=*lengths.get(month)?).contains(&day);
    let years = year - 1;
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    is_day.then_some(365 * years + leap_days + before + day - 1 - 719_162)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn message(result: Result<impl Sized, ApiError>) -> String {
        format!("{:?}", result.err().unwrap())
    }

    #[test]
    fn times_in_all_forms() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_time(text, NOW_MS), expected, "{text:?}");
        };
        check("now", Some(NOW_MS));
        check("-1h30m", Some(NOW_MS - 5_400_000));
        check("1700000000000", Some(NOW_MS));
        check("-5", Some(-5));
        check("2023-11-14T22:13:20Z", Some(NOW_MS));
        check("2023-11-14T23:13:20.5+01:00", Some(NOW_MS + 500));
        check("2023-11-14T23:13:20 01:00", Some(NOW_MS));
        check("2023-11-14t17:13:20.123456-05:00", Some(NOW_MS + 123));
        check("1970-01-01T00:00:00Z", Some(0));
        check("1969-12-31T23:59:59Z", Some(-1_000));
        check("2000-02-29T00:00:00Z", Some(951_782_400_000));
        check("0000-01-01T00:00:00Z", Some(TIMES_MS.start));
        check("9999-12-31T23:59:59.999Z", Some(TIMES_MS.end - 1));
        for wrong in [
            "",
            "yesterday",
            "1h",
            "-",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+1:00",
            "9223372036854775807",
            "é023-11-14T22:13:20Z",
            "2023-11-14T22:13:20é",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let names = ["labels", "from", "step", "limit"];
        let params = |raw: &str| Params::parse(raw, &names);
        assert!(
            message(params("lables=x"))
                .contains("unknown parameter \\\"lables\\\", expected one of labels")
        );
        assert!(message(params("from=1&from=2")).contains("twice"));
        let check = |raw: &str, expected: &str| {
            let params = params(raw).unwrap();
            let all = [
                params.labels().map(drop),
                params.span(NOW_MS).map(drop),
                params.duration_ms("step").map(drop),
                params.number("limit", 1, 10).map(drop),
            ];
            let found = message(all.into_iter().find(Result::is_err).unwrap());
            assert!(found.contains(expected), "{found}");
        };
        check("labels=a", "labels: found");
        check("labels=%7B%22a%22:1%7D", "labels: found");
        check("labels=a-b=1", "labels: found");
        check("from=x", "from: found");
        check("step=1x", "step: found");
        check("limit=11", "from 1 to 10");
        check("limit=0", "from 1 to 10");
    }

    #[test]
    fn labels_in_both_forms() {
        let check = |raw: &str, expected: &[(&str, &str)]| {
            let labels =
                Params::parse(&format!("labels={raw}"), &["labels"]).unwrap().labels().unwrap();
            let found: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected);
        };
        check("", &[]);
        check("mode=idle,cpu=0", &[("cpu", "0"), ("mode", "idle")]);
        check("%7B%22a%22:%22x,y=z%22%7D", &[("a", "x,y=z")]);
        check("path=/a=b", &[("path", "/a=b")]);
    }
}
