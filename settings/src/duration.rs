//! Lengths of time as people write them: `500ms`, `10s`, `1h30m`, `7d`.

use std::{fmt, str::FromStr, time};

use serde::{Deserialize, Serialize};

use crate::ValueError;

/// Units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(crate) const EXPECTED: &str = "a duration such as \"10s\", \"500ms\", \"1h30m\" or \"7d\"";

/// A length of time, in whole milliseconds: whole numbers with a unit, larger units first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

impl Duration {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(time::Duration::from_millis(ms))
    }

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(time::Duration::from_secs(secs))
    }

    /// As the standard library has it.
    #[must_use]
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

/// In whole milliseconds, rounded down.
impl From<time::Duration> for Duration {
    fn from(duration: time::Duration) -> Self {
        Self::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let ms = milliseconds(text.trim());
        let error = || ValueError { found: text.to_owned(), expected: EXPECTED };
        ms.map(Self::from_millis).ok_or_else(error)
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    // Each unit at most once, larger ones first: "5m5m" and "30s1h" are slips of the pen.
    let mut units = UNITS.iter();
    while !rest.is_empty() || units.len() == UNITS.len() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, ms) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*ms)?)?;
        rest = after;
    }
    Some(total)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, ms) in UNITS {
            if rest >= ms {
                write!(f, "{}{name}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let check = |text: &str, ms: u64, shown: &str| {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration, Duration::from_millis(ms), "{text}");
            assert_eq!(duration.to_string(), shown);
            assert_eq!(shown.parse(), Ok(duration));
        };
        check("500ms", 500, "500ms");
        check("10s", 10_000, "10s");
        check("5m", 300_000, "5m");
        check("2h", 7_200_000, "2h");
        check("7d", 604_800_000, "7d");
        check("1h30m", 5_400_000, "1h30m");
        check(" 90m ", 5_400_000, "1h30m");
        check("1m1ms", 60_001, "1m1ms");
        check("0s", 0, "0s");
    }

    #[test]
    fn says_what_would_be_right() {
        for text in ["", "10", "s", "10 s", "1.5s", "-1s", "5m5m", "30s1h", "1y", "1h 30", "10S"] {
            let error = text.parse::<Duration>().unwrap_err();
            assert_eq!(error.to_string(), format!("found {text:?}, expected {EXPECTED}"));
        }
        assert!("99999999999999999999d".parse::<Duration>().is_err());
        assert!("9999999999999999d".parse::<Duration>().is_err());
    }
}
