//! A private bus: Debian's dbus-daemon, and on it a systemd and a logind of a small host, served by `zbus`.
//!
//! Nothing of it is ours, so what our client makes of it is what it would make of the real ones.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use tempfile::TempDir;
use zbus::{OwnedObjectPath, connection::Builder, interface};

const PROGRAM: &str = "dbus-daemon";

/// Who may do what: everyone anything, on this bus of the test's own.
const CONFIG: &str = r#"<busconfig>
  <type>session</type>
  <listen>unix:path=SOCKET</listen>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"#;

/// The bus and its services, until it is dropped.
pub(crate) struct PrivateBus {
    daemon: Child,
    _directory: TempDir,
    address: String,
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl PrivateBus {
    /// `None`, said loudly, where there is no dbus-daemon.
    pub(crate) fn start() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("bus.conf");
        let socket = directory.path().join("socket");
        fs::write(&config, CONFIG.replace("SOCKET", &socket.display().to_string())).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["--nofork", "--nopidfile", "--print-address"]);
        command.arg(format!("--config-file={}", config.display()));
        let mut daemon = match command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
            Ok(daemon) => daemon,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // past the test runner, which shows what is printed only when a test fails
                let _ = writeln!(
                    io::stderr(),
                    "SKIPPED: {PROGRAM} is not installed (apt-get install {PROGRAM})"
                );
                return None;
            }
            Err(error) => panic!("{PROGRAM}: {error}"),
        };
        let mut address = String::new();
        let stdout = daemon.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        let bus = Self { daemon, _directory: directory, address: address.trim().to_owned() };
        serve(bus.address.clone());
        Some(bus)
    }

    /// As in `DBUS_SYSTEM_BUS_ADDRESS`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Serves both on a thread of its own, which ends with the bus.
fn serve(address: String) {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connection = connect(&address).await.unwrap();
            ready.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(connection);
        });
    });
    is_ready.recv().unwrap();
}

async fn connect(address: &str) -> zbus::Result<zbus::Connection> {
    let mut builder = Builder::address(address)
        .serve_at("/org/freedesktop/systemd1", Systemd)
        .serve_at("/org/freedesktop/login1", Logind);
    for unit in UNITS {
        let (path, name) = (path(unit.name), unit.name);
        builder = builder.serve_at(path.clone(), Unit);
        builder = match name.rsplit_once('.').unwrap().1 {
            "service" => builder.serve_at(path, Service(*unit)),
            "socket" => builder.serve_at(path, Socket),
            "timer" => builder.serve_at(path, Timer),
            "mount" => builder.serve_at(path, Mount),
            _ => builder,
        };
    }
    for session in SESSIONS {
        builder = builder.serve_at(session.path, Session(*session));
    }
    let builder = builder.name("org.freedesktop.systemd1").name("org.freedesktop.login1");
    builder.build().await
}

#[derive(Clone, Copy)]
struct UnitIs {
    name: &'static str,
    load: &'static str,
    active: &'static str,
    /// Of a service.
    kind: &'static str,
}

const fn unit(
    name: &'static str,
    load: &'static str,
    active: &'static str,
    kind: &'static str,
) -> UnitIs {
    UnitIs { name, load, active, kind }
}

const UNITS: &[UnitIs] = &[
    unit("ssh.service", "loaded", "active", "notify"),
    unit("-.mount", "loaded", "active", ""),
    unit("apt-daily.timer", "loaded", "active", ""),
    unit("auditd.service", "not-found", "inactive", "simple"),
    unit("cups.socket", "loaded", "active", ""),
    unit("dev-sda.device", "loaded", "active", ""),
    unit("getty@tty1.service", "loaded", "deactivating", "idle"),
    unit("nginx.service", "loaded", "reloading", "forking"),
    unit("backup.service", "loaded", "failed", "oneshot"),
    unit("café-größe.target", "loaded", "inactive", ""),
    unit("srv-a\\x20b.mount", "loaded", "active", ""),
];

#[derive(Clone, Copy)]
struct SessionIs {
    path: &'static str,
    seat: &'static str,
    remote: bool,
    kind: &'static str,
    class: &'static str,
}

