//! Gaps: what is missing from a stream, from when to when, and why.
//!
//! A gap is a record of the stream itself, in the place of what it stands for, so that whoever reads
//! the stream in order sees the hole where it is.
//!
//! Where records were lost, a gap is about them, from the first to the last. Where nothing was ever
//! recorded (`records` is 0), it goes from the last tick before to the first one after, by what the
//! clock said then: it ends before it begins if the clock was set back.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    limits,
};

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The host was off, rebooting (its boot id changed since the last record) or suspended.
    HostOff,
    /// The agent was not running, the host was.
    AgentDown,
    /// The log reached its bound and its oldest records were dropped.
    LogOverflow,
    /// A sink refused a record for good; it lies in the agent's quarantine.
    Rejected,
    /// Records were unreadable when the log was opened.
    LogDamaged,
    /// The wall clock was set: `from_ms` is what it would have said, `to_ms` what it said.
    ClockJump,
}

impl GapReason {
    /// The word used in JSON, labels and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HostOff => "host_off",
            Self::AgentDown => "agent_down",
            Self::LogOverflow => "log_overflow",
            Self::Rejected => "rejected",
            Self::LogDamaged => "log_damaged",
            Self::ClockJump => "clock_jump",
        }
    }
}

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// Unix milliseconds of the first thing missing, as near as is known.
    pub from_ms: i64,
    /// Unix milliseconds of the last thing missing, as near as is known.
    pub to_ms: i64,
    /// First lost sequence number; 0 when no record was lost (nothing was ever written).
    pub first_seq: u64,
    /// Last lost sequence number; 0 as above.
    pub last_seq: u64,
    /// Records lost.
    pub records: u64,
    /// Samples lost, if known; 0 otherwise.
    pub samples: u64,
    /// More for people: which sink refused, what could not be read.
    pub detail: String,
}

impl Gap {
    /// The payload of a gap record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes and checks a payload.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are malformed or a bound is broken.
    pub fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        let gap: Self = codec::decode("gap", payload)?;
        if gap.detail.len() > limits::TEXT_BYTES_MAX {
            let detail = format!("detail is {} bytes long", gap.detail.len());
            return Err(CodecError::invalid("gap", detail));
        }
        if gap.first_seq > gap.last_seq {
            let detail = format!("first_seq {} is after last_seq {}", gap.first_seq, gap.last_seq);
            return Err(CodecError::invalid("gap", detail));
        }
        Ok(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_checks() {
        let gap = Gap {
            reason: GapReason::LogOverflow,
            from_ms: 1_000,
            to_ms: 2_000,
            first_seq: 3,
            last_seq: 9,
            records: 7,
            samples: 70,
            detail: "bound of 16 MiB".into(),
        };
        assert_eq!(Gap::decode(&gap.encode()), Ok(gap.clone()));
        let reversed = Gap { first_seq: 10, ..gap };
        assert!(Gap::decode(&reversed.encode()).is_err());
    }
}
