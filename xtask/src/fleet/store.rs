//! The stores that are measured: each a process on this host, its data in a directory of the run.

use std::{
    fmt, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    ask::{Asker, Question},
    load::Protocol,
};
use crate::{
    chore::has,
    programs::{Binaries, Hub, Program, Usage, unix_now, wait_for},
};

const TOKEN: &str = "fleet";
const START_DEADLINE: Duration = Duration::from_secs(60);
const ASK_DEADLINE: Duration = Duration::from_secs(120);
/// How long a store may take until all it was sent lies where it stays.
const SETTLE_DEADLINE: Duration = Duration::from_secs(600);
/// How long the others get to settle, who don't say when they have.
const SETTLE_OTHERS: Duration = Duration::from_secs(10);

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The hub's own.
    Embedded(Sender),
    /// The hub over the database of that URL, which should be empty.
    Postgres(String),
    /// Debian's `prometheus`.
    Prometheus,
    /// Debian's `victoria-metrics`.
    VictoriaMetrics,
}

/// Who sends to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// An agent.
    Agent,
    /// Something that speaks remote write.
    RemoteWrite,
}

impl Kind {
    /// Those that need nothing but what is installed.
    #[must_use]
    pub fn installed() -> Vec<Self> {
        let mut all = vec![Self::Embedded(Sender::Agent), Self::Embedded(Sender::RemoteWrite)];
        for (kind, program, flag) in [
            (Self::Prometheus, "prometheus", "--version"),
            (Self::VictoriaMetrics, "victoria-metrics", "-version"),
        ] {
            if has(program, &[flag]) {
                all.push(kind);
            } else {
                println!("SKIPPED: {program} is not here (apt-get install {program})");
            }
        }
        all
    }

    /// How it is spoken to.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Embedded(Sender::Agent) | Self::Postgres(_) => Protocol::Records,
            Self::Embedded(Sender::RemoteWrite) | Self::Prometheus | Self::VictoriaMetrics => {
                Protocol::RemoteWrite
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded(Sender::Agent) => "embedded",
            Self::Embedded(Sender::RemoteWrite) => "embedded-remote-write",
            // The URL may hold a password.
            Self::Postgres(_) => "postgres",
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "embedded" => Self::Embedded(Sender::Agent),
            "embedded-remote-write" => Self::Embedded(Sender::RemoteWrite),
            "prometheus" => Self::Prometheus,
            "victoria-metrics" => Self::VictoriaMetrics,
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Self::Postgres(url.to_owned())
            }
            _ => {
                return Err(
                    "expected embedded, embedded-remote-write, prometheus, victoria-metrics \
                            or postgres://…"
                        .to_owned(),
                );
            }
        })
    }
}

/// A store that runs.
pub struct Store {
    kind: Kind,
    process: Process,
    /// Where its data lies.
    data: PathBuf,
    url: String,
}

enum Process {
    Hub(Box<Hub>),
    Other(Program),
}

