//! The agent's configuration file.
//!
//! [`keys`] says everything there is to say about every key, once; reading, messages, the sample file
//! and the reference page come from it. Collectors are not known here: whoever calls passes the
//! registry, and each line of it becomes a table `[collectors.<name>]`.
//!
//! Values come from, later ones winning: defaults, the file, `SERVER_URL` and `AGENT_TOKEN`,
//! `HOLDFAST_…` variables, flags.

mod check;
mod keys;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use settings::{Duration, Effective, Flag, Layers, Loaded, Problems, Secret, Size, Source};

use crate::{collector::Registration, roots::Roots, sink::Delivery};

pub use keys::{keys, reference, sample};

/// Where the file lies unless another is named; there it may be absent.
pub const DEFAULT_PATH: &str = "/etc/holdfast/agent.toml";

/// What variables of the environment begin with.
pub const PREFIX: &str = "HOLDFAST";

/// Variables with short names, and the keys they set. `type` is `http` unless said otherwise, so
/// `SERVER_URL` alone makes a sink.
pub const SHORTS: [(&str, &str); 2] =
    [("SERVER_URL", "sinks.hub.url"), ("AGENT_TOKEN", "sinks.hub.token")];

/// The hub's own variables, which may stand in the same environment.
const FOREIGN: [&str; 1] = ["HOLDFAST_HUB"];

/// The agent's configuration. Units, bounds and meaning of each field: see [`keys`], or
/// `docs/configuration-agent.md`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time between two ticks. Default 10s.
    pub interval: Duration,
    /// How long one collector may take; see [`Config::collector_deadline`]. Default 5s.
    pub collector_deadline: Duration,
    /// How long stopping may take. Default 10s.
    pub shutdown_deadline: Duration,
    /// Where log, identity and quarantine lie. Default `/var/lib/holdfast-agent`.
    pub data_dir: PathBuf,
    /// Name of this host. Default: what the kernel says.
    pub hostname: Option<String>,
    /// Stands for `/proc`.
    pub procfs: PathBuf,
    /// Stands for `/sys`.
    pub sysfs: PathBuf,
    /// Stands for `/`.
    pub rootfs: PathBuf,
    /// What the agent says of itself.
    pub log: LogConfig,
    /// The write-ahead log.
    pub wal: WalConfig,
    /// Collectors of the registry, by name.
    #[serde(default)]
    pub collectors: BTreeMap<String, CollectorConfig>,
    /// Sinks, by the names that users gave them.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkConfig>,
}

/// What the agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A filter in the form of `RUST_LOG`. Default `info`.
    pub level: String,
}

/// Bounds of the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalConfig {
    /// Bytes on disk. Default 256MiB.
    pub max_bytes: Size,
    /// Age of the oldest record. Default 7d.
    pub max_age: Duration,
    /// Bytes of ticks that wait in memory while the disk takes none. Default 4MiB.
    pub memory_max: Size,
}

/// One collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct CollectorConfig {
    /// Whether it runs, if that was given; what it does otherwise, its line of the registry and the
    /// machine say.
    pub enabled: Option<bool>,
    /// Time between two runs, a multiple of [`Config::interval`]. Default: that.
    pub interval: Option<Duration>,
    /// Its options, those that were given; a collector knows the defaults of the others.
    #[serde(flatten)]
    pub options: BTreeMap<String, String>,
}

/// One sink: what counts for each, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SinkConfig {
    /// Whether records wait for it. Default: required.
    pub delivery: Delivery,
    /// Bytes of records a second while a backlog drains. Default 4MiB.
    pub max_bytes_per_second: Size,
    /// Where it leads.
    #[serde(flatten)]
    pub target: SinkTarget,
}

/// Where a sink leads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum SinkTarget {
    /// A Holdfast hub.
    Http(HttpConfig),
    /// A receiver of Prometheus remote write.
    #[serde(rename = "remote_write")]
    RemoteWrite(RemoteWriteConfig),
    /// Standard output.
    Stdout(StdoutConfig),
    /// A file.
    File(FileConfig),
}

/// A Holdfast hub.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Base address: `https://hub.example:8443`.
    pub url: String,
    /// The secret shared with the hub; without one, requests are not signed.
    pub token: Option<Secret>,
    /// A PEM file with the certificates that sign the hub's; without one, the system's count.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take. Default 30s.
    pub timeout: Duration,
    /// Bytes of records in one request, before compression. Default 1MiB.
    pub max_bytes_per_request: Size,
}

