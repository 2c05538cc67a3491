//! Numbers of bytes as people write them: `16MiB`, `1GB`, `4096`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};

use crate::ValueError;

/// Units, largest first of each kind, in bytes.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

pub(crate) const EXPECTED: &str = "a size such as \"16MiB\", \"1GB\" or 4096 (bytes)";

/// A number of bytes: a whole number, alone or with a binary (`MiB`) or decimal (`MB`) unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many MiB.
    #[must_use]
    pub const fn from_mib(mib: u32) -> Self {
        Self((mib as u64) << 20)
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError { found: text.to_owned(), expected: EXPECTED };
        bytes(text.trim()).map(Self).ok_or_else(error)
    }
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start() {
        "" => "B",
        unit => unit,
    };
    // "mb" can only mean MB here: nobody bounds a log in millibits.
    let (_, bytes) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        match UNITS.iter().find(fits) {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        let invalid = |_| E::invalid_value(de::Unexpected::Signed(bytes), &self);
        u64::try_from(bytes).map(Size).map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let check = |text: &str, bytes: u64, shown: &str| {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), shown);
            assert_eq!(shown.parse(), Ok(size));
        };
        check("16MiB", 16 << 20, "16MiB");
        check("256 MiB", 256 << 20, "256MiB");
        check("1GB", 1_000_000_000, "1GB");
        check("1gb", 1_000_000_000, "1GB");
        check("4096", 4096, "4KiB");
        check("4097", 4097, "4097B");
        check("1500MB", 1_500_000_000, "1500MB");
        check("0", 0, "0B");
        check("2TiB", 2 << 40, "2TiB");
    }

    #[test]
    fn says_what_would_be_right() {
        for text in ["", "MiB", "1.5GiB", "-1", "16M", "1 G B", "16MiB ok", "1Mbit"] {
            let error = text.parse::<Size>().unwrap_err();
            assert_eq!(error.to_string(), format!("found {text:?}, expected {EXPECTED}"));
        }
        assert!("99999999TiB".parse::<Size>().is_err());
    }
}
