//! Records as they lie in the log, decoded and joined with their schemas.

use std::{collections::HashMap, sync::Arc};

use agent_core::{Batch, SinkError, sink::LogRecord};
use wire::{
    CodecError, EncodedSchema, EnvelopeError, Gap, SchemaId, Tick, envelope, request::Body,
};

use crate::render::{Block, Content};

/// One record, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<'a> {
    /// Its place in the stream.
    pub seq: u64,
    /// What it says.
    pub body: Joined<'a>,
}

/// What a record says, with the schemas it names.
#[derive(Clone, Debug, PartialEq)]
pub enum Joined<'a> {
    /// One tick: as many values as the schemas have series, in order.
    Metrics {
        /// Unix milliseconds.
        time_ms: i64,
        /// One for each collector that ran.
        schemas: Vec<&'a EncodedSchema>,
        /// The values of all schemas, one after the other.
        values: Vec<f64>,
    },
    /// Something is missing.
    Gap(Gap),
}

impl Decoded<'_> {
    /// Unix milliseconds of what it tells; of a gap, its end.
    #[must_use]
    pub const fn time_ms(&self) -> i64 {
        match &self.body {
            Joined::Metrics { time_ms, .. } => *time_ms,
            Joined::Gap(gap) => gap.to_ms,
        }
    }

    /// What it says, to be rendered.
    #[must_use]
    pub fn content(&self) -> Content<'_> {
        match &self.body {
            Joined::Metrics { schemas, values, .. } => Content::Tick(blocks(schemas, values)),
            Joined::Gap(gap) => Content::Gap(gap),
        }
    }
}

fn blocks<'a>(schemas: &[&'a EncodedSchema], mut values: &'a [f64]) -> Vec<Block<'a>> {
    let mut take = |count: usize| {
        let (taken, rest) = values.split_at(count.min(values.len()));
        values = rest;
        taken
    };
    let block = |schema: &&'a EncodedSchema| {
        let values = take(schema.schema.series.len());
        Block { schema: &schema.schema, values }
    };
    schemas.iter().map(block).collect()
}

/// A record that can't be read: it never will be.
#[derive(Debug, thiserror::Error)]
#[error("record {seq}: {fault}")]
pub struct RecordError {
    /// Its place in the stream, as the log says.
    pub seq: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its envelope is damaged.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Its payload is malformed.
    #[error(transparent)]
    Payload(#[from] CodecError),
    /// The log and the envelope disagree on what it is.
    #[error(
        "lies in the log as record {seq}, its envelope says {found} with {left} bytes after it"
    )]
    Place {
        /// As the log says.
        seq: u64,
        /// As the envelope says.
        found: u64,
        /// Bytes after the envelope.
        left: usize,
    },
    /// It names a schema that the log doesn't have.
    #[error("names schema {0}, which the log doesn't have")]
    Schema(SchemaId),
    /// Its values don't fit its schemas.
    #[error("has {values} values for {series} series")]
    Count {
        /// Values in the tick.
        values: usize,
        /// Series in its schemas.
        series: usize,
    },
}

impl From<RecordError> for SinkError {
    fn from(error: RecordError) -> Self {
        Self::Rejected { seq: error.seq, reason: error.fault.to_string() }
    }
}

/// Decodes the records of a batch one by one, in order.
pub fn decode_records(batch: &Batch) -> impl Iterator<Item = Result<Decoded<'_>, RecordError>> {
    batch.records.iter().map(|record| decode_record(record, &batch.schemas))
}

/// Decodes one record and joins it with its schemas.
///
/// # Errors
/// [`RecordError`] when it is damaged, a schema is missing, or values and series differ in number.
pub fn decode_record<'a>(
    record: &LogRecord,
    schemas: &'a HashMap<SchemaId, Arc<EncodedSchema>>,
) -> Result<Decoded<'a>, RecordError> {
    let joined = unwrap(record).and_then(|body| join(body, schemas));
    match joined {
        Ok(body) => Ok(Decoded { seq: record.seq, body }),
        Err(fault) => Err(RecordError { seq: record.seq, fault }),
    }
}

/// Checks that a record can be read, whatever schemas it names.
///
/// # Errors
/// [`RecordError`] when it is damaged.
pub fn check_record(record: &LogRecord) -> Result<(), RecordError> {
    let read = unwrap(record);
    read.map(|_| ()).map_err(|fault| RecordError { seq: record.seq, fault })
}

