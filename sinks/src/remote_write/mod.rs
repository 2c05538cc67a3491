//! Any receiver of Prometheus remote write: Prometheus, Mimir, Thanos, VictoriaMetrics.
//!
//! One request a tick, one after the other, in the order of the log; acknowledged once the receiver has
//! said 2xx. A tick of more series than a request may carry goes in several. Whatever is sent a second
//! time after a crash is the same to the bit: a receiver that has it already either takes it again, or
//! refuses it as older than what it has, and then it is no loss (`sent`). A tick that is refused
//! otherwise is refused for good: it is told, and the next one goes on. Gaps are for people and hubs;
//! a receiver has no place for them, so there is nothing to send. `docs/decisions/0014-remote-write.md`
//! says why a request holds one tick.
//!
//! - `config`: where, as whom, with which labels.
//! - `client`: one request, and in which version of the protocol.
//! - `verdict`: what a reply means, and who should react.
//! - `layout`: which series of the receiver the values of a tick belong to.
//! - `stale`: series that have ended.
//! - `sent`: how far sending came, for the life after a crash.

mod client;
mod config;
mod layout;
mod sent;
mod stale;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::{Arc, Mutex};

use agent_core::{
    Batch, BatchLimits, Sink, SinkError,
    clock::Clock,
    sink::{BoxFuture, LogRecord},
};
use remote_write::{Sample, Version};
use wire::{EncodedSchema, StreamId};

use self::{
    client::Client,
    layout::{Identities, Layout},
    sent::Sent,
    stale::Series,
    verdict::Trouble,
};
use crate::{
    http::Transport,
    intervals::Intervals,
    offload,
    records::{Joined, decode_record},
};

pub use self::config::{Credentials, Protocol, RemoteWriteConfig, RemoteWriteConfigError};

/// Each record is a request: what is acknowledged at once is bounded all the same.
const LIMITS: BatchLimits = BatchLimits { records: 64, bytes: 256 << 10 };

/// Ships ticks to a receiver of remote write.
pub struct RemoteWriteSink {
    client: Client,
    identities: Identities,
    series: Series,
    sent: Arc<Mutex<Sent>>,
    /// Series in one request: as configured, less from when the receiver found that too much.
    series_max: usize,
    configured_max: usize,
    layout: Option<Layout>,
    /// What stopped a batch behind records that the receiver has taken: told when it comes again.
    held: Option<(u64, SinkError)>,
}

/// A tick, ready to be sent.
struct Tick<'a> {
    seq: u64,
    time_ms: i64,
    schemas: Vec<&'a Arc<EncodedSchema>>,
    values: Vec<f64>,
}

impl RemoteWriteSink {
    /// A sink to the receiver at `config.url`. Connects with the first batch.
    ///
    /// # Errors
    /// [`RemoteWriteConfigError`] when something of the configuration can't be used.
    pub fn new(
        config: RemoteWriteConfig,
        clock: std::rc::Rc<dyn Clock>,
    ) -> Result<Self, RemoteWriteConfigError> {
        let transport = config.transport()?;
        Self::over(transport, config, clock)
    }

