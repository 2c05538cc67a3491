//! Numbers, times and tables for people.

use std::io::{self, Write};

use sinks::Utc;

/// A table: a row of words each, the first being the heading.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<Row<N>>,
    /// Columns that stand to the right, as numbers do.
    right: [bool; N],
}

#[derive(Debug)]
enum Row<const N: usize> {
    Cells([String; N]),
    /// A line below the row before.
    Note(String),
}

impl<const N: usize> Table<N> {
    /// A table with that heading; columns whose name begins with `>` stand to the right.
    pub(super) fn new(heading: [&str; N]) -> Self {
        let right = heading.map(|name| name.starts_with('>'));
        let cells = heading.map(|name| name.trim_start_matches('>').to_owned());
        Self { rows: vec![Row::Cells(cells)], right }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(Row::Cells(cells));
    }

    /// Adds a line below the last row.
    pub(super) fn note(&mut self, text: String) {
        self.rows.push(Row::Note(text));
    }

    /// Writes it, columns as wide as they need to be.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut widths = [0; N];
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = cell.chars().count().max(*width);
                }
            }
        }
        for row in &self.rows {
            let line = match row {
                Row::Note(text) => format!("    {text}"),
                Row::Cells(cells) => self.line(cells, &widths),
            };
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String; N], widths: &[usize; N]) -> String {
        let columns = cells.iter().zip(widths).zip(self.right);
        let padded = columns.map(|((cell, width), right)| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        padded.collect::<Vec<_>>().join("  ")
    }
}

/// RFC 3339 in UTC; `-` if it is not known.
pub(super) fn time(time_ms: Option<i64>) -> String {
    time_ms.map_or_else(|| "-".to_owned(), |time_ms| Utc::from_unix_ms(time_ms).to_string())
}

const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];

/// `17 B`, `3.4 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{size:.1} {}", UNITS[unit]),
    }
}

/// `1 record`, `2 records`.
pub(super) fn count(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// `record 7`, `records 7 to 9`.
pub(super) fn numbers(first_seq: u64, last_seq: u64) -> String {
    match first_seq == last_seq {
        true => format!("record {first_seq}"),
        false => format!("records {first_seq} to {last_seq}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        let check = |size, expected: &str| assert_eq!(bytes(size), expected);
        check(0, "0 B");
        check(1_023, "1023 B");
        check(1_024, "1.0 KiB");
        check(5_662_310, "5.4 MiB");
        check(3 << 40, "3072.0 GiB");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(["NAME", ">COUNT", "WHAT"]);
        table.row(["a".into(), "1".into(), String::new()]);
        table.note("below".into());
        table.row(["long".into(), "12345678".into(), "x".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let expected = "NAME     COUNT  WHAT\na            1\n    below\nlong  12345678  x\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
