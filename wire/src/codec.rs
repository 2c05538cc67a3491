//! bincode 2 behind one module: the only place that names it.
//!
//! Standard configuration (little endian, variable-length integers), always with a byte limit on
//! decoding: a hostile length without one aborts the process with a huge allocation. All bytes of
//! the input must be consumed.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::limits::RECORD_PAYLOAD_BYTES_MAX;

/// A payload that isn't what its header says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes don't decode, or decode past the limit.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// Which type was expected.
        what: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// The value decoded, and bytes are left over.
    #[error("malformed {what}: {left} bytes left over after it")]
    Trailing {
        /// Which type was expected.
        what: &'static str,
        /// How many bytes follow it.
        left: usize,
    },
    /// The value decoded and breaks a rule of the protocol.
    #[error("invalid {what}: {detail}")]
    Invalid {
        /// Which type was expected.
        what: &'static str,
        /// The rule, and by how much it was broken.
        detail: String,
    },
}

impl CodecError {
    pub(crate) fn invalid(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { what, detail: detail.into() }
    }
}

/// Encodes a value; our own types always encode.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // The encoder fails only on types without a known length or on a failing writer; ours have
    // lengths, and a Vec doesn't fail.
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap_or_default()
}

/// Decodes exactly one value from all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    decode_borrowed(what, bytes)
}

/// Decodes exactly one value from all of `bytes`; it may borrow from them.
pub(crate) fn decode_borrowed<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<RECORD_PAYLOAD_BYTES_MAX>();
    let (value, used) = bincode::serde::borrow_decode_from_slice::<T, _>(bytes, config)
        .map_err(|error| CodecError::Malformed { what, detail: error.to_string() })?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing { what, left }),
    }
}
