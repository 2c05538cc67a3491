//! Remote write, from a request's bytes to what became of it.
//!
//! What can be stored of a request is stored; what can't is told by name, once in the log for each reason,
//! and in counters. Native histograms are refused and exemplars passed over: there is no place for them.
//! Since when a series counts (2.0's start times) isn't kept: a counter that began again is known by its
//! values.

mod faults;
mod read;

use std::sync::Arc;

use bytes::Bytes;
use remote_write::{DecodeError, Limits, Version, content, snappy::SnappyError};
use tokio::task;

use self::read::{Reading, read};
use super::{INLINE_BYTES_MAX, Ingest, Room};
use crate::store::{IngestError, StoreError, Written, write::Reason};

pub use self::faults::{Fault, Faults};

/// Bytes of one body, compressed. Prometheus sends some 100 KB, vmagent up to 8 MiB before compression.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// What is taken of one request: several times what any known sender puts into one by default.
pub const LIMITS: Limits = Limits {
    message_bytes: 16 << 20,
    series: 50_000,
    samples: 250_000,
    labels: 500_000,
    symbols: 250_000,
    families: 20_000,
    series_labels: 64,
    name_bytes: 1_024,
    value_bytes: 2_048,
};

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What of it is stored now.
    pub written: content::Written,
    /// What isn't, and never can be.
    pub faults: Faults,
}

/// Why nothing of a request was stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteRefusal {
    /// It can't be decompressed, or is too large then.
    #[error(transparent)]
    Snappy(#[from] SnappyError),
    /// It can't be read, or holds too much.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its labels, written out, take more memory than there is for all requests.
    #[error(
        "names and values of its labels come to more than {0} bytes: send fewer series at once"
    )]
    TooLarge(usize),
    /// Others take the memory that it needs.
    #[error("too many requests are being taken")]
    NoRoom,
    /// The store doesn't take it now.
    #[error(transparent)]
    Store(#[from] IngestError),
}

impl Ingest {
    /// Stores a request. As with [`Ingest::take`], a sender that leaves meanwhile leaves its body behind.
    ///
    /// # Errors
    /// [`WriteRefusal`]; nothing of it is stored then.
    pub async fn write(
        &self,
        version: Version,
        body: Bytes,
        room: Room,
    ) -> Result<Outcome, WriteRefusal> {
        let ingest = self.clone();
        let writing = tokio::spawn(async move { ingest.write_within(version, body, room).await });
        writing.await.unwrap_or_else(|error| {
            tracing::error!(%error, "taking a remote write ended early");
            Err(IngestError::from(StoreError::Closed).into())
        })
    }

    async fn write_within(
        &self,
        version: Version,
        body: Bytes,
        room: Room,
    ) -> Result<Outcome, WriteRefusal> {
        let body_bytes = body.len();
        let Reading { batch, mut faults } = self.read_written(version, body).await?;
        // The body is gone. What was read of it stays until it is stored, and alone there is room for it.
        drop(room);
        let _room = self.room(batch.bytes()).ok_or(WriteRefusal::NoRoom)?;
        let batch = Arc::new(batch);
        let Written { samples, duplicates, refused } = self.store.write(Arc::clone(&batch)).await?;
        for one in &refused {
            let fault = match one.reason {
                Reason::OtherValue => Fault::OtherValue,
                Reason::SeriesLimit => Fault::SeriesLimit,
            };
            let Some(series) = batch.series(one.series) else { continue };
            faults.add(fault, one.samples, || fault.of_sample(&series.to_string(), one.time_ms));
        }
        self.telemetry.remote_write.written(version, (samples, duplicates), body_bytes);
        self.telemetry.remote_write.refused(&faults);
        // What was there already counts as written: its sender asks whether it has arrived.
        let samples = samples + duplicates;
        let written = content::Written { samples, histograms: 0, exemplars: 0 };
        Ok(Outcome { written, faults })
    }

    async fn read_written(&self, version: Version, body: Bytes) -> Result<Reading, WriteRefusal> {
        // Never closed, so always a permit.
        let permit = Arc::clone(&self.decoders).acquire_owned().await;
        let (received_ms, bytes_max) = ((self.clock)(), self.batch_bytes_max());
        if body.len() as u64 <= INLINE_BYTES_MAX / 4 {
            return read(version, &body, received_ms, bytes_max);
        }
        let work = move || {
            let _permit = permit;
            read(version, &body, received_ms, bytes_max)
        };
        let read = task::spawn_blocking(work).await;
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "reading a remote write ended early");
            Err(IngestError::from(StoreError::Closed).into())
        })
    }

    /// One request may take half of the memory that there is for all.
    fn batch_bytes_max(&self) -> usize {
        self.memory_bytes / 2
    }
}
