//! Debian's Prometheus on samples that are given to it, and how it and a hub are asked alike.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Hub, Program};
use crate::chore::has;

/// How long it may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long one question may take.
const ASK_DEADLINE: Duration = Duration::from_secs(60);
/// How it says where it listens.
const LISTENS: &str = "msg=\"Listening on\" address=";
/// How it says that it answers.
const READY: &str = "Server is ready to receive web requests";

/// A Prometheus on a free loopback port; killed when dropped.
pub struct Prometheus {
    _program: Program,
    url: String,
}

/// Who answers Prometheus's API.
#[derive(Clone, Debug)]
pub struct Peer {
    url: String,
    token: Option<String>,
}

impl Prometheus {
    /// Whether it is installed, with its tool.
    #[must_use]
    pub fn is_here() -> bool {
        has("prometheus", &["--version"]) && has("promtool", &["--version"])
    }

    /// Starts one below `directory` that has these samples, in OpenMetrics' text format, and scrapes
    /// nothing.
    ///
    /// # Errors
    /// When it can't read them, or doesn't come up.
    pub fn start(directory: &Path, samples: &str) -> Result<Self> {
        let directory = directory.join("prometheus");
        fs::create_dir_all(&directory)?;
        let (page, data) = (directory.join("samples"), directory.join("data"));
        fs::write(&page, samples)?;
        fs::write(directory.join("prometheus.yml"), "")?;
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&page, &data])
            .output()
            .context("start promtool")?;
        if !made.status.success() {
            bail!("promtool: {}", String::from_utf8_lossy(&made.stderr));
        }
        let mut command = Command::new("prometheus");
        command
            .arg("--web.listen-address=127.0.0.1:0")
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data.display()));
        let (sender, said) = channel();
        let program = Program::start("prometheus", &mut command, move |line| {
            // Nobody listens once it is up.
            let _ = sender.send(line.to_owned());
        })?;
        let mut url = None;
        loop {
            let line = said.recv_timeout(START_DEADLINE).map_err(|error| match error {
                RecvTimeoutError::Timeout => anyhow::anyhow!("prometheus does not come up"),
                RecvTimeoutError::Disconnected => {
                    anyhow::anyhow!("prometheus ended\n{}", program.tail())
                }
            })?;
            if let Some((_, address)) = line.split_once(LISTENS) {
                url = Some(format!("http://{}", address.trim_matches('"')));
            }
            if line.contains(READY) {
                let url = url.context("prometheus is ready and never said where")?;
                return Ok(Self { _program: program, url });
            }
        }
    }

    /// To be asked.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer { url: self.url.clone(), token: None }
    }
}

impl Hub {
    /// To be asked as a Prometheus is, with the secret itself.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer { url: self.url(), token: Some(self.token().to_owned()) }
    }
}

impl Peer {
    /// Where it is; with the secret as a password, if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.token {
            Some(token) => self.url.replacen("http://", &format!("http://anyone:{token}@"), 1),
            None => self.url.clone(),
        }
    }

    /// Status and JSON of an answer, whatever the status.
    ///
    /// # Errors
    /// When it can't be reached, or says no JSON.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<(u16, Value)> {
        let url = format!("{}{path}?{}", self.url, encoded(parameters));
        let mut request = ureq::get(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.config().timeout_global(Some(ASK_DEADLINE));
        answer(request.http_status_as_error(false).build().call(), &url)
    }

    /// The same with a form.
    ///
    /// # Errors
    /// As [`Peer::get`].
    pub fn post(&self, path: &str, parameters: &[(&str, &str)]) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.url);
        let mut request =
            ureq::post(&url).header("content-type", "application/x-www-form-urlencoded");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.config().timeout_global(Some(ASK_DEADLINE));
        answer(request.http_status_as_error(false).build().send(encoded(parameters)), &url)
    }
}

fn answer(
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    url: &str,
) -> Result<(u16, Value)> {
    let mut answer = answer.with_context(|| url.to_owned())?;
    let status = answer.status().as_u16();
    let text = answer.body_mut().with_config().limit(1 << 30).read_to_string()?;
    let json = serde_json::from_str(&text);
    Ok((status, json.with_context(|| format!("{url} answered {status} {text:?}"))?))
}

/// Parameters as a query string or a form has them.
fn encoded(parameters: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        let one = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        };
        text.bytes().map(one).collect()
    };
    let pairs =
        parameters.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}
