//! Many records in one ingest body.
//!
//! ```text
//! zstd( envelope(Request, header) · envelope(Schema)* · envelope(record, seq ascending)+ )
//! ```
//!
//! One frame for all: ten ticks compress together to a quarter of what they take apart. Content type
//! [`CONTENT_TYPE`]; the body is compressed by definition, so there is no content encoding.

use std::{io::Read as _, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, CodecError, EncodedSchema, Envelope, EnvelopeError, Gap, InstanceId, Kind, StreamId,
    Tick, codec, envelope, limits,
};

/// Content type of an ingest body.
pub const CONTENT_TYPE: &str = "application/vnd.holdfast.records";

/// zstd's own default: level 3. What is above it isn't compiled in: `.cargo/config.toml`.
const ZSTD_LEVEL: i32 = 3;

/// Who sends, and in which stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The sender.
    pub agent_id: AgentId,
    /// The process that sends.
    pub instance_id: InstanceId,
    /// The stream that the records belong to.
    pub stream_id: StreamId,
    /// The host's name as it calls itself now.
    pub hostname: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Milliseconds by a clock of the sender that nobody sets, when it said this: what a process says
    /// later has more.
    pub sent_ms: i64,
    /// Highest sequence number in the sender's log, if it says: a hub that holds more of the stream
    /// holds what another log has written.
    pub last_seq: Option<u64>,
}

/// A decoded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Who sends.
    pub header: Header,
    /// Schemas that the hub asked for.
    pub schemas: Vec<Arc<EncodedSchema>>,
    /// The records, `seq` ascending.
    pub records: Vec<Record>,
}

/// One record, decoded, with its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place in the stream.
    pub seq: u64,
    /// What it says.
    pub body: Body,
    /// The envelope as it came, for who stores it whole.
    pub bytes: Vec<u8>,
}

impl Record {
    /// The envelope's CRC32C: over kind, number and payload, so that two records of one number are the
    /// same record if it is the same.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        envelope::checksum_in(&self.bytes)
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// One tick's values.
    Metrics(Tick),
    /// Something is missing.
    Gap(Gap),
}

impl Body {
    /// Decodes a record's payload by its kind.
    ///
    /// # Errors
    /// [`CodecError`] when the payload is malformed, or the kind is not one of a record.
    pub fn decode(envelope: &Envelope<'_>) -> Result<Self, CodecError> {
        match envelope.kind {
            Kind::Metrics => Tick::decode(envelope.payload).map(Self::Metrics),
            Kind::Gap => Gap::decode(envelope.payload).map(Self::Gap),
            other => Err(CodecError::invalid("record", format!("{other:?} is not a record"))),
        }
    }
}

/// Why a request can't be read; each names what and where.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not zstd, or cut short.
    #[error("body is not a whole zstd frame: {0}")]
    Compression(String),
    /// Larger than [`limits::REQUEST_DECODED_BYTES_MAX`] once decompressed.
    #[error("body decompresses to more than {} bytes", limits::REQUEST_DECODED_BYTES_MAX)]
    TooLarge,
    /// More than [`limits::REQUEST_RECORDS_MAX`] records or [`limits::REQUEST_SCHEMAS_MAX`] schemas.
    #[error("too many {what}: more than {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// An envelope is truncated, damaged or of an unknown version.
    #[error("at byte {offset}: {source}")]
    Envelope {
        /// Bytes into the decompressed body.
        offset: usize,
        /// Which check failed.
        source: EnvelopeError,
    },
    /// The header or a schema is malformed.
    #[error("at byte {offset}: {source}")]
    Preamble {
        /// Bytes into the decompressed body.
        offset: usize,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A record's payload is malformed.
    #[error("record {index} (seq {seq}): {source}")]
    Record {
        /// Counted from 0 among the records.
        index: usize,
        /// Its sequence number.
        seq: u64,
        /// What is wrong with it.
        source: CodecError,
    },
    /// Envelopes in the wrong order.
    #[error("at byte {offset}: {detail}")]
    Order {
        /// Bytes into the decompressed body.
        offset: usize,
        /// What was expected.
        detail: String,
    },
}

impl RequestError {
    /// Whether another version of this build might read it.
    #[must_use]
    pub const fn is_version(&self) -> bool {
        matches!(self, Self::Envelope { source, .. } if source.is_version())
    }

    /// The record at fault, if it is one: index and sequence number.
    #[must_use]
    pub const fn record(&self) -> Option<(usize, u64)> {
        match self {
            Self::Record { index, seq, .. } => Some((*index, *seq)),
            _ => None,
        }
    }

