//! The hub's configuration file.
//!
//! [`keys`] says everything there is to say about every key, once; reading, messages, the sample file
//! and the reference page come from it. Values come from, later ones winning: defaults, the file,
//! `AGENT_TOKEN` and `RUST_LOG`, `HOLDFAST_HUB_…` variables, flags.

mod keys;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use settings::{Duration, Flag, Layers, Loaded, Problem, Problems, Secret, Size, Source};

use crate::{
    api::prometheus::query::STEPS_MAX,
    notify::NotifyConfig,
    query::expression::Bounds,
    rules::Rules,
    store::{Retention, postgres},
};

pub use keys::{keys, reference, sample};

/// Where the file lies unless another is named; there it may be absent.
pub const DEFAULT_PATH: &str = "/etc/holdfast/hub.toml";

/// What variables of the environment begin with.
pub const PREFIX: &str = "HOLDFAST_HUB";

/// Variables with short names, and the keys they set.
pub const SHORTS: [(&str, &str); 2] = [("AGENT_TOKEN", "auth.token"), ("RUST_LOG", "log.level")];

/// The hub's configuration. Units, bounds and meaning of each field: see [`keys`], or
/// `docs/configuration-hub.md`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Where the store lies. Default `/var/lib/holdfast-hub`.
    pub data_dir: PathBuf,
    /// A database in place of the embedded store.
    pub database: DatabaseConfig,
    /// How long stopping may take. Default 20s.
    pub shutdown_deadline: Duration,
    /// Who may speak to the hub.
    #[serde(default)]
    pub auth: AuthConfig,
    /// What the hub says of itself.
    pub log: LogConfig,
    /// How long samples are kept.
    pub retention: RetentionConfig,
    /// Bounds.
    pub limits: Limits,
    /// Time between two evaluations of all rules. Default 10s.
    pub rule_interval: Duration,
    /// Age from which a series without newer samples is unknown. Default 5m.
    pub rule_stale_after: Duration,
    /// What is watched for.
    #[serde(default)]
    pub rules: Rules,
    /// Who is told.
    pub notify: NotifyConfig,
}

/// A database in place of the embedded store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Where it is; empty for the embedded store. Default empty.
    pub url: Secret,
    /// Transactions at one time that store requests. Default 2.
    pub connections: u32,
}

impl DatabaseConfig {
    /// Where it is, if there is one.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        Some(self.url.expose()).filter(|url| !url.is_empty())
    }
}

/// Who may speak to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The secret shared with agents and readers.
    pub token: Option<Secret>,
}

/// What the hub says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A filter in the form of `RUST_LOG`. Default `info`.
    pub level: String,
}

/// How long samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    /// As they came. Default 30d.
    pub raw: Duration,
    /// As rollups of a minute. Default 30d.
    pub rollup_1m: Duration,
    /// As rollups of ten minutes. Default 90d.
    pub rollup_10m: Duration,
    /// As rollups of an hour. Default 730d.
    pub rollup_1h: Duration,
    /// As rollups of a day. Default 3650d.
    pub rollup_1d: Duration,
}

impl RetentionConfig {
    /// As the store takes it.
    #[must_use]
    pub const fn keep(&self) -> Retention {
        let Self { raw, rollup_1m, rollup_10m, rollup_1h, rollup_1d } = self;
        let rollups = [rollup_1m.get(), rollup_10m.get(), rollup_1h.get(), rollup_1d.get()];
        Retention { raw: raw.get(), rollups }
    }

    /// Names and values of the levels that are kept shorter than the one before them.
    fn out_of_order(&self) -> impl Iterator<Item = [(&'static str, Duration); 2]> {
        let levels = [
            ("rollup_1m", self.rollup_1m),
            ("rollup_10m", self.rollup_10m),
            ("rollup_1h", self.rollup_1h),
            ("rollup_1d", self.rollup_1d),
        ];
        let pairs = [[levels[0], levels[1]], [levels[1], levels[2]], [levels[2], levels[3]]];
        pairs.into_iter().filter(|[finer, coarser]| coarser.1 < finer.1)
    }
}

/// Bounds that depend on the machine and the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Series stored of one agent. Default 100 000.
    pub series_per_agent: u32,
    /// Bytes of request bodies in memory at one time. Default 64MiB.
    pub ingest_memory: Size,
    /// Series one query may return. Default 1 000.
    pub query_series: u32,
    /// Points one query may return, all series together. Default 1 000 000.
    pub query_points: u32,
    /// Samples one expression may read and hold. Default 50 000 000.
    pub query_samples: u64,
    /// Series one selector of an expression may select. Default 100 000.
    pub query_selected_series: u32,
    /// Time one expression may take, waiting included. Default 2m.
    pub query_timeout: Duration,
    /// Expressions reckoned at one time. Default 2.
    pub query_concurrency: u32,
    /// Expressions that may wait for their turn. Default 64.
    pub query_queue: u32,
    /// Connections at one time; more wait. Default 25 000.
    pub connections: u32,
    /// Queries at one time; more wait. Default 4.
    pub queries: u32,
}

impl Limits {
    /// Bounds of expressions.
    #[must_use]
    pub fn expressions(&self) -> Bounds {
        let limits = promql::Limits {
            samples_max: usize::try_from(self.query_samples).unwrap_or(usize::MAX),
            series_max: self.query_selected_series as usize,
            // That, and the step it begins with.
            steps_max: STEPS_MAX as usize + 1,
        };
        Bounds {
            settings: promql::Settings { limits, ..promql::Settings::default() },
            time_max: self.query_timeout.get(),
            at_once: self.query_concurrency as usize,
            waiting_max: self.query_queue as usize,
        }
    }
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

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place and what would be right.
    pub fn load(inputs: Inputs<'_>) -> Result<Loaded<Self>, Problems> {
        let file = match inputs.path {
            Some(path) => Some(Source::read(path)?),
            None => Source::read_if_present(Path::new(DEFAULT_PATH))?,
        };
        Self::load_text(file, inputs)
    }

    fn load_text(
        file: Option<Source>,
        Inputs { variables, flags, .. }: Inputs<'_>,
    ) -> Result<Loaded<Self>, Problems> {
        let shorts = &SHORTS[..];
        let layers = Layers { file, variables, prefix: PREFIX, foreign: &[], shorts, flags };
        let loaded: Loaded<Self> = settings::load(&keys(), &layers)?;
        Problems::check(problems(&loaded))?;
        Ok(loaded)
    }
}

/// What no single key can be blamed for.
fn problems(loaded: &Loaded<Config>) -> Vec<Problem> {
    let config = &loaded.config;
    let open = config.auth.token.is_none() && !config.listen.ip().is_loopback();
    let open = open.then(|| {
        let text = format!(
            "found {:?}, and no secret is set: anyone who reaches it could write and read; set \
             auth.token (or AGENT_TOKEN), or listen on loopback, as \"127.0.0.1:8080\"",
            config.listen.to_string()
        );
        loaded.effective.problem("listen", text)
    });
    let retention = config.retention.out_of_order().map(|[finer, coarser]| {
        let text = format!(
            "found \"{}\", shorter than retention.{} (\"{}\"): set it to that or longer, or that shorter",
            coarser.1, finer.0, finer.1
        );
        loaded.effective.problem(&format!("retention.{}", coarser.0), text)
    });
    let database = config.database.url().and_then(|url| postgres::check_url(url).err());
    let database = database.map(|text| loaded.effective.problem("database.url", text));
    open.into_iter().chain(retention).chain(database).collect()
}
