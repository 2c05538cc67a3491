//! The agent: collectors, log and sinks put together and run.
//!
//! [`Agent`] owns what outlives a reload: identity, log, counters. A [`Plan`] is what a configuration
//! asks for: collectors, sinks, interval. [`Agent::run`] carries out one plan until it is told to
//! stop; then another plan may follow on the same log.

use std::{future::Future, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{LocalSet, spawn_local},
    time::{Instant, timeout, timeout_at},
};
use wire::{
    AgentId, EncodedSchema, GapReason, InstanceId, Kind, StreamId, api::LogStatus, limits,
    tick::TickEncoder,
};

use crate::{
    builder::Builder,
    clock::{Clock, SystemClock, millis},
    doubles::Doubles,
    gaps,
    identity::{self, IdentityError},
    lives::Lives,
    news::News,
    pending::Pending,
    plan::{Plan, PlannedSink},
    quarantine::Quarantine,
    runner::{Outcome, Runner},
    samples::Samples,
    shipper::{Shipper, Stop, error_chain},
    telemetry::{self, Telemetry},
    ticker::{Due, Mark, Ticker},
    wal::{LogHandle, OwnedRecord, Wal, WalError},
};

/// What outlives a reload: identity, log, counters.
pub struct Agent {
    id: AgentId,
    instance_id: InstanceId,
    version: String,
    clock: Rc<dyn Clock>,
    log: LogHandle,
    telemetry: Rc<Telemetry>,
    quarantine: Rc<Quarantine>,
    own_samples: Samples,
    doubles: Doubles,
    encoder: TickEncoder,
    /// Over reloads, for the threads that hang in it; with the schedule while a plan is carried out.
    runner: Runner,
    pending: Pending,
    lives: Lives,
    /// The last tick, over reloads.
    last_tick: Option<Mark>,
    news: News,
}

/// What an agent is opened with.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Where identity and quarantine lie; must exist.
    pub data_dir: PathBuf,
    /// Version that it tells of itself.
    pub version: String,
    /// Bytes of ticks that may wait in memory while the log refuses them.
    pub pending_bytes_max: usize,
}

/// Why an agent can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The identity can't be had.
    #[error("agent identity")]
    Identity(#[from] IdentityError),
    /// The log can't be used.
    #[error("write-ahead log")]
    Wal(#[from] WalError),
    /// The system gives no thread for the log.
    #[error("start the log's thread")]
    Thread(#[source] std::io::Error),
}

/// A cheap view of a running agent, for companions.
#[derive(Clone)]
pub struct Status {
    log: LogHandle,
    telemetry: Rc<Telemetry>,
}

impl Status {
    /// The stream that new records belong to.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        self.log.stream_id()
    }

    /// Highest sequence number in the log.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.log.stats().last_seq
    }

    /// When the sink of that name acknowledged something last, since the agent started.
    #[must_use]
    pub fn acked_at(&self, sink: &str) -> Option<Instant> {
        self.telemetry.sink(sink).acked_at.get()
    }

    /// How the log stands, as the sink of that name sees it.
    #[must_use]
    pub fn log(&self, sink: &str) -> LogStatus {
        let stats = self.log.stats();
        let acked_seq = self.telemetry.sink(sink).acked_seq.get();
        LogStatus {
            last_seq: stats.last_seq,
            acked_seq,
            disk_bytes: stats.disk_bytes,
            pending_records: stats.last_seq.saturating_sub(acked_seq),
        }
    }
}

impl Agent {
    /// An agent inside any program, with its log and identity below `data_dir`.
    ///
    /// ```no_run
    /// # async fn example(
    /// #     load: impl agent_core::Collector + 'static,
    /// #     hub: impl agent_core::Sink + 'static,
    /// #     shutdown: impl Future<Output = ()>,
    /// # ) -> Result<(), agent_core::AgentError> {
    /// use agent_core::Agent;
    ///
    /// Agent::builder("/var/lib/my-program")
    ///     .collector("load", load)
    ///     .sink("hub", hub)
    ///     .run(shutdown)
    ///     .await
    /// # }
    /// ```
    pub fn builder(data_dir: impl Into<PathBuf>) -> Builder {
        Builder::new(data_dir.into())
    }

