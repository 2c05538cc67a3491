//! A disk that is really full, under the real agent: a small file system holds its data, and ballast
//! takes every byte that is free while the hub is away.
//!
//! First the ballast takes what is free, once. The log refuses a tick, which waits in memory; the hub
//! comes back, and with the space that the log has kept back for this day all that lies there is read,
//! acknowledged and given back, and ticks go into the log again: the ballast is still there.
//!
//! Then it takes everything, again and again, that space too. Ticks wait in memory, and what finds no
//! room there is told as a gap. The hub comes back, and while the ballast takes what is given back all
//! that is durable is read and acknowledged. Without the ballast, all that was kept is in the store, once
//! and in order.
//!
//! The file system is a tmpfs in a mount namespace of our own, which needs no root on most hosts. Any
//! other small one can be named instead, 4 to 16 MiB and empty:
//! `SMALL_DISK=/mnt/small cargo test --test full_disk`.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use xtask::{
    busy,
    judge::judge,
    programs::{Agent, Binaries, Hub, wait_for},
    store::{self, ToldGap},
};

const SMALL_DISK: &str = "SMALL_DISK";
/// Mounts a small tmpfs at its first argument and runs the rest there.
const ON_TMPFS: &str = "mount -t tmpfs -o size=6m small \"$0\" && exec \"$@\"";
const INTERVAL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
/// A tick of 14 kB, so that four fill the memory for those that wait.
const DEVICES: u64 = 100;
const MEMORY_MAX: &str = "64KiB";

/// What the agent says when the log refuses a tick.
const REFUSED: &str = "the log refused a record, it waits in memory";
/// What it says when memory for them has run out.
const DROPPED: &str = "the oldest are dropped";
const ACKNOWLEDGED_AND_GIVEN_BACK: &str = "acknowledged and given back on a full disk";

/// What fills the disk.
struct Ballast {
    path: PathBuf,
    file: File,
}

impl Ballast {
    fn on(disk: &Path) -> Self {
        let path = disk.join("ballast");
        let file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        Self { path, file }
    }

    /// Takes every byte that is free, until the log refuses a tick; then no more.
    #[track_caller]
    fn fill_until_refused(&mut self, host: &mut Host) {
        let refusals = |host: &Host| host.agent.tail().matches(REFUSED).count();
        let before = refusals(host);
        while refusals(host) == before {
            self.fill();
            let durable = host.agent.last_seq();
            host.await_so(|host| host.agent.last_seq() > durable || refusals(host) > before);
        }
    }

    /// Takes every byte that is free, again and again, until the agent has dropped so many ticks.
    #[track_caller]
    fn fill_until_dropped(&mut self, host: &mut Host, ticks: u64) {
        host.await_so(|host| {
            self.fill();
            host.logged(DROPPED, "dropped=") >= ticks
        });
    }

    /// Takes every byte that is free or is given back, again and again, until the hub has acknowledged
    /// all that is durable.
    #[track_caller]
    fn fill_until_all_acked(&mut self, host: &mut Host) {
        host.await_so(|host| {
            self.fill();
            host.all_acked()
        });
    }

    /// Writes until nothing fits any more, in ever smaller pieces.
    fn fill(&mut self) {
        let mut piece = vec![0xa5; 1 << 20];
        while !piece.is_empty() {
            match self.file.write(&piece) {
                Ok(written) if written > 0 => {}
                Ok(_) => piece.truncate(piece.len() / 2),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    piece.truncate(piece.len() / 2);
                }
            }
        }
    }

    fn remove(self) {
        fs::remove_file(self.path).unwrap();
    }
}

/// Hub, agent, and the small disk under it.
struct Host {
    hub: Hub,
    agent: Agent,
}

impl Host {
    fn start(disk: &Path, directory: &Path) -> Self {
        let agent = Path::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        let binaries = Binaries::below(agent.parent().unwrap()).unwrap();
        let hub = Hub::start_apart(&binaries, directory, "full disk").unwrap();
        let mut agent = Agent::new(&binaries, &disk.join("agent"), INTERVAL, &hub).unwrap();
        agent.set("HOLDFAST_PROCFS", busy::procfs(directory, DEVICES).unwrap());
        agent.set("HOLDFAST_WAL_MEMORY_MAX", MEMORY_MAX);
        agent.restart().unwrap();
        Self { hub, agent }
    }

    #[track_caller]
    fn await_so(&mut self, mut so: impl FnMut(&mut Self) -> bool) {
        let waited = wait_for(PATIENCE, || Ok(so(self).then_some(())));
        assert!(waited.is_ok(), "still not so\n{}", self.agent.tail());
    }

    /// Waits until the hub has acknowledged all that is durable.
    #[track_caller]
    fn await_all_acked(&mut self) {
        self.await_so(Self::all_acked);
    }

    fn all_acked(&mut self) -> bool {
        let durable = self.agent.last_seq();
        let hosts = self.hub.get("/api/v1/hosts").unwrap_or_default();
        hosts["hosts"][0]["acked_seq"].as_u64().is_some_and(|acked| acked >= durable)
    }

