//! The real hub as a child process.

use std::{
    fs,
    io::BufRead as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{Binaries, Program, unix_now};

/// How long a hub may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long one question may take.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// A hub with the embedded store; keeps its address over restarts.
pub struct Hub {
    binary: PathBuf,
    data_dir: PathBuf,
    token: String,
    environment: Vec<(String, String)>,
    address: SocketAddr,
    running: Option<Running>,
}

/// One life of a hub.
struct Running {
    program: Program,
    /// What its first line says, once.
    first_line: Receiver<String>,
    listens: bool,
}

/// What asks a hub's API.
#[derive(Clone, Debug)]
pub struct Api {
    url: String,
    token: String,
}

impl Hub {
    /// Starts a hub on a free loopback port, its store below `directory`.
    ///
    /// # Errors
    /// When it doesn't come up; with the end of its log.
    pub fn start(binaries: &Binaries, directory: &Path, token: &str) -> Result<Self> {
        Self::start_at(binaries, directory, token, [127, 0, 0, 1], &[])
    }

    /// Starts a hub with more of its configuration: variables as its reference page names them.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub fn start_with(
        binaries: &Binaries,
        directory: &Path,
        token: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_at(binaries, directory, token, [127, 0, 0, 1], environment)
    }

    /// Starts a hub at an address of this process's own below 127.0.0.0/8. While a hub at 127.0.0.1 is
    /// away, anybody who asks for a free port may be given its own; nobody is given one of this address.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub fn start_apart(binaries: &Binaries, directory: &Path, token: &str) -> Result<Self> {
        Self::start_apart_with(binaries, directory, token, &[])
    }

    /// As [`Hub::start_apart`], with more of its configuration.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub fn start_apart_with(
        binaries: &Binaries,
        directory: &Path,
        token: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = [127, high | 0x80, middle, low.clamp(1, 254)];
        Self::start_at(binaries, directory, token, address, environment)
    }

    fn start_at(
        binaries: &Binaries,
        directory: &Path,
        token: &str,
        address: [u8; 4],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut hub = Self::new(binaries, directory, token, address)?;
        hub.environment =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        hub.restart()?;
        Ok(hub)
    }

    fn new(binaries: &Binaries, directory: &Path, token: &str, address: [u8; 4]) -> Result<Self> {
        let hub = Self {
            binary: binaries.hub.clone(),
            data_dir: directory.join("hub"),
            token: token.to_owned(),
            environment: Vec::new(),
            address: SocketAddr::from((address, 0)),
            running: None,
        };
        fs::create_dir_all(&hub.data_dir)?;
        Ok(hub)
    }

    /// Starts it again where it was, and waits until it listens.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.await_listening()
    }

    /// Starts it again where it was, and waits for nothing.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .arg("run")
            .env("HOLDFAST_HUB_DATA_DIR", &self.data_dir)
            .env("HOLDFAST_HUB_LISTEN", self.address.to_string())
            .env("AGENT_TOKEN", &self.token)
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut program = Program::start("holdfast-hub", &mut command, |_| ())?;
        let mut stdout = program.stdout()?;
        let (tell, first_line) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = tell.send(line);
        });
        self.running = Some(Running { program, first_line, listens: false });
        Ok(())
    }

    /// Waits until it listens.
    ///
    /// # Errors
    /// When it doesn't come up; with the end of its log.
    pub fn await_listening(&mut self) -> Result<()> {
        if self.listens(START_DEADLINE)? {
            return Ok(());
        }
        bail!("the hub does not listen after {START_DEADLINE:?}\n{}", self.tail())
    }

    /// Whether it listens already.
    ///
    /// # Errors
    /// When it ended instead; with the end of its log.
    pub fn is_listening(&mut self) -> Result<bool> {
        self.listens(Duration::ZERO)
    }

    fn listens(&mut self, within: Duration) -> Result<bool> {
        let Some(running) = &mut self.running else { return Ok(false) };
        if running.listens {
            return Ok(true);
        }
        let line = match running.first_line.recv_timeout(within) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => String::new(),
        };
        let address = line.trim().rsplit_once("http://").and_then(|(_, text)| text.parse().ok());
        let Some(address) = address else {
            running.program.kill()?;
            bail!("the hub did not come up: it said {line:?}\n{}", running.program.tail());
        };
        running.listens = true;
        self.address = address;
        Ok(true)
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

    /// The secret that agents share with it.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The process, while it runs.
    pub fn program(&mut self) -> Option<&mut Program> {
        self.running.as_mut().map(|running| &mut running.program)
    }

    /// The last lines of its log, while it runs.
    #[must_use]
    pub fn tail(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |running| running.program.tail())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), |mut running| running.program.kill())
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it doesn't end well.
    pub fn stop(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), |mut running| running.program.stop())
    }

    /// What asks its API, from any thread; `url` stays good over restarts.
    #[must_use]
    pub fn api(&self) -> Api {
        Api { url: self.url(), token: self.token.clone() }
    }

    /// Asks its API; `path` with query.
    ///
    /// # Errors
    /// When it can't be reached, or refuses.
    pub fn get(&self, path: &str) -> Result<serde_json::Value> {
        self.api().get(path)
    }
}

impl Api {
    /// Asks; `path` with query.
    ///
    /// # Errors
    /// When the hub can't be reached, or refuses.
    pub fn get(&self, path: &str) -> Result<serde_json::Value> {
        let url = format!("{}{path}", self.url);
        let now_s = unix_now().as_secs();
        let token = wire::token::mint(&self.token, "xtask", now_s)?;
        let mut response = ureq::get(&url)
            .header("authorization", format!("Bearer {token}"))
            .config()
            .timeout_global(Some(ASK_DEADLINE))
            .build()
            .call()
            .with_context(|| format!("GET {url}"))?;
        let text = response.body_mut().read_to_string()?;
        serde_json::from_str(&text).with_context(|| format!("GET {url} answered {text:?}"))
    }
}
