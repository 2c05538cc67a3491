//! How large and how deep an expression may be, by a look at its text.

use crate::error::{Error, Result};

/// Bytes of a query.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Operators and opening brackets outside of strings: no tree of it is deeper than that.
const NESTING_MAX: usize = 500;

/// Whether the parser may see this text.
pub(super) fn check(text: &str) -> Result<()> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("query is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Error::Parse(message));
    }
    if deepest_possible(text) > NESTING_MAX {
        let message = format!("query has more than {NESTING_MAX} operators and brackets");
        return Err(Error::Parse(message));
    }
    Ok(())
}

/// Counts everything that could add a level to the tree.
fn deepest_possible(text: &str) -> usize {
    let mut rest = text.char_indices();
    let mut levels = 0;
    let mut braces = false;
    while let Some((at, character)) = rest.next() {
        match character {
            '"' | '\'' | '`' => skip_string(&mut rest, character),
            '#' => drop(rest.find(|(_, c)| *c == '\n')),
            '{' => braces = true,
            '}' => braces = false,
            _ if braces => {}
            '(' | '[' | '+' | '-' | '*' | '/' | '%' | '^' | '<' | '>' | '=' | '!' => levels += 1,
            _ if starts_operator(text, at) => levels += 1,
            _ => {}
        }
    }
    levels
}

fn skip_string(rest: &mut std::str::CharIndices<'_>, quote: char) {
    while let Some((_, character)) = rest.next() {
        match character {
            '\\' if quote != '`' => drop(rest.next()),
            _ if character == quote => return,
            _ => {}
        }
    }
}

/// Whether one of the operators that are words begins here.
fn starts_operator(text: &str, at: usize) -> bool {
    let word_before = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let begins = |word: &str| {
        text.as_bytes()[at..]
            .get(..word.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    };
    !word_before && ["and", "or", "unless", "atan2"].into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_outside_of_strings() {
        let check =
            |text: &str, expected: usize| assert_eq!(deepest_possible(text), expected, "{text}");
        check("up", 0);
        check("a+b", 1);
        check("sum(rate(up[5m]))", 3);
        check(r#"up{a="((((",b!="x"}"#, 0);
        check("a and b OR c unless d atan2 e", 4);
        check("candle or # and and\n b", 1);
        check(r#"label_replace(a, "\"(((", "b", `\(`, 'x')"#, 1);
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        assert!(check(&"-".repeat(501)).is_err());
        assert!(check(&" ".repeat(TEXT_BYTES_MAX + 1)).is_err());
        assert!(check(&format!("{}1", "-".repeat(400))).is_ok());
    }
}
