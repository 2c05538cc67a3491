//! Frames: what a packed generation is made of. Pure: bytes in, bytes out.
//!
//! ```text
//! offset size
//!  0     4    magic "HFP1"
//!  4     1    what it holds: 1 the head, 2 schemas, 3 records
//!  5     1    0 stored as it is, 1 compressed with zstd
//!  6     2    zero
//!  8     4    bytes stored after this header
//! 12     4    bytes they decompress to
//! 16     4    CRC32C over bytes 0..16, 20..52 and what is stored
//! 20    16    stream id
//! 36     8    first number that it covers
//! 44     8    last number that it covers
//! 52     …    what is stored
//! ```
//! Numbers are little endian. Each frame is found, checked and placed without its neighbours: a scan for
//! the magic finds every whole one.

use wire::StreamId;

use super::limits::{FRAME_RAW_BYTES_MAX, PACK_LEVEL};

/// First bytes of every frame.
pub(super) const MAGIC: [u8; 4] = *b"HFP1";
/// Bytes before what is stored.
pub(super) const HEADER_BYTES: usize = 52;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    /// What is known of the whole file.
    Head = 1,
    /// Envelopes of schemas.
    Schemas = 2,
    /// Records, each its envelope with time and samples before it.
    Records = 3,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What it holds.
    pub(super) what: What,
    /// Whether that is compressed.
    compressed: bool,
    /// Bytes stored after the header.
    pub(super) stored_bytes: usize,
    /// Bytes they decompress to.
    raw_bytes: usize,
    sum: u32,
    /// The stream that its records belong to.
    pub(super) stream: StreamId,
    /// First number that it covers.
    pub(super) first_seq: u64,
    /// Last number that it covers.
    pub(super) last_seq: u64,
}

impl Header {
    /// Bytes of the whole frame.
    pub(super) const fn total_bytes(&self) -> usize {
        HEADER_BYTES + self.stored_bytes
    }
}

/// The header at the start of `bytes`, if one of ours stands there and its lengths are within bounds.
/// Whether it is undamaged only [`open`] can tell.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let what = match bytes[4] {
        1 => What::Head,
        2 => What::Schemas,
        3 => What::Records,
        _ => return None,
    };
    let header = Header {
        what,
        compressed: bytes[5] == 1,
        stored_bytes: word(bytes, 8) as usize,
        raw_bytes: word(bytes, 12) as usize,
        sum: word(bytes, 16),
        stream: StreamId::from_bytes(*bytes[20..].first_chunk()?),
        first_seq: u64::from_le_bytes(*bytes[36..].first_chunk()?),
        last_seq: u64::from_le_bytes(*bytes[44..].first_chunk()?),
    };
    let known = bytes[..4] == MAGIC && bytes[5] <= 1 && bytes[6..8] == [0, 0];
    let bounded =
        header.raw_bytes <= FRAME_RAW_BYTES_MAX && header.stored_bytes <= header.raw_bytes;
    (known && bounded).then_some(header)
}

/// What the frame at the start of `bytes` holds; `None` if it is damaged.
pub(super) fn open(bytes: &[u8]) -> Option<(Header, Vec<u8>)> {
    let header = header(bytes)?;
    let stored = bytes.get(HEADER_BYTES..header.total_bytes())?;
    if checksum(&bytes[..HEADER_BYTES], stored) != header.sum {
        return None;
    }
    let raw = match header.compressed {
        true => zstd::bulk::decompress(stored, header.raw_bytes).ok()?,
        false => stored.to_vec(),
    };
    (raw.len() == header.raw_bytes).then_some((header, raw))
}

/// Whether an undamaged frame stands at the start of `bytes`; what it holds is not looked at.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let whole = header(bytes).and_then(|header| {
        let stored = bytes.get(HEADER_BYTES..header.total_bytes())?;
        Some(checksum(&bytes[..HEADER_BYTES], stored) == header.sum)
    });
    whole == Some(true)
}

/// Puts what was gathered into frames.
pub(super) struct Framer {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    stream: StreamId,
}

impl Framer {
    /// Frames of a stream.
    pub(super) fn new(stream: StreamId) -> Self {
        // Without a compressor, which takes only memory to make, all is stored as it is.
        Self { zstd: zstd::bulk::Compressor::new(PACK_LEVEL).ok(), stream }
    }

