//! Real receivers as child processes, and what they hold.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Command,
    time::Duration,
};

use serde_json::{Map, Value};
use tempfile::TempDir;
use xtask::programs::{Program, wait_for};

use crate::Samples;

const PATIENCE: Duration = Duration::from_secs(60);
const ALL: &str = "{job=\"node\"}";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prometheus,
    VictoriaMetrics,
}

impl Kind {
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }

    pub(crate) const fn package(self) -> &'static str {
        self.program()
    }

    /// Whether a value is as it was sent. VictoriaMetrics keeps decimals, of some 15 digits.
    pub(crate) fn is_same(self, held: f64, sent: f64) -> bool {
        match self {
            Self::Prometheus => held == sent || (held.is_nan() && sent.is_nan()),
            Self::VictoriaMetrics => {
                held == sent || (held - sent).abs() <= sent.abs() * 1e-12 || sent.is_nan()
            }
        }
    }
}

pub(crate) struct Receiver {
    kind: Kind,
    directory: TempDir,
    port: u16,
    program: Option<Program>,
}

impl Receiver {
    /// A receiver that isn't started, if the program is here.
    pub(crate) fn find(kind: Kind) -> Option<Self> {
        Command::new(kind.program()).arg("--version").output().ok()?;
        Some(Self { kind, directory: tempfile::tempdir().unwrap(), port: 0, program: None })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts it on a free port, with what it has.
    pub(crate) fn start(&mut self) {
        // neither program says which port it got
        self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, directory) = (self.port, self.directory.path().display());
        let mut command = Command::new(self.kind.program());
        match self.kind {
            Kind::Prometheus => {
                let file = self.directory.path().join("prometheus.yml");
                fs::write(&file, "global: {}\n").unwrap();
                command
                    .arg(format!("--config.file={}", file.display()))
                    .arg(format!("--storage.tsdb.path={directory}/data"))
                    .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                    .arg("--web.enable-remote-write-receiver");
            }
            Kind::VictoriaMetrics => {
                command
                    .arg(format!("-storageDataPath={directory}/data"))
                    .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
                    // a sample that comes twice would count twice otherwise
                    .arg("-dedup.minScrapeInterval=1ms");
            }
        }
        self.program = Some(Program::start(self.kind.program(), &mut command, |_| ()).unwrap());
        let ready = match self.kind {
            Kind::Prometheus => "/-/ready",
            Kind::VictoriaMetrics => "/health",
        };
        wait_for(PATIENCE, || Ok(self.get(ready, &[]).map(drop))).unwrap();
    }

    /// VictoriaMetrics acknowledges what it has in memory, and loses that with a `kill -9`.
    pub(crate) fn stop(&mut self) {
        let mut program = self.program.take().unwrap();
        match self.kind {
            Kind::Prometheus => program.kill().unwrap(),
            Kind::VictoriaMetrics => program.stop().unwrap(),
        }
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut reply = ureq::get(url).query_pairs(query.iter().copied()).call().ok()?;
        reply.body_mut().with_config().limit(1 << 30).read_to_string().ok()
    }

    /// The time of the newest tick.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.samples().values().filter_map(|samples| samples.keys().next_back().copied()).max()
    }

    /// Everything it has of the agent; without stale markers, which are no samples.
    pub(crate) fn samples(&self) -> Samples {
        match self.kind {
            Kind::Prometheus => self.prometheus_samples(),
            Kind::VictoriaMetrics => self.victoria_samples(),
        }
    }

    fn prometheus_samples(&self) -> Samples {
        let mut all = Samples::new();
        let query = format!("{ALL}[30m]");
        let text = self.get("/api/v1/query", &[("query", &query)]).unwrap_or_default();
        let reply: Value = serde_json::from_str(&text).unwrap_or_default();
        for series in reply["data"]["result"].as_array().into_iter().flatten() {
            let held = all.entry(full_name(&series["metric"])).or_default();
            for pair in series["values"].as_array().unwrap() {
                let time_ms = (pair[0].as_f64().unwrap() * 1000.0).round() as i64;
                let before = held.insert(time_ms, number(&pair[1]));
                assert_eq!(before, None, "{series} has {time_ms} twice");
            }
        }
        all
    }

    fn victoria_samples(&self) -> Samples {
        let mut all = Samples::new();
        self.get("/internal/force_flush", &[]);
        let text = self.get("/api/v1/export", &[("match[]", ALL)]).unwrap_or_default();
        for line in text.lines() {
            let series: Value = serde_json::from_str(line).unwrap();
            let held = all.entry(full_name(&series["metric"])).or_default();
            let values = series["values"].as_array().unwrap();
            for (time, value) in series["timestamps"].as_array().unwrap().iter().zip(values) {
                if value.is_null() {
                    continue;
                }
                let before = held.insert(time.as_i64().unwrap(), number(value));
                assert_eq!(before, None, "{} has {time} twice", series["metric"]);
            }
        }
        all
    }
}

/// A series, as `name label=value …`.
pub(crate) fn name(metric: &str, labels: &Map<String, Value>) -> String {
    let labels = labels.iter().filter(|(name, _)| *name != "__name__");
    let labels = labels.filter(|(_, value)| value.as_str() != Some(""));
    let mut labels: Vec<_> =
        labels.map(|(name, value)| format!(" {name}={}", value.as_str().unwrap())).collect();
    labels.sort();
    format!("{metric}{}", labels.concat())
}

fn full_name(labels: &Value) -> String {
    let labels = labels.as_object().unwrap();
    name(labels["__name__"].as_str().unwrap(), labels)
}

/// A number, or a string with one.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().replace("Inf", "inf").parse().unwrap())
}
