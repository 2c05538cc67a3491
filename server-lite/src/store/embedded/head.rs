//! The head: records as they came, until they are sealed into blocks.
//!
//! A row holds one request's body; of its records those between `first_seq` and `last_seq` count
//! (what the hub had already, or could not take yet, lies outside). What came by remote write has a body
//! of its own ([`super::written`]), of which all counts; the hub has numbered its ticks.

use std::io::Read as _;

use rusqlite::{Connection, params};
use wire::{Kind, SchemaId, Tick, envelope, limits::REQUEST_DECODED_BYTES_MAX};

use super::{catalog::StreamState, columns::Malformed, ledger::Seqs, written};

/// Rows that one stream's head may ever have.
const ROWS: i64 = 1 << 32;

/// The id of a stream's n-th row.
pub(crate) const fn row_id(stream: i64, n: i64) -> i64 {
    stream * ROWS + n
}

/// The first and the last id that a stream's rows may have.
pub(crate) const fn row_ids(stream: i64) -> (i64, i64) {
    (row_id(stream, 0), row_id(stream, ROWS - 1))
}

/// A row to be added.
pub(crate) struct NewRow<'a> {
    /// Its records.
    pub(crate) seqs: Seqs,
    /// Earliest and latest time.
    pub(crate) span: (i64, i64),
    /// Ticks, as the stream counts them.
    pub(crate) ticks: u64,
    /// Samples.
    pub(crate) samples: u64,
    /// Unix milliseconds when it came.
    pub(crate) received_ms: i64,
    /// What it holds.
    pub(crate) body: &'a [u8],
}

impl NewRow<'_> {
    /// Adds the row to a stream's head.
    pub(crate) fn insert(
        &self,
        connection: &Connection,
        stream: &mut StreamState,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO head (id, first_seq, last_seq, min_ms, max_ms, ticks, samples, \
                 received_ms, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                row_id(stream.row, stream.head_next),
                self.seqs.first.cast_signed(),
                self.seqs.last.cast_signed(),
                self.span.0,
                self.span.1,
                self.ticks.cast_signed(),
                self.samples.cast_signed(),
                self.received_ms,
                self.body
            ])?;
        stream.head_next += 1;
        stream.head.ticks += self.ticks;
        stream.head.samples += self.samples;
        stream.head.bytes += self.body.len() as u64;
        stream.head.since_ms.get_or_insert(self.received_ms);
        Ok(())
    }
}

/// A tick of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeadTick {
    /// Unix milliseconds.
    pub(crate) time_ms: i64,
    /// Whose values they are.
    pub(crate) series: Members,
    /// The values.
    pub(crate) values: Vec<f64>,
}

/// The series of a tick.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Members {
    /// Those of schemas, one after the other.
    Schemas(Vec<SchemaId>),
    /// These, by id, ascending.
    Ids(Vec<i64>),
}

impl HeadTick {
    /// The schemas whose series it has.
    pub(crate) fn schemas(&self) -> &[SchemaId] {
        if let Members::Schemas(schemas) = &self.series { schemas } else { &[] }
    }

    /// The series that it names itself.
    pub(crate) fn ids(&self) -> &[i64] {
        if let Members::Ids(ids) = &self.series { ids } else { &[] }
    }
}

/// Reads bodies; keeps its buffers from one to the next.
pub(crate) struct HeadReader {
    decompressor: zstd::bulk::Decompressor<'static>,
    bytes: Vec<u8>,
}