impl Store {
    /// Starts it, its data below `directory`.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start(kind: &Kind, binaries: &Binaries, directory: &Path) -> Result<Self> {
        let hub = |environment: &[(&str, &str)]| -> Result<(Process, PathBuf, String)> {
            let hub = Hub::start_with(binaries, directory, TOKEN, environment)?;
            let (data, url) = (hub.data_dir().to_owned(), hub.url());
            Ok((Process::Hub(Box::new(hub)), data, url))
        };
        let data = directory.join("data");
        let (process, data, url) = match kind {
            Kind::Embedded(_) => hub(&[])?,
            Kind::Postgres(url) => hub(&[("HOLDFAST_HUB_DATABASE_URL", url)])?,
            Kind::Prometheus => {
                let configuration = directory.join("prometheus.yml");
                fs::write(&configuration, "global: {}\n")?;
                let address = free_address()?;
                let mut command = Command::new("prometheus");
                command
                    .arg(format!("--config.file={}", configuration.display()))
                    .arg(format!("--storage.tsdb.path={}", data.display()))
                    .arg(format!("--web.listen-address={address}"))
                    .args(["--web.enable-remote-write-receiver", "--log.level=warn"]);
                other("prometheus", &mut command, data, address)?
            }
            Kind::VictoriaMetrics => {
                let address = free_address()?;
                let mut command = Command::new("victoria-metrics");
                command
                    .arg(format!("-storageDataPath={}", data.display()))
                    .arg(format!("-httpListenAddr={address}"))
                    .args(["-retentionPeriod=10y", "-loggerLevel=WARN"])
                    // What was just written is asked for: not to be answered from a cache that lags.
                    .args(["-search.latencyOffset=0s", "-search.disableCache"]);
                other("victoria-metrics", &mut command, data, address)?
            }
        };
        let store = Self { kind: kind.clone(), process, data, url };
        let healthy = || Ok(ureq::get(format!("{}{}", store.url, store.health())).call().ok());
        wait_for(START_DEADLINE, healthy).with_context(|| format!("{kind} does not come up"))?;
        Ok(store)
    }

    const fn health(&self) -> &'static str {
        match self.kind {
            Kind::Embedded(_) | Kind::Postgres(_) => "/readyz",
            Kind::Prometheus => "/-/ready",
            Kind::VictoriaMetrics => "/health",
        }
    }

    /// What its process has used, and holds.
    ///
    /// # Errors
    /// When that can't be read.
    pub fn usage(&mut self) -> Result<Usage> {
        let program = match &mut self.process {
            Process::Hub(hub) => hub.program().context("the hub runs")?,
            Process::Other(program) => program,
        };
        Usage::of(program.pid())
    }

    /// Connections to send through, at one time.
    ///
    /// # Errors
    /// When no token can be made for them.
    pub fn connections(&self, count: usize) -> Result<Vec<Connection>> {
        (0..count).map(|_| self.connection()).collect()
    }

    fn connection(&self) -> Result<Connection> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ASK_DEADLINE))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let (path, headers) = match self.kind.protocol() {
            Protocol::Records => {
                let content_type = wire::request::CONTENT_TYPE.to_owned();
                ("/api/v1/ingest", vec![("content-type", content_type)])
            }
            Protocol::RemoteWrite => {
                let version = remote_write::Version::V1;
                let headers = vec![
                    ("content-type", version.content_type().to_owned()),
                    ("content-encoding", "snappy".to_owned()),
                    ("x-prometheus-remote-write-version", version.header().to_owned()),
                ];
                ("/api/v1/write", headers)
            }
        };
        let headers = headers.into_iter().chain(self.authorization()?).collect();
        Ok(Connection { agent, url: format!("{}{path}", self.url), headers })
    }

    fn authorization(&self) -> Result<Option<(&'static str, String)>> {
        Ok(match self.process {
            Process::Hub(_) => {
                let token = wire::token::mint(TOKEN, "xtask", unix_now().as_secs())?;
                Some(("authorization", format!("Bearer {token}")))
            }
            Process::Other(_) => None,
        })
    }

    /// Waits until what was sent lies where it stays.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn settle(&self) -> Result<()> {
        if matches!(self.process, Process::Other(_)) {
            thread::sleep(SETTLE_OTHERS);
            return Ok(());
        }
        let url = format!("{}/metrics", self.url);
        let is_done = || {
            let page = ureq::get(&url).call()?.body_mut().read_to_string()?;
            let is_idle = |name: &str| {
                let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line == Some("0")
            };
            let is_idle =
                is_idle("holdfast_hub_store_sealing") && is_idle("holdfast_hub_store_queued");
            Ok(is_idle.then_some(()))
        };
        wait_for(SETTLE_DEADLINE, is_done).with_context(|| format!("{} settles", self.kind))
    }

    /// Who asks it; the connection stays open.
    #[must_use]
    pub fn asker(&self) -> Asker {
        let token = matches!(self.process, Process::Hub(_)).then_some(TOKEN);
        Asker::new(&self.url, token)
    }

    /// How long a question takes: the median of some answers.
    pub(super) fn ask(&self, question: &Question, times: usize) -> Result<Duration> {
        let asker = self.asker();
        let took = (0..times).map(|_| Ok(asker.ask(question)?.0));
        let mut took = took.collect::<Result<Vec<Duration>>>()?;
        took.sort_unstable();
        Ok(took[took.len() / 2])
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it doesn't end well.
    pub fn stop(&mut self) -> Result<()> {
        match &mut self.process {
            Process::Hub(hub) => hub.stop(),
            Process::Other(program) => program.stop(),
        }
    }

    /// Bytes of its files as they lie on disk.
    pub(super) fn disk_bytes(&self) -> Result<u64> {
        match &self.kind {
            Kind::Postgres(url) => database_bytes(url),
            _ => Ok(directory_bytes(&self.data)?),
        }
    }
}

fn other(
    name: &'static str,
    command: &mut Command,
    data: PathBuf,
    address: String,
) -> Result<(Process, PathBuf, String)> {
    let program = Program::start(name, command, |_| ())?;
    Ok((Process::Other(program), data, format!("http://{address}")))
}

/// An address that nobody has just now.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn database_bytes(url: &str) -> Result<u64> {
    let mut command = Command::new("psql");
    command.args([url, "-XAtc", "SELECT pg_database_size(current_database())"]);
    let output = command.output().context("start psql")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("psql said {text:?}"))
}

fn directory_bytes(directory: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            directory_bytes(&entry.path())?
        } else {
            // What is set aside and not written costs nothing.
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// A connection that sends requests, one at a time.
pub struct Connection {
    agent: ureq::Agent,
    url: String,
    headers: Vec<(&'static str, String)>,
}

impl Connection {
    /// Whether the store took it; `false` if it said to come back.
    pub(super) fn send(&self, body: &[u8]) -> Result<bool> {
        let mut request = self.agent.post(&self.url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut response = request.send(body)?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        match status {
            200..=299 => Ok(true),
            429 | 503 => Ok(false),
            _ => bail!("{} answered {status}: {text}", self.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named() {
        for name in ["embedded", "embedded-remote-write", "prometheus", "victoria-metrics"] {
            assert_eq!(name.parse::<Kind>().unwrap().to_string(), name);
        }
        let database: Kind = "postgres://me:secret@localhost/db".parse().unwrap();
        assert_eq!(database.to_string(), "postgres");
        assert!("mysql://".parse::<Kind>().unwrap_err().contains("expected embedded"));
    }
}
