//! From a configuration to what it asks for: the only file that names every collector and every sink.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use agent_core::{
    Plan, PlannedCollector, PlannedSink, Registration, Sink, Status,
    clock::SystemClock,
    collector::BuildError,
    config::{self, CollectorConfig, Config, FileFormat, SinkConfig, SinkTarget},
    wake::Wake,
    wal::WalOptions,
};
use anyhow::{Context as _, Result};
use collectors::{Environment, REGISTRY};
use settings::Size;
use sinks::{
    FileConfig, FileSink, Format, HttpConfig, HttpSink, Identity, PromFileSink, RemoteWriteConfig,
    RemoteWriteSink, StdoutSink,
    remote_write::{Credentials, Protocol},
};
use wire::{AgentId, InstanceId};

use crate::{VERSION, heartbeat::Heart};

/// What every plan of one agent is made with.
pub(crate) struct Assembly {
    pub(crate) agent_id: AgentId,
    pub(crate) instance_id: InstanceId,
    pub(crate) status: Status,
}

impl Assembly {
    /// Everything that a configuration asks for.
    ///
    /// # Errors
    /// Names the collector or sink that can't be made.
    pub(crate) fn plan(&self, config: &Config) -> Result<Plan> {
        let mut plan = Plan {
            interval: config.interval.get(),
            collector_deadline: config.collector_deadline(),
            shutdown_deadline: config.shutdown_deadline.get(),
            collectors: collectors(config)?,
            sinks: Vec::new(),
            companions: Vec::new(),
        };
        for (name, sink) in &config.sinks {
            self.add_sink(&mut plan, config, name, sink)
                .with_context(|| format!("sinks.{name}"))?;
        }
        Ok(plan)
    }

    fn add_sink(
        &self,
        plan: &mut Plan,
        config: &Config,
        name: &str,
        sink: &SinkConfig,
    ) -> Result<()> {
        let (mut phase, wake) = (Duration::ZERO, Wake::default());
        let (delivery, rate) = (sink.delivery, sink.max_bytes_per_second.bytes());
        let sink: Box<dyn Sink> = match &sink.target {
            SinkTarget::Http(http) => {
                let sink = http_sink(http, self.identity(config))?;
                phase = phase_of(self.agent_id, plan.interval);
                plan.companions.push(self.heart(config, name, &sink, wake.clone()).beat());
                Box::new(sink)
            }
            SinkTarget::RemoteWrite(remote) => {
                phase = phase_of(self.agent_id, plan.interval);
                Box::new(remote_write_sink(config, name, remote)?)
            }
            SinkTarget::Stdout(stdout) => {
                Box::new(StdoutSink::stdout(format(stdout.format), Some(hostname(config))))
            }
            SinkTarget::File(file) => match file.format {
                FileFormat::Json => Box::new(file_sink(config, file)?),
                FileFormat::Prometheus => {
                    Box::new(PromFileSink::new(&file.path, intervals(config)))
                }
            },
        };
        let (name, max_bytes_per_second) = (name.to_owned(), rate);
        let planned = PlannedSink { name, sink, delivery, phase, max_bytes_per_second, wake };
        plan.sinks.push(planned);
        Ok(())
    }

    fn identity(&self, config: &Config) -> Identity {
        let status = self.status.clone();
        identity(config, self.agent_id, self.instance_id).with_log(move || status.last_seq())
    }

    fn heart(&self, config: &Config, name: &str, sink: &HttpSink, back: Wake) -> Heart {
        Heart {
            client: sink.heartbeats(),
            sink: name.to_owned(),
            identity: self.identity(config),
            interval: config.interval.get(),
            status: self.status.clone(),
            back,
        }
    }
}

/// The collectors that are on, in the order of the registry.
///
/// # Errors
/// Names the option that can't be used.
pub(crate) fn collectors(config: &Config) -> Result<Vec<PlannedCollector>, BuildError> {
    let roots = config.roots();
    let choice = Choice::of(config);
    let built = choice.lines.iter().map(|(line, config)| {
        let collector = collectors::build(line, &roots, &config.options)?;
        let interval = config.interval.map(Duration::from);
        Ok(PlannedCollector { name: line.name.to_owned(), interval, collector })
    });
    built.collect()
}

/// Which collectors are on.
pub(crate) struct Choice {
    /// What the host is.
    pub(crate) environment: Environment,
    lines: Vec<(&'static Registration, CollectorConfig)>,
    /// What would be on elsewhere, by why it is off here.
    pub(crate) unfit: BTreeMap<&'static str, Vec<&'static str>>,
}

impl Choice {
    /// As configured; what isn't, as the registry has it, unless it can't be right on this host.
    pub(crate) fn of(config: &Config) -> Self {
        let environment = Environment::detect(&config.roots());
        let mut choice = Self { environment, lines: Vec::new(), unfit: BTreeMap::new() };
        for line in REGISTRY {
            let configured = config.collectors.get(line.name).cloned().unwrap_or_default();
            let objection = choice.environment.objection(line.name);
            match (configured.enabled.unwrap_or(line.default_enabled), objection) {
                (true, Some(why)) if configured.enabled.is_none() => {
                    choice.unfit.entry(why).or_default().push(line.name);
                }
                (true, _) => choice.lines.push((line, configured)),
                (false, _) => {}
            }
        }
        choice
    }