    /// Opens an agent on its data directory and log.
    ///
    /// # Errors
    /// [`AgentError`] when the identity can't be had, or no thread can be started for the log.
    pub fn open(options: AgentOptions, wal: Box<dyn Wal>) -> Result<Self, AgentError> {
        let lives = Lives::open(options.data_dir.clone(), wal.stats().last_ms);
        Ok(Self {
            id: identity::load_or_create(&options.data_dir)?,
            instance_id: identity::instance(),
            version: options.version,
            clock: Rc::new(SystemClock),
            log: LogHandle::spawn(wal).map_err(AgentError::Thread)?,
            telemetry: Rc::default(),
            quarantine: Rc::new(Quarantine::below(&options.data_dir)),
            own_samples: Samples::new(telemetry::COLLECTOR),
            doubles: Doubles::default(),
            encoder: TickEncoder::new(),
            runner: Runner::default(),
            pending: Pending::new(options.pending_bytes_max),
            lives,
            last_tick: None,
            news: News::default(),
        })
    }

    /// Takes the time from another clock than the host's.
    #[must_use]
    pub fn with_clock(mut self, clock: Rc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Who this agent is.
    #[must_use]
    pub const fn id(&self) -> AgentId {
        self.id
    }

    /// Which process of this agent it is: drawn when it was opened.
    #[must_use]
    pub const fn instance_id(&self) -> InstanceId {
        self.instance_id
    }

    /// A view for companions.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { log: self.log.clone(), telemetry: Rc::clone(&self.telemetry) }
    }

    /// Carries out a plan until `stop` says how to end: [`Stop::Drain`] delivers what is in the log
    /// as far as that goes within the deadline; [`Stop::Now`] ends after the sends under way. What
    /// is not delivered stays in the log.
    ///
    /// # Errors
    /// [`AgentError`] when a sink can't be registered with the log or no thread can be started.
    pub async fn run(
        &mut self,
        plan: Plan,
        stop: impl Future<Output = Stop>,
    ) -> Result<Stop, AgentError> {
        let Plan { interval, collector_deadline, shutdown_deadline, .. } = plan;
        self.register(&plan).await?;
        let tasks = LocalSet::new();
        tasks
            .run_until(async {
                let (tell, told) = watch::channel(Stop::Run);
                let companions: Vec<_> = plan.companions.into_iter().map(spawn_local).collect();
                let shippers: Vec<_> = plan
                    .sinks
                    .into_iter()
                    .map(|sink| {
                        (sink.name.clone(), spawn_local(self.shipper(sink).run(told.clone())))
                    })
                    .collect();
                let mut schedule = Schedule {
                    ticker: Ticker::new(Rc::clone(&self.clock), interval).after(self.last_tick),
                    runner: std::mem::take(&mut self.runner),
                    interval,
                    deadline: collector_deadline.min(interval),
                    shutdown_deadline,
                };
                schedule.runner.renew(plan.collectors);
                let how = self.tick_until(&mut schedule, stop).await;
                self.runner = schedule.runner;
                tracing::info!(?how, "collection stopped");
                let _ = tell.send(how);
                let deadline = Instant::now() + shutdown_deadline;
                for (name, shipper) in shippers {
                    if timeout_at(deadline, shipper).await.is_err() {
                        tracing::warn!(
                            sink = name,
                            "sink did not finish in time, its records stay in the log"
                        );
                    }
                }
                companions.iter().for_each(tokio::task::JoinHandle::abort);
                Ok(how)
            })
            .await
    }

    /// Makes cursors durable and lets go of the log.
    ///
    /// # Errors
    /// [`AgentError::Wal`] when the disk refuses; some records are then sent again next time.
    pub async fn close(mut self) -> Result<(), AgentError> {
        self.lives.end(self.log.stats().last_ms, self.pending.ticks() as u64).await;
        self.log.close().await.map_err(AgentError::Wal)
    }

