//! `holdfast-agent`: parses arguments, runs a command, turns the result into an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; `wal` has more, see there.

mod assemble;
mod check;
mod cli;
mod heartbeat;
mod logging;
mod once;
mod run;
mod wal;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use agent_core::{config::Config, wal::inspect::InspectError};
use anyhow::Result;
use clap::Parser as _;
use settings::{Effective, Loaded, Problems};

use crate::{
    assemble::Choice,
    cli::{Arguments, Command},
};

/// Version of the agent, as it tells the hub.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(&arguments) {
        Ok(code) => code,
        // Whoever reads us has had enough: `holdfast-agent once | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let is_usage = error.is::<Problems>();
            eprintln!("{}{error:#}", if is_usage { "" } else { "error: " });
            match (is_usage, error.is::<InspectError>()) {
                (true, _) => ExitCode::from(USAGE_ERROR),
                (_, true) => ExitCode::from(wal::NO_LOOK),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn execute(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Run => run::run(arguments)?,
        Command::Once { format, all_collectors } => {
            let mut config = load(arguments)?.config;
            if *all_collectors {
                assemble::switch_all_on(&mut config);
            }
            once::run(&config, (*format).into())?;
        }
        Command::CheckConfig => check::run(arguments)?,
        Command::PrintConfig => {
            let effective = in_force(load(arguments)?);
            io::stdout().write_all(effective.to_toml().as_bytes())?;
        }
        Command::Wal { command } => return wal::run(arguments, command),
        Command::Version => writeln!(io::stdout(), "holdfast-agent {VERSION}")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration, with what only its users can check: filters and patterns.
fn load(arguments: &Arguments) -> Result<Loaded<Config>, Problems> {
    let loaded = Config::load(arguments.inputs(), collectors::REGISTRY)?;
    let problem = |path: &str, reason: String| loaded.effective.problem(path, reason);
    let filter = logging::check(&loaded.config.log.level).err();
    let filter = filter.map(|error| problem("log.level", format!("{error:#}")));
    let option = assemble::collectors(&loaded.config).err();
    let option = option.map(|error| {
        problem(&format!("collectors.{}.{}", error.collector, error.key), error.reason)
    });
    Problems::check(filter.into_iter().chain(option).collect())?;
    Ok(loaded)
}

/// Every value, and what this host makes of the defaults.
fn in_force(loaded: Loaded<Config>) -> Effective {
    let Loaded { config, mut effective } = loaded;
    let Choice { environment, unfit, .. } = Choice::of(&config);
    for (why, names) in unfit {
        let why = format!("off by default on this host, {environment}: {why}");
        for name in names {
            effective.put_here(&format!("collectors.{name}.enabled"), false, &why);
        }
    }
    effective
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
