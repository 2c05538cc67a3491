//! `holdfast-agent wal`: the log of an agent that is stopped.
//!
//! Exit codes: 0 done or sound, 1 damaged, 2 wrong usage or configuration, [`NO_LOOK`].

mod export;
mod inspect;
mod repair;
mod text;
mod verify;

use std::{panic, path::PathBuf, process::ExitCode};

use agent_core::{
    builder::WAL_DIRECTORY,
    config::Config,
    wal::{WalOptions, inspect::StoppedLog},
};
use anyhow::Result;

use self::export::Export;
use crate::{
    assemble,
    cli::{Arguments, LogArguments, WalCommand},
};

/// No log is there, an agent owns it, or it can't be read.
pub(crate) const NO_LOOK: u8 = 3;

const DAMAGED: u8 = 1;

/// Carries out a command.
///
/// # Errors
/// `InspectError` when the log can't be looked at, `Problems` for wrong usage or configuration; what
/// standard output refuses.
pub(crate) fn run(arguments: &Arguments, command: &WalCommand) -> Result<ExitCode> {
    silence_sled();
    let is_sound = match command {
        WalCommand::Inspect { log, format } => {
            inspect::run(&Target::of(arguments, log)?.open()?, *format)?
        }
        WalCommand::Verify { log } => verify::run(&Target::of(arguments, log)?.open()?)?,
        // The only format there is.
        WalCommand::Export { log, format: _, sink, from, to, host } => {
            let target = Target::of(arguments, log)?;
            let host = host.clone().or(target.host.clone());
            let export = Export { sink: sink.as_deref(), from: *from, to: *to, host };
            export.run(&target.open()?)?
        }
        WalCommand::Repair { log, dry_run: true } => {
            verify::run(&Target::of(arguments, log)?.open()?)?
        }
        WalCommand::Repair { log, dry_run: false } => {
            let target = Target::of(arguments, log)?;
            repair::run(&target.directory, target.options)?
        }
    };
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

/// Which log, and what the configuration says of it.
struct Target {
    directory: PathBuf,
    /// The name of its host, if the configuration that names the log is this host's.
    host: Option<String>,
    options: WalOptions,
}

impl Target {
    /// A directory that is named needs no configuration: that may be broken, or another host's.
    fn of(arguments: &Arguments, log: &LogArguments) -> Result<Self> {
        if let Some(path) = &log.path {
            let (directory, options) = (path.clone(), WalOptions::default());
            return Ok(Self { directory, host: None, options });
        }
        let config = Config::load(arguments.inputs(), collectors::REGISTRY)?.config;
        Ok(Self {
            directory: config.data_dir.join(WAL_DIRECTORY),
            host: Some(assemble::hostname(&config)),
            options: assemble::wal_options(&config),
        })
    }

    fn open(&self) -> Result<StoppedLog> {
        Ok(StoppedLog::open(&self.directory)?)
    }
}

/// sled panics on damage it doesn't expect. That is caught and told as what it is: a finding.
fn silence_sled() {
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        let is_sled = |file: &str| file.contains("/sled-");
        if !panicked.location().is_some_and(|location| is_sled(location.file())) {
            others(panicked);
        }
    }));
}