    /// Bytes into the decompressed body, if that is where it went wrong.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        match self {
            Self::Envelope { offset, .. }
            | Self::Preamble { offset, .. }
            | Self::Order { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

/// Encodes a request from records as they lie in the log.
///
/// # Errors
/// [`EnvelopeError::TooLong`] when the header or a schema exceeds the limit of a payload.
pub fn encode<'a>(
    header: &Header,
    schemas: impl IntoIterator<Item = &'a EncodedSchema>,
    records: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, EnvelopeError> {
    let mut body = envelope::encode(Kind::Request, 0, &codec::encode(header))?;
    for schema in schemas {
        envelope::encode_into(&mut body, Kind::Schema, 0, &schema.payload)?;
    }
    for record in records {
        body.extend_from_slice(record);
    }
    // Compressing into memory with a valid level doesn't fail.
    Ok(zstd::bulk::compress(&body, ZSTD_LEVEL).unwrap_or_default())
}

/// Decodes and checks a request as a whole: nothing of it is to be used when one part is wrong.
///
/// # Errors
/// [`RequestError`] names what is wrong and where.
pub fn decode(body: &[u8]) -> Result<Request, RequestError> {
    let bytes = decompress(body)?;
    let mut parts = Parts { bytes: &bytes, offset: 0 };
    let header = parts.header()?;
    let schemas = parts.schemas()?;
    let records = parts.records()?;
    Ok(Request { header, schemas, records })
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, RequestError> {
    let compression = |error: std::io::Error| RequestError::Compression(error.to_string());
    let most = limits::REQUEST_DECODED_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(body).map_err(compression)?;
    decoder.take(most + 1).read_to_end(&mut bytes).map_err(compression)?;
    if bytes.len() as u64 > most { Err(RequestError::TooLarge) } else { Ok(bytes) }
}

struct Parts<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Parts<'a> {
    fn peek(&self) -> Result<Option<(Envelope<'a>, &'a [u8])>, RequestError> {
        let left = &self.bytes[self.offset..];
        if left.is_empty() {
            return Ok(None);
        }
        let offset = self.offset;
        envelope::split_first(left)
            .map(|(envelope, rest)| Some((envelope, &left[..left.len() - rest.len()])))
            .map_err(|source| RequestError::Envelope { offset, source })
    }

    fn preamble<T>(&self, decoded: Result<T, CodecError>) -> Result<T, RequestError> {
        decoded.map_err(|source| RequestError::Preamble { offset: self.offset, source })
    }

    fn order<T>(&self, detail: impl Into<String>) -> Result<T, RequestError> {
        Err(RequestError::Order { offset: self.offset, detail: detail.into() })
    }

    fn header(&mut self) -> Result<Header, RequestError> {
        let Some((envelope, bytes)) = self.peek()? else {
            return self.order("the body is empty, expected a request header");
        };
        if envelope.kind != Kind::Request {
            return self.order(format!("expected a request header, found {:?}", envelope.kind));
        }
        let header: Header = self.preamble(codec::decode("request header", envelope.payload))?;
        self.preamble(check_header(&header))?;
        self.offset += bytes.len();
        Ok(header)
    }

    fn schemas(&mut self) -> Result<Vec<Arc<EncodedSchema>>, RequestError> {
        let mut schemas = Vec::new();
        while let Some((envelope, bytes)) = self.peek()?
            && envelope.kind == Kind::Schema
        {
            if schemas.len() == limits::REQUEST_SCHEMAS_MAX {
                let most = limits::REQUEST_SCHEMAS_MAX;
                return Err(RequestError::TooMany { what: "schemas", most });
            }
            schemas.push(self.preamble(EncodedSchema::from_payload(envelope.payload))?);
            self.offset += bytes.len();
        }
        Ok(schemas)
    }

    fn records(&mut self) -> Result<Vec<Record>, RequestError> {
        let mut records: Vec<Record> = Vec::new();
        while let Some((envelope, bytes)) = self.peek()? {
            if records.len() == limits::REQUEST_RECORDS_MAX {
                let most = limits::REQUEST_RECORDS_MAX;
                return Err(RequestError::TooMany { what: "records", most });
            }
            let (index, seq) = (records.len(), envelope.seq);
            let before = records.last().map_or(0, |record| record.seq);
            if envelope.kind.is_record() && seq <= before {
                return self.order(format!("record {index} has seq {seq}, after {before}"));
            }
            let body = Body::decode(&envelope).map_err(|source| RequestError::Record {
                index,
                seq,
                source,
            })?;
            records.push(Record { seq, body, bytes: bytes.to_vec() });
            self.offset += bytes.len();
        }
        Ok(records)
    }
}

fn check_header(header: &Header) -> Result<(), CodecError> {
    let check = |what: &str, text: &str, most: usize| {
        let well_formed = text.len() <= most && !text.chars().any(char::is_control);
        let detail = || CodecError::invalid("request header", format!("{what} {text:?}"));
        if well_formed { Ok(()) } else { Err(detail()) }
    };
    check("hostname", &header.hostname, limits::HOSTNAME_BYTES_MAX)?;
    check("agent_version", &header.agent_version, limits::TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Schema, SchemaId};

    fn header() -> Header {
        Header {
            agent_id: AgentId::from_bytes([1; 16]),
            instance_id: InstanceId::from_bytes([3; 16]),
            stream_id: StreamId::from_bytes([2; 16]),
            hostname: "web-1".into(),
            agent_version: "0.1.0".into(),
            sent_ms: 5,
            last_seq: Some(9),
        }
    }

    fn record(seq: u64) -> Vec<u8> {
        let payload = Tick::encode(1_000, &[(SchemaId([0; 8]), &[1.0, 2.5])]);
        envelope::encode(Kind::Metrics, seq, &payload).unwrap()
    }

    fn compressed(parts: &[&[u8]]) -> Vec<u8> {
        zstd::bulk::compress(&parts.concat(), ZSTD_LEVEL).unwrap()
    }

    fn preamble() -> Vec<u8> {
        envelope::encode(Kind::Request, 0, &codec::encode(&header())).unwrap()
    }

    #[test]
    fn round_trips() {
        let schema = EncodedSchema::new(Schema { collector: "cpu".into(), ..Schema::default() });
        let (first, second) = (record(7), record(9));
        let body = encode(&header(), [&*schema], [&first[..], &second]).unwrap();
        let request = decode(&body).unwrap();
        assert_eq!(request.header, header());
        assert_eq!(request.schemas, [schema]);
        let seqs: Vec<u64> = request.records.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, [7, 9]);
        assert_eq!(request.records[1].bytes, second);
        let sums: Vec<u32> = request.records.iter().map(Record::checksum).collect();
        let tick = Tick::encode(1_000, &[(SchemaId([0; 8]), &[1.0, 2.5])]);
        let again = envelope::encode(Kind::Metrics, 9, &tick).unwrap();
        assert_eq!(sums[1], envelope::checksum_in(&again));
        assert_ne!(sums[0], sums[1], "the number counts too");
    }

    #[test]
    fn each_fault_is_named_with_its_place() {
        let check = |body: &[u8], expected: &str| {
            let error = decode(body).unwrap_err().to_string();
            assert!(error.contains(expected), "expected {expected:?} in {error:?}");
        };
        let (head, one, two) = (preamble(), record(1), record(2));
        check(b"plain text", "not a whole zstd frame");
        let whole = compressed(&[&head, &one]);
        check(&whole[..whole.len() - 3], "not a whole zstd frame");
        check(&compressed(&[]), "body is empty");
        check(&compressed(&[&one]), "expected a request header, found Metrics");
        check(&compressed(&[&head, &two, &one]), "seq 1, after 2");
        check(&compressed(&[&head, &one, &one]), "seq 1, after 1");
        check(&compressed(&[&head, &one, &head]), "record 1 (seq 0): invalid record: Request");
        check(&compressed(&[&head, &one[..30]]), "truncated record: 30 bytes");
        let newer = [&head[..4], &[2], &head[5..]].concat();
        check(&compressed(&[&newer]), "version 2");
        let bad = envelope::encode(Kind::Metrics, 3, b"\xff\xff").unwrap();
        check(&compressed(&[&head, &two, &bad]), "record 1 (seq 3): malformed tick");
    }

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0; limits::REQUEST_DECODED_BYTES_MAX + 1];
        let bomb = zstd::bulk::compress(&zeros, ZSTD_LEVEL).unwrap();
        assert!(bomb.len() < limits::REQUEST_BYTES_MAX);
        assert!(matches!(decode(&bomb), Err(RequestError::TooLarge)));
    }

    #[test]
    fn too_many_records_are_refused() {
        let records: Vec<u8> =
            (1..=limits::REQUEST_RECORDS_MAX as u64 + 1).flat_map(record).collect();
        let body = compressed(&[&preamble(), &records]);
        assert!(matches!(decode(&body), Err(RequestError::TooMany { what: "records", .. })));
    }
}