    async fn register(&mut self, plan: &Plan) -> Result<(), AgentError> {
        let collectors: Vec<&str> = plan.collectors.iter().map(|one| one.name.as_str()).collect();
        let sinks: Vec<&str> = plan.sinks.iter().map(|sink| sink.name.as_str()).collect();
        for PlannedSink { name, delivery, .. } in &plan.sinks {
            let acked_seq = self.log.register_as(name, *delivery).await?;
            self.telemetry.sink(name).acked_seq.set(acked_seq);
        }
        for gone in self.log.retain_sinks(&sinks).await? {
            tracing::warn!(
                sink = gone,
                "sink is no longer configured, its place in the log is given up"
            );
        }
        self.telemetry.retain(&collectors, &sinks);
        self.telemetry.set_intervals(
            plan.collectors.iter().filter_map(|one| Some((one.name.as_str(), one.interval?))),
        );
        self.news.forget_but(&collectors);
        self.doubles = Doubles::default();
        Ok(())
    }

    fn shipper(&self, planned: PlannedSink) -> Shipper {
        let stats = self.telemetry.sink(&planned.name);
        let (log, quarantine) = (self.log.clone(), Rc::clone(&self.quarantine));
        Shipper::new(planned, log, stats, quarantine)
    }

    async fn tick_until(
        &mut self,
        schedule: &mut Schedule,
        stop: impl Future<Output = Stop>,
    ) -> Stop {
        let mut stop = std::pin::pin!(stop);
        loop {
            let due = tokio::select! {
                biased;
                how = &mut stop => {
                    // What waits outlives a reload, not the end.
                    if how == Stop::Drain {
                        self.leave_nothing_waiting(schedule.shutdown_deadline).await;
                    }
                    return how;
                }
                due = schedule.ticker.wait() => due,
            };
            self.last_tick = schedule.ticker.last();
            self.tell_gaps(&due, schedule.interval);
            self.telemetry.ticks_missed.add(due.missed);
            if due.missed > 0 {
                tracing::warn!(missed = due.missed, "ticks fell out, the last one took too long");
            }
            if let Err(error) = schedule.runner.run(due.time_ms, schedule.deadline).await {
                tracing::warn!(%error, "no thread for collectors, they are left out of this tick");
            }
            let record = self.encode(&mut schedule.runner, due.time_ms);
            let mut append = std::pin::pin!(self.append(record));
            tokio::select! {
                biased;
                () = &mut append => {}
                how = &mut stop => {
                    // A disk that hangs must not hold up the end. A reload waits for it: an append
                    // given up here could still happen, and the same tick would then come twice.
                    if how == Stop::Now {
                        append.await;
                    } else if timeout(schedule.shutdown_deadline, append).await.is_err() {
                        tracing::warn!("the log's disk hangs, the last tick may be lost");
                    }
                    return how;
                }
            }
        }
    }

    /// What is missing before this tick goes before it.
    fn tell_gaps(&mut self, due: &Due, interval: Duration) {
        for gap in self.lives.before(due, millis(interval)) {
            let (reason, detail) = (gap.reason.as_str(), &gap.detail);
            let (from_ms, to_ms) = (gap.from_ms, gap.to_ms);
            if gap.reason == GapReason::ClockJump {
                self.telemetry.clock_jumps.add(1);
                tracing::warn!(from_ms, to_ms, detail, "the clock was set");
            } else {
                tracing::warn!(reason, from_ms, to_ms, detail, "nothing was recorded");
            }
            self.keep(gaps::record(&gap));
        }
    }

    /// Once more before the end: what the log refused, it may take now.
    async fn leave_nothing_waiting(&mut self, deadline: Duration) {
        if self.pending.is_empty() {
            return;
        }
        let _ = timeout(deadline, self.append_pending()).await;
        let lost = self.pending.ticks();
        if lost > 0 {
            // The next life's gap begins with the last durable tick, so it covers them.
            tracing::error!(lost, "the log still refuses, ticks that waited in memory are lost");
        }
    }

