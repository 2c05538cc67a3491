//! Numbers as Go writes them: `strconv.FormatFloat(v, 'g', -1, 64)`.
//!
//! The shortest digits that give the value back; with an exponent of at least two digits when it is
//! below -4 or above 5. Rust finds the same digits, so only the layout is ours. Source of the rule:
//! Go's `strconv/ftoa.go`, `formatDigits`.

use std::io::{self, Write};

/// Longest text of a finite f64 in `{:e}`: sign, 17 digits, point, `e-308`.
const TEXT_BYTES_MAX: usize = 32;

/// Writes a number.
///
/// # Errors
/// The writer's.
pub fn write(out: &mut impl Write, value: f64) -> io::Result<()> {
    if value.is_nan() {
        return out.write_all(b"NaN");
    }
    if value.is_infinite() {
        return out.write_all(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    let mut buffer = [0; TEXT_BYTES_MAX];
    let mut left = &mut buffer[..];
    write!(left, "{value:e}")?;
    let length = TEXT_BYTES_MAX - left.len();
    let text = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
    match text.split_once('e').map(|(digits, exponent)| (digits, exponent.parse::<i32>())) {
        Some((digits, Ok(exponent))) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => write!(out, "{value}"),
    }
}

/// A number as a string of its own.
#[must_use]
pub fn format(value: f64) -> String {
    let mut out = Vec::with_capacity(TEXT_BYTES_MAX);
    // a Vec takes everything, and only ASCII was written
    let _ = write(&mut out, value);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Go prints, from its documentation, its tests (`strconv/ftoa_test.go`) and node_exporter.
    #[test]
    fn known_outputs_of_go() {
        let check = |value: f64, expected: &str| assert_eq!(format(value), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(-1.0, "-1");
        check(20.0, "20");
        check(0.5, "0.5");
        check(0.1, "0.1");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1.0 / 3.0, "0.3333333333333333");
        check(12.34, "12.34");
        check(99_999.0, "99999");
        check(100_000.0, "100000");
        check(200_000.0, "200000");
        check(999_999.0, "999999");
        check(999_999.5, "999999.5");
        check(1e6, "1e+06");
        check(2_000_000.0, "2e+06");
        check(1_234_567.0, "1.234567e+06");
        check(1_234_567.8, "1.2345678e+06");
        check(-1_234_567.0, "-1.234567e+06");
        check(1.234e9, "1.234e+09");
        check(8_317_030_400.0, "8.3170304e+09");
        check(1_700_000_000.123, "1.700000000123e+09");
        check(608_863_452_348.114_9, "6.088634523481149e+11");
        check(9_007_199_254_740_992.0, "9.007199254740992e+15");
        check(18_446_744_073_709_551_615.0, "1.8446744073709552e+19");
        check(1e21, "1e+21");
        check(1e23, "1e+23");
        check(100_000_000_000_000_016_777_215.0, "1.0000000000000001e+23");
        check(1e100, "1e+100");
        check(400.0, "400");
        check(0.001, "0.001");
        check(0.0001, "0.0001");
        check(0.000_123_4, "0.0001234");
        check(0.000_01, "1e-05");
        check(0.000_012_5, "1.25e-05");
        check(2.2e-7, "2.2e-07");
        check(2.225_073_858_507_201_4e-308, "2.2250738585072014e-308");
        check(2.225_073_858_507_201e-308, "2.225073858507201e-308");
        check(5e-324, "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(f64::MIN, "-1.7976931348623157e+308");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        check(f64::NAN, "NaN");
        check(-f64::NAN, "NaN");
    }

    proptest! {
        #[test]
        fn reads_back_to_the_same_bits(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(format(value).parse::<f64>().map(f64::to_bits), Ok(bits));
        }
    }
}
