//! The fixed header of everything in a log or a request.
//!
//! ```text
//! offset size
//!  0     4    magic "HFR1"
//!  4     1    version, 1
//!  5     1    codec of the payload, 1 = bincode 2 (standard configuration)
//!  6     2    flags, little endian: low byte is the kind, high byte is zero
//!  8     4    length of the payload, little endian
//! 12     4    CRC32C over bytes 4..12, 16..24 and the payload, little endian
//! 16     8    seq, little endian; 0 where a kind has none
//! 24     …    payload
//! ```
//!
//! A reader that knows nothing else finds every whole record by scanning for the magic and checking
//! the sum. Versions this build doesn't know are refused by name.

use crate::limits::RECORD_PAYLOAD_BYTES_MAX;

/// First bytes of every envelope.
pub const MAGIC: [u8; 4] = *b"HFR1";
/// Version this build writes, and the only one there has been.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 24;

const CODEC_BINCODE: u8 = 1;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One tick: a [`crate::Tick`].
    Metrics = 1,
    /// What is missing: a [`crate::Gap`].
    Gap = 5,
    /// A [`crate::Schema`]; in logs and requests, outside the sequence (`seq` 0).
    Schema = 16,
    /// Who sends: a [`crate::request::Header`]; first in a request (`seq` 0).
    Request = 17,
    /// A later slice of a record too large for one value of the log; never on the wire.
    Part = 32,
}

impl Kind {
    /// Whether it is a record of the stream, with a sequence number of its own.
    #[must_use]
    pub const fn is_record(self) -> bool {
        matches!(self, Self::Metrics | Self::Gap)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Metrics,
            5 => Self::Gap,
            16 => Self::Schema,
            17 => Self::Request,
            32 => Self::Part,
            _ => return None,
        })
    }
}

/// A header and its payload, borrowed from a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// Place in the stream, from 1; 0 where the kind has none.
    pub seq: u64,
    /// The encoded value.
    pub payload: &'a [u8],
}

/// Why bytes are not an envelope this build can read.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Fewer bytes than the header or its length field promises.
    #[error("truncated record: {have} bytes where {need} are needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes the header asks for.
        need: usize,
    },
    /// Not one of ours.
    #[error("no record here: expected magic \"HFR1\", found {found:02x?}")]
    Magic {
        /// The four bytes that stand there.
        found: [u8; 4],
    },
    /// Written by a newer build.
    #[error("unsupported record version {found}: this build reads version {VERSION}")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// Written by a newer build.
    #[error("unsupported record codec {found}: this build reads codec {CODEC_BINCODE}")]
    Codec {
        /// The codec byte.
        found: u8,
    },
    /// Written by a newer build.
    #[error("unsupported record kind or flags {found:#06x}")]
    Kind {
        /// The flags field.
        found: u16,
    },
    /// Larger than [`RECORD_PAYLOAD_BYTES_MAX`].
    #[error("record payload of {found} bytes exceeds the limit of {RECORD_PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// The length field.
        found: u32,
    },
    /// The bytes were damaged.
    #[error("record checksum mismatch: header says {expected:#010x}, bytes give {found:#010x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
}

impl EnvelopeError {
    /// Whether a build of another version may be able to read it (as opposed to damage).
    #[must_use]
    pub const fn is_version(self) -> bool {
        matches!(self, Self::Version { .. } | Self::Codec { .. } | Self::Kind { .. })
    }
}

/// Appends an envelope around `payload` to `out`.
///
/// # Errors
/// [`EnvelopeError::TooLong`] when the payload exceeds [`RECORD_PAYLOAD_BYTES_MAX`]; `out` is then
/// unchanged.
pub fn encode_into(
    out: &mut Vec<u8>,
    kind: Kind,
    seq: u64,
    payload: &[u8],
) -> Result<(), EnvelopeError> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if payload.len() > RECORD_PAYLOAD_BYTES_MAX {
        return Err(EnvelopeError::TooLong { found: length });
    }
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[5] = CODEC_BINCODE;
    header[6] = kind as u8;
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[16..24].copy_from_slice(&seq.to_le_bytes());
    let sum = checksum(&header, payload);
    header[12..16].copy_from_slice(&sum.to_le_bytes());
    out.reserve(HEADER_BYTES + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    Ok(())
}

/// An envelope as a vector of its own.
///
/// # Errors
/// As [`encode_into`].
pub fn encode(kind: Kind, seq: u64, payload: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    encode_into(&mut out, kind, seq, payload)?;
    Ok(out)
}