    /// One record of everything that was collected, and of the agent itself.
    fn encode(&mut self, runner: &mut Runner, time_ms: i64) -> OwnedRecord {
        let mut schemas = Vec::new();
        let mut reports: Vec<_> = runner.reports().collect();
        self.doubles.settle(&mut reports);
        for report in reports {
            self.telemetry.record(report.name, report.outcome, report.duration);
            if report.gives_way {
                self.telemetry.left_out(report.name, report.left_out);
            }
            let mut remarks = String::new();
            if let Some(samples) = report.samples {
                let pushed = push(&mut self.encoder, &mut schemas, samples);
                if let Err(reason) = pushed {
                    let outcome = Outcome::Failed(reason);
                    self.telemetry.record(report.name, &outcome, report.duration);
                    self.news.note(report.name, &outcome, "");
                    continue;
                }
                remarks = samples.remarks();
            }
            self.news.note(report.name, report.outcome, &remarks);
        }
        self.news.end_tick();
        self.telemetry.ticks.add(1);
        self.own_samples.clear();
        let stats = self.log.stats();
        let now_ms = self.clock.now_ms();
        for (sink, lost) in self.log.lost() {
            self.telemetry.sink(&sink).lost.set(lost);
        }
        self.telemetry.collect(&self.version, &stats, now_ms, &mut self.own_samples);
        if let Err(reason) = push(&mut self.encoder, &mut schemas, &mut self.own_samples) {
            tracing::warn!(reason, "the agent's own samples are left out");
        }
        let samples = self.encoder.len() as u64;
        let payload = self.encoder.finish(time_ms);
        OwnedRecord { kind: Kind::Metrics, time_ms, samples, payload, schemas }
    }

    /// Appends what waits and the new record, in order; what the log refuses waits in memory.
    async fn append(&mut self, record: OwnedRecord) {
        self.keep(record);
        self.append_pending().await;
    }

    fn keep(&mut self, record: OwnedRecord) {
        let dropped = self.pending.push(record);
        self.telemetry.pending_dropped.add(dropped);
        if dropped > 0 {
            tracing::warn!(dropped, "memory for ticks that wait ran out, the oldest are dropped");
        }
    }

    async fn append_pending(&mut self) {
        while let Some(front) = self.pending.front() {
            let (time_ms, kind) = (front.time_ms, front.kind);
            match self.log.append(front).await {
                Ok(seq) => {
                    tracing::debug!(seq, time_ms, ?kind, "record is durable");
                    self.pending.pop();
                }
                Err(WalError::Record(error)) => {
                    tracing::error!(%error, time_ms, "a tick fits no record, a gap stands for it");
                    self.telemetry.append_failures.add(1);
                    self.pending.give_up();
                }
                Err(error) => {
                    self.telemetry.append_failures.add(1);
                    let (reason, waiting) = (error_chain(&error), self.pending.ticks());
                    tracing::warn!(reason, waiting, "the log refused a record, it waits in memory");
                    break;
                }
            }
        }
        self.telemetry.pending_ticks.set(self.pending.ticks() as u64);
        if self.pending.is_empty() {
            self.lives.told().await;
        }
    }
}

struct Schedule {
    ticker: Ticker,
    runner: Runner,
    interval: Duration,
    /// Of one collector.
    deadline: Duration,
    shutdown_deadline: Duration,
}

/// Adds a collector's samples to the tick, whole or not at all.
fn push(
    encoder: &mut TickEncoder,
    schemas: &mut Vec<Arc<EncodedSchema>>,
    samples: &mut Samples,
) -> Result<(), String> {
    let series = samples.len();
    if encoder.len() + series > limits::TICK_SERIES_MAX {
        let most = limits::TICK_SERIES_MAX;
        return Err(format!("{series} series are too many: a tick holds {most}"));
    }
    samples.finish();
    if let Some(fault) = samples.fault() {
        return Err(fault.to_string());
    }
    let (schema, values) = samples.finish();
    encoder.push(schema.id, values);
    schemas.push(Arc::clone(schema));
    Ok(())
}
