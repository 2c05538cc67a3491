//! Replays the log to one sink, in order, for ever.
//!
//! One shipper a sink. It reads what lies after the sink's cursor, sends it, and moves the cursor to
//! what the sink acknowledged. A failure never drops a record: it waits and sends again, sooner when
//! it hears that the far side is back. A backlog drains in large batches at a bounded rate; a sink that
//! has everything gets each new record at once. A record
//! that the sink will never take is quarantined, and a gap goes out *under its number*, so that the
//! stream stays whole and in order. That replacement lives in memory until it is acknowledged; after
//! a crash the record is refused, quarantined and replaced again, to the same effect.

use std::{
    collections::BTreeMap,
    io::ErrorKind::{QuotaExceeded, StorageFull},
    rc::Rc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use wire::{Gap, GapReason, Kind, envelope, request::Body};

use crate::{
    plan::PlannedSink,
    quarantine::Quarantine,
    rate::Bucket,
    retry::Retry,
    sink::{Batch, BatchLimits, Delivery, LogRecord, Sink, SinkError},
    telemetry::SinkStats,
    wake::{News, Pause, WINDOW},
    wal::{LogHandle, WalError, WhatFollows},
};

/// Bytes of records a second that a backlog drains at, unless told otherwise: a day of ticks of an
/// ordinary host in four seconds.
pub const MAX_BYTES_PER_SECOND: u64 = 4 << 20;

/// Whether to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Go on.
    #[default]
    Run,
    /// Send what is there, then end; don't wait for a sink that is away.
    Drain,
    /// End after the send that is under way.
    Now,
}

/// A sink with its place in the log.
pub struct Shipper {
    name: String,
    sink: Box<dyn Sink>,
    log: LogHandle,
    stats: Rc<SinkStats>,
    quarantine: Rc<Quarantine>,
    delivery: Delivery,
    phase: Duration,
    limits: BatchLimits,
    retry: Retry,
    news: News,
    bucket: Bucket,
    /// Whether the sink had everything: what comes then is no backlog, and doesn't wait its turn.
    caught_up: bool,
    /// What lies after the last acknowledgement, read with it.
    ahead: Option<WhatFollows>,
    replaced: BTreeMap<u64, LogRecord>,
    last_failure: Option<String>,
}

enum Step {
    /// Something was acknowledged; there may be more.
    Progress,
    /// The sink has everything.
    Idle,
    /// Try again, but not at once.
    Failed(Pause),
}

impl Shipper {
    /// A shipper of a sink that is registered with the log by its name.
    pub fn new(
        planned: PlannedSink,
        log: LogHandle,
        stats: Rc<SinkStats>,
        quarantine: Rc<Quarantine>,
    ) -> Self {
        let PlannedSink { name, sink, delivery, phase, max_bytes_per_second, wake } = planned;
        let limits = sink.limits();
        Self {
            name,
            sink,
            log,
            stats,
            quarantine,
            delivery,
            phase,
            limits,
            retry: Retry::default(),
            news: wake.news(),
            bucket: Bucket::new(max_bytes_per_second),
            caught_up: false,
            ahead: None,
            replaced: BTreeMap::new(),
            last_failure: None,
        }
    }

