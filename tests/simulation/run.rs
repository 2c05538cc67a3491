//! One run from its seed to its verdict.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use tokio::{
    runtime,
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use crate::{agent::Agent, hub::Hub, network::Network, world::World};

/// From the healing on everything arrives within this time: the longest `Retry-After`, a request that
/// times out and the longest backoff are minutes; a backlog of small batches takes a little more.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60 * 60);
/// The longest delay of a copy, a request's time and a hub that is down.
const QUIET_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Events that a failure shows.
const SHOWN: usize = 40;

/// A run that went well.
pub(crate) struct Run {
    pub(crate) trace: Vec<String>,
}

/// A run that didn't.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) what: String,
    pub(crate) trace: Vec<String>,
}

impl Failure {
    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what, trace } = self;
        writeln!(f, "seed {seed}: {what}")?;
        for event in &trace[trace.len().saturating_sub(SHOWN)..] {
            writeln!(f, "    {event}")?;
        }
        let test = "cargo test -p holdfast --test simulation whatever -- --nocapture";
        writeln!(f, "replay: HOLDFAST_SIM_SEED={seed} {test}")
    }
}

/// Simulates from a seed.
pub(crate) fn run(seed: u64) -> Result<Run, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap();
    let world = runtime.block_on(async { Rc::new(World::new(seed).unwrap()) });
    let simulated = LocalSet::new();
    let run = || simulated.block_on(&runtime, simulate(Rc::clone(&world)));
    let ran = catch_unwind(AssertUnwindSafe(run));
    let what = ran.unwrap_or_else(|panic| Err(said(&*panic)));
    let trace = world.trace();
    match what {
        Ok(()) => Ok(Run { trace }),
        Err(what) => Err(Failure { seed, what, trace }),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a word"))
}

async fn simulate(world: Rc<World>) -> Result<(), String> {
    let hub = Hub::new(&world);
    let network = Network::new(&world, &hub);
    let running = spawn_local(Rc::clone(&hub).run());
    spawn_local(Rc::clone(&network).part());
    let agents: Vec<_> = (0..world.agents())
        .map(|number| spawn_local(Agent::new(&world, &network, number).run()))
        .collect();
    let all = async {
        for agent in agents {
            agent.await.map_err(|error| format!("an agent panicked: {error}"))?;
            world.violation().map_or(Ok(()), Err)?;
        }
        while !network.is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    };
    let patience = world.plan.trouble + DELIVERED_WITHIN + QUIET_WITHIN;
    let ended = timeout(patience, all).await;
    world.violation().map_or(Ok(()), Err)?;
    ended.unwrap_or_else(|_| Err("not everything was delivered in time".to_owned()))?;
    if running.is_finished() {
        return Err("the hub ended".to_owned());
    }
    hub.audit()?;
    world.note("all", "is well");
    Ok(())
}
