//! An agent: its real log, shipper and sink, with made-up ticks; it is killed and started again.

use std::{cell::Cell, fs, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use agent_core::{
    Batch, BatchLimits, PlannedSink, Sink, SinkError,
    clock::{Clock, Moment},
    quarantine::Quarantine,
    retry::Retry,
    shipper::{Shipper, Stop},
    sink::BoxFuture,
    wake::Wake,
    wal::{LogHandle, OwnedRecord, SledWal, Wal as _, WalOptions},
};
use sinks::http::{Heartbeats, HttpConfig, HttpSink, Identity};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_local},
    time::{Instant, sleep, sleep_until, timeout},
};
use wire::{
    InstanceId, StreamId,
    api::{HEARTBEAT_INTERVAL_S, Heartbeat, LogStatus},
};

use crate::{
    book::{Checked, Said},
    hub::SECRET,
    network::Network,
    plan::AgentPlan,
    random::Random,
    ticks::{self, Ticks},
    world::{World, agent_name, copy},
};

const SINK: &str = "hub";
const VERSION: &str = "0";
/// How long an orderly end waits for the send that is under way.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether everything is delivered.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One agent through all its lives.
pub(crate) struct Agent {
    world: Rc<World>,
    network: Rc<Network>,
    number: usize,
    plan: AgentPlan,
    random: Random,
    ticks: Ticks,
    taken: u64,
    last_tick_ms: Option<i64>,
    directory: PathBuf,
    clock: Rc<SkewedClock>,
}

/// The host's clock: off by so many milliseconds.
struct SkewedClock {
    world: Rc<World>,
    skew_ms: Cell<i64>,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        self.world.now_ms() + self.skew_ms.get()
    }

    fn moment(&self) -> Moment {
        let up_ms = self.world.now_ms();
        Moment { wall_ms: self.now_ms(), boot_ms: up_ms, awake_ms: up_ms }
    }
}

/// How one life of an agent ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Stopped,
    Killed,
    /// Everything is delivered, and nothing goes wrong any more.
    Done,
}

/// One life of an agent.
struct Life {
    log: LogHandle,
    serving: JoinHandle<()>,
    shipping: JoinHandle<()>,
    beating: JoinHandle<()>,
    tell: watch::Sender<Stop>,
}

impl Agent {
    pub(crate) fn new(world: &Rc<World>, network: &Rc<Network>, number: usize) -> Self {
        let plan = world.plan.agents[number].clone();
        Self {
            world: Rc::clone(world),
            network: Rc::clone(network),
            number,
            random: world.fork(),
            ticks: Ticks::new(world.fork(), plan.series, plan.change),
            taken: 0,
            last_tick_ms: None,
            directory: world.new_path("agent"),
            clock: Rc::new(SkewedClock { world: Rc::clone(world), skew_ms: Cell::new(0) }),
            plan,
        }
    }

    /// Lives until everything is delivered.
    pub(crate) async fn run(mut self) {
        loop {
            let ended = self.live_once().await;
            let done = ended == Ok(End::Done);
            self.check(ended.map(drop));
            if done || self.world.violation().is_some() {
                return;
            }
            let down = self.random.duration(Duration::from_millis(1), self.plan.down_max);
            sleep(down).await;
        }
    }

    async fn live_once(&mut self) -> Result<End, String> {
        let skew_ms = self.plan.skew_max.as_millis() as u64;
        self.clock.skew_ms.set(self.random.between(0, 2 * skew_ms) as i64 - skew_ms as i64);
        let life = self.start().await?;
        let end_at = self.world.trouble_at(&mut self.random, self.plan.life);
        let killed = self.random.chance(self.plan.kill);
        let (world, number, log) = (Rc::clone(&self.world), self.number, life.log.clone());
        let ended = async {
            match end_at {
                Some(at) => sleep_until(at).await,
                None => delivered(&world, number).await,
            }
        };
        let end = match (end_at, killed) {
            (None, _) => End::Done,
            (Some(_), true) => End::Killed,
            (Some(_), false) => End::Stopped,
        };
        let ticking = tokio::select! {
            biased;
            () = ended => Ok(()),
            wrong = self.tick(&log) => wrong,
        };
        drop(log);
        self.note(format_args!("{end:?}"));
        ticking?;
        match end {
            End::Killed => self.kill(life).await?,
            End::Stopped | End::Done => stop(life).await?,
        }
        if end == End::Done {
            self.look_at_log()?;
        }
        Ok(end)
    }

