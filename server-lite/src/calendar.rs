//! Times as people and other programs read them.

/// Unix milliseconds as RFC 3339 has them, in UTC; 0 is no time, and Go's zero.
pub(crate) fn rfc3339(time_ms: i64) -> String {
    if time_ms == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let (days, ms) = (time_ms.div_euclid(86_400_000), time_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Year, month and day of a day counted from 1970, in the Gregorian calendar. Years begin in March here,
/// so that the day that some have more stands last.
fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::params::rfc3339_ms;

    #[test]
    fn times_read_back() {
        for time_ms in (-62_135_596_800_001..4_000_000_000_000).step_by(86_399_999_977) {
            assert_eq!(rfc3339_ms(&rfc3339(time_ms)), Some(time_ms), "{time_ms}");
        }
        assert_eq!(rfc3339(951_782_400_001), "2000-02-29T00:00:00.001Z");
    }
}
