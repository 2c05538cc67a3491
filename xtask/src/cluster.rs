//! A PostgreSQL cluster of one's own: in a temporary directory, on a Unix socket only, gone with whoever
//! started it.
//!
//! PostgreSQL refuses to run as root: then it runs as the user `postgres`. It gets the signal to stop when
//! the thread that started it ends, however that ends.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;

/// The variable that tells tests where a cluster is.
pub const VARIABLE: &str = "TEST_POSTGRES_URL";
/// The Debian package that brings it.
pub const PACKAGE: &str = "postgresql";

/// The user that it runs as when we are root, and the superuser of its databases.
const USER: &str = "postgres";
const START_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(60);
/// Enough for tests that run at one time, each with a hub or two.
const CONNECTIONS: &str = "200";

/// Whether what is committed has to survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is flushed: fast, for tests that only look at what is said.
    Volatile,
    /// As in earnest.
    Durable,
}

/// A running cluster.
pub struct Cluster {
    directory: TempDir,
    programs: PathBuf,
    durability: Durability,
    /// More settings, as `name=value`.
    settings: Vec<String>,
    server: Option<Child>,
}

/// Where PostgreSQL's programs lie, if it is installed: of several versions, the latest.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    let is_here = |directory: &PathBuf| directory.join("initdb").is_file();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    let in_path = env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = env::split_paths(&in_path).collect();
    versions.into_iter().rev().chain(in_path).find(is_here)
}

/// Whether TimescaleDB can be had in a cluster of these programs.
#[must_use]
pub fn has_timescale(programs: &Path) -> bool {
    let library = Command::new(programs.join("pg_config")).arg("--pkglibdir").output();
    let library = library.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    library.is_ok_and(|library| Path::new(&library).join("timescaledb.so").is_file())
}

impl Cluster {
    /// Makes and starts one, if PostgreSQL is installed.
    ///
    /// # Errors
    /// When it is installed and doesn't start: what it said.
    pub fn start(durability: Durability) -> Result<Option<Self>> {
        Self::start_with(durability, &[])
    }

    /// As [`Cluster::start`], with more settings of the server: `name=value`.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(durability: Durability, settings: &[&str]) -> Result<Option<Self>> {
        let Some(programs) = programs() else { return Ok(None) };
        let cluster = Self::empty(programs, durability, settings)?;
        cluster.init()?;
        cluster.started().map(Some)
    }

    /// A copy of it that follows it, and only reads until it is told to [`Cluster::promote`].
    ///
    /// # Errors
    /// When it can't be copied, or doesn't start: what was said.
    pub fn standby(&self) -> Result<Self> {
        let standby = Self::empty(self.programs.clone(), self.durability, &[])?;
        let mut command = standby.command("pg_basebackup");
        command.args(["--username", USER, "--checkpoint", "fast", "--write-recovery-conf"]);
        command.arg("--host").arg(self.directory()).arg("--pgdata").arg(standby.data());
        succeed(&mut command, "pg_basebackup")?;
        standby.started()
    }

    /// Makes a standby one that writes.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn promote(&self) -> Result<()> {
        let mut command = self.command("pg_ctl");
        succeed(command.arg("promote").arg("--pgdata").arg(self.data()), "pg_ctl promote")
    }

    /// Where its socket lies, and all it has.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn empty(programs: PathBuf, durability: Durability, settings: &[&str]) -> Result<Self> {
        let directory = TempDir::with_prefix("holdfast-postgres-").context("make directory")?;
        if geteuid().is_root() {
            let user = User::from_name(USER)?.with_context(|| format!("no user {USER}"))?;
            let (user, group) = (user.uid.as_raw(), user.gid.as_raw());
            chown(directory.path(), Some(user), Some(group)).context("give directory away")?;
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Ok(Self { directory, programs, durability, settings, server: None })
    }

    fn started(mut self) -> Result<Self> {
        self.run()?;
        Ok(self)
    }

    /// Where it is, for clients; of its database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        let host = self.directory.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://{USER}@{host}/postgres")
    }

    /// SIGKILL to the server's first process; the others see that it has gone and end.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server isn't running")?;
        server.kill()?;
        server.wait()?;
        Ok(())
    }

    /// Stops it in order; what clients do at the time is broken off.
    ///
    /// # Errors
    /// When it isn't running, or doesn't stop.
    pub fn stop(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server isn't running")?;
        let pid = Pid::from_raw(i32::try_from(server.id())?);
        kill(pid, Signal::SIGINT)?;
        let begun = Instant::now();
        while server.try_wait()?.is_none() {
            if begun.elapsed() > STOP_TIME_MAX {
                server.kill()?;
                bail!("PostgreSQL did not stop within {} s", STOP_TIME_MAX.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts it again after [`Cluster::kill`] or [`Cluster::stop`].
    ///
    /// # Errors
    /// When it doesn't start: what it said.
    pub fn run(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.spawn()?;
            match self.wait_until_ready(begun) {
                // Those that a kill left behind still hold its memory: once more.
                Err(_) if begun.elapsed() < START_TIME_MAX && self.server.is_none() => {
                    thread::sleep(Duration::from_millis(50));
                }
                ended => return ended,
            }
        }
    }

    fn init(&self) -> Result<()> {
        let mut command = self.command("initdb");
        command.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8"]);
        command.args(["--locale", "C", "--no-sync", "--pgdata"]).arg(self.data());
        succeed(&mut command, "initdb")
    }

    fn spawn(&mut self) -> Result<()> {
        let log = fs::File::create(self.log())?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let socket = format!("unix_socket_directories={}", self.directory.path().display());
        for setting in ["listen_addresses=", &socket, &format!("max_connections={CONNECTIONS}")] {
            command.args(["-c", setting]);
        }
        if self.durability == Durability::Volatile {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        if has_timescale(&self.programs) {
            command.args(["-c", "shared_preload_libraries=timescaledb"]);
            command.args(["-c", "timescaledb.telemetry_level=off"]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.stdout(log.try_clone()?).stderr(log);
        self.server = Some(command.spawn().context("start postgres")?);
        Ok(())
    }

    fn wait_until_ready(&mut self, begun: Instant) -> Result<()> {
        loop {
            let mut ready = Command::new(self.programs.join("pg_isready"));
            ready.arg("--quiet").arg("--host").arg(self.directory.path());
            if ready.status().is_ok_and(|status| status.success()) {
                return Ok(());
            }
            let server = self.server.as_mut().context("the server isn't running")?;
            let ended = server.try_wait()?;
            if ended.is_some() || begun.elapsed() > START_TIME_MAX {
                if ended.is_some() {
                    self.server = None;
                }
                bail!("PostgreSQL doesn't start: {}", fs::read_to_string(self.log())?);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A program of PostgreSQL, as a user that it doesn't refuse, that stops when we end.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if geteuid().is_root() {
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        }
        command.arg(self.programs.join(program)).current_dir(self.directory.path());
        command.stdin(Stdio::null());
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

fn succeed(command: &mut Command, program: &str) -> Result<()> {
    let said = command.output().with_context(|| format!("start {program}"))?;
    if !said.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some()
            && let Err(error) = self.stop()
        {
            eprintln!("{error:#}");
        }
    }
}