    /// Appends a frame to `out`; what doesn't shrink is stored as it is.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, what: What, seqs: (u64, u64), raw: &[u8]) {
        let compressed = self.zstd.as_mut().filter(|_| what != What::Head);
        let compressed = compressed.and_then(|zstd| zstd.compress(raw).ok());
        let compressed = compressed.filter(|compressed| compressed.len() < raw.len());
        let stored = compressed.as_deref().unwrap_or(raw);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = what as u8;
        header[5] = u8::from(compressed.is_some());
        header[8..12].copy_from_slice(&length(stored));
        header[12..16].copy_from_slice(&length(raw));
        header[20..36].copy_from_slice(self.stream.as_bytes());
        header[36..44].copy_from_slice(&seqs.0.to_le_bytes());
        header[44..].copy_from_slice(&seqs.1.to_le_bytes());
        let sum = checksum(&header, stored);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(stored);
    }
}

fn checksum(header: &[u8], stored: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&header[..16]);
    let sum = crc32c::crc32c_append(sum, &header[20..HEADER_BYTES]);
    crc32c::crc32c_append(sum, stored)
}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([7; 16]);

    fn framed(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Framer::new(STREAM).put(&mut out, What::Records, (3, 9), raw);
        out
    }

    #[test]
    fn what_was_put_comes_back() {
        let check = |raw: &[u8], compressed: bool| {
            let frame = framed(raw);
            let (header, found) = open(&frame).unwrap();
            assert!(is_whole(&frame));
            assert!(found == raw);
            assert_eq!((header.what, header.stream), (What::Records, STREAM));
            assert_eq!((header.first_seq, header.last_seq), (3, 9));
            assert_eq!((header.compressed, header.total_bytes()), (compressed, frame.len()));
        };
        check(b"", false);
        check(b"short", false);
        check(&[5; 10_000], true);
    }

    /// Golden bytes: this must decode for ever.
    #[test]
    fn golden_bytes_stay_readable() {
        let mut golden = b"HFP1\x03\0\0\0\x05\0\0\0\x05\0\0\0".to_vec();
        golden.extend_from_slice(&GOLDEN_SUM.to_le_bytes());
        golden.extend_from_slice(&[7; 16]);
        golden.extend_from_slice(&3_u64.to_le_bytes());
        golden.extend_from_slice(&9_u64.to_le_bytes());
        golden.extend_from_slice(b"short");
        assert_eq!(framed(b"short"), golden, "the format on disk changed");
    }
    const GOLDEN_SUM: u32 = 0x6b50_6844;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let frame = framed(&[5; 1_000]);
        for bit in 0..frame.len() * 8 {
            let mut bytes = frame.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bytes).is_none() && !is_whole(&bytes), "bit {bit}");
        }
        for cut in 0..frame.len() {
            assert!(open(&frame[..cut]).is_none() && !is_whole(&frame[..cut]), "cut at {cut}");
        }
    }

    #[test]
    fn hostile_lengths_are_refused() {
        // As one would who can make checksums: a frame that says how long it is, or isn't.
        let check = |stored: u32, raw: u32, payload: &[u8]| {
            let mut bytes = framed(&[5; 1_000])[..HEADER_BYTES].to_vec();
            bytes[8..12].copy_from_slice(&stored.to_le_bytes());
            bytes[12..16].copy_from_slice(&raw.to_le_bytes());
            let sum = checksum(&bytes, payload);
            bytes[16..20].copy_from_slice(&sum.to_le_bytes());
            bytes.extend_from_slice(payload);
            assert!(open(&bytes).is_none(), "{stored} {raw}");
        };
        let bomb = zstd::bulk::compress(&vec![0; 2 * FRAME_RAW_BYTES_MAX], 3).unwrap();
        let stored = bomb.len() as u32;
        check(stored, FRAME_RAW_BYTES_MAX as u32, &bomb);
        check(stored, 2 * FRAME_RAW_BYTES_MAX as u32, &bomb);
        check(stored, u32::MAX, &bomb);
        check(u32::MAX, u32::MAX, &bomb);
        check(stored - 1, stored, &bomb[..bomb.len() - 1]);
    }
}
