//! Tables with a column for each CPU: `/proc/interrupts` and `/proc/softirqs`.
//!
//! A heading names the CPUs; `/proc/interrupts` leaves out those that are offline, so a column's number is
//! not its CPU's.

use crate::parse::{ParseError, numbered};

/// The CPUs of a heading, `CPU0 CPU1 CPU3`, by their numbers; made anew only when the heading changed.
#[derive(Debug, Default)]
pub(crate) struct Cpus {
    heading: String,
    /// `0`, `1`, `3`.
    pub(crate) labels: Vec<String>,
}

impl Cpus {
    /// Takes the heading of a text.
    pub(crate) fn read(&mut self, text: &str) -> Result<(), ParseError> {
        let heading = text.lines().next().unwrap_or_default();
        if heading == self.heading && !self.labels.is_empty() {
            return Ok(());
        }
        let label = |word: &str| {
            let digits = word.strip_prefix("CPU").unwrap_or_default();
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.to_owned()).ok_or_else(|| {
                ParseError::new(1, "heading", "not the names of CPUs: CPU0 CPU1 and so on")
            })
        };
        self.labels = heading.split_ascii_whitespace().map(label).collect::<Result<_, _>>()?;
        heading.clone_into(&mut self.heading);
        if self.labels.is_empty() {
            return Err(ParseError::new(1, "heading", "missing"));
        }
        Ok(())
    }
}

/// One line below the heading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// Which line, counted from 1.
    pub(crate) line: usize,
    /// What is before the colon.
    pub(crate) name: &'a str,
    /// As many as there are, at most one for each CPU.
    pub(crate) counts: &'a [u64],
    /// What follows them.
    pub(crate) rest: &'a str,
}

/// Gives each line below the heading to `each`; `counts` is room that is used again.
pub(crate) fn rows(
    text: &str,
    cpus: usize,
    counts: &mut Vec<u64>,
    mut each: impl FnMut(&Row<'_>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    for (line, text) in numbered(text).skip(1) {
        let Some((name, mut rest)) = text.split_once(':') else {
            return Err(ParseError::new(line, "name", "no colon behind it"));
        };
        counts.clear();
        while counts.len() < cpus {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                break;
            }
            let end = rest.bytes().position(|byte| byte == b' ').unwrap_or(rest.len());
            counts.push(crate::parse::number(line, "count", &rest[..end])?);
            rest = &rest[end..];
        }
        each(&Row { line, name: name.trim_ascii(), counts, rest: rest.trim_ascii() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let (mut cpus, mut counts, mut found) = (Cpus::default(), Vec::new(), Vec::new());
        cpus.read(text)
            .and_then(|()| {
                rows(text, cpus.labels.len(), &mut counts, |row| {
                    found.push(format!("{} {:?} {}", row.name, row.counts, row.rest));
                    Ok(())
                })
            })
            .map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[test]
    fn tables_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&[&str], &str>| {
            let expected = expected.map(|rows| rows.iter().map(|&row| row.to_owned()).collect());
            assert_eq!(read(text), expected.map_err(str::to_owned), "{text:?}");
        };
        check(
            "  CPU0 CPU3 \n  8:  1 20   rtc0  x\nERR: 4\nA:\n",
            Ok(&["8 [1, 20] rtc0  x", "ERR [4] ", "A [] "]),
        );
        check("CPU0\n", Ok(&[]));
        check("", Err("line 1, heading: missing"));
        check("CPU0 CPU\n", Err("line 1, heading: not the names of CPUs: CPU0 CPU1 and so on"));
        check("CPU0\n 8 1\n", Err("line 2, name: no colon behind it"));
        check("CPU0\n 8: x\n", Err("line 2, count: \"x\" is not a number, or too large"));
    }

    #[test]
    fn headings_may_change() {
        let mut cpus = Cpus::default();
        for (heading, expected) in [("CPU0 CPU1", ["0", "1"]), ("CPU0 CPU2", ["0", "2"])] {
            for _ in 0..2 {
                cpus.read(heading).unwrap();
                assert_eq!(cpus.labels, expected);
            }
        }
    }
}
