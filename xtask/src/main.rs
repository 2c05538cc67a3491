//! `cargo xtask <command>`: parses, runs, and turns the result into an exit code.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use xtask::{demo, fleet, footprint, promql, test, torture};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Holdfast's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format, lints, every test, doc tests: what has to pass before a change lands
    Test,
    /// Hub and agent on this host's data, as a live table; with --outage, the drill
    Demo {
        /// Take the hub away for so long, kill the agent in the middle, count what was lost: "30s"
        #[arg(long, value_parser = duration)]
        outage: Option<Duration>,
    },
    /// Hub and agents killed again and again: what was lost is counted, and should be nothing
    Torture {
        /// How often something is killed
        #[arg(long, default_value_t = 200)]
        kills: usize,
        /// What the schedule of kills is made from; any, and printed, unless given
        #[arg(long)]
        seed: Option<u64>,
        /// Time between two ticks
        #[arg(long, value_parser = duration, default_value = "1s")]
        interval: Duration,
        /// Where the binaries lie; built in release unless given
        #[arg(long, value_name = "DIR")]
        binaries: Option<PathBuf>,
    },
    /// A fleet of made-up hosts sends to a store, as fast as it takes it: rate, bytes, CPU, memory, answers
    Fleet {
        /// How many hosts
        #[arg(long, default_value_t = 1000)]
        hosts: u32,
        /// Series of each
        #[arg(long, default_value_t = 500)]
        series: usize,
        /// Time between two scrapes of a host
        #[arg(long, value_parser = duration, default_value = "10s")]
        interval: Duration,
        /// How much time of the hosts is sent
        #[arg(long = "for", value_parser = duration, default_value = "60s")]
        sent_for: Duration,
        /// Requests under way at one time
        #[arg(long, default_value_t = 16)]
        connections: usize,
        /// embedded, embedded-remote-write, prometheus, victoria-metrics or postgres://…; again for
        /// more; all that are installed unless given
        #[arg(long = "store")]
        stores: Vec<fleet::Kind>,
        /// Where the binaries lie; built in release unless given
        #[arg(long, value_name = "DIR")]
        binaries: Option<PathBuf>,
    },
    /// Run a command beside a PostgreSQL cluster of its own, for the tests of the hub's store
    WithPostgres {
        /// For instance: cargo test -p server-lite postgres
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Scripts in the format of Prometheus's own tests, run against our PromQL
    Promql {
        /// For instance promql/corpus/*.test
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// What a host pays for the agent: CPU a tick, memory, sizes of the binaries
    Footprint {
        /// How long to measure
        #[arg(long = "for", value_parser = duration, default_value = "5m")]
        measured_for: Duration,
        /// Time between two ticks
        #[arg(long, value_parser = duration, default_value = "10s")]
        interval: Duration,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Test => test::run(),
        Chore::Demo { outage: None } => demo::live(),
        Chore::Demo { outage: Some(outage) } => demo::outage(outage),
        Chore::Torture { kills, seed, interval, binaries } => {
            let seed = seed.unwrap_or_else(torture::any_seed);
            torture::main(&torture::Plan { kills, seed, interval }, binaries.as_deref())
        }
        Chore::WithPostgres { command } => test::with_postgres(&command),
        Chore::Promql { files } => promql::run(&files),
        Chore::Fleet { hosts, series, interval, sent_for, connections, stores, binaries } => {
            let plan = fleet::Plan { hosts, series, interval, sent_for, connections, stores };
            fleet::run(&plan, binaries.as_deref())
        }
        Chore::Footprint { measured_for, interval } => footprint::run(measured_for, interval),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: settings::Duration = text.parse().map_err(|error| format!("{error}"))?;
    Ok(duration.into())
}
