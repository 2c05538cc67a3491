//! From a request's bytes to an acknowledgement: bounds, decoding, storing.
//!
//! Bodies in memory are bounded by bytes, decoding by how many are decoded at one time: a small body
//! may decompress to [`wire::limits::REQUEST_DECODED_BYTES_MAX`]. Whoever comes when there is no room
//! is told to come back; nothing is queued without bound.

pub mod remote_write;

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
};
use wire::{
    api::{IngestReply, Word},
    request::{self, Header, Request, RequestError},
};

use zstd::zstd_safe::get_frame_content_size;

use crate::{
    clock::Clock,
    instances::{Admitted, Caller, Conflict, Instances, Refused},
    presence::Presence,
    store::{IngestBatch, IngestError, Store, StoreError},
    telemetry::Telemetry,
};

/// Bodies that are up to so many bytes once decompressed are decoded where they are; handing them over
/// would cost more. One tick of a host is a few kilobytes.
const INLINE_BYTES_MAX: u64 = 64 << 10;
/// Requests decoded at one time beyond those.
const DECODERS: usize = 2;
/// What is counted of a body at least.
const BODY_BYTES_MIN: usize = 4 << 10;

/// Takes requests; a clone takes them into the same room.
#[derive(Clone)]
pub struct Ingest {
    store: Arc<dyn Store>,
    instances: Arc<Instances>,
    presence: Arc<Presence>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    room: Arc<Semaphore>,
    decoders: Arc<Semaphore>,
    memory_bytes: usize,
}

/// Room for a body; given back when it is dropped.
#[derive(Debug)]
pub struct Room(
    #[expect(dead_code, reason = "held for what its drop gives back")] OwnedSemaphorePermit,
);

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It can't be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Two agents use one identity.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Its sender may have ended.
    #[error(transparent)]
    Unknown(Refused),
    /// It can't be stored.
    #[error(transparent)]
    Store(#[from] IngestError),
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Conflict(conflict) => conflict.into(),
            unknown @ Refused::Unknown => Self::Unknown(unknown),
        }
    }
}

impl Ingest {
    /// Takes requests into `store`, with at most so many bytes of bodies in memory.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        instances: Arc<Instances>,
        presence: Arc<Presence>,
        telemetry: Arc<Telemetry>,
        clock: Clock,
        memory_bytes: u64,
    ) -> Self {
        let memory_bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        let room = memory_bytes.min(Semaphore::MAX_PERMITS);
        let (room, decoders) = (Arc::new(Semaphore::new(room)), Arc::new(Semaphore::new(DECODERS)));
        Self { store, instances, presence, telemetry, clock, room, decoders, memory_bytes }
    }

    /// Room for a body of so many bytes, if there is any now.
    #[must_use]
    pub fn room(&self, bytes: usize) -> Option<Room> {
        let bytes = u32::try_from(bytes.max(BODY_BYTES_MIN)).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).ok().map(Room)
    }

    /// Stores a request, whose sender has heard that word, and says what is stored of its stream. A sender that leaves meanwhile leaves
    /// its body behind: that takes its room until it is stored or refused.
    ///
    /// # Errors
    /// [`Refusal`]; nothing of it is stored then.
    pub async fn take(
        &self,
        body: Bytes,
        room: Room,
        heard: Option<Word>,
    ) -> Result<IngestReply, Refusal> {
        let ingest = self.clone();
        let taking = tokio::spawn(async move { ingest.store_within(body, room, heard).await });
        taking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "taking a request ended early");
            Err(IngestError::from(StoreError::Closed).into())
        })
    }

    async fn store_within(
        &self,
        body: Bytes,
        room: Room,
        heard: Option<Word>,
    ) -> Result<IngestReply, Refusal> {
        let body_bytes = body.len();
        let request = self.decode(&body).await?;
        let header = request.header.clone();
        let (agent_id, caller) = (header.agent_id, caller(&header, heard));
        let received_ms = (self.clock)();
        let Admitted { is_alone, number, after, .. } =
            self.instances.admit(&caller, received_ms)?;
        let batch = IngestBatch { request, body, received_ms, is_alone, number, after };
        let stored = self.store.ingest(batch).await;
        drop(room);
        let stored = stored.map_err(|error| match error {
            IngestError::Conflict { reason, .. } => {
                Refusal::from(self.instances.diverged(&caller, reason, (self.clock)()))
            }
            other => other.into(),
        })?;
        self.presence.seen(agent_id, received_ms);
        self.telemetry.ingested(&stored, body_bytes);
        Ok(IngestReply {
            acked_seq: stored.acked_seq,
            need_schemas: stored.need_schemas,
            time_ms: (self.clock)(),
        })
    }

    async fn decode(&self, body: &Bytes) -> Result<Request, RequestError> {
        // Never closed, so always a permit.
        let permit = Arc::clone(&self.decoders).acquire_owned().await;
        if matches!(get_frame_content_size(body), Ok(Some(bytes)) if bytes <= INLINE_BYTES_MAX) {
            return request::decode(body);
        }
        let body = body.clone();
        // The work goes on when the sender leaves; so does its place among the decoders.
        let work = move || {
            let _permit = permit;
            request::decode(&body)
        };
        let decoded = task::spawn_blocking(work).await;
        decoded.unwrap_or_else(|error| Err(RequestError::Compression(error.to_string())))
    }
}