const SESSIONS: &[SessionIs] = &[
    SessionIs {
        path: "/org/freedesktop/login1/session/_31",
        seat: "",
        remote: true,
        kind: "tty",
        class: "user",
    },
    SessionIs {
        path: "/org/freedesktop/login1/session/_32",
        seat: "",
        remote: true,
        kind: "tty",
        class: "user",
    },
    SessionIs {
        path: "/org/freedesktop/login1/session/c1",
        seat: "seat0",
        remote: false,
        kind: "wayland",
        class: "greeter",
    },
    SessionIs {
        path: "/org/freedesktop/login1/session/c2",
        seat: "seat1",
        remote: false,
        kind: "holographic",
        class: "user-early",
    },
];

/// As systemd names the object of a unit.
fn path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for byte in unit.bytes() {
        match byte.is_ascii_alphanumeric() {
            true => path.push(char::from(byte)),
            false => path.push_str(&format!("_{byte:02x}")),
        }
    }
    path
}

fn object(path: &str) -> OwnedObjectPath {
    path.to_owned().try_into().unwrap()
}

type Listed = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    OwnedObjectPath,
    u32,
    &'static str,
    OwnedObjectPath,
);

struct Systemd;

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    fn list_units(&self) -> Vec<Listed> {
        let listed = UNITS.iter().map(|unit| {
            let UnitIs { name, load, active, .. } = *unit;
            (name, "A unit", load, active, "running", "", object(&path(name)), 0, "", object("/"))
        });
        listed.collect()
    }

    #[zbus(property)]
    fn version(&self) -> &str {
        "252.38-1~deb12u1"
    }

    #[zbus(property)]
    fn virtualization(&self) -> &str {
        ""
    }

    #[zbus(property)]
    fn system_state(&self) -> &str {
        "running"
    }
}

struct Unit;

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn active_enter_timestamp(&self) -> u64 {
        1_700_000_000_250_000
    }
}

struct Service(UnitIs);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property, name = "Type")]
    fn kind(&self) -> &str {
        self.0.kind
    }

    #[zbus(property, name = "NRestarts")]
    fn restarts(&self) -> u32 {
        4
    }

    #[zbus(property)]
    fn tasks_current(&self) -> u64 {
        if self.0.active == "failed" { u64::MAX } else { 12 }
    }

    #[zbus(property)]
    fn tasks_max(&self) -> u64 {
        4_915
    }
}

struct Socket;

#[interface(name = "org.freedesktop.systemd1.Socket")]
impl Socket {
    #[zbus(property, name = "NAccepted")]
    fn accepted(&self) -> u32 {
        4_000_000_000
    }

    #[zbus(property, name = "NConnections")]
    fn connections(&self) -> u32 {
        2
    }

    #[zbus(property, name = "NRefused")]
    fn refused(&self) -> u32 {
        1
    }
}

struct Timer;

#[interface(name = "org.freedesktop.systemd1.Timer")]
impl Timer {
    #[zbus(property, name = "LastTriggerUSec")]
    fn last_trigger(&self) -> u64 {
        1_700_000_000_500_000
    }
}

struct Mount;

#[interface(name = "org.freedesktop.systemd1.Mount")]
impl Mount {
    #[zbus(property, name = "Type")]
    fn kind(&self) -> &str {
        "ext4"
    }
}

struct Logind;

#[interface(name = "org.freedesktop.login1.Manager")]
impl Logind {
    fn list_seats(&self) -> Vec<(&str, OwnedObjectPath)> {
        let path = |name: &str| object(&format!("/org/freedesktop/login1/seat/{name}"));
        ["seat0", "seat1"].map(|name| (name, path(name))).to_vec()
    }

    fn list_sessions(&self) -> Vec<(&str, u32, &str, &str, OwnedObjectPath)> {
        let listed = SESSIONS.iter().map(|is| ("1", 1_000, "me", is.seat, object(is.path)));
        listed.collect()
    }
}

struct Session(SessionIs);

#[interface(name = "org.freedesktop.login1.Session")]
impl Session {
    #[zbus(property)]
    fn remote(&self) -> bool {
        self.0.remote
    }

    #[zbus(property, name = "Type")]
    fn kind(&self) -> &str {
        self.0.kind
    }

    #[zbus(property)]
    fn class(&self) -> &str {
        self.0.class
    }
}
