//! The command line.

use std::path::PathBuf;

use agent_core::config::{DEFAULT_PATH, Inputs};
use clap::{Args, Parser, Subcommand, ValueEnum};
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
    /// Where log and identity lie [default: as configured, else /var/lib/holdfast-agent]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
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
        /// Run every collector there is, also those that are off
        #[arg(long)]
        all_collectors: bool,
    },
    /// Say what is wrong with the configuration
    CheckConfig,
    /// Print the configuration in force, and where each value comes from
    PrintConfig,
    /// Look at the log of an agent that is stopped, or repair it
    #[command(after_help = WAL_HELP)]
    Wal {
        #[command(subcommand)]
        command: WalCommand,
    },
    /// Print the version
    Version,
}

const WAL_HELP: &str = "\
Nothing but `repair` changes a byte of the log, so a copy or a read-only disk will do.
Exit codes: 0 done or sound, 1 damaged, 2 wrong usage or configuration, 3 no log there, in use or unreadable.";

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Say what lies in the log: generations, gaps, sinks and what waits for each
    Inspect {
        #[command(flatten)]
        log: LogArguments,
        /// How it looks
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Read everything, say what is damaged and what a repair or the next start makes of it
    Verify {
        #[command(flatten)]
        log: LogArguments,
    },
    /// Print the records in order, in the form in which a file sink writes them
    ///
    /// What is damaged is told on standard error; the rest is printed all the same.
    Export {
        #[command(flatten)]
        log: LogArguments,
        /// How it looks
        #[arg(long, value_enum, default_value_t)]
        format: ExportFormat,
        /// Only what waits for this sink
        #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "to"])]
        sink: Option<String>,
        /// First sequence number
        #[arg(long, value_name = "SEQ")]
        from: Option<u64>,
        /// Last sequence number
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
        /// Name of the host to write into each line [default: this host's, none if PATH is given]
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
    },
    /// Put what is damaged into quarantine, save what is readable, and leave gaps for the rest
    ///
    /// An agent does the same by itself when it starts and reads.
    Repair {
        #[command(flatten)]
        log: LogArguments,
        /// Only say what would be done: as `verify`
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which log.
#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// The log's directory [default: `wal` below the data directory]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Tables for people
    #[default]
    Pretty,
    /// One JSON object
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON object a line
    #[default]
    Json,
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
        let directories = [
            ("procfs", &self.procfs),
            ("sysfs", &self.sysfs),
            ("rootfs", &self.rootfs),
            ("data_dir", &self.data_dir),
        ];
        let flag = |(key, value): (&str, &Option<String>)| {
            let name = format!("--{}", key.replace('_', "-"));
            value.as_ref().map(|word| Flag::new(&name, key, word))
        };
        Inputs {
            path: self.config.as_deref(),
            variables: settings::environment(),
            flags: directories.into_iter().filter_map(flag).collect(),
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