fn unwrap(record: &LogRecord) -> Result<Body, Fault> {
    let (found, rest) = envelope::split_first(&record.bytes)?;
    if found.seq != record.seq || !rest.is_empty() {
        return Err(Fault::Place { seq: record.seq, found: found.seq, left: rest.len() });
    }
    Ok(Body::decode(&found)?)
}

fn join(body: Body, known: &HashMap<SchemaId, Arc<EncodedSchema>>) -> Result<Joined<'_>, Fault> {
    let Tick { time_ms, schemas, values } = match body {
        Body::Metrics(tick) => tick,
        Body::Gap(gap) => return Ok(Joined::Gap(gap)),
    };
    let find = |id: SchemaId| known.get(&id).map(Arc::as_ref).ok_or(Fault::Schema(id));
    let schemas = schemas.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let series = schemas.iter().map(|schema| schema.schema.series.len()).sum();
    if values.len() != series {
        return Err(Fault::Count { values: values.len(), series });
    }
    Ok(Joined::Metrics { time_ms, schemas, values })
}

#[cfg(test)]
mod tests {
    use wire::Kind;

    use super::*;
    use crate::fixture::{self, gap_record, tick_record};

    fn decode(records: Vec<LogRecord>) -> Vec<Result<String, String>> {
        let batch = fixture::batch(records);
        let text = |decoded: Decoded<'_>| match decoded.content() {
            Content::Tick(blocks) => {
                let sample = |(family, _, value): crate::render::Sample<'_>| {
                    format!("{} {value}", family.name)
                };
                let samples: Vec<String> =
                    blocks.iter().flat_map(Block::samples).map(sample).collect();
                format!("{} {} {}", decoded.seq, decoded.time_ms(), samples.join(", "))
            }
            Content::Gap(gap) => {
                format!("{} {} {}", decoded.seq, decoded.time_ms(), gap.reason.as_str())
            }
        };
        let result = |r: Result<Decoded<'_>, RecordError>| r.map(text).map_err(|e| e.to_string());
        decode_records(&batch).map(result).collect()
    }

    fn check(record: LogRecord, expected: Result<&str, &str>) {
        let found = decode(vec![record]);
        match (&found[0], expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(expected)) => {
                assert!(error.contains(expected), "expected {expected:?} in {error:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_are_joined_with_their_schemas() {
        check(
            tick_record(3),
            Ok("3 3000 node_load1 0.03, node_cpu_seconds_total 3.25, node_cpu_seconds_total 30"),
        );
        check(gap_record(4), Ok("4 4000 log_overflow"));
    }

    #[test]
    fn each_fault_names_its_record_and_what_is_wrong() {
        let damaged = |at: usize| {
            let mut record = tick_record(3);
            record.bytes[at] ^= 1;
            record
        };
        check(damaged(0), Err("record 3: no record here"));
        check(damaged(4), Err("record 3: unsupported record version 0"));
        check(damaged(30), Err("record 3: record checksum mismatch"));
        let mut cut = tick_record(3);
        cut.bytes.pop();
        check(cut, Err("record 3: truncated record"));
        check(
            LogRecord { seq: 4, ..tick_record(3) },
            Err("lies in the log as record 4, its envelope says 3"),
        );
        let mut long = tick_record(3);
        long.bytes.push(0);
        check(long, Err("says 3 with 1 bytes after it"));
        let unknown = Tick::encode(0, &[(SchemaId([9; 8]), &[1.0])]);
        check(
            fixture::record(3, Kind::Metrics, &unknown),
            Err("names schema 0909090909090909, which the log"),
        );
        let short = Tick::encode(0, &[(fixture::load_schema().id, &[])]);
        check(fixture::record(3, Kind::Metrics, &short), Err("has 0 values for 1 series"));
        check(fixture::record(3, Kind::Metrics, b"\xff"), Err("record 3: malformed tick"));
        check(fixture::record(3, Kind::Request, b""), Err("Request is not a record"));
    }

    #[test]
    fn a_fault_becomes_a_rejection_of_that_record() {
        let error = RecordError { seq: 9, fault: Fault::Count { values: 1, series: 2 } };
        let SinkError::Rejected { seq: 9, reason } = SinkError::from(error) else {
            panic!("not a rejection of record 9");
        };
        assert_eq!(reason, "has 1 values for 2 series");
    }
}
