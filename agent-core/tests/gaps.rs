//! An agent whose clock is set, whose host sleeps and reboots, and whose log refuses: what it tells.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use agent_core::{
    Agent, AgentOptions, Batch, BatchLimits, Delivery, Plan, PlannedSink, Sink, SinkError,
    clock::{Clock, Moment, SystemClock},
    shipper::Stop,
    sink::BoxFuture,
    wal::{NewRecord, SledWal, Wal, WalError, WalOptions, WalStats},
};
use tokio::sync::Notify;
use wire::{Gap, GapReason, StreamId, Tick, envelope, request::Body};

const INTERVAL: Duration = Duration::from_millis(100);
const HOUR_MS: i64 = 3_600_000;

/// The host's clocks, set and put to sleep.
#[derive(Default)]
struct TestClock {
    set_ms: Cell<i64>,
    passed_ms: Cell<i64>,
    slept_ms: Cell<i64>,
}

impl TestClock {
    fn set(&self, by_ms: i64) {
        self.set_ms.set(self.set_ms.get() + by_ms);
    }

    /// Time that nobody has to wait for.
    fn pass(&self, ms: i64) {
        self.passed_ms.set(self.passed_ms.get() + ms);
    }

    fn sleep(&self, ms: i64) {
        self.pass(ms);
        self.slept_ms.set(self.slept_ms.get() + ms);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.moment().wall_ms
    }

    fn moment(&self) -> Moment {
        let Moment { wall_ms, boot_ms, awake_ms } = SystemClock.moment();
        let passed_ms = self.passed_ms.get();
        Moment {
            wall_ms: wall_ms + passed_ms + self.set_ms.get(),
            boot_ms: boot_ms + passed_ms,
            awake_ms: awake_ms + passed_ms - self.slept_ms.get(),
        }
    }
}

/// What arrived: its number, and the time of a tick or a gap.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Tick(i64, u64),
    Gap(Gap),
}

/// Takes everything, and does something about each record.
struct Watch<F> {
    seen: Rc<RefCell<Vec<(u64, Seen)>>>,
    each: F,
}

impl<F: FnMut(&Seen)> Sink for Watch<F> {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 10, bytes: 1 << 20 }
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        for record in &batch.records {
            let (found, _) = envelope::split_first(&record.bytes).unwrap();
            let seen = match Body::decode(&found).unwrap() {
                Body::Metrics(tick) => Seen::Tick(tick.time_ms, clock_jumps(&tick, batch)),
                Body::Gap(gap) => Seen::Gap(gap),
            };
            (self.each)(&seen);
            self.seen.borrow_mut().push((record.seq, seen));
        }
        let last = batch.records.last().unwrap().seq;
        Box::pin(std::future::ready(Ok(last)))
    }
}

/// What the agent says of itself in a tick.
fn clock_jumps(tick: &Tick, batch: &Batch) -> u64 {
    let schema = &batch.schemas[&tick.schemas[0]].schema;
    let named = |family: &wire::Family| family.name == "holdfast_agent_clock_jumps_total";
    let place = schema.iter().position(|(family, _)| named(family));
    tick.values[place.unwrap()] as u64
}

/// A log that refuses from a tick on, and counts how often.
struct Moody {
    wal: SledWal,
    refuses_after: u64,
    refused: Arc<AtomicU64>,
}

impl Wal for Moody {
    fn stream_id(&self) -> StreamId {
        self.wal.stream_id()
    }

    fn append(&mut self, record: &NewRecord<'_>) -> Result<u64, WalError> {
        if self.wal.stats().last_seq >= self.refuses_after {
            self.refused.fetch_add(1, SeqCst);
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(WalError::Io { operation: "append to", path: "log".into(), source });
        }
        self.wal.append(record)
    }

    fn register_as(&mut self, sink: &str, delivery: Delivery) -> Result<u64, WalError> {
        self.wal.register_as(sink, delivery)
    }

    fn retain_sinks(&mut self, sinks: &[&str]) -> Result<Vec<String>, WalError> {
        self.wal.retain_sinks(sinks)
    }

    fn read(&mut self, sink: &str, limits: BatchLimits) -> Result<Option<Batch>, WalError> {
        self.wal.read(sink, limits)
    }

    fn acknowledge(&mut self, sink: &str, seq: u64) -> Result<(), WalError> {
        self.wal.acknowledge(sink, seq)
    }

    fn stats(&self) -> WalStats {
        self.wal.stats()
    }

    fn lost(&self) -> &BTreeMap<String, u64> {
        self.wal.lost()
    }

    fn flush(&mut self) -> Result<(), WalError> {
        self.wal.flush()
    }
}

