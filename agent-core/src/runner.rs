//! Runs collectors: times, isolates and counts each.
//!
//! All collectors of a tick run one after the other on one thread of their own, so that a tick costs
//! one wake-up. A collector that doesn't come back within its deadline (a `statvfs` on a hung mount)
//! is *stuck*: its thread is left to it, a new thread takes over the rest of the queue, and the
//! collector is skipped and counted until it returns. So there are never more threads than
//! collectors, and one more.
//!
//! A reload brings new collectors ([`Runner::renew`]) while threads of the old ones may still hang. One
//! of a name that hung is tried anew, for what hung may be left out now; but while
//! [`HUNG_THREADS_MAX`] threads of that name hang, it is skipped like a stuck one.
//!
//! A collector with an interval of its own runs in the first tick of each of its multiples by the wall
//! clock, and in the first tick after it was renewed. In the ticks between it has no [`Report`]: the
//! tick carries none of its samples, and its schema rests until it is due. So does one that twice in a row
//! found nothing on this host, or nothing that it may read: it looks again every [`ABSENT_INTERVAL`], for
//! a device may be plugged in.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    clock::millis,
    collector::{CollectError, Collector},
    plan::PlannedCollector,
    samples::Samples,
};

/// How often a collector looks that has nothing to collect on this host.
pub const ABSENT_INTERVAL: Duration = Duration::from_secs(60);

/// Threads of one name that may hang after reloads.
pub const HUNG_THREADS_MAX: usize = 2;

/// A collector and what it filled last.
struct Job {
    name: String,
    index: usize,
    /// Of the collectors it came with.
    renewal: u64,
    collector: Box<dyn Collector>,
    samples: Samples,
}

/// How a collector's last run went.
#[derive(Debug)]
pub enum Outcome {
    /// Its samples are in the tick.
    Collected,
    /// This machine has none of it.
    Unavailable(String),
    /// This user may not read it.
    Denied(String),
    /// It failed, or panicked.
    Failed(String),
    /// It is beyond its deadline, now or since an earlier tick.
    Stuck,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collected => f.write_str("collected"),
            Self::Unavailable(what) => write!(f, "unavailable on this host: {what}"),
            Self::Denied(what) => write!(f, "may not be read by this user: {what}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Stuck => f.write_str("beyond its deadline, skipped until it returns"),
        }
    }
}

/// One collector's run in a tick.
#[derive(Debug)]
pub struct Report<'a> {
    /// Which collector.
    pub name: &'a str,
    /// How it went.
    pub outcome: &'a Outcome,
    /// How long it took; zero while it is stuck.
    pub duration: Duration,
    /// What it filled, if [`Outcome::Collected`].
    pub samples: Option<&'a mut Samples>,
    /// As [`Collector::gives_way`] has it.
    pub gives_way: bool,
    /// Series that [`Doubles`](crate::doubles::Doubles) took out of it.
    pub left_out: usize,
}

struct Slot {
    name: String,
    /// Absent while its thread has it.
    job: Option<Job>,
    outcome: Outcome,
    duration: Duration,
    /// Of its own, if it doesn't run in every tick.
    interval_ms: Option<i64>,
    /// Unix milliseconds of the tick that it ran in last.
    ran_ms: Option<i64>,
    /// Runs in a row that found nothing on this host.
    absent: u32,
    /// Whether this tick is one of its own.
    is_due: bool,
    gives_way: bool,
}

impl Slot {
    fn new(index: usize, renewal: u64, planned: PlannedCollector) -> Self {
        let PlannedCollector { name, interval, collector } = planned;
        let (samples, gives_way) = (Samples::new(&name), collector.gives_way());
        let job = Job { name: name.clone(), index, renewal, collector, samples };
        Self {
            name,
            job: Some(job),
            outcome: Outcome::Stuck,
            duration: Duration::ZERO,
            interval_ms: interval.map(|interval| millis(interval).max(1)),
            ran_ms: None,
            absent: 0,
            is_due: false,
            gives_way,
        }
    }