fn caller(header: &Header, heard: Option<Word>) -> Caller<'_> {
    Caller {
        agent_id: header.agent_id,
        instance_id: header.instance_id,
        sent_ms: header.sent_ms,
        heard,
        host: &header.hostname,
        addresses: &[],
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::store::{
        Embedded,
        conformance::{FakeAgent, check_samples, schema, tick},
        embedded::Options,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn there_is_room_for_so_much_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(&Options::new(directory.path())).unwrap());
        let (presence, telemetry) = (Arc::default(), Arc::default());
        let clock = crate::clock::system();
        let instances = Arc::new(Instances::new(clock()));
        let ingest = Ingest::new(Arc::clone(&store), instances, presence, telemetry, clock, 20_000);
        let (first, second) = (ingest.room(10_000).unwrap(), ingest.room(1).unwrap());
        assert!(ingest.room(10_000).is_none(), "{first:?} {second:?}");
        let schema = schema("room", 1);
        let body = FakeAgent::new(1, 1, &[&schema]).body(&[tick(1, &schema)]);
        assert_eq!(ingest.take(body.into(), first, None).await.unwrap().acked_seq, 1);
        check_samples(store.as_ref(), "host-1", "room", &[1]).await;
        assert!(ingest.room(10_000).is_some(), "a request that was taken gives its room back");
        let large = FakeAgent::new(2, 1, &[&schema]);
        let records: Vec<_> = (1..5_000).map(|seq| tick(seq, &schema)).collect();
        let reply = ingest.take(large.body(&records).into(), second, None).await.unwrap();
        assert_eq!(reply.acked_seq, 4_999, "too large to be decoded where it is");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_whose_sender_has_left_takes_its_room_until_it_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(&Options::new(directory.path())).unwrap());
        let clock = crate::clock::system();
        let instances = Arc::new(Instances::new(clock()));
        let (presence, telemetry) = (Arc::default(), Arc::default());
        let ingest = Ingest::new(Arc::clone(&store), instances, presence, telemetry, clock, 20_000);
        let schema = schema("room", 1);
        let body = FakeAgent::new(1, 1, &[&schema]).body(&[tick(1, &schema)]);
        // Whoever else writes holds up the store's writer.
        let other = rusqlite::Connection::open(directory.path().join("hub.sqlite")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let room = ingest.room(15_000).unwrap();
        let mut taking = Box::pin(ingest.take(body.into(), room, None));
        // Begun, and then the sender leaves.
        assert!(
            std::future::poll_fn(|cx| Poll::Ready(taking.as_mut().poll(cx).is_pending())).await
        );
        drop(taking);
        assert!(ingest.room(10_000).is_none(), "the body still waits to be stored");
        other.execute_batch("COMMIT").unwrap();
        while ingest.room(10_000).is_none() {
            tokio::task::yield_now().await;
        }
        check_samples(store.as_ref(), "host-1", "room", &[1]).await;
    }
}
