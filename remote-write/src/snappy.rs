//! Snappy's block format, bounded.

use snap::raw::{Decoder, Encoder, decompress_len};

/// A body that can't be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnappyError {
    /// It says that it is larger than is taken. Nothing was set aside for it.
    #[error(
        "body is {bytes} bytes after decompression, at most {max} are taken: send fewer samples"
    )]
    TooLarge {
        /// As the body claims.
        bytes: usize,
        /// As is taken.
        max: usize,
    },
    /// It isn't snappy's block format.
    #[error("body isn't in snappy's block format: {0}")]
    Malformed(String),
}

/// Compresses a message.
///
/// # Panics
///
/// Never: a message of more than 4 GiB, which the format can't hold, comes back empty.
#[must_use]
pub fn compress(message: &[u8]) -> Vec<u8> {
    Encoder::new().compress_vec(message).unwrap_or_default()
}

/// Decompresses a body of at most `max` bytes; the size that it claims is checked before any memory
/// is set aside.
///
/// # Errors
///
/// It claims more than `max`, or isn't snappy's block format.
pub fn decompress(body: &[u8], max: usize) -> Result<Vec<u8>, SnappyError> {
    let malformed = |error: snap::Error| SnappyError::Malformed(error.to_string());
    let bytes = decompress_len(body).map_err(malformed)?;
    if bytes > max {
        return Err(SnappyError::TooLarge { bytes, max });
    }
    Decoder::new().decompress_vec(body).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for message in [&b""[..], b"a", &[7; 100_000]] {
            assert_eq!(decompress(&compress(message), message.len()).unwrap(), message);
        }
    }

    #[test]
    fn what_is_refused() {
        let check = |body: &[u8], expected: &str| {
            let error = decompress(body, 1000).unwrap_err().to_string();
            assert!(error.contains(expected), "expected {expected:?} in {error:?}");
        };
        check(&compress(&[7; 1001]), "is 1001 bytes after decompression, at most 1000 are taken");
        // four bytes that claim 4 GiB
        check(b"\xff\xff\xff\xff\x0f", "is 4294967295 bytes");
        check(b"", "isn't in snappy's block format");
        check(b"\x05hello", "isn't in snappy's block format");
        // the framed format's magic
        check(b"\xff\x06\x00\x00sNaPpY", "isn't in snappy's block format");
    }
}
