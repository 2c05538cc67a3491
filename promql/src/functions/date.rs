//! The calendar, in UTC, from seconds since 1970.

struct Date {
    year: i64,
    /// 1 to 12
    month: i64,
    /// 1 to 31
    day: i64,
}

const DAY_SECONDS: i64 = 86_400;

/// Days since 1970-01-01; the fraction of a second is cut off.
fn days(seconds: f64) -> i64 {
    (seconds as i64).div_euclid(DAY_SECONDS)
}

fn second_of_day(seconds: f64) -> i64 {
    (seconds as i64).rem_euclid(DAY_SECONDS)
}

/// The Gregorian date of a day, reckoned in years that begin in March: the leap day is then the last.
fn date(days: i64) -> Date {
    let days = days + 719_468; // from 0000-03-01
    let era = days.div_euclid(146_097); // 400 years
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Date { year, month, day }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// NaN for what is no time.
fn known(seconds: f64, of: impl Fn(f64) -> i64) -> f64 {
    if seconds.is_finite() { of(seconds) as f64 } else { f64::NAN }
}

pub(super) fn minute(seconds: f64) -> f64 {
    known(seconds, |s| second_of_day(s) % 3600 / 60)
}

pub(super) fn hour(seconds: f64) -> f64 {
    known(seconds, |s| second_of_day(s) / 3600)
}

pub(super) fn day_of_month(seconds: f64) -> f64 {
    known(seconds, |s| date(days(s)).day)
}

/// Sunday is 0; 1970 began on a Thursday.
pub(super) fn day_of_week(seconds: f64) -> f64 {
    known(seconds, |s| (days(s) + 4).rem_euclid(7))
}

pub(super) fn day_of_year(seconds: f64) -> f64 {
    known(seconds, |s| {
        let today = date(days(s));
        (1..today.month).map(|month| month_days(today.year, month)).sum::<i64>() + today.day
    })
}

pub(super) fn days_in_month(seconds: f64) -> f64 {
    known(seconds, |s| {
        let today = date(days(s));
        month_days(today.year, today.month)
    })
}

pub(super) fn month(seconds: f64) -> f64 {
    known(seconds, |s| date(days(s)).month)
}

pub(super) fn year(seconds: f64) -> f64 {
    known(seconds, |s| date(days(s)).year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        let check = |day: i64, expected: (i64, i64, i64)| {
            let Date { year, month, day: found } = date(day);
            assert_eq!((year, month, found), expected, "day {day}");
        };
        check(0, (1970, 1, 1));
        check(-1, (1969, 12, 31));
        check(11_016, (2000, 2, 29));
        check(11_017, (2000, 3, 1));
        check(19_782, (2024, 2, 29));
        check(47_540, (2100, 2, 28));
        check(47_541, (2100, 3, 1));
        check(-719_468, (0, 3, 1));
    }

    #[test]
    fn parts_of_a_time() {
        // Thursday, 2024-02-29 23:59:58 UTC
        let time = 1_709_251_198.9;
        let parts =
            [minute, hour, day_of_month, day_of_week, day_of_year, days_in_month, month, year];
        assert_eq!(parts.map(|part| part(time)), [59.0, 23.0, 29.0, 4.0, 60.0, 29.0, 2.0, 2024.0]);
        assert!(year(f64::NAN).is_nan() && hour(f64::INFINITY).is_nan());
    }
}