    /// Waits until the agent has made so many more records durable.
    #[track_caller]
    fn await_durable(&mut self, more: u64) {
        let until = self.agent.last_seq() + more;
        self.await_so(|host| host.agent.last_seq() >= until);
    }

    /// Sum of a number that the agent logged, as `name=7`.
    fn logged(&self, text: &str, field: &str) -> u64 {
        let tail = self.agent.tail();
        let said = tail.lines().filter(|line| line.contains(text));
        let number = |line: &str| {
            let field = line.split(' ').find_map(|word| word.strip_prefix(field));
            field?.parse::<u64>().ok()
        };
        said.map(|line| number(line).unwrap()).sum()
    }
}

/// The story, on the small disk that the environment names. Alone it does nothing.
#[test]
fn on_a_small_disk() {
    let Some(disk) = env::var_os(SMALL_DISK).map(PathBuf::from) else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::start(&disk, directory.path());
    host.await_durable(2);
    host.await_all_acked();

    host.hub.kill().unwrap();
    host.await_durable(2);
    let mut ballast = Ballast::on(&disk);
    ballast.fill_until_refused(&mut host);
    host.hub.restart().unwrap();
    host.await_all_acked();
    host.await_durable(2);
    println!("{ACKNOWLEDGED_AND_GIVEN_BACK}");

    host.hub.kill().unwrap();
    ballast.fill_until_dropped(&mut host, 3);
    host.hub.restart().unwrap();
    ballast.fill_until_all_acked(&mut host);
    ballast.remove();
    host.await_durable(4);
    host.await_all_acked();
    host.agent.check_running().unwrap();
    let dropped = host.logged(DROPPED, "dropped=");
    let fell_out = host.logged("ticks fell out", "missed=");
    host.agent.stop().unwrap();
    check_store(&host, dropped, fell_out);
}

fn check_store(host: &Host, dropped: u64, fell_out: u64) {
    let stored = store::ticks(&host.hub).unwrap().into_values().next().unwrap();
    let gaps = store::gaps(&host.hub).unwrap();
    let audit = store::audit(&host.hub).unwrap().remove(0);
    let mut verdict = judge(&host.agent.lives(), &stored, &gaps, INTERVAL);
    verdict.add_audit(&audit);
    println!("{verdict}\ndropped from memory  {dropped:>8}");
    let faults = [verdict.lost, verdict.doubled, verdict.out_of_order, verdict.unexplained];
    assert_eq!(faults, [0; 4], "{verdict}");
    assert_eq!((verdict.stored, verdict.gaps_lost), (verdict.expected, 0), "{verdict}");
    assert_eq!(audit.streams.len(), 1, "a full disk is no damage: {:?}", audit.streams);

    // What is not there is told, no more and no less.
    assert!(gaps.iter().all(|gap| gap.reason == "log_overflow"), "{gaps:?}");
    assert!(dropped >= 3);
    assert_eq!(gaps.iter().map(|gap| gap.records).sum::<u64>(), dropped, "{gaps:?}");
    let times: Vec<i64> = stored.iter().map(|tick| tick.time_ms).collect();
    let missing = missing(&times);
    let told = missing.iter().filter(|time_ms| is_told(&gaps, **time_ms)).count() as u64;
    assert_eq!(told, dropped, "{missing:?}: {gaps:?}");
    assert_eq!(missing.len() as u64, dropped + fell_out, "{missing:?}: {gaps:?}");
}

/// Times between the first and the last at which there is no tick.
fn missing(times: &[i64]) -> Vec<i64> {
    let step = usize::try_from(INTERVAL.as_millis()).unwrap();
    let all = (times[0]..times[times.len() - 1]).step_by(step);
    all.filter(|time_ms| !times.contains(time_ms)).collect()
}

fn is_told(gaps: &[ToldGap], time_ms: i64) -> bool {
    gaps.iter().any(|gap| (gap.from_ms..=gap.to_ms).contains(&time_ms))
}

#[test]
fn a_full_disk_stops_nothing_and_what_is_lost_is_told() {
    if env::var_os(SMALL_DISK).is_some() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // As ourselves in a user namespace; as root without one, where those are forbidden.
    let Some(namespace) = ["-Urm", "-m"].into_iter().find(|flags| {
        let mut trial = on_tmpfs(flags, directory.path());
        trial.arg("true").output().is_ok_and(|output| output.status.success())
    }) else {
        println!("SKIPPED: this host lets us mount no tmpfs (unshare -Urm, mount)");
        return;
    };
    let mut story = on_tmpfs(namespace, directory.path());
    story.arg(env::current_exe().unwrap()).args(["--exact", "on_a_small_disk", "--nocapture"]);
    let output = story.env(SMALL_DISK, directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(ACKNOWLEDGED_AND_GIVEN_BACK), "the story was not told");
}

fn on_tmpfs(namespace: &str, mount_point: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args([namespace, "sh", "-c", ON_TMPFS]).arg(mount_point);
    command
}
