//! The head: records as they came, until they are sealed into blocks.
//!
//! A row holds one request's body; of its records those between `first_seq` and `last_seq` count
//! (what the hub had already, or could not take yet, lies outside).

use std::io::Read as _;

use wire::{Kind, Tick, envelope, limits::REQUEST_DECODED_BYTES_MAX};

use super::{columns::Malformed, ledger::Seqs};

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
        mut each: impl FnMut(u64, Tick) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
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
                each(envelope.seq, tick)?;
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
        let each = |seq, tick: Tick| {
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