    async fn start(&mut self) -> Result<Life, String> {
        let log = self.open()?;
        let (log, serving) = LogHandle::local(Box::new(log));
        let serving = spawn_local(serving);
        let cursor = log.register(SINK).await.map_err(|error| format!("register: {error}"))?;
        self.note(format_args!("starts, acknowledged up to {cursor}"));
        self.world.book(self.number).reopened_at(cursor)?;
        let (tell, told) = watch::channel(Stop::Run);
        let mut jitter = self.world.fork();
        let id = self.random.fork().bytes();
        let instance_id = InstanceId::from_bytes(id);
        let sink = self.sink(instance_id, log.clone())?;
        let (heartbeats, wake) = (sink.sink.heartbeats(), Wake::default());
        let heartbeat = self.heartbeat(instance_id, log.stream_id());
        let beating = spawn_local(beat(heartbeats, heartbeat, wake.clone()));
        let planned = PlannedSink {
            phase: self.plan.phase,
            max_bytes_per_second: self.plan.max_bytes_per_second,
            wake,
            ..PlannedSink::new(SINK, Box::new(sink))
        };
        let (stats, quarantine) = (Rc::default(), Rc::new(Quarantine::below(&self.directory)));
        let shipper = Shipper::new(planned, log.clone(), stats, quarantine)
            .with_retry(Retry::default().drawn_by(move || jitter.unit()));
        let shipping = spawn_local(shipper.run(told));
        Ok(Life { log, serving, shipping, beating, tell })
    }

    fn open(&self) -> Result<SledWal, String> {
        let options = WalOptions { max_age: self.plan.max_age, ..WalOptions::default() };
        let log = SledWal::open(&self.directory.join("wal"), options);
        let log = log.map_err(|error| format!("opening the log: {error}"))?;
        self.world.book(self.number).opened(log.stream_id(), log.stats().last_seq)?;
        Ok(log)
    }

    fn sink(&self, instance_id: InstanceId, log: LogHandle) -> Result<Watched, String> {
        let config = HttpConfig {
            token: Some(SECRET.to_owned()),
            batch_bytes: self.plan.batch_bytes,
            ..HttpConfig::new("http://hub")
        };
        let name = agent_name(self.number);
        let agent_id = self.world.book(self.number).agent_id;
        let identity = Identity::new(agent_id, instance_id, VERSION, move || name.clone())
            .with_log(move || log.stats().last_seq);
        let clock = Rc::clone(&self.clock);
        let sink = HttpSink::over(self.network.end_of(self.number), config, identity, clock);
        let sink = sink.map_err(|error| format!("building the sink: {error}"))?;
        Ok(Watched { world: Rc::clone(&self.world), number: self.number, sink })
    }

    /// Takes ticks in time; returns only if something is wrong.
    async fn tick(&mut self, log: &LogHandle) -> Checked {
        if let Some(last_ms) = self.last_tick_ms
            && self.random.chance(0.5)
        {
            let (said, record) = ticks::gap(last_ms, self.clock.now_ms());
            self.append(log, said, record).await?;
        }
        let begins = Instant::now();
        let mut times = (0_u32..).map(|n| begins + self.plan.interval * n);
        while self.taken < self.plan.ticks && !self.is_late() {
            if let Some(at) = times.next() {
                sleep_until(at).await;
            }
            let time_ms = self.clock.now_ms();
            let (said, record) = self.ticks.next(time_ms);
            self.taken += 1;
            self.last_tick_ms = Some(time_ms);
            self.append(log, said, record).await?;
        }
        self.world.book(self.number).all_taken = true;
        std::future::pending().await
    }

    /// Whether what was taken first might go for its age.
    fn is_late(&self) -> bool {
        let span = self.plan.interval * self.plan.ticks as u32;
        !self.plan.drops && Instant::now() > self.world.begins_at() + span * 2
    }

    async fn append(&self, log: &LogHandle, said: Said, record: OwnedRecord) -> Checked {
        self.world.book(self.number).tries(said);
        let before = log.stats().dropped_records;
        let seq = log.append(Arc::new(record)).await.map_err(|error| format!("append: {error}"))?;
        self.note(format_args!("appended {seq}"));
        let dropped = log.stats().dropped_records - before;
        if dropped > 0 {
            self.note(format_args!("log dropped {dropped} records"));
        }
        self.world.book(self.number).appended(seq)
    }

