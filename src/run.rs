//! `holdfast-agent run`: the daemon. Signals: SIGTERM and SIGINT drain and end, SIGHUP rereads the
//! configuration.

use agent_core::{
    Agent, AgentOptions, Plan, builder::WAL_DIRECTORY, config::Config, shipper::Stop, wal::SledWal,
};
use anyhow::{Context as _, Result};
use settings::{Loaded, Reload};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use crate::{
    VERSION,
    assemble::{self, Assembly, Choice},
    cli::Arguments,
    load,
    logging::{self, Logging},
};

/// Runs until told to stop.
///
/// # Errors
/// When the configuration is refused, or log or data directory can't be used.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let loaded = load(arguments)?;
    loaded.config.require_sinks()?;
    let logging = logging::start(&loaded.config.log.level)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(supervise(arguments, loaded, &logging));
    // A write to a stalled pipe or a hung disk must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn supervise(
    arguments: &Arguments,
    mut current: Loaded<Config>,
    logging: &Logging,
) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut agent = open(&current.config)?;
    let (agent_id, instance_id) = (agent.id(), agent.instance_id());
    let assembly = Assembly { agent_id, instance_id, status: agent.status() };
    tracing::info!(
        version = VERSION, agent_id = %agent.id(), data_dir = %current.config.data_dir.display(),
        interval = %current.config.interval, "agent started"
    );
    say_choice(&current.config);
    let mut plan = assembly.plan(&current.config)?;
    loop {
        let mut next = None;
        let stop = async {
            loop {
                if signals.next().await == Told::Stop {
                    return Stop::Drain;
                }
                next = reread(arguments, &current);
                if next.is_some() {
                    return Stop::Now;
                }
            }
        };
        agent.run(plan, stop).await?;
        let Some(new) = next else { break };
        (plan, current) = change_over(&assembly, logging, current, new)?;
    }
    let deadline = current.config.shutdown_deadline.get();
    match timeout(deadline, agent.close()).await {
        Ok(closed) => closed?,
        Err(_) => tracing::warn!("the log's disk hangs, some records will be sent again"),
    }
    tracing::info!("agent stopped");
    Ok(())
}

/// What the host is, and which collectors are off for it.
fn say_choice(config: &Config) {
    let choice = Choice::of(config);
    tracing::info!(host = %choice.environment, "host environment");
    for (why, names) in &choice.unfit {
        let collectors = names.join(", ");
        tracing::info!(collectors, why, "off on this kind of host, unless switched on");
    }
}

fn open(config: &Config) -> Result<Agent> {
    let data_dir = &config.data_dir;
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("create data_dir {}", data_dir.display()))?;
    let wal = SledWal::open(&data_dir.join(WAL_DIRECTORY), assemble::wal_options(config))?;
    let options = AgentOptions {
        data_dir: data_dir.clone(),
        version: VERSION.to_owned(),
        pending_bytes_max: assemble::bytes(config.wal.memory_max),
    };
    Ok(Agent::open(options, Box::new(wal))?)
}

/// The configuration as it is now, if it is good and differs; says what changed or why not.
fn reread(arguments: &Arguments, current: &Loaded<Config>) -> Option<Loaded<Config>> {
    let path = arguments.config_path();
    let path = path.display();
    let new = match try_load(arguments) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%path, reason = format!("{error:#}"), "configuration refused, the old one stays");
            return None;
        }
    };
    let changes = current.effective.changes_to(&new.effective);
    for change in &changes {
        match change.reload {
            Reload::Live => tracing::info!(%change, "configuration changed"),
            Reload::Restart => {
                tracing::warn!(%change, "configuration changed, takes effect after a restart");
            }
        }
    }
    if changes.is_empty() {
        tracing::info!(%path, "configuration reread, nothing changed");
    }
    changes.iter().any(|change| change.reload == Reload::Live).then_some(new)
}

fn try_load(arguments: &Arguments) -> Result<Loaded<Config>> {
    let new = load(arguments)?;
    new.config.require_sinks()?;
    assemble::check_sinks(&new.config)?;
    Ok(new)
}

/// From one configuration to the next; back to the old one if the new one can't be carried out.
fn change_over(
    assembly: &Assembly,
    logging: &Logging,
    current: Loaded<Config>,
    new: Loaded<Config>,
) -> Result<(Plan, Loaded<Config>)> {
    match assembly.plan(&new.config) {
        Ok(plan) => {
            logging.set(&new.config.log.level)?;
            say_choice(&new.config);
            Ok((plan, new))
        }
        Err(error) => {
            tracing::error!(
                reason = format!("{error:#}"),
                "configuration refused, back to the old one"
            );
            let plan = assembly.plan(&current.config)?;
            Ok((plan, current))
        }
    }
}

#[derive(PartialEq, Eq)]
enum Told {
    Stop,
    Reread,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reread,
        }
    }
}