    /// Waits as `retry` says after a failure.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Ships until told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<Stop>) {
        let mut appended = self.log.appended();
        loop {
            // What came after something was read ahead is news still.
            if self.ahead.is_none() {
                appended.borrow_and_update();
            }
            let step = self.step(&stop).await;
            self.caught_up = matches!(step, Step::Idle);
            let told = *stop.borrow_and_update();
            match (step, told) {
                (_, Stop::Now) | (Step::Idle | Step::Failed(_), Stop::Drain) => break,
                (Step::Progress, _) => {}
                (Step::Idle, Stop::Run) => tokio::select! {
                    news = appended.changed() => {
                        if news.is_err() { break }
                        tokio::select! { () = sleep(self.phase) => {} _ = stop.changed() => {} }
                    }
                    _ = stop.changed() => {}
                },
                (Step::Failed(pause), Stop::Run) => tokio::select! {
                    () = self.news.wait(pause) => {}
                    _ = stop.changed() => {}
                },
            }
        }
        self.sink.close().await;
    }

    async fn step(&mut self, stop: &watch::Receiver<Stop>) -> Step {
        let read = match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.log.read(&self.name, self.limits).await,
        };
        let batch = match read {
            Ok(Some(batch)) => self.with_replacements(batch),
            Ok(None) => {
                self.stats.oldest_ms.set(None);
                return Step::Idle;
            }
            Err(error) => return self.failed_to_read(&error),
        };
        if !self.caught_up {
            self.stats.oldest_ms.set(oldest_ms(&batch));
        }
        if !self.caught_up && self.is_ended_before_its_turn(stop.clone()).await {
            return Step::Progress;
        }
        self.bucket.take(batch.bytes() as u64);
        self.news.forget();
        match self.sink.send(&batch).await {
            Ok(acked_seq) => self.acknowledge(&batch, acked_seq).await,
            Err(error) => {
                self.stats.oldest_ms.set(oldest_ms(&batch));
                self.failed_to_send(&batch, error)
            }
        }
    }

    /// Waits until a part of a backlog may go; true if told to end meanwhile.
    async fn is_ended_before_its_turn(&self, mut stop: watch::Receiver<Stop>) -> bool {
        tokio::select! {
            biased;
            () = self.bucket.ready() => false,
            Ok(_) = stop.wait_for(|told| *told == Stop::Now) => true,
        }
    }

    fn with_replacements(&self, mut batch: Batch) -> Batch {
        for record in &mut batch.records {
            if let Some(replacement) = self.replaced.get(&record.seq) {
                record.clone_from(replacement);
            }
        }
        batch
    }

    async fn acknowledge(&mut self, batch: &Batch, acked_seq: u64) -> Step {
        let first = batch.records.first().map_or(0, |record| record.seq);
        if acked_seq < first {
            let reason = format!("acknowledged {acked_seq} instead of {first} or later");
            return self.failed(reason, None);
        }
        tracing::debug!(sink = self.name, acked_seq, "sink acknowledged");
        self.allow_more();
        match self.log.go_on(&self.name, acked_seq, self.limits).await {
            Ok(what_follows) => self.ahead = Some(what_follows),
            Err(error) => return self.failed_to_read(&error),
        }
        let acked = batch.records.iter().filter(|record| record.seq <= acked_seq);
        let (records, bytes) =
            acked.fold((0, 0), |(n, bytes), record| (n + 1, bytes + record.bytes.len() as u64));
        self.stats.sends.add(1);
        self.stats.records.add(records);
        self.stats.bytes.add(bytes);
        self.stats.acked_seq.set(acked_seq);
        self.stats.acked_at.set(Some(Instant::now()));
        self.replaced = self.replaced.split_off(&(acked_seq + 1));
        self.succeeded();
        Step::Progress
    }

    /// What was halved grows again.
    fn allow_more(&mut self) {
        let most = self.sink.limits();
        self.limits.records = self.limits.records.saturating_mul(2).min(most.records);
        self.limits.bytes = self.limits.bytes.saturating_mul(2).min(most.bytes);
    }

    fn succeeded(&mut self) {
        self.retry.reset();
        self.stats.up.set(true);
        self.stats.identity_conflict.set(false);
        if self.last_failure.take().is_some() {
            let pending = self.log.stats().last_seq.saturating_sub(self.stats.acked_seq.get());
            tracing::info!(sink = self.name, pending, "sink is back");
        }
    }

    fn failed_to_send(&mut self, batch: &Batch, error: SinkError) -> Step {
        match error {
            SinkError::Transient { reason, retry_after } => self.failed(reason, retry_after),
            SinkError::Refused { reason } => self.failed(reason, None),
            SinkError::Conflict { reason } => self.conflict(reason),
            SinkError::Rejected { seq, reason } => self.rejected(batch, seq, reason),
            SinkError::TooLarge { reason } => self.too_large(batch, reason),
        }
    }

    /// Halves the batch; a record that is too large alone will never be taken.
    fn too_large(&mut self, batch: &Batch, reason: String) -> Step {
        if let [record] = batch.records.as_slice() {
            return self.rejected(batch, record.seq, reason);
        }
        let (records, bytes) = (batch.records.len(), batch.bytes());
        self.limits = BatchLimits { records: (records / 2).max(1), bytes: bytes / 2 };
        tracing::debug!(sink = self.name, reason, ?self.limits, "halving the batch");
        Step::Progress
    }

    fn rejected(&mut self, batch: &Batch, seq: u64, reason: String) -> Step {
        let Some(record) = batch.records.iter().find(|record| record.seq == seq) else {
            return self
                .failed(format!("rejected record {seq}, which was not sent: {reason}"), None);
        };
        if self.replaced.contains_key(&seq) {
            return self.failed(format!("rejected the gap for record {seq}: {reason}"), None);
        }
        let kept = match self.quarantine.put(&self.name, batch.stream_id, record) {
            Ok(path) => path.display().to_string(),
            // A full disk must not hold up what would free it.
            Err(error) if matches!(error.kind(), StorageFull | QuotaExceeded) => {
                format!("not kept: {error}")
            }
            Err(error) => return self.failed(format!("quarantine record {seq}: {error}"), None),
        };
        let Some(replacement) = gap_for(record, &self.name, &reason) else {
            return self.failed(format!("no gap can stand for record {seq}: {reason}"), None);
        };
        tracing::warn!(
            sink = self.name,
            seq,
            reason,
            kept,
            "sink rejected a record for good, quarantined it"
        );
        self.stats.rejected.add(1);
        self.replaced.insert(seq, replacement);
        Step::Progress
    }

    fn failed_to_read(&mut self, error: &WalError) -> Step {
        self.failed(error_chain(error), None)
    }

    /// The far side keeps two agents with one identity apart by refusing this one. When the other has
    /// gone it takes our records again, so this goes on trying.
    fn conflict(&mut self, reason: String) -> Step {
        if !self.stats.identity_conflict.replace(true) {
            tracing::error!(
                sink = self.name,
                reason,
                "another agent uses this one's identity, keeping everything for the sink"
            );
            self.last_failure = Some(reason.clone());
        }
        self.failed(reason, None)
    }

    fn failed(&mut self, reason: String, retry_after: Option<Duration>) -> Step {
        self.stats.retries.add(1);
        self.stats.up.set(false);
        // The far side's word is a floor; the jitter on top keeps a fleet apart.
        let (floor, jitter) = (retry_after.unwrap_or_default(), self.retry.next_wait());
        let (now, wait) = (Instant::now(), floor + jitter);
        let sink = &self.name;
        if self.last_failure.as_ref() == Some(&reason) {
            tracing::debug!(sink, reason, ?wait, "sink is still failing");
        } else {
            match self.delivery {
                Delivery::Required => {
                    tracing::warn!(sink, reason, ?wait, "sink failed, keeping everything for it");
                }
                Delivery::BestEffort => {
                    tracing::warn!(sink, reason, ?wait, "sink failed, and nothing waits for it");
                }
            }
            self.last_failure = Some(reason);
        }
        let share = self.retry.share_of(WINDOW);
        Step::Failed(Pause { floor: now + floor, until: now + wait, share })
    }
}

