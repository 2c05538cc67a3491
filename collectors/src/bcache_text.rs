//! Numbers as bcache writes them: `1.1M`, and texts of several of them.
//!
//! The kernel's `bch_hprint` (drivers/md/bcache/util.c) writes tenths of a unit of 1024 as what is left
//! of a division by about a hundred, so that `.10` is more than `.9`: the digits behind the point are a
//! number of their own.

use crate::parse::{ParseError, numbered};

/// Units, each 1024 of the one before.
const UNITS: &[u8] = b"kMGTPEZY";
/// Of the digits behind the point in one.
const FRACTIONS: f64 = 10.24;

/// An amount, rounded to zero: `1.1M`, `-427.5k`, `20`.
pub(crate) fn amount(text: &str) -> Option<f64> {
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |text| (-1.0, text));
    let unit = text.bytes().last().and_then(|last| UNITS.iter().position(|unit| *unit == last));
    let number = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, fraction) = (digits(whole)?, digits(fraction)?);
    let number = match unit {
        Some(power) => (whole + fraction / FRACTIONS) * 1024_f64.powi(power as i32 + 1),
        None => whole,
    };
    Some(sign * number.floor())
}

fn digits(text: &str) -> Option<f64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?.filter(|number: &f64| number.is_finite())
}

/// Gives each key and its amount to `each`: `rate: 1.1M/sec`, `Unused: 99%`.
pub(crate) fn keyed<'a>(
    text: &'a str,
    mut each: impl FnMut(&'a str, f64),
) -> Result<(), ParseError> {
    for (line, text) in numbered(text).filter(|(_, text)| !text.trim().is_empty()) {
        let wrong = |reason: &str| ParseError::new(line, "amount", reason);
        let (key, value) = text
            .split_once(':')
            .ok_or_else(|| ParseError::new(line, "key", "no colon after it"))?;
        let Some(value) = value.split_ascii_whitespace().last() else {
            return Err(wrong("missing"));
        };
        // quantiles in brackets: several amounts, of which none is taken
        if value.ends_with(']') {
            continue;
        }
        let number = ["/sec", "%", "ms"].iter().find_map(|unit| value.strip_suffix(unit));
        let amount = amount(number.unwrap_or(value)).ok_or_else(|| wrong("not an amount"))?;
        each(key.trim(), amount);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const DEBUG: &str = include_str!(
        "../fixtures/large/sys/fs/bcache/deaddd54-c735-46d5-868e-f331c5fd7c74/bdev0/writeback_rate_debug"
    );

    #[test]
    fn amounts_have_units_of_1024() {
        let check =
            |text: &str, expected: Option<f64>| assert_eq!(amount(text), expected, "{text}");
        check("0", Some(0.0));
        check("512", Some(512.0));
        check("1k", Some(1_024.0));
        check("1.1M", Some(1_150_976.0));
        check("1.10M", Some(2_072_576.0));
        check("20.4G", Some(21_894_266_880.0));
        check("-427.5k", Some(-437_748.0));
        check("1.5", Some(1.0));
        check("2Y", Some(2.0 * 1024_f64.powi(8)));
        for wrong in
            ["", "-", "k", ".5k", "1.k", "1.2.3k", "1K", "1 k", "+1", "--1", "1e3", "inf", "1.x"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn keys_have_an_amount_or_the_line_is_named() {
        let check = |text: &str, expected: &str| {
            let mut amounts = Vec::new();
            let read = keyed(text, |key, amount| amounts.push(format!("{key} {amount}")));
            let got = read.map_or_else(|error| error.to_string(), |()| amounts.join(", "));
            assert_eq!(got, expected, "{text}");
        };
        check("rate:\t\t1.1M/sec\nnext io:\t17ms\n", "rate 1150976, next io 17");
        check("Unused:\t\t99%\nAverage:\t10473\n", "Unused 99, Average 10473");
        check("Sectors per Q:\t64\nQuantiles:\t[1 20 300]\n", "Sectors per Q 64");
        check("", "");
        check("rate 5", "line 1, key: no colon after it");
        check("rate:\n", "line 1, amount: missing");
        check("rate: 5\nchange: fast/sec", "line 2, amount: not an amount");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in kernel_text(DEBUG)) {
            let _ = keyed(&text, |_, _| {});
            let _ = amount(&text);
        }
    }
}
