//! One JSON object a line:
//!
//! ```json
//! {"stream_id":"…","seq":7,"time_ms":1700000000000,"host":"web-1","samples":[{"name":"node_load1","labels":{},"value":0.5,"type":"gauge"}]}
//! {"stream_id":"…","seq":8,"time_ms":1700000010000,"gap":{"reason":"log_overflow","from_ms":…,"to_ms":…,"first_seq":…,"last_seq":…,"records":…,"samples":…,"detail":"…"}}
//! ```
//!
//! What the heading doesn't have is left out. JSON has no NaN and no infinity: they are the strings
//! `"NaN"`, `"+Inf"` and `"-Inf"`.

use std::{
    fmt,
    io::{self, Write},
};

use serde::{Serialize, Serializer};
use wire::{Gap, StreamId};

use super::{Block, Content, Heading, Sample};

/// Integers beyond this are not all exact in f64: they are written as floats.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

#[derive(Serialize)]
struct Line<'a> {
    // First, so that whoever reads a file back finds them at once.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "displayed")]
    stream_id: Option<StreamId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Samples<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<&'a Gap>,
}

/// Writes one line, its newline included. No other newline is in it.
///
/// # Errors
/// The writer's.
pub fn write(out: &mut impl Write, heading: &Heading<'_>, content: &Content<'_>) -> io::Result<()> {
    let Heading { stream_id, seq, time_ms, host } = *heading;
    let (samples, gap) = match content {
        Content::Tick(blocks) => (Some(Samples(blocks)), None),
        Content::Gap(gap) => (None, Some(*gap)),
    };
    serde_json::to_writer(&mut *out, &Line { stream_id, seq, time_ms, host, samples, gap })?;
    out.write_all(b"\n")
}

fn displayed<S: Serializer>(
    value: &Option<impl fmt::Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

struct Samples<'a>(&'a [Block<'a>]);

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let samples = self.0.iter().flat_map(Block::samples);
        serializer.collect_seq(samples.map(JsonSample::from))
    }
}

#[derive(Serialize)]
struct JsonSample<'a> {
    name: &'a str,
    labels: Labels<'a>,
    value: Value,
    r#type: &'static str,
}

impl<'a> From<Sample<'a>> for JsonSample<'a> {
    fn from((family, labels, value): Sample<'a>) -> Self {
        let (labels, value) = (Labels(labels), Value(value));
        Self { name: &family.name, labels, value, r#type: family.kind.as_str() }
    }
}

struct Labels<'a>(&'a [(String, String)]);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

struct Value(f64);

impl Serialize for Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked: whole and within ±2^53")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.0;
        let negative_zero = value == 0.0 && value.is_sign_negative();
        if !value.is_finite() {
            serializer.serialize_str(&super::go_float::format(value))
        } else if value.fract() == 0.0 && value.abs() <= EXACT_MAX && !negative_zero {
            serializer.serialize_i64(value as i64)
        } else {
            serializer.serialize_f64(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_core::Metric;

    use super::*;
    use crate::fixture;

    fn check(heading: &Heading<'_>, content: &Content<'_>, expected: &str) {
        let mut out = Vec::new();
        write(&mut out, heading, content).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_tick_is_one_line() {
        let mut samples = agent_core::Samples::new("net");
        let bytes = Metric::counter("node_network_receive_bytes_total", "Bytes.");
        samples.push(&bytes, &[("alias", "a \"b\"\n"), ("device", "eth0")], 12.0);
        samples.push(&Metric::gauge("node_load1", "Load."), &[], 0.5);
        let (schema, values) = samples.finish();
        let block = Block { schema: &schema.schema, values };
        let heading = Heading {
            stream_id: Some(fixture::STREAM),
            seq: Some(7),
            time_ms: 9,
            host: Some("web-1"),
        };
        check(
            &heading,
            &Content::Tick(vec![block]),
            "{\"stream_id\":\"02020202-0202-0202-0202-020202020202\",\"seq\":7,\"time_ms\":9,\
             \"host\":\"web-1\",\"samples\":[{\"name\":\"node_network_receive_bytes_total\",\
             \"labels\":{\"alias\":\"a \\\"b\\\"\\n\",\"device\":\"eth0\"},\"value\":12,\
             \"type\":\"counter\"},{\"name\":\"node_load1\",\"labels\":{},\"value\":0.5,\
             \"type\":\"gauge\"}]}\n",
        );
        check(&Heading::default(), &Content::Tick(vec![]), "{\"time_ms\":0,\"samples\":[]}\n");
    }

    #[test]
    fn a_gap_is_one_line() {
        check(
            &Heading { seq: Some(4), time_ms: 4_000, ..Heading::default() },
            &Content::Gap(&fixture::gap()),
            "{\"seq\":4,\"time_ms\":4000,\"gap\":{\"reason\":\"log_overflow\",\"from_ms\":1000,\
             \"to_ms\":4000,\"first_seq\":1,\"last_seq\":3,\"records\":3,\"samples\":9,\
             \"detail\":\"bound of 16 MiB\"}}\n",
        );
    }

    #[test]
    fn values_are_json() {
        let check = |value, expected| {
            assert_eq!(serde_json::to_string(&Value(value)).unwrap(), expected);
        };
        check(0.0, "0");
        check(-0.0, "-0.0");
        check(-3.0, "-3");
        check(0.1, "0.1");
        check(EXACT_MAX, "9007199254740992");
        check(1e300, "1e+300");
        check(5e-324, "5e-324");
        check(f64::NAN, "\"NaN\"");
        check(f64::INFINITY, "\"+Inf\"");
        check(f64::NEG_INFINITY, "\"-Inf\"");
    }
}