    /// Begins a tick: whether it is due. A clock that was set back makes it due too.
    fn begin(&mut self, time_ms: i64) -> bool {
        let absent_ms = (self.absent > 1).then(|| millis(ABSENT_INTERVAL));
        let interval_ms = self.interval_ms.max(absent_ms);
        let multiple =
            |time_ms: i64| interval_ms.map(|interval_ms| time_ms.div_euclid(interval_ms));
        let is_another = |ran_ms| multiple(ran_ms) != multiple(time_ms);
        self.is_due = interval_ms.is_none() || self.ran_ms.is_none_or(is_another);
        if self.is_due {
            self.ran_ms = Some(time_ms);
            self.outcome = Outcome::Stuck;
            self.duration = Duration::ZERO;
        }
        self.is_due
    }
}

/// Runs a set of collectors, tick by tick.
#[derive(Default)]
pub struct Runner {
    slots: Vec<Slot>,
    shared: Arc<Shared>,
    worker: u64,
    renewal: u64,
    /// Threads that hang in collectors of earlier sets, by name.
    hung: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the worker: there is work, or it is to end.
    work: Condvar,
    /// Wakes the runner: the queue is done.
    finished: Notify,
}

#[derive(Default)]
struct State {
    /// Only the worker of this number takes from the queue; the others end when they come back.
    worker: u64,
    queue: VecDeque<Job>,
    running: Option<(usize, Instant)>,
    done: Vec<(Job, Outcome, Duration)>,
    ended: bool,
}

impl Runner {
    /// A runner over these collectors. Threads start with the first tick.
    #[must_use]
    pub fn new(collectors: Vec<PlannedCollector>) -> Self {
        let mut runner = Self::default();
        runner.renew(collectors);
        runner
    }

    /// Takes other collectors. Threads that hang in the ones before are kept count of.
    pub fn renew(&mut self, collectors: Vec<PlannedCollector>) {
        self.take_back();
        for slot in self.slots.drain(..).filter(|slot| slot.job.is_none()) {
            *self.hung.entry(slot.name).or_default() += 1;
        }
        self.renewal += 1;
        let renewal = self.renewal;
        let slots = (0..).zip(collectors);
        self.slots = slots.map(|(index, planned)| Slot::new(index, renewal, planned)).collect();
    }

    /// Runs every collector that is due in the tick at `time_ms` and isn't stuck, each within
    /// `deadline`.
    ///
    /// # Errors
    /// The system's, when no thread can be started; the collectors that didn't run are
    /// [`Outcome::Stuck`] in this tick, and run in the next.
    pub async fn run(&mut self, time_ms: i64, deadline: Duration) -> std::io::Result<()> {
        self.take_back();
        self.enqueue(time_ms);
        let finished = self.finish_queue(deadline).await;
        if finished.is_err() {
            self.shared.give_up_queue();
        }
        self.take_back();
        if finished.is_err() {
            self.owe_what_did_not_run();
        }
        finished
    }

    /// What no thread was there for is due again in the next tick, whatever its interval.
    fn owe_what_did_not_run(&mut self) {
        for slot in &mut self.slots {
            if slot.is_due && slot.job.is_some() && matches!(slot.outcome, Outcome::Stuck) {
                slot.ran_ms = None;
            }
        }
    }

    async fn finish_queue(&mut self, deadline: Duration) -> std::io::Result<()> {
        self.ensure_worker()?;
        self.shared.work.notify_all();
        while let Some(running_since) = self.unfinished() {
            let due = running_since + deadline;
            if timeout_at(due, self.shared.finished.notified()).await.is_err() {
                self.abandon_stuck(deadline)?;
            }
        }
        Ok(())
    }

