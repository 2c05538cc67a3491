//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use server_lite::config::Inputs;
use settings::Flag;

/// Host monitoring that loses nothing: the hub.
#[derive(Debug, Parser)]
#[command(name = "holdfast-hub", disable_version_flag = true)]
pub(crate) struct Arguments {
    /// Configuration file [default: /etc/holdfast/hub.toml, which may be absent]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store lies
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address and port; port 0 is any that is free
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take records, answer, watch rules, until told to stop
    Run {
        /// Write the address there once the hub listens
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Say what is wrong with the configuration
    CheckConfig,
    /// Print the configuration in force, and where each value comes from
    PrintConfig,
    /// Print the version
    Version,
    /// Print stored samples one by one, in the order of storage, as JSON lines; beside a running hub too
    Samples {
        /// Of this host, by name or agent id [default: every host]
        #[arg(long)]
        host: Option<String>,
        /// Of this metric
        #[arg(long)]
        metric: String,
        /// With this label; may be given several times
        #[arg(long = "labels", value_name = "NAME=VALUE", value_delimiter = ',')]
        labels: Vec<String>,
    },
    /// Look at every stored sample: duplicates, order, gaps; beside a running hub too
    Audit {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy the store as it is now to a new directory; beside a running hub too
    Backup {
        /// Where to; made if it isn't there, refused if something lies in it
        directory: PathBuf,
    },
    /// Put a backup into an empty data directory; what came after it was made is told as gaps
    Restore {
        /// What `backup` has written
        directory: PathBuf,
    },
    /// Look the configuration and the store over and say what is wrong; beside a running hub too
    Doctor,
    /// Say which format the store has, and bring it up to date; the hub does so too when it starts
    Migrate,
}

impl Arguments {
    /// What the configuration is made of.
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        let flag = |name: &str, key: &str, value: &Option<String>| {
            value.as_ref().map(|word| Flag::new(name, key, word))
        };
        let flags = [
            flag("--data-dir", "data_dir", &self.data_dir),
            flag("--listen", "listen", &self.listen),
        ];
        Inputs {
            path: self.config.as_deref(),
            variables: settings::environment(),
            flags: flags.into_iter().flatten().collect(),
        }
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
    fn flags_stand_for_keys() {
        let words = ["holdfast-hub", "run", "--data-dir", "/x", "--listen", "127.0.0.1:0"];
        let arguments = Arguments::try_parse_from(words).unwrap();
        let expected = [
            Flag::new("--data-dir", "data_dir", "/x"),
            Flag::new("--listen", "listen", "127.0.0.1:0"),
        ];
        assert_eq!(arguments.inputs().flags, expected);
    }
}
