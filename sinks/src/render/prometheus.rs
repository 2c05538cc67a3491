//! Prometheus's text exposition format 0.0.4, as `expfmt` of client_golang writes it and
//! node_exporter therefore prints it: families in order of their names, `# HELP` and `# TYPE` once a
//! family, series in order of their label values.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    io::{self, Write},
};

use wire::{Family, Gap};

use super::{Block, Content, Sample, go_float};

/// Content type of what [`samples`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels<'a> = &'a [(String, String)];
type Members<'a> = (&'a Family, Vec<(Labels<'a>, f64)>);

/// Writes a tick, or a gap as a comment.
///
/// # Errors
/// The writer's.
pub fn write(out: &mut impl Write, content: &Content<'_>) -> io::Result<()> {
    match content {
        Content::Tick(blocks) => samples(out, blocks.iter().flat_map(Block::samples)),
        Content::Gap(found) => gap(out, found),
    }
}

/// Writes samples. Where two of them bring one family with another help or type, the first holds.
///
/// # Errors
/// The writer's.
pub fn samples<'a>(
    out: &mut impl Write,
    samples: impl IntoIterator<Item = Sample<'a>>,
) -> io::Result<()> {
    let mut families: BTreeMap<&str, Members<'_>> = BTreeMap::new();
    for (family, labels, value) in samples {
        let (_, series) = families.entry(&family.name).or_insert_with(|| (family, Vec::new()));
        series.push((labels, value));
    }
    for (name, (family, mut series)) in families {
        write!(out, "# HELP {name} ")?;
        escaped(out, &family.help, false)?;
        write!(out, "\n# TYPE {name} {}\n", family.kind.as_str())?;
        series.sort_by(|a, b| order(a.0, b.0));
        for (labels, value) in series {
            line(out, name, labels, value)?;
        }
    }
    Ok(())
}

/// Writes a gap as one comment line: scrapers pass over it, people read it.
///
/// # Errors
/// The writer's.
pub fn gap(out: &mut impl Write, gap: &Gap) -> io::Result<()> {
    let Gap { reason, from_ms, to_ms, first_seq, last_seq, records, samples, detail } = gap;
    write!(
        out,
        "# gap reason={} from_ms={from_ms} to_ms={to_ms} first_seq={first_seq} \
         last_seq={last_seq} records={records} samples={samples} detail=\"",
        reason.as_str()
    )?;
    escaped(out, detail, true)?;
    out.write_all(b"\"\n")
}

/// As client_golang sorts the series of a family: by number of labels, then by their values.
fn order(a: Labels<'_>, b: Labels<'_>) -> Ordering {
    let values = || a.iter().map(|label| &label.1).cmp(b.iter().map(|label| &label.1));
    a.len().cmp(&b.len()).then_with(values)
}

fn line(out: &mut impl Write, name: &str, labels: Labels<'_>, value: f64) -> io::Result<()> {
    out.write_all(name.as_bytes())?;
    for (index, (label, value)) in labels.iter().enumerate() {
        write!(out, "{}{label}=\"", if index == 0 { '{' } else { ',' })?;
        escaped(out, value, true)?;
        out.write_all(b"\"")?;
    }
    out.write_all(if labels.is_empty() { b" " } else { b"} " })?;
    // expfmt writes every zero as 0, also the negative one
    go_float::write(out, if value == 0.0 { 0.0 } else { value })?;
    out.write_all(b"\n")
}

/// Backslash and newline are escaped; the quote only where the text stands in quotes.
fn escaped(out: &mut impl Write, text: &str, quoted: bool) -> io::Result<()> {
    let mut rest = text;
    let special = |c: char| c == '\\' || c == '\n' || (quoted && c == '"');
    while let Some(at) = rest.find(special) {
        let escape: &[u8] = match rest.as_bytes()[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        };
        out.write_all(&rest.as_bytes()[..at])?;
        out.write_all(escape)?;
        rest = &rest[at + 1..];
    }
    out.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use agent_core::{Metric, Samples};

    use super::*;
    use crate::fixture;

    fn check(collectors: &mut [Samples], expected: &str) {
        let blocks = collectors.iter_mut().map(|samples| {
            let (schema, values) = samples.finish();
            Block { schema: &schema.schema, values }
        });
        let mut out = Vec::new();
        write(&mut out, &Content::Tick(blocks.collect())).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn families_are_sorted_and_series_within_them() {
        let cpu = Metric::counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
        let mut samples = Samples::new("cpu");
        samples.push(&Metric::gauge("node_load1", "1m load average."), &[], 0.25);
        for (cpu_id, mode, value) in [
            ("0", "user", 1.5),
            ("0", "idle", 1_234_567.0),
            ("10", "idle", 3.0),
            ("2", "idle", -0.0),
        ] {
            samples.push(&cpu, &[("cpu", cpu_id), ("mode", mode)], value);
        }
        check(
            &mut [samples],
            "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 1.234567e+06
node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 1.5
node_cpu_seconds_total{cpu=\"10\",mode=\"idle\"} 3
node_cpu_seconds_total{cpu=\"2\",mode=\"idle\"} 0
# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.25
",
        );
    }

    #[test]
    fn a_family_of_two_collectors_is_headed_once() {
        let success = Metric::gauge("up", "Whether it worked.");
        let other = Metric::untyped("up", "Something else.");
        let (mut one, mut two) = (Samples::new("one"), Samples::new("two"));
        one.push(&success, &[("collector", "b")], 1.0);
        two.push(&other, &[("collector", "a")], f64::NAN);
        two.push(&other, &[], f64::INFINITY);
        check(
            &mut [one, two],
            "# HELP up Whether it worked.
# TYPE up gauge
up +Inf
up{collector=\"a\"} NaN
up{collector=\"b\"} 1
",
        );
    }

    #[test]
    fn texts_are_escaped() {
        let odd = Metric::untyped("odd", "A \"quoted\" \\ and\nbroken é line.");
        let mut samples = Samples::new("odd");
        samples.push(&odd, &[("l", "\"q\" \\ \n é")], 1.0);
        samples.push(&Metric::gauge("plain", ""), &[("l", "")], 2.0);
        check(
            &mut [samples],
            "# HELP odd A \"quoted\" \\\\ and\\nbroken é line.
# TYPE odd untyped
odd{l=\"\\\"q\\\" \\\\ \\n é\"} 1
# HELP plain \n# TYPE plain gauge
plain{l=\"\"} 2
",
        );
    }

    #[test]
    fn nothing_is_nothing() {
        check(&mut [], "");
        check(&mut [Samples::new("empty")], "");
    }

    #[test]
    fn a_gap_is_a_comment_on_one_line() {
        let mut out = Vec::new();
        let gap = Gap { detail: "two\nlines \"q\"".into(), ..fixture::gap() };
        write(&mut out, &Content::Gap(&gap)).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "# gap reason=log_overflow from_ms=1000 to_ms=4000 first_seq=1 last_seq=3 records=3 \
             samples=9 detail=\"two\\nlines \\\"q\\\"\"\n"
        );
    }
}
