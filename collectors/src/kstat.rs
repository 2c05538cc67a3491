//! The text of kernel statistics as ZFS shows them: a line about the file, then a table.
//!
//! ```text
//! 13 1 0x01 96 4608 10175149834 79205351707403
//! name                            type data
//! hits                            4    8772612
//! ```
//!
//! The formats: `kstat_seq_show` of OpenZFS's module/os/linux/spl/spl-kstat.c.

use crate::parse::{ParseError, Words, number, numbered};

/// The kind of unsigned numbers; others are for people.
const UNSIGNED: &str = "4";
/// The kind of text.
const TEXT: &str = "7";

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Text(&'a str),
}

/// Gives each number and text of a table with a line for each field to `each`.
pub(crate) fn named<'a>(
    text: &'a str,
    mut each: impl FnMut(&'a str, Value<'a>),
) -> Result<(), ParseError> {
    let mut lines = numbered(text);
    if !lines.any(|(_, line)| line.split_ascii_whitespace().eq(["name", "type", "data"])) {
        return Err(ParseError::new(text.lines().count() + 1, "name type data", "missing"));
    }
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let mut words = Words::new(line, text);
        let (name, kind) = (words.word("name")?, words.word("type")?);
        match kind {
            UNSIGNED => each(name, Value::Number(words.number("data")?)),
            TEXT => each(name, Value::Text(rest(text))),
            _ => {}
        }
    }
    Ok(())
}

/// What follows the second word: names of data sets can have spaces.
fn rest(line: &str) -> &str {
    let mut text = line.trim_start();
    for _ in 0..2 {
        text = text.trim_start_matches(|c: char| !c.is_ascii_whitespace()).trim_start();
    }
    text.trim_end()
}

/// Gives each number of a table with a column for each field to `each`.
pub(crate) fn io<'a>(text: &'a str, mut each: impl FnMut(&'a str, u64)) -> Result<(), ParseError> {
    let mut lines = numbered(text);
    let header = lines.find(|(_, line)| line.starts_with("nread"));
    let missing = |field| ParseError::new(text.lines().count() + 1, field, "missing");
    let (_, header) = header.ok_or_else(|| missing("nread"))?;
    let (line, values) = lines.next().ok_or_else(|| missing("values"))?;
    let mut values = values.split_ascii_whitespace();
    for field in header.split_ascii_whitespace() {
        let value = values.next().ok_or_else(|| ParseError::new(line, "values", "too few"))?;
        each(field, number(line, "values", value)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const OBJSET: &str = include_str!("../fixtures/large/proc/spl/kstat/zfs/tank/objset-0x36");
    const IO: &str = include_str!("../fixtures/large/proc/spl/kstat/zfs/tank/io");

    #[test]
    fn fields_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: &str| {
            let mut fields = Vec::new();
            let read = named(text, |name, value| fields.push(format!("{name} {value:?}")));
            let got = read.map_or_else(|error| error.to_string(), |()| fields.join(", "));
            assert_eq!(got, expected, "{text}");
        };
        let table = |rows: &str| format!("13 1 0x01 96 4608 1 2\nname  type data\n{rows}");
        check(&table("hits 4 7\nmisses 4    8\n"), "hits Number(7), misses Number(8)");
        check(
            &table("mode 7  a b \nsize 3 -5\nempty 7\n\n"),
            "mode Text(\"a b\"), empty Text(\"\")",
        );
        check(&table(""), "");
        check("13 1 0x01\n", "line 2, name type data: missing");
        check("", "line 1, name type data: missing");
        check(&table("hits"), "line 3, type: missing");
        check(&table("hits 4"), "line 3, data: missing");
        check(&table("hits 4 -7"), "line 3, data: \"-7\" is not a number, or too large");
    }

    #[test]
    fn columns_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: &str| {
            let mut fields = Vec::new();
            let read = io(text, |name, count| fields.push(format!("{name} {count}")));
            let got = read.map_or_else(|error| error.to_string(), |()| fields.join(", "));
            assert_eq!(got, expected, "{text}");
        };
        check("12 3 0x00\nnread writes\n1884 22\n", "nread 1884, writes 22");
        check("12 3 0x00\nnread\n1884 22\n", "nread 1884");
        check("12 3 0x00\n", "line 2, nread: missing");
        check("nread writes\n", "line 2, values: missing");
        check("nread writes\n1884", "line 2, values: too few");
        check("nread writes\n1884 x", "line 2, values: \"x\" is not a number, or too large");
    }

    proptest! {
        #[test]
        fn any_table_is_read_or_refused(text in kernel_text(OBJSET)) {
            let _ = named(&text, |_, _| {});
        }

        #[test]
        fn any_columns_are_read_or_refused(text in kernel_text(IO)) {
            let _ = io(&text, |_, _| {});
        }
    }
}