/// The gap that goes out in the place, and under the number, of a rejected record.
fn gap_for(record: &LogRecord, sink: &str, reason: &str) -> Option<LogRecord> {
    let (time_ms, samples) = contents(record);
    let detail: String = format!("sink {sink}: {reason}");
    let cut = detail.floor_char_boundary(wire::limits::TEXT_BYTES_MAX);
    let gap = Gap {
        reason: GapReason::Rejected,
        from_ms: time_ms,
        to_ms: time_ms,
        first_seq: record.seq,
        last_seq: record.seq,
        records: 1,
        samples,
        detail: detail[..cut].to_owned(),
    };
    let bytes = envelope::encode(Kind::Gap, record.seq, &gap.encode()).ok()?;
    Some(LogRecord { seq: record.seq, bytes })
}

/// Time of the first record, if it can be read.
fn oldest_ms(batch: &Batch) -> Option<i64> {
    batch.records.first().map(|record| contents(record).0).filter(|time_ms| *time_ms > 0)
}

/// Time and samples of a record, as far as it can be read.
fn contents(record: &LogRecord) -> (i64, u64) {
    let body = envelope::split_first(&record.bytes).ok().map(|(found, _)| Body::decode(&found));
    match body {
        Some(Ok(Body::Metrics(tick))) => (tick.time_ms, tick.values.len() as u64),
        Some(Ok(Body::Gap(gap))) => (gap.from_ms, 0),
        _ => (0, 0),
    }
}

/// An error with its causes, for one line of a log.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