    /// The next life finds the files as they are now.
    async fn kill(&mut self, life: Life) -> Checked {
        let next = self.world.new_path("agent");
        let failed = |error: std::io::Error| format!("copy the log: {error}");
        copy(&self.directory, &next).map_err(failed)?;
        let old = std::mem::replace(&mut self.directory, next);
        let Life { log, serving, shipping, beating, tell } = life;
        for task in [shipping, beating, serving] {
            task.abort();
            let _ = task.await;
        }
        drop((log, tell));
        fs::remove_dir_all(old).map_err(failed)
    }

    /// The log gives everything back once everything is delivered.
    fn look_at_log(&self) -> Checked {
        let mut log = self.open()?;
        let cursor = log.register(SINK).map_err(|error| error.to_string())?;
        self.world.book(self.number).reopened_at(cursor)?;
        self.world.book(self.number).ended()?;
        let stats = log.stats();
        if (stats.records, stats.oldest_ms) != (0, None) || stats.generations > 1 {
            return Err(format!("delivered, but the log is not given back: {stats:?}"));
        }
        let left = log.read(SINK, BatchLimits { records: 1, bytes: 1 });
        match left.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(batch) => Err(format!("delivered, but {:?} is read again", batch.records)),
        }
    }

    fn heartbeat(&self, instance_id: InstanceId, stream_id: StreamId) -> Heartbeat {
        Heartbeat {
            agent_id: self.world.book(self.number).agent_id,
            instance_id,
            sent_ms: 0,
            stream_id,
            hostname: agent_name(self.number),
            agent_version: VERSION.to_owned(),
            addresses: Vec::new(),
            interval_ms: self.plan.interval.as_millis() as u64,
            log: LogStatus::default(),
        }
    }

    fn check(&self, checked: Checked) {
        self.world.check(agent_name(self.number), checked);
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.world.note(agent_name(self.number), what);
    }
}

/// Says that the agent is there, and wakes its shipper when that arrives again, as the daemon does.
async fn beat(heartbeats: Heartbeats, heartbeat: Heartbeat, wake: Wake) {
    let mut is_away = false;
    loop {
        let beat = heartbeats.beat(&heartbeat).await;
        if beat.is_ok() && is_away {
            wake.far_side_is_back();
        }
        is_away = beat.is_err();
        sleep(Duration::from_secs(HEARTBEAT_INTERVAL_S)).await;
    }
}

/// Ends when nothing goes wrong any more, and everything is delivered.
async fn delivered(world: &World, number: usize) {
    sleep_until(world.heals_at()).await;
    while !world.book(number).is_delivered() {
        sleep(LOOK_EVERY).await;
    }
}

/// In order: what is under way is waited for a while, cursors are written.
async fn stop(life: Life) -> Checked {
    let Life { log, serving, mut shipping, beating, tell } = life;
    beating.abort();
    tell.send_replace(Stop::Now);
    if timeout(STOP_WITHIN, &mut shipping).await.is_err() {
        shipping.abort();
        let _ = shipping.await;
    }
    log.close().await.map_err(|error| format!("closing the log: {error}"))?;
    serving.await.map_err(|error| format!("the log panicked: {error}"))
}

/// The sink, and what it is told held against the books.
struct Watched {
    world: Rc<World>,
    number: usize,
    sink: HttpSink,
}

impl Watched {
    async fn send_and_look(&mut self, batch: &Batch) -> Result<u64, SinkError> {
        let (name, number) = (agent_name(self.number), self.number);
        let checked = self.world.book(number).read(batch);
        self.world.check(&name, checked);
        let seqs = batch.records.first().zip(batch.records.last());
        let (first, last) = seqs.map_or((0, 0), |(first, last)| (first.seq, last.seq));
        self.world.note(&name, format_args!("sends {first} to {last}"));
        let sent = self.sink.send(batch).await;
        let checked = match &sent {
            Ok(acked_seq) => {
                self.world.note(&name, format_args!("is told {acked_seq}"));
                self.world.book(number).told(*acked_seq)
            }
            Err(error @ (SinkError::Transient { .. } | SinkError::TooLarge { .. })) => {
                self.world.note(&name, format_args!("is told: {error}"));
                Ok(())
            }
            Err(error) => Err(format!("good records, and the sink says: {error}")),
        };
        self.world.check(&name, checked);
        sent
    }
}

impl Sink for Watched {
    fn limits(&self) -> BatchLimits {
        self.sink.limits()
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        Box::pin(self.send_and_look(batch))
    }
}
