//! `holdfast-agent check-config`: all that `run` would refuse, and what it would do to the log that is
//! there. Nothing is opened, connected or changed, so it can be asked while the agent runs.

use std::io::{self, Write};

use agent_core::{
    builder::WAL_DIRECTORY,
    config::Config,
    wal::{Outlook, Prospect},
};
use anyhow::Result;

use crate::{
    assemble::{self, Choice},
    cli::Arguments,
    load,
};

/// Says whether the configuration is good.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let config = load(arguments)?.config;
    config.require_sinks()?;
    let collectors = assemble::collectors(&config)?.len();
    let choice = Choice::of(&config);
    assemble::check_sinks(&config)?;
    let sinks: Vec<&str> = config.sinks.keys().map(String::as_str).collect();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "configuration is good: {collectors} collectors every {}, sinks: {}",
        config.interval,
        sinks.join(", ")
    )?;
    writeln!(out, "this host is {}", choice.environment)?;
    for sentence in choice.unfit_in_words() {
        writeln!(out, "  {sentence}")?;
    }
    Ok(say_prospects(&config, &sinks, &mut out)?)
}

/// What becomes of sinks that are in the log, or are new to it.
fn say_prospects(config: &Config, sinks: &[&str], out: &mut impl Write) -> io::Result<()> {
    let directory = config.data_dir.join(WAL_DIRECTORY);
    let path = directory.display();
    let outlook = match Outlook::look(&directory) {
        Ok(Some(outlook)) => outlook,
        Ok(None) => {
            return writeln!(out, "no log in {path} yet: each sink begins with the first record");
        }
        Err(error) => {
            let advice = "ask as root, or as the user that the agent runs as";
            return writeln!(
                out,
                "what sinks do to the log in {path} can't be seen: {error}; {advice}"
            );
        }
    };
    writeln!(out, "in the log in {path}:")?;
    for (sink, prospect) in outlook.of(sinks.iter().copied()) {
        writeln!(out, "  {sink}: {prospect}")?;
        if let Prospect::GivenUp { waiting: 1.. } = prospect {
            writeln!(
                out,
                "    to keep its place, keep its name: a sink that is renamed is a new one"
            )?;
        }
    }
    Ok(())
}
