//! Unix milliseconds as a date and a time of day, for people and for file names.

use std::fmt;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Years that [`Utc`] can name with four digits; times beyond are shown at the edge.
const FIRST_MS: i64 = -62_135_596_800_000;
const LAST_MS: i64 = 253_402_300_799_999;

/// A time in UTC. Displays as RFC 3339 with milliseconds, `2026-01-02T03:04:05.678Z`; with `{:#}` as
/// people write it, `2026-01-02 03:04:05 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    year: i64,
    month: i64,
    day: i64,
    of_day_ms: i64,
}

impl Utc {
    /// The time so many milliseconds after 1970.
    #[must_use]
    pub fn from_unix_ms(time_ms: i64) -> Self {
        let time_ms = time_ms.clamp(FIRST_MS, LAST_MS);
        let (year, month, day) = civil_from_days(time_ms.div_euclid(DAY_MS));
        Self { year, month, day, of_day_ms: time_ms.rem_euclid(DAY_MS) }
    }

    /// Fit for a file name, in order of time: `20260102T030405.678Z`.
    pub(crate) fn compact(self) -> String {
        let (Self { year, month, day, .. }, (h, m, s, ms)) = (self, self.clock());
        format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}.{ms:03}Z")
    }

    const fn clock(self) -> (i64, i64, i64, i64) {
        let seconds = self.of_day_ms / 1000;
        (seconds / 3600, seconds / 60 % 60, seconds % 60, self.of_day_ms % 1000)
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { year, month, day, .. }, (h, m, s, ms)) = (*self, self.clock());
        if f.alternate() {
            write!(f, "{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC")
        } else {
            write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
        }
    }
}

/// Days since 1970-01-01 as year, month, day of the Gregorian calendar: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // years begin in March, so that the leap day is the last of its year
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        let check = |time_ms, expected: &str| {
            assert_eq!(Utc::from_unix_ms(time_ms).to_string(), expected);
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_000_000_000_123, "2001-09-09T01:46:40.123Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(i64::MIN, "0001-01-01T00:00:00.000Z");
        check(i64::MAX, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn forms_for_people_and_for_file_names() {
        let time = Utc::from_unix_ms(1_000_000_000_123);
        assert_eq!(format!("{time:#}"), "2001-09-09 01:46:40 UTC");
        assert_eq!(time.compact(), "20010909T014640.123Z");
    }
}
