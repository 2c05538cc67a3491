//! What single keys can't tell: whether they fit together.

use std::path::{Path, PathBuf};

use settings::{Duration, Effective, Loaded, Problem};

use super::{
    CollectorConfig, Config, DEFAULT_PATH, FileConfig, FileFormat, RemoteWriteConfig, SinkConfig,
    SinkTarget,
};
use crate::sink::Delivery;

/// What doesn't fit together.
pub(super) fn problems(loaded: &Loaded<Config>) -> Vec<Problem> {
    let Loaded { config, effective } = loaded;
    let mut problems = Vec::new();
    problems.extend(absolute(effective, "data_dir", &config.data_dir));
    let mut files: Vec<(&PathBuf, &str)> = Vec::new();
    for (name, sink) in &config.sinks {
        match &sink.target {
            SinkTarget::Http(http) => {
                problems.extend(ca_without_tls(effective, name, &http.url, http.ca_file.as_ref()));
            }
            SinkTarget::RemoteWrite(remote) => {
                problems.extend(remote_write_sink(effective, name, remote));
            }
            SinkTarget::File(file) => problems.extend(file_sink(effective, name, file, &mut files)),
            SinkTarget::Stdout(_) => {}
        }
    }
    problems.extend(no_required_sink(effective, config));
    problems.extend(odd_intervals(effective, config));
    problems
}

/// Nothing would wait for any sink, and a full log hold nothing for anyone.
fn no_required_sink(effective: &Effective, config: &Config) -> Option<Problem> {
    let (name, _) = config.sinks.first_key_value()?;
    let is_required = |sink: &SinkConfig| sink.delivery == Delivery::Required;
    let text =
        "no sink is required, so records would wait for none: leave this one at \"required\"";
    (!config.sinks.values().any(is_required))
        .then(|| effective.problem(&format!("sinks.{name}.delivery"), text.to_owned()))
}

/// A collector runs in ticks, so its interval is some of the agent's.
fn odd_intervals(effective: &Effective, config: &Config) -> Vec<Problem> {
    let tick = config.interval.get();
    let problem = |(name, collector): (&String, &CollectorConfig)| {
        let interval = collector.interval?;
        let ticks = interval.get().as_millis() / tick.as_millis().max(1);
        if ticks > 0 && tick.as_millis() * ticks == interval.get().as_millis() {
            return None;
        }
        let below = u32::try_from(ticks.max(1)).unwrap_or(u32::MAX);
        let nearest = |times: u32| Duration::from(tick.saturating_mul(times));
        let text = format!(
            "found \"{interval}\", expected a whole multiple of interval, which is {}, such as \
             \"{}\" or \"{}\"",
            config.interval,
            nearest(below),
            nearest(below.saturating_add(1)),
        );
        Some(effective.problem(&format!("collectors.{name}.interval"), text))
    };
    config.collectors.iter().filter_map(problem).collect()
}

/// No sink is configured.
pub(super) fn no_sink() -> Problem {
    Problem::new(format!(
        "no sink is configured, records would go nowhere: set SERVER_URL to the hub's address, or add \
         a [sinks.<name>] table to {DEFAULT_PATH}"
    ))
}

fn absolute(effective: &Effective, key: &str, path: &Path) -> Option<Problem> {
    let text = format!(
        "found {:?}, expected an absolute path: where the agent is started doesn't matter then",
        path.display().to_string()
    );
    (!path.is_absolute()).then(|| effective.problem(key, text))
}

/// A file of certificates for a connection that has none is a mistake in one of the two.
fn ca_without_tls(
    effective: &Effective,
    name: &str,
    url: &str,
    ca_file: Option<&PathBuf>,
) -> Option<Problem> {
    let key = format!("sinks.{name}.ca_file");
    let text = format!("is for https:// only, and sinks.{name}.url is {url:?}");
    (ca_file.is_some() && !url.starts_with("https://")).then(|| effective.problem(&key, text))
}

/// A name proves nothing.
fn remote_write_sink(
    effective: &Effective,
    name: &str,
    remote: &RemoteWriteConfig,
) -> Option<Problem> {
    let RemoteWriteConfig { url, token, username, ca_file, .. } = remote;
    let text = format!("needs sinks.{name}.token beside it, the password");
    (username.is_some() && token.is_none())
        .then(|| effective.problem(&format!("sinks.{name}.username"), text))
        .or_else(|| ca_without_tls(effective, name, url, ca_file.as_ref()))
}

fn file_sink<'c>(
    effective: &Effective,
    name: &'c str,
    file: &'c FileConfig,
    files: &mut Vec<(&'c PathBuf, &'c str)>,
) -> Option<Problem> {
    let key = format!("sinks.{name}.path");
    let twin = files.iter().find(|(path, _)| *path == &file.path).map(|(_, twin)| *twin);
    files.push((&file.path, name));
    let twin = twin.map(|twin| {
        let text = format!("sinks.{twin} writes to the same file: give each its own");
        effective.problem(&key, text)
    });
    absolute(effective, &key, &file.path).or(twin).or_else(|| unread_page(effective, &key, file))
}

/// Textfile collectors read no other names.
fn unread_page(effective: &Effective, key: &str, file: &FileConfig) -> Option<Problem> {
    let is_page = file.format == FileFormat::Prometheus;
    let is_read = file.path.extension().is_some_and(|extension| extension == "prom");
    let text = "doesn't end in .prom, and textfile collectors read no other files".to_owned();
    (is_page && !is_read).then(|| effective.problem(key, text))
}
