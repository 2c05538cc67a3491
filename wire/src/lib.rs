//! What agent and hub say to each other.
//!
//! Types and codec only: nothing here reads a file, opens a socket or asks for the time.
//!
//! - [`limits`]: every bound of the protocol, by name.
//! - [`id`]: who speaks ([`AgentId`]), as which process ([`InstanceId`]), and in which stream
//!   ([`StreamId`]).
//! - [`envelope`]: the fixed header that makes each record findable in raw bytes.
//! - [`schema`]: the ordered list of series of one collector, named by its content hash.
//! - [`tick`]: one tick's values, columnar.
//! - [`gap`]: what is missing, from when to when, and why.
//! - [`request`]: many records in one ingest body.
//! - [`api`]: the JSON bodies of the control calls.
//! - [`token`]: shared-secret authentication.
//!
//! The bytes in the agent's log are the bytes on the wire: a record is encoded once.

pub mod api;
mod codec;
pub mod envelope;
pub mod gap;
pub mod id;
pub mod limits;
pub mod request;
pub mod schema;
pub mod tick;
pub mod token;

pub use codec::CodecError;
pub use envelope::{Envelope, EnvelopeError, Kind};
pub use gap::{Gap, GapReason};
pub use id::{AgentId, InstanceId, StreamId};
pub use schema::{EncodedSchema, Family, MetricKind, Schema, SchemaId, Series};
pub use tick::Tick;
