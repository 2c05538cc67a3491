//! Values as people read them, by what their metric's name says of the unit.
//!
//! Prometheus's naming rule puts the base unit last in a name, before `_total`:
//! <https://prometheus.io/docs/practices/naming/>.

use crate::utc::Utc;

const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
/// Seconds of the year 2000: what is called a time and is later than that is a date.
const DATE_FROM_S: f64 = 946_684_800.0;

/// A value for people.
pub(crate) fn human(name: &str, value: f64) -> String {
    let name = name.strip_suffix("_total").unwrap_or(name);
    if !value.is_finite() {
        return super::go_float::format(value);
    }
    if name.ends_with("_bytes") {
        return bytes(value);
    }
    if name.ends_with("_seconds") {
        return if value >= DATE_FROM_S { date(value) } else { seconds(value) };
    }
    if name.ends_with("_ratio") {
        return format!("{} %", rounded(value * 100.0));
    }
    if name.ends_with("_celsius") {
        return format!("{} °C", rounded(value));
    }
    rounded(value)
}

fn bytes(value: f64) -> String {
    let mut scaled = value;
    let mut unit = BINARY[0];
    for larger in &BINARY[1..] {
        // from where it would round to 1024 of the smaller
        if scaled.abs() < 1023.95 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, larger);
    }
    if unit == BINARY[0] { format!("{} B", rounded(scaled)) } else { format!("{scaled:.1} {unit}") }
}

#[expect(clippy::cast_possible_truncation, reason = "a float saturates, Utc names what it can")]
fn date(seconds: f64) -> String {
    format!("{:#}", Utc::from_unix_ms((seconds * 1000.0) as i64))
}

#[expect(clippy::cast_possible_truncation, reason = "below DATE_FROM_S or negative: saturates")]
fn seconds(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1.0..60.0).contains(&size) {
        return format!("{} s", rounded(value));
    }
    if size < 1.0 {
        let (scaled, unit) = if size < 1e-3 { (value * 1e6, "µs") } else { (value * 1e3, "ms") };
        return format!("{} {unit}", rounded(scaled));
    }
    let (sign, whole) = (if value < 0.0 { "-" } else { "" }, size.round() as i64);
    let (d, h, m, s) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (d, h) {
        (0, 0) => format!("{sign}{m}m {s:02}s"),
        (0, _) => format!("{sign}{h}h {m:02}m"),
        _ => format!("{sign}{d}d {h:02}h"),
    }
}

/// At most three decimals, thousands set apart.
fn rounded(value: f64) -> String {
    if value.abs() >= 1e15 || (value != 0.0 && value.abs() < 5e-4) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = String::from(if text == "-0" { "" } else { sign });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::human;

    fn check(name: &str, value: f64, expected: &str) {
        assert_eq!(human(name, value), expected, "{name} {value}");
    }

    #[test]
    fn plain_numbers() {
        check("node_load1", 0.0, "0");
        check("node_load1", -0.0, "0");
        check("node_load1", 0.5, "0.5");
        check("node_load1", 1.0 / 3.0, "0.333");
        check("node_load1", 100.0, "100");
        check("node_forks_total", 1_234_567.0, "1 234 567");
        check("node_forks_total", -1_234.5, "-1 234.5");
        check("x", 1e18, "1.000e18");
        check("x", 1e-9, "1.000e-9");
        check("x", f64::NAN, "NaN");
        check("x_bytes", f64::INFINITY, "+Inf");
    }

    #[test]
    fn units() {
        check("x_bytes", 0.0, "0 B");
        check("x_bytes", 1023.0, "1 023 B");
        check("x_bytes", 1024.0, "1.0 KiB");
        check("x_bytes_total", 1024.0 * 1024.0 * 1.5, "1.5 MiB");
        check("x_bytes", 1024.0 * 1024.0 - 1.0, "1.0 MiB");
        check("x_bytes", 8_317_030_400.0, "7.7 GiB");
        check("x_bytes", 1e24, "867361.7 EiB");
        check("x_bytes", -2048.0, "-2.0 KiB");
        check("x_seconds", 0.0, "0 s");
        check("x_seconds", 0.000_02, "20 µs");
        check("x_seconds", 0.25, "250 ms");
        check("x_seconds_total", 59.5, "59.5 s");
        check("x_seconds_total", 61.0, "1m 01s");
        check("x_seconds_total", 3_661.0, "1h 01m");
        check("x_seconds_total", 90_000.0, "1d 01h");
        check("x_seconds_total", -90.0, "-1m 30s");
        check("node_boot_time_seconds", 1_000_000_000.0, "2001-09-09 01:46:40 UTC");
        check("x_ratio", 0.125, "12.5 %");
        check("node_hwmon_temp_celsius", 41.5, "41.5 °C");
    }
}