    /// The same over a transport of one's own: of `config`, CA and times are its business then.
    ///
    /// # Errors
    /// [`RemoteWriteConfigError`] when something of the configuration can't be used.
    pub fn over(
        transport: impl Transport + 'static,
        config: RemoteWriteConfig,
        clock: std::rc::Rc<dyn Clock>,
    ) -> Result<Self, RemoteWriteConfigError> {
        let identities = Identities::new(&config)?;
        let series = Series::new(Intervals::new(config.intervals.clone()));
        let sent = Arc::new(Mutex::new(Sent::new(config.state_file.clone())));
        let configured_max = config.max_samples_per_request.max(1);
        let client = Client::new(Box::new(transport), config, clock)?;
        let (layout, held, series_max) = (None, None, configured_max);
        Ok(Self { client, identities, series, sent, series_max, configured_max, layout, held })
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<u64, SinkError> {
        let first = batch.records.first().map_or(0, |record| record.seq);
        if let Some((seq, error)) = self.held.take()
            && seq == first
        {
            return Err(error);
        }
        // Only a backlog can be refused as old when it is sent again: a single record is the newest.
        let is_backlog = batch.records.len() > 1 || batch.bytes() >= LIMITS.bytes;
        let mut taken = None;
        for record in &batch.records {
            match (self.deliver_one(batch, record, is_backlog).await, taken) {
                (Ok(()), _) => taken = Some(record.seq),
                (Err(error), None) => return Err(error),
                (Err(error), Some(before)) => {
                    self.held = Some((record.seq, error));
                    return Ok(before);
                }
            }
        }
        Ok(taken.unwrap_or(0))
    }

    async fn deliver_one(
        &mut self,
        batch: &Batch,
        record: &LogRecord,
        is_backlog: bool,
    ) -> Result<(), SinkError> {
        let seq = record.seq;
        let Joined::Metrics { time_ms, schemas, values } =
            decode_record(record, &batch.schemas)?.body
        else {
            return Ok(());
        };
        let shared = |schema: &EncodedSchema| batch.schemas.get(&schema.id);
        let schemas = schemas.into_iter().filter_map(shared).collect();
        let tick = Tick { seq, time_ms, schemas, values };
        if is_backlog {
            self.note(batch.stream_id, seq).await?;
        }
        match self.send_tick(&tick).await {
            Ok(()) => {}
            Err(Trouble::Invalid { reason }) if self.is_known(batch.stream_id, seq) => {
                tracing::info!(
                    seq,
                    reason,
                    "receiver refused a tick that was sent to it before the restart: it has it"
                );
            }
            Err(trouble) => return Err(trouble.into_error(seq)),
        }
        self.series.taken(tick.time_ms, &tick.schemas);
        Ok(())
    }

    /// Notes that a record goes out now, where the next life will look.
    async fn note(&self, stream_id: StreamId, seq: u64) -> Result<(), SinkError> {
        offload::run(&self.sent, move |sent| {
            sent.note(stream_id, seq);
            Ok(())
        })
        .await
    }

    fn is_known(&self, stream_id: StreamId, seq: u64) -> bool {
        let sent = self.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sent.was_before(stream_id, seq)
    }

    /// Sends a tick and waits until the receiver has all of it.
    async fn send_tick(&mut self, tick: &Tick<'_>) -> Result<(), Trouble> {
        loop {
            let version = self.client.version();
            match self.send_parts(tick, version).await {
                Err(Trouble::SpeaksOnlyV1) => self.client.fall_back(),
                Err(Trouble::TooLarge { reason }) => self.halve(tick, reason)?,
                done => return done,
            }
        }
    }

    /// Sends less at once, from now on. Where a single series is too much, size isn't the matter.
    fn halve(&mut self, tick: &Tick<'_>, reason: String) -> Result<(), Trouble> {
        let sent_now = self.series_max.min(tick.values.len());
        if sent_now <= 1 {
            self.series_max = self.configured_max;
            return Err(Trouble::Invalid { reason });
        }
        self.series_max = sent_now / 2;
        tracing::debug!(seq = tick.seq, reason, self.series_max, "halving the request");
        Ok(())
    }

    async fn send_parts(&mut self, tick: &Tick<'_>, version: Version) -> Result<(), Trouble> {
        let ended = self.series.ended(tick.time_ms, &tick.schemas);
        let layout = match self.layout.take() {
            Some(layout) if layout.fits(version, &tick.schemas, &ended) => layout,
            _ => Layout::new(version, &self.identities, &tick.schemas, &ended),
        };
        let layout = self.layout.insert(layout);
        let samples: Vec<(usize, Sample)> = layout.samples(tick.time_ms, &tick.values).collect();
        for part in samples.chunks(self.series_max) {
            let message = layout.message(part);
            self.client.post(version, &message, part.len()).await?;
        }
        Ok(())
    }
}

impl Sink for RemoteWriteSink {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        Box::pin(self.deliver(batch))
    }
}