impl HeadReader {
    /// A reader with empty buffers.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { decompressor: zstd::bulk::Decompressor::new()?, bytes: Vec::new() })
    }

    /// Gives the ticks of a body in order, those of `seqs` only.
    pub(crate) fn ticks(
        &mut self,
        body: &[u8],
        seqs: Seqs,
        mut each: impl FnMut(u64, HeadTick) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if written::is_written(body) {
            return written_ticks(body, seqs, each);
        }
        let said = |error: String| Malformed(error);
        self.decompress(body).map_err(|error| said(error.to_string()))?;
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() {
            let (envelope, after) =
                envelope::split_first(rest).map_err(|error| said(error.to_string()))?;
            rest = after;
            if envelope.kind == Kind::Metrics && (seqs.first..=seqs.last).contains(&envelope.seq) {
                let tick =
                    Tick::decode(envelope.payload).map_err(|error| said(error.to_string()))?;
                let series = Members::Schemas(tick.schemas);
                each(
                    envelope.seq,
                    HeadTick { time_ms: tick.time_ms, series, values: tick.values },
                )?;
            }
        }
        Ok(())
    }

    fn decompress(&mut self, body: &[u8]) -> std::io::Result<()> {
        self.bytes.clear();
        match zstd::zstd_safe::get_frame_content_size(body) {
            Ok(Some(size)) if size <= REQUEST_DECODED_BYTES_MAX as u64 => {
                self.bytes.reserve(usize::try_from(size).unwrap_or(REQUEST_DECODED_BYTES_MAX));
                self.decompressor.decompress_to_buffer(body, &mut self.bytes).map(|_| ())
            }
            // Sent by something that streams: the frame doesn't say.
            _ => {
                let most = REQUEST_DECODED_BYTES_MAX as u64;
                let decoder = zstd::stream::read::Decoder::new(body)?;
                decoder.take(most).read_to_end(&mut self.bytes).map(|_| ())
            }
        }
    }
}

fn written_ticks(
    body: &[u8],
    seqs: Seqs,
    mut each: impl FnMut(u64, HeadTick) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let ticks = written::decode(body)?;
    if seqs.last.checked_sub(seqs.first) != (ticks.len() as u64).checked_sub(1) {
        let (count, Seqs { first, last }) = (ticks.len(), seqs);
        return Err(Malformed(format!("{count} ticks for records {first} to {last}")));
    }
    (seqs.first..).zip(ticks).try_for_each(|(seq, tick)| {
        let series = Members::Ids(tick.series);
        each(seq, HeadTick { time_ms: tick.time_ms, series, values: tick.values })
    })
}

#[cfg(test)]
mod tests {
    use wire::{AgentId, InstanceId, SchemaId, StreamId, request};

    use super::*;

    fn body(seqs: &[u64]) -> Vec<u8> {
        let header = request::Header {
            agent_id: AgentId::from_bytes([1; 16]),
            instance_id: InstanceId::from_bytes([3; 16]),
            stream_id: StreamId::from_bytes([2; 16]),
            hostname: "h".into(),
            agent_version: "1".into(),
            sent_ms: 0,
            last_seq: None,
        };
        let record = |seq: &u64| {
            let tick = Tick::encode(seq.cast_signed() * 10, &[(SchemaId([0; 8]), &[1.5])]);
            envelope::encode(Kind::Metrics, *seq, &tick).unwrap()
        };
        let records: Vec<_> = seqs.iter().map(record).collect();
        request::encode(&header, [], records.iter().map(Vec::as_slice)).unwrap()
    }

    fn check(body: &[u8], (first, last): (u64, u64), expected: &[u64]) {
        let mut found = Vec::new();
        let each = |seq, tick: HeadTick| {
            assert_eq!((tick.time_ms, tick.values), (seq as i64 * 10, vec![1.5]));
            found.push(seq);
            Ok(())
        };
        HeadReader::new().unwrap().ticks(body, Seqs { first, last }, each).unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_what_counts_is_given() {
        let body = body(&[3, 4, 6, 9]);
        check(&body, (3, 9), &[3, 4, 6, 9]);
        check(&body, (4, 6), &[4, 6]);
        check(&body, (5, 5), &[]);
    }

    #[test]
    fn a_frame_that_does_not_say_its_size_is_read() {
        let whole = body(&[1, 2]);
        let bytes = zstd::stream::decode_all(whole.as_slice()).unwrap();
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        let streamed = encoder.finish().unwrap();
        assert!(matches!(zstd::zstd_safe::get_frame_content_size(&streamed), Ok(None)));
        check(&streamed, (1, 2), &[1, 2]);
    }

    #[test]
    fn damage_is_noticed() {
        let good = body(&[1, 2]);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            let mut reader = HeadReader::new().unwrap();
            let mut found = Vec::new();
            let seqs = Seqs { first: 1, last: 2 };
            let read = reader.ticks(&bytes, seqs, |seq, tick| {
                found.push((seq, tick.time_ms));
                Ok(())
            });
            // A flip that changes nothing of what is read is none.
            assert!(read.is_err() || found == [(1, 10), (2, 20)], "byte {at}: {found:?}");
        }
    }
}
