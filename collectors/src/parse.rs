//! What the parsers of kernel text share: one error, and words that know where they stand.
//!
//! Parsers are strict: a field that is missing or no number is an error that names line and field,
//! never a zero. Fields beyond those we know are ignored, as new kernels append them.

use std::str::SplitAsciiWhitespace;

/// Kernel text that can't be read: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {field}: {reason}")]
pub(crate) struct ParseError {
    /// Counted from 1.
    pub(crate) line: usize,
    /// What should have stood there.
    pub(crate) field: &'static str,
    /// Why it can't be used.
    pub(crate) reason: String,
}

impl ParseError {
    pub(crate) fn new(line: usize, field: &'static str, reason: impl Into<String>) -> Self {
        Self { line, field, reason: reason.into() }
    }

    fn missing(line: usize, field: &'static str) -> Self {
        Self::new(line, field, "missing")
    }
}

/// The words of one line, in order.
pub(crate) struct Words<'a> {
    line: usize,
    words: SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    /// The words of `text`, which is line `line`, counted from 1.
    pub(crate) fn new(line: usize, text: &'a str) -> Self {
        Self { line, words: text.split_ascii_whitespace() }
    }

    /// The next word, if there is one.
    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    /// The next word, which has to be there.
    pub(crate) fn word(&mut self, field: &'static str) -> Result<&'a str, ParseError> {
        self.next().ok_or_else(|| ParseError::missing(self.line, field))
    }

    /// The next word as a whole number.
    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, ParseError> {
        let word = self.word(field)?;
        number(self.line, field, word)
    }

    /// The next word as a whole number; `None` at the end of the line.
    pub(crate) fn maybe_number(&mut self, field: &'static str) -> Result<Option<u64>, ParseError> {
        self.next().map(|word| number(self.line, field, word)).transpose()
    }

    /// The next word as a whole number in hexadecimal, without a prefix.
    pub(crate) fn hexadecimal(&mut self, field: &'static str) -> Result<u64, ParseError> {
        let word = self.word(field)?;
        hexadecimal(self.line, field, word)
    }

    /// The next word as a decimal number such as `0.42`.
    pub(crate) fn decimal(&mut self, field: &'static str) -> Result<f64, ParseError> {
        let word = self.word(field)?;
        let value = word.parse().ok().filter(|value: &f64| value.is_finite());
        value.ok_or_else(|| not_a_number(self.line, field, word))
    }
}

/// A word as a whole number.
pub(crate) fn number(line: usize, field: &'static str, word: &str) -> Result<u64, ParseError> {
    // std's parser would take a leading plus
    let digits = word.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let value = if digits { word.parse().ok() } else { None };
    value.ok_or_else(|| not_a_number(line, field, word))
}

/// A word as a whole number in hexadecimal, without a prefix.
pub(crate) fn hexadecimal(line: usize, field: &'static str, word: &str) -> Result<u64, ParseError> {
    let digits = word.as_bytes().first().is_some_and(u8::is_ascii_hexdigit);
    let value = if digits { u64::from_str_radix(word, 16).ok() } else { None };
    value.ok_or_else(|| not_a_number(line, field, word))
}

fn not_a_number(line: usize, field: &'static str, word: &str) -> ParseError {
    const SHOWN: usize = 40;
    let shown = &word[..word.floor_char_boundary(SHOWN)];
    ParseError::new(line, field, format!("{shown:?} is not a number, or too large"))
}

/// Lines and their numbers, counted from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_wrong_are_named() {
        let check = |text: &str, expected: Result<u64, &str>| {
            let got = Words::new(7, text).number("reads").map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text:?}");
        };
        check(" 42 x", Ok(42));
        check("18446744073709551615", Ok(u64::MAX));
        check("", Err("line 7, reads: missing"));
        check("+1", Err("line 7, reads: \"+1\" is not a number, or too large"));
        check("-1", Err("line 7, reads: \"-1\" is not a number, or too large"));
        let large = "18446744073709551616";
        check(large, Err(&format!("line 7, reads: {large:?} is not a number, or too large")));
    }

    #[test]
    fn decimals_are_finite() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(Words::new(1, text).decimal("load").ok(), expected, "{text:?}");
        };
        check("0.42", Some(0.42));
        check("1", Some(1.0));
        check("inf", None);
        check("nan", None);
        check("0.4.2", None);
    }
}