/// A host on which agents live one after the other.
struct Host {
    directory: tempfile::TempDir,
    clock: Rc<TestClock>,
    seen: Rc<RefCell<Vec<(u64, Seen)>>>,
    /// Ticks that this host's log still takes.
    refuses_after: u64,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (clock, seen) = (Rc::default(), Rc::default());
        Self { directory, clock, seen, refuses_after: u64::MAX }
    }

    fn agent(&self, refused: &Arc<AtomicU64>) -> Agent {
        let data_dir = self.directory.path().to_owned();
        let wal = SledWal::open(&data_dir.join("wal"), WalOptions::default()).unwrap();
        let refused = Arc::clone(refused);
        let wal = Moody { wal, refuses_after: self.refuses_after, refused };
        let options = AgentOptions { data_dir, version: "1".into(), pending_bytes_max: 1 << 20 };
        let clock = Rc::clone(&self.clock);
        Agent::open(options, Box::new(wal)).unwrap().with_clock(clock)
    }

    /// A plan whose sink does something about each record, and may say that it has seen enough.
    fn plan(&self, mut each: impl FnMut(&Seen) -> bool + 'static) -> (Plan, Rc<Notify>) {
        let enough = Rc::new(Notify::new());
        let (notify, seen) = (Rc::clone(&enough), Rc::clone(&self.seen));
        let each = move |seen: &Seen| {
            if each(seen) {
                notify.notify_one();
            }
        };
        let plan = Plan {
            interval: INTERVAL,
            collector_deadline: INTERVAL,
            shutdown_deadline: Duration::from_secs(10),
            collectors: Vec::new(),
            sinks: vec![PlannedSink::new("watch", Box::new(Watch { seen, each }))],
            companions: Vec::new(),
        };
        (plan, enough)
    }

    /// One life, until so many ticks have arrived.
    async fn live(&self, ticks: usize) {
        let mut left = ticks;
        let (plan, enough) = self.plan(move |seen| {
            left = left.saturating_sub(usize::from(matches!(seen, Seen::Tick(..))));
            left == 0
        });
        let mut agent = self.agent(&Arc::default());
        let stop = async {
            enough.notified().await;
            Stop::Drain
        };
        agent.run(plan, stop).await.unwrap();
        agent.close().await.unwrap();
    }

    /// All that arrived by now is numbered without a hole, and each time is what the clock said.
    fn gaps(&self) -> Vec<Gap> {
        let seen = self.seen.borrow();
        let seqs: Vec<u64> = seen.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        let gaps = seen.iter().filter_map(|(_, seen)| match seen {
            Seen::Gap(gap) => Some(gap.clone()),
            Seen::Tick(..) => None,
        });
        gaps.collect()
    }

    /// The one gap that came last, which lies between two ticks; forgets it.
    fn last_gap(&self) -> Gap {
        let gap = self.gaps().pop().unwrap();
        let seen = self.seen.borrow();
        let place = seen.iter().position(|(_, seen)| *seen == Seen::Gap(gap.clone())).unwrap();
        let time = |place: usize| match &seen[place].1 {
            Seen::Tick(time_ms, _) => *time_ms,
            Seen::Gap(_) => 0,
        };
        assert_eq!((gap.from_ms, gap.to_ms), (time(place - 1), time(place + 1)), "{seen:?}");
        gap
    }
}

