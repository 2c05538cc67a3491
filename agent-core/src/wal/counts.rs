//! What is counted of a generation.

use super::sidecar::Tally;

/// What is counted of a generation up to a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The record; 0 if none.
    pub(super) seq: u64,
    /// Bytes appended, schemas too.
    pub(super) bytes: u64,
    /// What lies there.
    pub(super) tally: Tally,
}

impl Counts {
    /// 48 bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.seq.to_le_bytes()[..], &self.bytes.to_le_bytes(), &self.tally.encode()].concat()
    }

    /// What [`Counts::encode`] gave.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (seq, rest) = bytes.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let (seq, bytes) = (u64::from_le_bytes(*seq), u64::from_le_bytes(*bytes));
        Some(Self { seq, bytes, tally: Tally::decode(rest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn come_back() {
        let tally = Tally { records: 1, samples: 2, first_ms: -3, last_ms: 4 };
        let counts = Counts { seq: 5, bytes: 6, tally };
        assert_eq!(Counts::decode(&counts.encode()), Some(counts));
        assert_eq!(Counts::decode(&counts.encode()[..47]), None);
    }
}
