//! A hub, over HTTP.
//!
//! A batch goes out as one request ([`wire::request`]). The hub says up to which record it has
//! stored, and which schemas it doesn't know; they are sent at once, from the record it stopped at.
//! Nothing is remembered between two batches: the hub's word is what counts.
//!
//! - `config`: where, with which key and which CA.
//! - `client`: one request and one bounded reply. `transport`: how they travel.
//! - `bearer`: the token that goes along.
//! - `verdict`: what a refusal means, and who should react.
//! - `heartbeat`, `addresses`: presence.

mod addresses;
mod bearer;
mod client;
mod config;
mod heartbeat;
mod transport;
mod verdict;

use std::{collections::BTreeSet, rc::Rc};

use agent_core::{
    Batch, BatchLimits, Sink, SinkError,
    clock::Clock,
    sink::{BoxFuture, LogRecord},
};
use wire::{
    EncodedSchema, SchemaId,
    api::{INGEST_PATH, IngestReply},
    envelope, limits,
    request::{self, Body},
};

use self::client::Client;
use crate::records::check_record;

pub use self::{
    addresses::addresses,
    config::{
        BATCH_BYTES, CONNECT_TIMEOUT, HttpConfig, HttpConfigError, Identity, REQUEST_TIMEOUT,
    },
    heartbeat::Heartbeats,
    transport::{Post, Reply, Transport},
};
pub(crate) use self::{
    config::checked_url,
    transport::Sockets,
    verdict::{redirected, retry_after},
};

/// Requests for one batch: each answers with the schemas of one more record. A host whose devices
/// come and go may need one for each tick of a backlog; the rest is for the next batch.
const ROUNDS_MAX: usize = 16;

/// Ships records to a hub.
pub struct HttpSink {
    client: Rc<Client>,
    identity: Identity,
    limits: BatchLimits,
}

impl HttpSink {
    /// A sink to the hub at `config.url`. Connects with the first batch.
    ///
    /// # Errors
    /// [`HttpConfigError`] when URL or CA can't be used.
    pub fn new(
        config: HttpConfig,
        identity: Identity,
        clock: Rc<dyn Clock>,
    ) -> Result<Self, HttpConfigError> {
        let batch_bytes = config.batch_bytes;
        let client = Client::new(config, &identity, clock)?;
        Ok(Self::with(client, identity, batch_bytes))
    }

    /// The same over a transport of one's own: of `config`, CA and times are its business then.
    ///
    /// # Errors
    /// [`HttpConfigError`] when the URL can't be used.
    pub fn over(
        transport: impl Transport + 'static,
        config: HttpConfig,
        identity: Identity,
        clock: Rc<dyn Clock>,
    ) -> Result<Self, HttpConfigError> {
        let batch_bytes = config.batch_bytes;
        let client = Client::over(Box::new(transport), config, &identity, clock)?;
        Ok(Self::with(client, identity, batch_bytes))
    }

    fn with(client: Client, identity: Identity, batch_bytes: usize) -> Self {
        let limits = BatchLimits { records: limits::REQUEST_RECORDS_MAX, bytes: batch_bytes };
        Self { client: Rc::new(client), identity, limits }
    }

    /// Presence at the same hub, over the same connections.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        Heartbeats::new(Rc::clone(&self.client))
    }

    async fn deliver(&self, batch: &Batch) -> Result<u64, SinkError> {
        let first = batch.records.first().map_or(0, |record| record.seq);
        let last = batch.records.last().map_or(0, |record| record.seq);
        let mut acked = first.saturating_sub(1);
        let mut asked = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let posted = self.post(batch, acked, &asked).await;
            let reply = posted.map_err(|error| blame(batch, error))?;
            // A hub may know more of this stream than we do: our cursor lags after a crash. If it
            // knows of more than was ever written here, the log was set back, and will see it.
            let now_acked = reply.acked_seq;
            if now_acked >= last || reply.need_schemas.is_empty() {
                return Ok(now_acked);
            }
            if now_acked > acked {
                // what it has stored brought the schemas with it
                asked.clear();
                acked = now_acked;
            }
            add_asked(batch, acked, &mut asked, &reply.need_schemas)?;
        }
        if acked >= first {
            return Ok(acked);
        }
        let reason = format!("the hub asked for schemas {ROUNDS_MAX} times and took no record");
        Err(SinkError::Transient { reason, retry_after: None })
    }

    /// Sends the records after `acked`, with the schemas that were asked for.
    async fn post(
        &self,
        batch: &Batch,
        acked: u64,
        asked: &BTreeSet<SchemaId>,
    ) -> Result<IngestReply, SinkError> {
        let last = batch.records.last().map_or(0, |record| record.seq);
        let header = self.identity.header(batch.stream_id, last, self.client.sent_ms());
        let schemas = asked.iter().filter_map(|id| batch.schemas.get(id));
        let schemas = schemas.map(|schema| -> &EncodedSchema { schema });
        let records = batch.records.iter().filter(|record| record.seq > acked);
        let body = request::encode(&header, schemas, records.map(|record| &record.bytes[..]))
            .map_err(|error| SinkError::Refused { reason: format!("encode request: {error}") })?;
        self.client.post(INGEST_PATH, request::CONTENT_TYPE, body).await
    }
}

/// A hub that can't read a request may not be able to say which record is at fault: a record that
/// can't be read here either is, and must not hold up the others.
fn blame(batch: &Batch, error: SinkError) -> SinkError {
    let SinkError::Refused { .. } = error else { return error };
    let damaged = batch.records.iter().find_map(|record| check_record(record).err());
    damaged.map_or(error, SinkError::from)
}

/// Notes which schemas go along with the next request.
fn add_asked(
    batch: &Batch,
    acked: u64,
    asked: &mut BTreeSet<SchemaId>,
    needed: &[SchemaId],
) -> Result<(), SinkError> {
    if let Some(id) = needed.iter().find(|id| !batch.schemas.contains_key(id)) {
        // nobody has it any more: the record that needs it is lost, those before it are not
        let left = || batch.records.iter().filter(|record| record.seq > acked);
        let seq = left().find(|record| names(record, *id)).or_else(|| left().next());
        let seq = seq.map_or(0, |record| record.seq);
        let reason = format!("names schema {id}, which neither the hub nor the log has");
        return Err(SinkError::Rejected { seq, reason });
    }
    let before = asked.len();
    asked.extend(needed);
    if asked.len() > before {
        return Ok(());
    }
    let reason = format!("the hub asks again for schema {}, which it was just sent", needed[0]);
    Err(SinkError::Transient { reason, retry_after: None })
}

/// Whether a record is a tick with values of that schema.
fn names(record: &LogRecord, id: SchemaId) -> bool {
    let found = envelope::split_first(&record.bytes);
    let body = found.ok().and_then(|(found, _)| Body::decode(&found).ok());
    matches!(body, Some(Body::Metrics(tick)) if tick.schemas.contains(&id))
}

impl Sink for HttpSink {
    fn limits(&self) -> BatchLimits {
        self.limits
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        Box::pin(self.deliver(batch))
    }
}