fn edit_life(data_dir: &Path, from: &str, to: &str) {
    let path = data_dir.join("life");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn what_happens_to_the_clocks_of_one_life_is_told_where_it_happened() {
    let host = Host::new();
    let (clock, mut ticks, mut gaps) = (Rc::clone(&host.clock), 0, 0);
    let (plan, enough) = host.plan(move |seen| {
        match seen {
            Seen::Tick(..) => ticks += 1,
            Seen::Gap(_) => (ticks, gaps) = (0, gaps + 1),
        }
        match (ticks, gaps) {
            (2, 0) => clock.set(HOUR_MS),
            (2, 1) => clock.set(-2 * HOUR_MS),
            (2, 2) => clock.sleep(HOUR_MS),
            (2, 3) => return true,
            _ => {}
        }
        false
    });
    let mut agent = host.agent(&Arc::default());
    let stop = async {
        enough.notified().await;
        Stop::Drain
    };
    agent.run(plan, stop).await.unwrap();
    agent.close().await.unwrap();

    let gaps = host.gaps();
    let reasons: Vec<GapReason> = gaps.iter().map(|gap| gap.reason).collect();
    assert_eq!(reasons, [GapReason::ClockJump, GapReason::ClockJump, GapReason::HostOff]);
    let [forward, back, asleep] = gaps.as_slice() else { return };
    // To the millisecond, as the clocks are read.
    let near = |gap: &Gap, ms: i64| ((gap.to_ms - gap.from_ms) - ms).abs() <= 1;
    assert!(near(forward, HOUR_MS) && forward.detail.starts_with("set forward by "), "{forward:?}");
    assert!(near(back, -2 * HOUR_MS) && back.detail.starts_with("set back by "), "{back:?}");
    assert_eq!(*asleep, host.last_gap());
    assert!(asleep.to_ms - asleep.from_ms >= HOUR_MS, "{asleep:?}");
    assert!(asleep.detail.starts_with("suspended for 1h: 36"), "{asleep:?}");
    assert!(gaps.iter().all(|gap| (gap.records, gap.samples) == (0, 0)));

    // The ticks around say what the clock said, and the agent counts its jumps.
    let seen = host.seen.borrow();
    let place = seen.iter().position(|(_, seen)| *seen == Seen::Gap(back.clone())).unwrap();
    let (Seen::Tick(before, 1), Seen::Tick(after, 2)) = (&seen[place - 1].1, &seen[place + 1].1)
    else {
        unreachable!("{seen:?}")
    };
    assert!(*after < before - HOUR_MS && (0..100).contains(&(back.to_ms - after)), "{seen:?}");
}

#[tokio::test]
async fn each_life_tells_what_lies_before_it() {
    let host = Host::new();
    host.live(2).await;
    assert!(host.gaps().is_empty(), "nothing before the first");

    host.clock.pass(HOUR_MS);
    host.live(2).await;
    let gap = host.last_gap();
    assert_eq!((gap.reason, host.gaps().len()), (GapReason::AgentDown, 1));
    assert!(gap.detail.ends_with("ticks of 100ms fell out; the agent had been stopped"), "{gap:?}");

    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    edit_life(host.directory.path(), boot_id.trim(), "00000000-0000-0000-0000-000000000000");
    host.clock.pass(HOUR_MS);
    host.live(2).await;
    let gap = host.last_gap();
    assert_eq!((gap.reason, host.gaps().len()), (GapReason::HostOff, 2));

    // Killed: nothing says that it was stopped. And without that file the log alone has to do.
    edit_life(host.directory.path(), "stopped = true", "stopped = false");
    host.clock.pass(HOUR_MS);
    host.live(2).await;
    let gap = host.last_gap();
    assert_eq!((gap.reason, host.gaps().len()), (GapReason::AgentDown, 3));
    assert!(gap.detail.ends_with("killed, crashed or cut off"), "{gap:?}");
    fs::remove_file(host.directory.path().join("life")).unwrap();
    host.clock.pass(HOUR_MS);
    host.live(2).await;
    assert_eq!((host.last_gap().reason, host.gaps().len()), (GapReason::AgentDown, 4));

    // The clock is set while nobody looks.
    host.clock.pass(HOUR_MS);
    host.clock.set(-3 * HOUR_MS);
    host.live(2).await;
    let gaps = host.gaps();
    let [down, jump] = &gaps[4..] else { unreachable!("{gaps:?}") };
    assert_eq!((down.reason, jump.reason), (GapReason::AgentDown, GapReason::ClockJump));
    assert_eq!(down.to_ms, jump.from_ms);
    assert_eq!(jump.detail, "set back by 3h");
    // It is told once.
    host.clock.pass(HOUR_MS);
    host.live(2).await;
    assert_eq!((host.last_gap().reason, host.gaps().len()), (GapReason::AgentDown, 7));
}

#[tokio::test]
async fn a_reload_is_no_gap() {
    let host = Host::new();
    let mut agent = host.agent(&Arc::default());
    for stop in [Stop::Now, Stop::Now, Stop::Drain] {
        let mut ticks = 0;
        let (plan, enough) = host.plan(move |_| {
            ticks += 1;
            ticks == 2
        });
        let stop = async {
            enough.notified().await;
            stop
        };
        agent.run(plan, stop).await.unwrap();
    }
    agent.close().await.unwrap();
    assert!(host.gaps().is_empty(), "{:?}", host.gaps());
}

#[tokio::test]
async fn ticks_that_waited_in_memory_at_the_end_are_told_by_the_next_life() {
    let mut host = Host::new();
    host.refuses_after = 3;
    let refused = Arc::default();
    let (plan, _) = host.plan(|_| false);
    let mut agent = host.agent(&refused);
    let stop = async {
        while refused.load(SeqCst) < 4 {
            tokio::time::sleep(INTERVAL / 4).await;
        }
        Stop::Drain
    };
    agent.run(plan, stop).await.unwrap();
    agent.close().await.unwrap();

    host.refuses_after = u64::MAX;
    host.live(2).await;
    let gap = host.last_gap();
    let place = host.seen.borrow().iter().position(|(_, seen)| *seen == Seen::Gap(gap.clone()));
    assert_eq!(place, Some(3), "right after the last durable tick");
    assert_eq!(gap.reason, GapReason::AgentDown);
    assert!(
        gap.detail.contains("ticks that the log had refused were lost"),
        "{gap:?}, of {} refused",
        refused.load(SeqCst)
    );
}