/// A receiver of Prometheus remote write.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteWriteConfig {
    /// Whole address: `https://mimir.example/api/v1/push`.
    pub url: String,
    /// Version of the protocol. Default `auto`.
    pub protocol: RemoteWriteProtocol,
    /// Name for basic authentication, with the token as the password.
    pub username: Option<String>,
    /// A bearer token, or that password.
    pub token: Option<Secret>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A PEM file with the certificates that sign the receiver's; without one, the system's count.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take. Default 30s.
    pub timeout: Duration,
    /// Label `job`. Default `node`; empty: none.
    pub job: String,
    /// Label `instance`. Default: the host's name.
    pub instance: Option<String>,
    /// Labels for every series that doesn't have them itself.
    #[serde(default)]
    pub external_labels: BTreeMap<String, String>,
    /// Samples in one request. Default 10000.
    pub max_samples_per_request: u32,
}

/// Version of remote write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum RemoteWriteProtocol {
    /// 2.0 where the receiver takes it, else 1.0.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 1.0.
    #[serde(rename = "1.0")]
    V1,
    /// 2.0.
    #[serde(rename = "2.0")]
    V2,
}

/// Standard output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {
    /// How it looks. Default `prometheus`.
    pub format: Format,
}

/// How standard output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Prometheus's text format.
    #[default]
    Prometheus,
    /// One JSON object a line.
    Json,
    /// A table for people.
    Pretty,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// One JSON object a line, rotated.
    #[default]
    Json,
    /// The newest tick as a page for a textfile collector.
    Prometheus,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// What it holds. Default `json`.
    pub format: FileFormat,
    /// Where, absolute.
    pub path: PathBuf,
    /// Bytes before it is rotated. Default 64MiB.
    pub max_bytes: Size,
    /// Age before it is rotated. Default 1d.
    pub max_age: Duration,
    /// Rotated files that are kept. Default 7.
    pub keep: u32,
}

/// Where a configuration comes from, besides its defaults.
#[derive(Clone, Debug, Default)]
pub struct Inputs<'a> {
    /// The file if one was named; it must be there then. Otherwise [`DEFAULT_PATH`], if it is there.
    pub path: Option<&'a Path>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// Flags of the command line that stand for keys.
    pub flags: Vec<Flag>,
}

impl Default for Config {
    fn default() -> Self {
        let Roots { procfs, sysfs, rootfs } = Roots::default();
        Self {
            interval: Duration::from_secs(10),
            collector_deadline: Duration::from_secs(5),
            shutdown_deadline: Duration::from_secs(10),
            data_dir: "/var/lib/holdfast-agent".into(),
            hostname: None,
            procfs,
            sysfs,
            rootfs,
            log: LogConfig { level: "info".to_owned() },
            wal: WalConfig {
                max_bytes: Size::from_mib(256),
                max_age: Duration::from_secs(7 * 86_400),
                memory_max: Size::from_mib(4),
            },
            collectors: BTreeMap::new(),
            sinks: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place and what would be right.
    pub fn load(inputs: Inputs<'_>, registry: &[Registration]) -> Result<Loaded<Self>, Problems> {
        let file = match inputs.path {
            Some(path) => Some(Source::read(path)?),
            None => Source::read_if_present(Path::new(DEFAULT_PATH))?,
        };
        Self::load_text(file, inputs, registry)
    }

    /// Reads a configuration whose file has been read.
    fn load_text(
        file: Option<Source>,
        Inputs { variables, flags, .. }: Inputs<'_>,
        registry: &[Registration],
    ) -> Result<Loaded<Self>, Problems> {
        let (prefix, foreign, shorts) = (PREFIX, &FOREIGN[..], &SHORTS[..]);
        let layers = Layers { file, variables, prefix, foreign, shorts, flags };
        let mut loaded: Loaded<Self> = settings::load(&keys(registry), &layers)?;
        loaded.config.keep_given_options(&loaded.effective);
        Problems::check(check::problems(&loaded))?;
        Ok(loaded)
    }

    /// Leaves to the collectors which defaults their options have: some depend on each other, and
    /// whether one runs depends on the machine.
    fn keep_given_options(&mut self, effective: &Effective) {
        for (name, collector) in &mut self.collectors {
            let path = |key: &str| format!("collectors.{name}.{key}");
            collector.enabled.take_if(|_| !effective.is_given(&path("enabled")));
            collector.options.retain(|key, _| effective.is_given(&path(key)));
        }
    }

    /// Says so if records would go nowhere.
    ///
    /// # Errors
    /// Says what to do.
    pub fn require_sinks(&self) -> Result<(), Problems> {
        if self.sinks.is_empty() { Err(check::no_sink().into()) } else { Ok(()) }
    }

    /// Where collectors read.
    #[must_use]
    pub fn roots(&self) -> Roots {
        Roots {
            procfs: self.procfs.clone(),
            sysfs: self.sysfs.clone(),
            rootfs: self.rootfs.clone(),
        }
    }

    /// How long one collector may take: never longer than the interval.
    #[must_use]
    pub fn collector_deadline(&self) -> std::time::Duration {
        self.collector_deadline.min(self.interval).get()
    }
}

#[cfg(test)]
mod tests;
