//! The command line.

use std::path::PathBuf;

use agent_core::config::{DEFAULT_PATH, Inputs};
use clap::{Parser, Subcommand, ValueEnum};
use settings::Flag;
use sinks::render;

/// Host monitoring that loses nothing: the agent.
#[derive(Debug, Parser)]
#[command(name = "holdfast-agent", disable_version_flag = true)]
pub(crate) struct Arguments {
    /// Configuration file [default: /etc/holdfast/agent.toml, which may be absent]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stands for /proc
    #[arg(long, global = true, value_name = "DIR")]
    procfs: Option<String>,
    /// Stands for /sys
    #[arg(long, global = true, value_name = "DIR")]
    sysfs: Option<String>,
    /// Stands for /
    #[arg(long, global = true, value_name = "DIR")]
    rootfs: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Collect, log and deliver until told to stop
    Run,
    /// Collect once and print it
    Once {
        /// How it looks
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Say what is wrong with the configuration
    CheckConfig,
    /// Print the configuration in force, and where each value comes from
    PrintConfig,
    /// Print the version
    Version,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Format {
    /// Prometheus's text format, as node_exporter prints it
    #[default]
    Prometheus,
    /// One JSON object
    Json,
    /// A table for people
    Pretty,
}

impl From<Format> for render::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Prometheus => Self::Prometheus,
            Format::Json => Self::Json,
            Format::Pretty => Self::Pretty,
        }
    }
}

impl Arguments {
    /// What the configuration is made of.
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        let roots = [("procfs", &self.procfs), ("sysfs", &self.sysfs), ("rootfs", &self.rootfs)];
        let flag = |(key, value): (&str, &Option<String>)| {
            value.as_ref().map(|word| Flag::new(&format!("--{key}"), key, word))
        };
        Inputs {
            path: self.config.as_deref(),
            variables: settings::environment(),
            flags: roots.into_iter().filter_map(flag).collect(),
        }
    }

    /// The file that is read, for messages.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| DEFAULT_PATH.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn roots_become_flags() {
        let arguments = Arguments::try_parse_from(["holdfast-agent", "once", "--procfs", "/x"]);
        let flags = arguments.unwrap().inputs().flags;
        assert_eq!(flags, [Flag::new("--procfs", "procfs", "/x")]);
    }
}