    /// How the run of each collector that was due went, in the order they were given.
    pub fn reports(&mut self) -> impl Iterator<Item = Report<'_>> {
        self.slots.iter_mut().filter(|slot| slot.is_due).map(|slot| {
            let samples = match slot.outcome {
                Outcome::Collected => slot.job.as_mut().map(|job| &mut job.samples),
                _ => None,
            };
            let (outcome, duration, gives_way) = (&slot.outcome, slot.duration, slot.gives_way);
            Report { name: &slot.name, outcome, duration, samples, gives_way, left_out: 0 }
        })
    }

    fn enqueue(&mut self, time_ms: i64) {
        let mut state = self.shared.lock();
        for slot in &mut self.slots {
            let may_hang = |threads: &usize| *threads < HUNG_THREADS_MAX;
            if slot.begin(time_ms) && self.hung.get(&slot.name).is_none_or(may_hang) {
                state.queue.extend(slot.job.take());
            }
        }
    }

    /// Since when the queue waits for the collector that runs now; `None` once all are done.
    fn unfinished(&self) -> Option<Instant> {
        let state = self.shared.lock();
        match state.running {
            Some((_, since)) => Some(since),
            // The worker hasn't woken up yet.
            None if !state.queue.is_empty() => Some(Instant::now()),
            None => None,
        }
    }

    fn abandon_stuck(&mut self, deadline: Duration) -> std::io::Result<()> {
        let overdue = {
            let mut state = self.shared.lock();
            let overdue = state.running.is_some_and(|(_, since)| since.elapsed() >= deadline);
            if overdue {
                state.running = None;
                state.worker += 1;
            }
            overdue
        };
        if overdue { self.ensure_worker() } else { Ok(()) }
    }

    fn take_back(&mut self) {
        let done = std::mem::take(&mut self.shared.lock().done);
        for (job, outcome, duration) in done {
            if job.renewal != self.renewal {
                self.returned(&job.name);
                continue;
            }
            let slot = &mut self.slots[job.index];
            slot.job = Some(job);
            let is_absent = matches!(outcome, Outcome::Unavailable(_) | Outcome::Denied(_));
            slot.absent = if is_absent { slot.absent + 1 } else { 0 };
            slot.outcome = outcome;
            slot.duration = duration;
        }
    }

    /// A thread that hung in a collector of an earlier set came back.
    fn returned(&mut self, name: &str) {
        let Some(threads) = self.hung.get_mut(name) else { return };
        *threads -= 1;
        if *threads == 0 {
            self.hung.remove(name);
        }
    }

    /// Starts the worker whose turn it is, unless it runs already.
    fn ensure_worker(&mut self) -> std::io::Result<()> {
        let number = {
            let mut state = self.shared.lock();
            state.worker = state.worker.max(1);
            state.worker
        };
        if number == self.worker {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name("collect".into()).spawn(move || shared.work(number))?;
        self.worker = number;
        Ok(())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; collectors run outside it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands back what no worker took.
    fn give_up_queue(&self) {
        let mut state = self.lock();
        let State { queue, done, .. } = &mut *state;
        done.extend(queue.drain(..).map(|job| (job, Outcome::Stuck, Duration::ZERO)));
    }

    fn work(&self, number: u64) {
        while let Some(mut job) = self.next(number) {
            let begun = Instant::now();
            let outcome = run_one(&mut job);
            self.finish(number, job, outcome, begun.elapsed());
        }
    }

    fn next(&self, number: u64) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.ended || state.worker != number {
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                state.running = Some((job.index, Instant::now()));
                return Some(job);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, number: u64, job: Job, outcome: Outcome, duration: Duration) {
        let mut state = self.lock();
        if state.worker != number {
            // Too late: what it read belongs to a tick that is gone.
            state.done.push((job, Outcome::Stuck, duration));
            return;
        }
        state.done.push((job, outcome, duration));
        state.running = None;
        if state.queue.is_empty() {
            self.finished.notify_one();
        }
    }
}

fn run_one(job: &mut Job) -> Outcome {
    job.samples.clear();
    let collect = || job.collector.collect(&mut job.samples);
    match catch_unwind(AssertUnwindSafe(collect)) {
        Ok(Ok(())) => Outcome::Collected,
        Ok(Err(CollectError::Unavailable { what })) => Outcome::Unavailable(what),
        Ok(Err(CollectError::Denied { what })) => Outcome::Denied(what),
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(panic) => Outcome::Failed(format!("panicked: {}", panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests;
