//! JSON bodies of the control calls, and the paths they go to.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{AgentId, InstanceId, SchemaId, StreamId};

/// Where records go.
pub const INGEST_PATH: &str = "/api/v1/ingest";
/// Where presence goes.
pub const HEARTBEAT_PATH: &str = "/api/v1/heartbeat";
/// Time between two heartbeats, in seconds.
pub const HEARTBEAT_INTERVAL_S: u64 = 5;
/// An agent without a heartbeat for this long is offline, in seconds.
pub const OFFLINE_AFTER_S: u64 = 15;

/// Header of every reply: the hub's [`Word`].
pub const WORD_HEADER: &str = "holdfast-word";
/// Header of a request: the latest [`Word`] that its sender has got from this hub, if any.
pub const HEARD_HEADER: &str = "holdfast-heard";

/// A hub's word. It goes out with every reply, and whoever got it says so with what it sends next: so a
/// hub knows, by no clock, that this was said after it had spoken. What was late on the way names an old
/// word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Drawn by the hub when it starts: another one's words say nothing.
    pub hub: u32,
    /// Counts its words; begins with 1.
    pub n: u64,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{}", self.hub, self.n)
    }
}

impl FromStr for Word {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (hub, n) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { hub: u32::from_str_radix(hub, 16)?, n: n.parse()? })
    }
}

/// [`ErrorBody::error`] of a refusal because two agents use one identity; status 409.
pub const IDENTITY_CONFLICT: &str = "identity_conflict";
/// What to do with an agent about it, after "stop this agent" or "one of the two". Its identity is one
/// file; its log stays as it is.
pub const IDENTITY_ADVICE: &str = "delete the file `agent-id` in its data directory \
     (/var/lib/holdfast-agent unless configured otherwise) and start it again: it gets an identity of \
     its own and delivers what waits in its log";

/// Answer to an ingest request, after commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReply {
    /// Highest sequence number of the stream that is stored; everything up to it may be forgotten.
    pub acked_seq: u64,
    /// Schemas that records after `acked_seq` need and the hub doesn't know. The agent sends again
    /// from `acked_seq + 1`, with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub need_schemas: Vec<SchemaId>,
    /// Unix milliseconds by the hub's clock.
    pub time_ms: i64,
}

/// Presence of an agent, every [`HEARTBEAT_INTERVAL_S`] unless records that were acknowledged meanwhile
/// showed it. Never in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender.
    pub agent_id: AgentId,
    /// The process that sends.
    pub instance_id: InstanceId,
    /// Milliseconds by a clock of the sender that nobody sets, when it said this: what a process says
    /// later has more.
    pub sent_ms: i64,
    /// Its current stream.
    pub stream_id: StreamId,
    /// The host's name as it calls itself now.
    pub hostname: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Addresses of the host's interfaces, without loopback.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Time between two ticks, in milliseconds.
    pub interval_ms: u64,
    /// How the log stands.
    pub log: LogStatus,
}

/// How an agent's log stands, as seen by the sink that reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Highest sequence number written.
    pub last_seq: u64,
    /// Highest sequence number this sink has acknowledged.
    pub acked_seq: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Records that wait for this sink.
    pub pending_records: u64,
}

/// Answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Unix milliseconds by the hub's clock.
    pub time_ms: i64,
}

/// Body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What kind of refusal, for programs: `malformed`, `too_large`, `unsupported_version`, …
    pub error: String,
    /// What was wrong, where, and what would be right, for people.
    pub message: String,
    /// The record at fault, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<BadRecord>,
    /// Bytes into the decompressed body, if that is where it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
}

/// A record that a hub will never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    /// Counted from 0 in the request.
    pub index: usize,
    /// Its sequence number.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        let word = Word { hub: 0xab, n: u64::MAX };
        assert_eq!(word.to_string(), "000000ab.18446744073709551615");
        assert_eq!(word.to_string().parse(), Ok(word));
        for wrong in ["", ".", "1", "1.", ".1", "x.1", "1.-1", "1ffffffff.1", "1.1.1"] {
            assert!(wrong.parse::<Word>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn replies_read_as_documented() {
        let reply = IngestReply {
            acked_seq: 7,
            need_schemas: vec![SchemaId([0, 0, 0, 0, 0, 0, 0, 1])],
            time_ms: 9,
        };
        let json = serde_json::to_string(&reply).unwrap();
        assert_eq!(json, r#"{"acked_seq":7,"need_schemas":["0000000000000001"],"time_ms":9}"#);
        assert_eq!(serde_json::from_str::<IngestReply>(&json).unwrap(), reply);
        let short: IngestReply = serde_json::from_str(r#"{"acked_seq":1,"time_ms":2}"#).unwrap();
        assert!(short.need_schemas.is_empty());
    }
}