/// Bytes that the envelope at the start of `bytes` takes as a whole, from its header alone: for
/// reading in slices. Checks magic, version and length, not the sum.
///
/// # Errors
/// [`EnvelopeError`] when no header of ours stands there.
pub fn total_len(bytes: &[u8]) -> Result<usize, EnvelopeError> {
    let header = header_of(bytes)?;
    if header[..4] != MAGIC {
        return Err(EnvelopeError::Magic { found: [header[0], header[1], header[2], header[3]] });
    }
    if header[4] != VERSION {
        return Err(EnvelopeError::Version { found: header[4] });
    }
    if header[5] != CODEC_BINCODE {
        return Err(EnvelopeError::Codec { found: header[5] });
    }
    let length = le_u32(header, 8);
    if length as usize > RECORD_PAYLOAD_BYTES_MAX {
        return Err(EnvelopeError::TooLong { found: length });
    }
    Ok(HEADER_BYTES + length as usize)
}

/// Reads the envelope at the start of `bytes`; returns it and what follows it.
///
/// # Errors
/// [`EnvelopeError`] says which check failed; nothing is read past what the checks allow.
pub fn split_first(bytes: &[u8]) -> Result<(Envelope<'_>, &[u8]), EnvelopeError> {
    let total = total_len(bytes)?;
    let header = header_of(bytes)?;
    if bytes.len() < total {
        return Err(EnvelopeError::Truncated { have: bytes.len(), need: total });
    }
    let (whole, rest) = bytes.split_at(total);
    let payload = &whole[HEADER_BYTES..];
    let expected = le_u32(header, 12);
    let found = checksum(header, payload);
    if expected != found {
        return Err(EnvelopeError::Checksum { expected, found });
    }
    let flags = u16::from_le_bytes([header[6], header[7]]);
    let kind = u8::try_from(flags)
        .ok()
        .and_then(Kind::from_byte)
        .ok_or(EnvelopeError::Kind { found: flags })?;
    let mut seq = [0; 8];
    seq.copy_from_slice(&header[16..24]);
    Ok((Envelope { kind, seq: u64::from_le_bytes(seq), payload }, rest))
}

/// The checksum that the header of a whole envelope carries; 0 where no header stands.
#[must_use]
pub fn checksum_in(envelope: &[u8]) -> u32 {
    header_of(envelope).map_or(0, |header| le_u32(header, 12))
}

fn header_of(bytes: &[u8]) -> Result<&[u8; HEADER_BYTES], EnvelopeError> {
    bytes.first_chunk().ok_or(EnvelopeError::Truncated { have: bytes.len(), need: HEADER_BYTES })
}

fn le_u32(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn checksum(header: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&header[4..12]);
    let sum = crc32c::crc32c_append(sum, &header[16..24]);
    crc32c::crc32c_append(sum, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: this must decode for ever.
    const GOLDEN: &[u8] = &[
        b'H', b'F', b'R', b'1', 1, 1, 1, 0, 3, 0, 0, 0, 109, 224, 137, 158, 42, 0, 0, 0, 0, 0, 0,
        0, b'a', b'b', b'c',
    ];

    #[test]
    fn golden_bytes_stay_readable() {
        let bytes = encode(Kind::Metrics, 42, b"abc").unwrap();
        assert_eq!(bytes, GOLDEN, "the format on disk and on the wire changed");
        let (envelope, rest) = split_first(GOLDEN).unwrap();
        assert_eq!(envelope, Envelope { kind: Kind::Metrics, seq: 42, payload: b"abc" });
        assert!(rest.is_empty());
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let check = |at: usize, value: u8, expected: fn(&EnvelopeError) -> bool| {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] = value;
            let error = split_first(&bytes).unwrap_err();
            assert!(expected(&error), "byte {at}: {error}");
        };
        check(0, b'x', |e| matches!(e, EnvelopeError::Magic { .. }));
        check(4, 9, |e| matches!(e, EnvelopeError::Version { found: 9 }));
        check(5, 9, |e| matches!(e, EnvelopeError::Codec { found: 9 }));
        check(8, 4, |e| matches!(e, EnvelopeError::Truncated { have: 27, need: 28 }));
        check(11, 9, |e| matches!(e, EnvelopeError::TooLong { .. }));
        check(16, 43, |e| matches!(e, EnvelopeError::Checksum { .. }));
        check(26, b'd', |e| matches!(e, EnvelopeError::Checksum { .. }));
        assert!(matches!(split_first(&GOLDEN[..10]), Err(EnvelopeError::Truncated { .. })));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in 0..GOLDEN.len() * 8 {
            let mut bytes = GOLDEN.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(split_first(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn too_long_a_payload_is_refused_before_writing() {
        let mut out = vec![1];
        let payload = vec![0; RECORD_PAYLOAD_BYTES_MAX + 1];
        assert!(encode_into(&mut out, Kind::Metrics, 1, &payload).is_err());
        assert_eq!(out, [1]);
    }
}
