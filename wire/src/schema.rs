//! Schemas: the ordered list of series of one collector, written once and named by its content.
//!
//! A tick carries schema names and values only. A hub that doesn't know a schema says so and the
//! agent sends it: no state has to match on both sides.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    codec::{self, CodecError},
    limits,
};

/// The first 64 bits of the SHA-256 of a schema's encoding, written as 16 hexadecimal digits.
///
/// Hubs keep schemas for each agent apart, so that a collision, made on purpose or not, can harm
/// only the agent that brought it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub [u8; 8]);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaId({self})")
    }
}

impl FromStr for SchemaId {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        let well_formed = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(value) if well_formed => Ok(Self(value.to_be_bytes())),
            _ => Err(CodecError::invalid("schema id", format!("{text:?} is not 16 hex digits"))),
        }
    }
}

impl Serialize for SchemaId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for SchemaId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 8]>::deserialize(deserializer).map(Self)
        }
    }
}

/// What a value means, in Prometheus's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Goes up, and back to zero at a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Not known which.
    Untyped,
}

impl MetricKind {
    /// The word of Prometheus's text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Untyped => "untyped",
        }
    }
}

/// What all series of one name share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// Metric name, as node_exporter's where it has the metric.
    pub name: String,
    /// What its values mean.
    pub kind: MetricKind,
    /// One sentence for people.
    pub help: String,
}

/// One series: a family's index in its schema, and labels in ascending order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Index into [`Schema::families`].
    pub family: u32,
    /// Names and values.
    pub labels: Vec<(String, String)>,
}

/// The ordered list of series of one collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Which collector reads them.
    pub collector: String,
    /// The families they belong to, in order of first use.
    pub families: Vec<Family>,
    /// The series, in the order of the values in a tick.
    pub series: Vec<Series>,
}

impl Schema {
    /// The family and labels of every series, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Family, &[(String, String)])> {
        self.series.iter().filter_map(|series| {
            let family = self.families.get(series.family as usize)?;
            Some((family, series.labels.as_slice()))
        })
    }

    /// Decodes and checks a schema's payload.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are malformed, or a name or bound of [`limits`] is broken.
    pub fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        let schema: Self = codec::decode("schema", payload)?;
        schema.check()?;
        Ok(schema)
    }

    fn check(&self) -> Result<(), CodecError> {
        let invalid = |detail: String| Err(CodecError::invalid("schema", detail));
        if self.series.len() > limits::SCHEMA_SERIES_MAX {
            let most = limits::SCHEMA_SERIES_MAX;
            return invalid(format!("{} series, at most {most}", self.series.len()));
        }
        if !is_metric_name(&self.collector) {
            return invalid(format!("collector name {:?}", self.collector));
        }
        for family in &self.families {
            if !is_metric_name(&family.name) {
                return invalid(format!("metric name {:?}", family.name));
            }
            if family.help.len() > limits::HELP_BYTES_MAX {
                return invalid(format!("help of {} is too long", family.name));
            }
        }
        self.series.iter().try_for_each(|series| self.check_series(series))
    }

    fn check_series(&self, series: &Series) -> Result<(), CodecError> {
        let Some(family) = self.families.get(series.family as usize) else {
            let (index, families) = (series.family, self.families.len());
            let detail = format!("family {index} of {families}");
            return Err(CodecError::invalid("schema", detail));
        };
        let invalid = |detail: String| {
            Err(CodecError::invalid("schema", format!("{}: {detail}", family.name)))
        };
        if series.labels.len() > limits::LABELS_MAX {
            return invalid(format!("{} labels", series.labels.len()));
        }
        for (name, value) in &series.labels {
            if !is_label_name(name) {
                return invalid(format!("label name {name:?}"));
            }
            if value.len() > limits::LABEL_VALUE_BYTES_MAX {
                return invalid(format!("label {name} is {} bytes long", value.len()));
            }
        }
        match series.labels.is_sorted_by(|a, b| a.0 < b.0) {
            true => Ok(()),
            false => invalid("labels are not in ascending order, or one is there twice".into()),
        }
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, at most [`limits::NAME_BYTES_MAX`] bytes: Prometheus's classic rule.
#[must_use]
pub fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, at most [`limits::NAME_BYTES_MAX`] bytes: Prometheus's classic rule.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, also: fn(u8) -> bool) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
    name.len() <= limits::NAME_BYTES_MAX
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

/// A schema with its encoding and name, made once and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedSchema {
    /// Name of the content.
    pub id: SchemaId,
    /// The list itself.
    pub schema: Schema,
    /// Its payload, as it goes into logs and requests.
    pub payload: Vec<u8>,
}

impl EncodedSchema {
    /// Encodes and names a schema.
    #[must_use]
    pub fn new(schema: Schema) -> Arc<Self> {
        let payload = codec::encode(&schema);
        Arc::new(Self { id: id_of(&payload), schema, payload })
    }

    /// Whether a log and a hub can read it back: names, bounds, size.
    ///
    /// # Errors
    /// As [`Schema::decode`].
    pub fn check(&self) -> Result<(), CodecError> {
        let (bytes, most) = (self.payload.len(), limits::RECORD_PAYLOAD_BYTES_MAX);
        if bytes > most {
            let detail = format!("{bytes} bytes, at most {most}");
            return Err(CodecError::invalid("schema", detail));
        }
        Schema::decode(&self.payload).map(drop)
    }

    /// Decodes, checks and names a payload.
    ///
    /// # Errors
    /// As [`Schema::decode`].
    pub fn from_payload(payload: &[u8]) -> Result<Arc<Self>, CodecError> {
        let schema = Schema::decode(payload)?;
        Ok(Arc::new(Self { id: id_of(payload), schema, payload: payload.to_vec() }))
    }
}

fn id_of(payload: &[u8]) -> SchemaId {
    let digest = Sha256::digest(payload);
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    SchemaId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Schema {
        Schema {
            collector: "cpu".into(),
            families: vec![Family {
                name: "node_cpu_seconds_total".into(),
                kind: MetricKind::Counter,
                help: "Seconds the CPUs spent in each mode.".into(),
            }],
            series: vec![Series {
                family: 0,
                labels: vec![("cpu".into(), "0".into()), ("mode".into(), "idle".into())],
            }],
        }
    }

    #[test]
    fn golden_id_stays() {
        let encoded = EncodedSchema::new(sample());
        assert_eq!(encoded.id.to_string(), "4596df9d4b8ef6be", "schemas in old logs would be lost");
        assert_eq!(EncodedSchema::from_payload(&encoded.payload), Ok(encoded));
    }

    #[test]
    fn broken_rules_are_named() {
        let check = |change: fn(&mut Schema), expected: &str| {
            let mut schema = sample();
            change(&mut schema);
            let error = Schema::decode(&EncodedSchema::new(schema).payload).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(|s| s.families[0].name = "1st".into(), "metric name \"1st\"");
        check(|s| s.series[0].family = 1, "family 1 of 1");
        check(|s| s.series[0].labels.reverse(), "ascending");
        check(|s| s.series[0].labels[0].0 = "a-b".into(), "label name \"a-b\"");
        check(|s| s.series[0].labels[0].1 = "x".repeat(1025), "1025 bytes");
    }

    #[test]
    fn ids_parse_as_they_print() {
        let id = SchemaId([0, 1, 2, 3, 4, 5, 6, 255]);
        assert_eq!(id.to_string(), "00010203040506ff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "0", "+0010203040506ff", "00010203040506fg"] {
            assert!(wrong.parse::<SchemaId>().is_err(), "{wrong:?}");
        }
    }
}
