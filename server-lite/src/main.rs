//! `holdfast-hub`: parses arguments, runs a command, turns the result into an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

mod cli;
mod inspect;
mod logging;
mod serve;
mod upkeep;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser as _;
use server_lite::Config;
use settings::{Loaded, Problems};

use crate::cli::{Arguments, Command};

const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has had enough: `holdfast-hub samples … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let is_usage = error.is::<Problems>();
            eprintln!("{}{error:#}", if is_usage { "" } else { "error: " });
            if is_usage { ExitCode::from(USAGE_ERROR) } else { ExitCode::FAILURE }
        }
    }
}

fn execute(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::Run { ready_file } => serve::run(load(arguments)?.config, ready_file.as_deref()),
        Command::CheckConfig => check_config(&load(arguments)?.config),
        Command::PrintConfig => {
            Ok(io::stdout().write_all(load(arguments)?.effective.to_toml().as_bytes())?)
        }
        Command::Version => {
            Ok(writeln!(io::stdout(), "holdfast-hub {}", env!("CARGO_PKG_VERSION"))?)
        }
        Command::Samples { host, metric, labels } => {
            inspect::samples(&load(arguments)?.config, host.as_deref(), metric, labels)
        }
        Command::Audit { json } => inspect::audit(&load(arguments)?.config, *json),
        Command::Backup { directory } => upkeep::backup(&load(arguments)?.config, directory),
        Command::Restore { directory } => upkeep::restore(directory, &load(arguments)?.config),
        Command::Doctor => {
            let config = load(arguments)?.config;
            upkeep::doctor(&config, check_config(&config))
        }
        Command::Migrate => upkeep::migrate(&load(arguments)?.config),
    }
}

fn load(arguments: &Arguments) -> Result<Loaded<Config>, Problems> {
    Config::load(arguments.inputs())
}

/// All that `run` would refuse, without touching store or network.
fn check_config(config: &Config) -> Result<()> {
    logging::check(&config.log.level)?;
    server_lite::check(config)?;
    let (listen, rules) = (config.listen, config.rules.len());
    writeln!(io::stdout(), "configuration is good: {rules} rules, listens on {listen}")?;
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
