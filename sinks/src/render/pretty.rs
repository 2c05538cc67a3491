//! For people: collectors one under the other, columns aligned, values in human units, and of a
//! family with many series only the first [`SERIES_SHOWN_MAX`].

use std::io::{self, Write};

use wire::{Gap, GapReason};

use super::{Block, Content, Heading, Sample, units};
use crate::utc::Utc;

/// Series of one family that are shown; the rest is counted.
pub const SERIES_SHOWN_MAX: usize = 16;

struct Row {
    name: String,
    labels: String,
    value: String,
}

/// Writes a tick as a table, or a gap as a sentence.
///
/// # Errors
/// The writer's.
pub fn write(out: &mut impl Write, heading: &Heading<'_>, content: &Content<'_>) -> io::Result<()> {
    write!(out, "{:#}", Utc::from_unix_ms(heading.time_ms))?;
    if let Some(host) = heading.host {
        write!(out, "  {host}")?;
    }
    if let Some(seq) = heading.seq {
        write!(out, "  #{seq}")?;
    }
    match content {
        Content::Tick(blocks) => tick(out, blocks),
        Content::Gap(gap) => writeln!(out, "  {}", sentence(gap)),
    }
}

fn tick(out: &mut impl Write, blocks: &[Block<'_>]) -> io::Result<()> {
    let samples: usize = blocks.iter().map(|block| block.values.len()).sum();
    writeln!(out, "  {samples} samples")?;
    let tables: Vec<(&str, Vec<Row>)> =
        blocks.iter().map(|block| (block.schema.collector.as_str(), rows(block))).collect();
    let width = |text: fn(&Row) -> &str| {
        let rows = tables.iter().flat_map(|table| &table.1);
        rows.map(|row| text(row).chars().count()).max().unwrap_or(0)
    };
    let (names, labels, values) = (width(|r| &r.name), width(|r| &r.labels), width(|r| &r.value));
    for (collector, rows) in &tables {
        writeln!(out, "{collector}")?;
        for Row { name, labels: text, value } in rows {
            let line = format!("  {name:names$}  {text:labels$}  {value:>values$}");
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// A row a series; a family's name stands in its first.
fn rows(block: &Block<'_>) -> Vec<Row> {
    let samples: Vec<Sample<'_>> = block.samples().collect();
    // series of one family mostly follow each other; where they don't, the name is said again
    let families = samples.chunk_by(|a, b| a.0.name == b.0.name);
    families.flat_map(family_rows).collect()
}

fn family_rows(samples: &[Sample<'_>]) -> Vec<Row> {
    let shown = samples.iter().take(SERIES_SHOWN_MAX).enumerate();
    let row = |(index, (family, labels, value)): (usize, &Sample<'_>)| Row {
        name: if index == 0 { family.name.clone() } else { String::new() },
        labels: labels_text(labels),
        value: units::human(&family.name, *value),
    };
    let mut rows: Vec<Row> = shown.map(row).collect();
    if let more @ 1.. = samples.len().saturating_sub(SERIES_SHOWN_MAX) {
        let labels = format!("… and {more} more");
        rows.push(Row { name: String::new(), labels, value: String::new() });
    }
    rows
}

fn labels_text(labels: &[(String, String)]) -> String {
    let pair = |(name, value): &(String, String)| format!("{name}={}", value.escape_debug());
    labels.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// What is missing, in one sentence without a full stop.
#[must_use]
pub fn sentence(gap: &Gap) -> String {
    let from = Utc::from_unix_ms(gap.from_ms);
    let to = Utc::from_unix_ms(gap.to_ms);
    let lost = match (gap.records, gap.samples) {
        (0, _) => String::from("nothing was recorded"),
        (records, 0) => format!("{} lost", counted(records, "record")),
        (records, samples) => {
            format!("{} ({}) lost", counted(records, "record"), counted(samples, "sample"))
        }
    };
    let detail = if gap.detail.is_empty() {
        String::new()
    } else {
        format!(" ({})", gap.detail.escape_debug())
    };
    match gap.reason {
        GapReason::ClockJump => format!("the clock was set from {from:#} to {to:#}{detail}"),
        reason => format!("gap: {lost} from {from:#} to {to:#}: {}{detail}", why(reason)),
    }
}

const fn why(reason: GapReason) -> &'static str {
    match reason {
        GapReason::HostOff => "the host was off",
        GapReason::AgentDown => "the agent was not running",
        GapReason::LogOverflow => "the log reached its bound and dropped its oldest",
        GapReason::Rejected => "a sink refused it for good",
        GapReason::LogDamaged => "the log was damaged",
        GapReason::ClockJump => "the clock was set",
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use agent_core::{Metric, Samples};

    use super::*;
    use crate::fixture;

    fn text(heading: &Heading<'_>, content: &Content<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, heading, content).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_tick_is_a_table() {
        let batch = fixture::ticks([3]);
        let decoded = crate::records::decode_record(&batch.records[0], &batch.schemas).unwrap();
        let heading =
            Heading { seq: Some(3), time_ms: 3_000, host: Some("web-1"), stream_id: None };
        assert_eq!(
            text(&heading, &decoded.content()),
            "\
1970-01-01 00:00:03 UTC  web-1  #3  3 samples
loadavg
  node_load1                                 0.03
cpu
  node_cpu_seconds_total  cpu=0 mode=user  3.25 s
                          cpu=0 mode=idle    30 s
"
        );
    }

    #[test]
    fn many_series_are_cut_and_counted() {
        let mut samples = Samples::new("x");
        for index in 0..SERIES_SHOWN_MAX + 5 {
            samples.push(&Metric::gauge("x", ""), &[("i", &index.to_string())], 1.0);
        }
        let (schema, values) = samples.finish();
        let block = Block { schema: &schema.schema, values };
        let text = text(&Heading::default(), &Content::Tick(vec![block]));
        assert_eq!(text.lines().count(), 2 + SERIES_SHOWN_MAX + 1);
        assert_eq!(text.lines().last().map(str::trim), Some("… and 5 more"));
    }

    #[test]
    fn a_gap_is_a_sentence() {
        let check = |gap: Gap, expected: &str| {
            let text = text(&Heading { seq: Some(4), ..Heading::default() }, &Content::Gap(&gap));
            assert_eq!(text, format!("1970-01-01 00:00:00 UTC  #4  {expected}\n"));
        };
        check(
            fixture::gap(),
            "gap: 3 records (9 samples) lost from 1970-01-01 00:00:01 UTC to 1970-01-01 00:00:04 \
             UTC: the log reached its bound and dropped its oldest (bound of 16 MiB)",
        );
        let down = Gap {
            reason: GapReason::AgentDown,
            records: 0,
            samples: 0,
            detail: String::new(),
            ..fixture::gap()
        };
        let set = Gap { reason: GapReason::ClockJump, detail: "back".into(), ..down.clone() };
        check(
            set,
            "the clock was set from 1970-01-01 00:00:01 UTC to 1970-01-01 00:00:04 UTC (back)",
        );
        check(
            down,
            "gap: nothing was recorded from 1970-01-01 00:00:01 UTC to 1970-01-01 00:00:04 UTC: \
             the agent was not running",
        );
        let one = Gap { records: 1, samples: 0, detail: "a\nb".into(), ..fixture::gap() };
        assert!(sentence(&one).starts_with("gap: 1 record lost from "));
        assert!(sentence(&one).ends_with("(a\\nb)"), "one line whatever the detail says");
    }
}
