//! The real binaries as child processes: started, listened to, stopped and killed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a program may take to stop when told to.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition of another process is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of a program's log kept for when it fails.
const LINES_KEPT: usize = 200;

/// Where the binaries are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `holdfast-agent`.
    pub agent: PathBuf,
    /// `holdfast-hub`.
    pub hub: PathBuf,
}

impl Binaries {
    /// Both binaries in one directory.
    ///
    /// # Errors
    /// Names the one that isn't there, and how to build it.
    pub fn below(directory: &Path) -> Result<Self> {
        let find = |name: &str| {
            let path = directory.join(name);
            let hint =
                || anyhow!("{} is not there: cargo build --workspace --bins", path.display());
            if path.is_file() { Ok(path) } else { Err(hint()) }
        };
        Ok(Self { agent: find("holdfast-agent")?, hub: find("holdfast-hub")? })
    }
}

/// A child process and the last lines of its log; killed when dropped.
pub struct Program {
    name: &'static str,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts a child; each line of its standard error goes to `watch`, on a thread of its own.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(
        name: &'static str,
        command: &mut Command,
        watch: impl Fn(&str) + Send + 'static,
    ) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for us: we stop them, in order.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let lines = Arc::default();
        let stderr = child.stderr.take().context("stderr was asked for")?;
        let reader = read_lines(stderr, Arc::clone(&lines), watch);
        Ok(Self { name, child, lines, reader: Some(reader) })
    }

    /// Its standard output, once.
    ///
    /// # Errors
    /// When it was taken already.
    pub fn stdout(&mut self) -> Result<BufReader<ChildStdout>> {
        self.child.stdout.take().map(BufReader::new).context("stdout was taken already")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The system's.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// `kill -9`, and waits until it is gone and all it said is read.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait()?;
        self.finish_reading();
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// When it doesn't end in time, or not well; with the end of its log.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = wait_for(STOP_DEADLINE, || Ok(self.child.try_wait()?))
            .with_context(|| format!("{} does not stop\n{}", self.name, self.tail()))?;
        self.finish_reading();
        self.check(status)
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if !status.success() {
            bail!("{} ended with {status}\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// Waits until it has said a line with `text` in it.
    ///
    /// # Errors
    /// When it doesn't within `deadline`; with the end of its log.
    pub fn await_line(&self, text: &str, deadline: Duration) -> Result<()> {
        let said = || self.tail().lines().any(|line| line.contains(text));
        wait_for(deadline, || Ok(said().then_some(())))
            .with_context(|| format!("{} never said {text:?}\n{}", self.name, self.tail()))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn finish_reading(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(
    from: impl Read + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
    watch: impl Fn(&str) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            watch(&line);
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_KEPT {
                lines.remove(0);
            }
            lines.push(line);
        }
    })
}

/// Looks at a condition until it holds or time is up.
///
/// # Errors
/// When time is up, or looking fails.
pub fn wait_for<T>(deadline: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > deadline {
            bail!("still not so after {deadline:?}");
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// A hub with the embedded store; keeps its address over restarts.
pub struct Hub {
    binary: PathBuf,
    data_dir: PathBuf,
    token: String,
    address: SocketAddr,
    program: Option<Program>,
}

impl Hub {
    /// Starts a hub on a free loopback port, its store below `directory`.
    ///
    /// # Errors
    /// When it doesn't come up; with the end of its log.
    pub fn start(binaries: &Binaries, directory: &Path, token: &str) -> Result<Self> {
        let mut hub = Self {
            binary: binaries.hub.clone(),
            data_dir: directory.join("hub"),
            token: token.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            program: None,
        };
        fs::create_dir_all(&hub.data_dir)?;
        hub.restart()?;
        Ok(hub)
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .arg("run")
            .env("HOLDFAST_HUB_DATA_DIR", &self.data_dir)
            .env("HOLDFAST_HUB_LISTEN", self.address.to_string())
            .env("AGENT_TOKEN", &self.token)
            .env("NO_COLOR", "1");
        let mut program = Program::start("holdfast-hub", &mut command, |_| ())?;
        let mut line = String::new();
        program.stdout()?.read_line(&mut line)?;
        let address = line.trim().rsplit_once("http://").and_then(|(_, text)| text.parse().ok());
        let Some(address) = address else {
            program.kill()?;
            bail!("the hub did not come up: it said {line:?}\n{}", program.tail());
        };
        self.address = address;
        self.program = Some(program);
        Ok(())
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its store is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The binary, for its offline commands.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The process, while it runs.
    pub fn program(&mut self) -> Option<&mut Program> {
        self.program.as_mut()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.program.take().map_or(Ok(()), |mut program| program.kill())
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it doesn't end well.
    pub fn stop(&mut self) -> Result<()> {
        self.program.take().map_or(Ok(()), |mut program| program.stop())
    }

    /// Asks its API; `path` with query.
    ///
    /// # Errors
    /// When it can't be reached, or refuses.
    pub fn get(&self, path: &str) -> Result<serde_json::Value> {
        let url = format!("{}{path}", self.url());
        let now_s = unix_now().as_secs();
        let token = wire::token::mint(&self.token, "xtask", now_s)?;
        let mut response = ureq::get(&url)
            .header("authorization", format!("Bearer {token}"))
            .config()
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .call()
            .with_context(|| format!("GET {url}"))?;
        let text = response.body_mut().read_to_string()?;
        serde_json::from_str(&text).with_context(|| format!("GET {url} answered {text:?}"))
    }
}

/// One record that the agent said is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Durable {
    /// Its sequence number.
    pub seq: u64,
    /// Unix milliseconds of its tick.
    pub time_ms: i64,
}

/// An agent, and what it said is durable: the witness that the store is held against.
pub struct Agent {
    binary: PathBuf,
    data_dir: PathBuf,
    interval: Duration,
    hub_url: String,
    token: String,
    witness: Arc<Mutex<Vec<Durable>>>,
    program: Option<Program>,
}

impl Agent {
    /// Starts an agent with its data below `directory`, ticking at `interval`, shipping to `hub`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(
        binaries: &Binaries,
        directory: &Path,
        interval: Duration,
        hub: &Hub,
    ) -> Result<Self> {
        let mut agent = Self {
            binary: binaries.agent.clone(),
            data_dir: directory.join("agent"),
            interval,
            hub_url: hub.url(),
            token: hub.token.clone(),
            witness: Arc::default(),
            program: None,
        };
        fs::create_dir_all(&agent.data_dir)?;
        agent.restart()?;
        Ok(agent)
    }

    /// Starts it again on the same data.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .arg("run")
            .env("HOLDFAST_DATA_DIR", &self.data_dir)
            .env("HOLDFAST_INTERVAL", format!("{}ms", self.interval.as_millis()))
            .env("HOLDFAST_LOG_LEVEL", "info,agent_core::agent=debug")
            .env("SERVER_URL", &self.hub_url)
            .env("AGENT_TOKEN", &self.token)
            .env("NO_COLOR", "1");
        let witness = Arc::clone(&self.witness);
        let watch = move |line: &str| {
            if let Some(durable) = parse_durable(line) {
                witness.lock().unwrap_or_else(PoisonError::into_inner).push(durable);
            }
        };
        self.program = Some(Program::start("holdfast-agent", &mut command, watch)?);
        Ok(())
    }

    /// The process, while it runs.
    pub fn program(&mut self) -> Option<&mut Program> {
        self.program.as_mut()
    }

    /// What it said is durable so far, over all its lives.
    #[must_use]
    pub fn witness(&self) -> Vec<Durable> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.program.take().map_or(Ok(()), |mut program| program.kill())
    }

    /// SIGTERM: it drains.
    ///
    /// # Errors
    /// When it doesn't end well.
    pub fn stop(&mut self) -> Result<()> {
        self.program.take().map_or(Ok(()), |mut program| program.stop())
    }

    /// Fails with the end of its log when it is no longer running.
    ///
    /// # Errors
    /// As said.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(program) = &mut self.program
            && !program.is_running()
        {
            bail!("the agent ended by itself\n{}", program.tail());
        }
        Ok(())
    }
}

/// Reads `… record is durable seq=7 time_ms=1700000000000` as the agent logs it.
fn parse_durable(line: &str) -> Option<Durable> {
    let (_, fields) = line.split_once("record is durable ")?;
    let field =
        |name: &str| fields.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Some(Durable { seq: field("seq")?.parse().ok()?, time_ms: field("time_ms")?.parse().ok()? })
}

/// Time since 1970.
#[must_use]
pub fn unix_now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_witness_reads_the_agents_log() {
        let line = "2026-01-01T00:00:00.1Z DEBUG agent_core::agent: record is durable seq=7 time_ms=1700000000000";
        assert_eq!(parse_durable(line), Some(Durable { seq: 7, time_ms: 1_700_000_000_000 }));
        assert_eq!(parse_durable("INFO agent_core::agent: collection stopped how=Drain"), None);
    }
}