    /// One sentence for each reason to be off.
    pub(crate) fn unfit_in_words(&self) -> impl Iterator<Item = String> {
        self.unfit
            .iter()
            .map(|(why, names)| format!("off here unless switched on: {}: {why}", names.join(", ")))
    }
}

/// Switches on every collector there is, with the options it has.
pub(crate) fn switch_all_on(config: &mut Config) {
    for line in REGISTRY {
        config.collectors.entry(line.name.to_owned()).or_default().enabled = Some(true);
    }
}

/// Whether every sink can be made; none is opened or connected.
///
/// # Errors
/// Names the sink that can't be made.
pub(crate) fn check_sinks(config: &Config) -> Result<()> {
    let nobody = (AgentId::from_bytes([0; 16]), InstanceId::from_bytes([0; 16]));
    for (name, sink) in &config.sinks {
        let checked = match &sink.target {
            SinkTarget::Http(http) => {
                http_sink(http, identity(config, nobody.0, nobody.1)).map(drop)
            }
            SinkTarget::RemoteWrite(remote) => remote_write_sink(config, name, remote).map(drop),
            SinkTarget::Stdout(_) => Ok(()),
            SinkTarget::File(file) => file_sink(config, file).map(drop),
        };
        checked.with_context(|| format!("sinks.{name}"))?;
    }
    Ok(())
}

/// Bounds of the log.
pub(crate) fn wal_options(config: &Config) -> WalOptions {
    WalOptions { max_bytes: config.wal.max_bytes.bytes(), max_age: config.wal.max_age.get() }
}

/// A size as bytes in memory.
pub(crate) fn bytes(size: Size) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

/// The host's name: as configured, else as the kernel has it.
pub(crate) fn hostname(config: &Config) -> String {
    let kernel = || nix::unistd::gethostname().ok()?.into_string().ok();
    config.hostname.clone().or_else(kernel).unwrap_or_else(|| "localhost".to_owned())
}

fn identity(config: &Config, agent_id: AgentId, instance_id: InstanceId) -> Identity {
    let config = config.clone();
    Identity::new(agent_id, instance_id, VERSION, move || hostname(&config))
}

fn http_sink(http: &config::HttpConfig, identity: Identity) -> Result<HttpSink> {
    let config = HttpConfig {
        token: http.token.as_ref().map(|token| token.expose().to_owned()),
        ca_file: http.ca_file.clone(),
        batch_bytes: bytes(http.max_bytes_per_request),
        request_timeout: http.timeout.get(),
        ..HttpConfig::new(&http.url)
    };
    Ok(HttpSink::new(config, identity, Rc::new(SystemClock))?)
}

fn remote_write_sink(
    config: &Config,
    name: &str,
    remote: &config::RemoteWriteConfig,
) -> Result<RemoteWriteSink> {
    let config = RemoteWriteConfig {
        protocol: protocol(remote.protocol),
        credentials: credentials(remote),
        headers: remote.headers.clone(),
        ca_file: remote.ca_file.clone(),
        request_timeout: remote.timeout.get(),
        job: remote.job.clone(),
        instance: remote.instance.clone().unwrap_or_else(|| hostname(config)),
        external_labels: remote.external_labels.clone(),
        max_samples_per_request: usize::try_from(remote.max_samples_per_request)?,
        intervals: intervals(config),
        state_file: Some(config.data_dir.join("sinks").join(format!("{name}.sent"))),
        version: VERSION.to_owned(),
        ..RemoteWriteConfig::new(&remote.url)
    };
    Ok(RemoteWriteSink::new(config, Rc::new(SystemClock))?)
}

/// Collectors that don't run in every tick, and how often they do.
fn intervals(config: &Config) -> BTreeMap<String, Duration> {
    let interval = |(line, collector): &(&Registration, CollectorConfig)| {
        Some((line.name.to_owned(), collector.interval?.get()))
    };
    Choice::of(config).lines.iter().filter_map(interval).collect()
}

const fn protocol(protocol: config::RemoteWriteProtocol) -> Protocol {
    match protocol {
        config::RemoteWriteProtocol::Auto => Protocol::Auto,
        config::RemoteWriteProtocol::V1 => Protocol::V1,
        config::RemoteWriteProtocol::V2 => Protocol::V2,
    }
}

fn credentials(remote: &config::RemoteWriteConfig) -> Option<Credentials> {
    let token = remote.token.as_ref()?.expose().to_owned();
    Some(match remote.username.clone() {
        Some(username) => Credentials::Basic { username, password: token },
        None => Credentials::Bearer(token),
    })
}

fn file_sink(config: &Config, file: &config::FileConfig) -> Result<FileSink> {
    Ok(FileSink::new(FileConfig {
        max_bytes: file.max_bytes.bytes(),
        max_age: Some(file.max_age.get()),
        keep: usize::try_from(file.keep).unwrap_or(usize::MAX),
        host: Some(hostname(config)),
        ..FileConfig::new(&file.path)
    })?)
}

const fn format(format: config::Format) -> Format {
    match format {
        config::Format::Prometheus => Format::Prometheus,
        config::Format::Json => Format::Json,
        config::Format::Pretty => Format::Pretty,
    }
}

/// How long this host lets a fresh record lie: its own place in the interval, the same every time, so
/// that a fleet that ticks at one time doesn't send at one time.
fn phase_of(agent_id: AgentId, interval: Duration) -> Duration {
    let mut random = [0; 8];
    random.copy_from_slice(&agent_id.as_bytes()[..8]);
    let share = u64::from_be_bytes(random) % 1_000;
    interval.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_spread_over_the_interval() {
        let interval = Duration::from_secs(10);
        let phase = |first| phase_of(AgentId::from_bytes([first; 16]), interval);
        let phases: Vec<Duration> = (0..=255).map(phase).collect();
        assert!(phases.iter().all(|phase| *phase < interval));
        let early = phases.iter().filter(|phase| **phase < interval / 2).count();
        assert!((64..192).contains(&early), "{early} of 256 in the first half");
        assert_eq!(phase(7), phase(7));
    }
}
