//! Agents, network and hub in one thread, simulated from a seed: whatever goes wrong in between, every
//! record is in the hub's store exactly once and in order when all is well again.
//!
//! # What is real, and what isn't
//!
//! Real: the log on disk, the shipper, the HTTP sink but for its socket, the hub's API, ingest and store.
//! Simulated: time (Tokio's, paused: it jumps to the next timer when there is nothing to do), the network
//! (`network`: delays, losses, duplicates, partitions, a proxy that refuses), kills and restarts (`hub`,
//! `agent`), clocks that are off, and the ticks (`ticks`). `plan` draws from the seed how large a run is
//! and what goes wrong how often; `book` knows what has to be true, and is asked at every step; `world`
//! holds it all together.
//!
//! The same seed gives the same run, event by event: nothing here asks a real clock, another thread or
//! a random source for anything that shows in the trace. Not built on a simulator such as turmoil: that
//! would put sockets, and so hyper and reqwest, under simulation, which are not ours to prove, and hosts
//! in runtimes of their own; a network of messages is a file of two hundred lines.
//!
//! # Running it
//!
//! `cargo test -p holdfast --test simulation` runs [`SEEDS`] seeds. A failure says which seed it was and
//! how to replay it:
//!
//! - `HOLDFAST_SIM_SEED=17` runs that one and prints its trace (with `-- --nocapture`).
//! - `HOLDFAST_SIM_SEEDS=10000` runs the seeds up to that, `HOLDFAST_SIM_SEEDS=5000..10000` those.
//!
//! A seed that once found something stays, by name, in [`REGRESSIONS`].

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod agent;
mod book;
mod hub;
mod meanwhile;
mod network;
mod plan;
mod random;
mod run;
mod ticks;
mod world;

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use run::{Failure, Run, run};

/// Seeds that the normal test run takes.
const SEEDS: Range<u64> = 0..64;

/// Seeds that have found something, and what.
const REGRESSIONS: &[(u64, &str)] = &[
    (5, "a late copy of a request, and a clock set back, and the hub stored a stream anew"),
    (12, "copies of a dead process's heartbeats, minutes late, and the live one was refused"),
];

/// What has to happen at least once in [`SEEDS`], as the trace says it: else they prove little.
const REACHED: &[&str] = &[
    "agent-0   Killed",
    "agent-0   Stopped",
    "hub       Killed",
    "hub       Stopped",
    "dies before a commit",
    "dies after a commit",
    "sealed ",
    "log dropped",
    "request lost",
    "reply lost",
    "gives up request",
    "hub is down",
    "requests: true, replies: false",
    "requests: false, replies: true",
    "needs 2 schemas",
    "too large for the far side",
    "429 Too Many Requests",
    "503: too many requests",
    "if this one runs, ask again",
];

/// What came of some seeds.
#[derive(Default)]
struct Outcome {
    failed: Vec<u64>,
    events: usize,
    reached: BTreeSet<&'static str>,
}

impl Outcome {
    fn add(&mut self, ran: Result<Run, Failure>) {
        let trace = match ran {
            Ok(run) => run.trace,
            Err(failure) => {
                println!("{failure}");
                self.failed.push(failure.seed);
                failure.trace
            }
        };
        self.events += trace.len();
        let happens = |what: &str| trace.iter().any(|event| event.contains(what));
        self.reached.extend(REACHED.iter().filter(|what| happens(what)));
    }
}

/// Runs seeds on all processors, and tells of those that failed.
fn run_all(seeds: Range<u64>) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut outcome = Outcome::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return outcome;
            }
            outcome.add(run(seed));
        }
    };
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let failed: Vec<u64> = outcomes.iter().flat_map(|outcome| outcome.failed.clone()).collect();
    let events: usize = outcomes.iter().map(|outcome| outcome.events).sum();
    let count = seeds.end - seeds.start;
    println!("{count} seeds, {events} events, failed: {failed:?}");
    assert!(failed.is_empty(), "failed: {failed:?}, see above");
    let is_reached = |what: &&&str| outcomes.iter().any(|outcome| outcome.reached.contains(**what));
    let missed: Vec<_> = REACHED.iter().filter(|what| !is_reached(what)).collect();
    assert!(seeds != SEEDS || missed.is_empty(), "never happened: {missed:?}");
}

/// What the environment asks for.
fn seeds_asked_for() -> Range<u64> {
    let Ok(text) = std::env::var("HOLDFAST_SIM_SEEDS") else { return SEEDS };
    let number = |text: &str| {
        text.parse()
            .unwrap_or_else(|_| panic!("HOLDFAST_SIM_SEEDS={text:?}: expected 100 or 5..100"))
    };
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&text),
    }
}

#[test]
fn whatever_happens_every_record_arrives_once_and_in_order() {
    let Ok(seed) = std::env::var("HOLDFAST_SIM_SEED") else { return run_all(seeds_asked_for()) };
    let seed = seed.parse().unwrap_or_else(|_| panic!("HOLDFAST_SIM_SEED={seed:?}: not a number"));
    let (trace, failure) = match run(seed) {
        Ok(Run { trace, .. }) => (trace, None),
        Err(failure) => (failure.trace.clone(), Some(failure)),
    };
    println!("{}", trace.join("\n"));
    assert!(failure.is_none(), "{}", failure.as_ref().map_or("", |failure| &failure.what));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in SEEDS.take(8) {
        let traces =
            [run(seed), run(seed)].map(|run| run.map_or_else(Failure::into_trace, |run| run.trace));
        let [first, second] = &traces;
        let differs = first.iter().zip(second).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

#[test]
fn what_was_found_once_stays_found() {
    for (seed, what) in REGRESSIONS {
        if let Err(failure) = run(*seed) {
            panic!("{what}: {failure}");
        }
    }
}
