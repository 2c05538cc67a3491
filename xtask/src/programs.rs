//! The real binaries as child processes: started, listened to, stopped and killed.

mod agent;
mod hub;
mod prometheus;
mod usage;

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use agent::{Agent, Durable, Life};
use anyhow::{Context as _, Result, anyhow, bail};
pub use hub::{Api, Hub};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
pub use prometheus::{Peer, Prometheus};
pub use usage::Usage;

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

/// Time since 1970.
#[must_use]
pub fn unix_now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// A duration as the wire has it.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
