//! A real Prometheus in agent mode, or a real vmagent, scrapes a page and sends what it finds to the real hub,
//! which is killed with SIGKILL again and again, mostly when it has stored a request and nobody hears of it.
//! Whatever was on the page is there once and in order, bit for bit, and its series end when the page goes
//! away. With the hub's own store, and with one in PostgreSQL.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

#[path = "../../tests/remote_write/relay.rs"]
mod relay;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use relay::Relay;
use remote_write::{STALE_BITS, is_stale};
use server_lite::store::{
    Selector,
    embedded::inspect::{self, Place},
    postgres,
};
use xtask::{
    cluster::{Cluster, Durability, PACKAGE},
    programs::{Binaries, Hub, Program, millis, unix_now, wait_for},
};

const SECRET: &str = "a-secret";
const SERIES: usize = 40;
const ROUNDS: usize = 3;
/// Scrapes between two events of the test.
const SCRAPES: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// Of one series, in the order of storage: times in Unix milliseconds, values, where they lie.
type Samples = Vec<(i64, f64, Place)>;

/// A page that counts how often it is asked for: all its series have that number as their value. When it
/// is gone it is an error.
struct Page {
    address: SocketAddr,
    served: Arc<AtomicU64>,
    is_gone: Arc<AtomicBool>,
}

impl Page {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (served, is_gone) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let page = Self { address, served: Arc::clone(&served), is_gone: Arc::clone(&is_gone) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who doesn't read it to the end tells so by `up`.
                let _ = answer(&stream, &served, is_gone.load(SeqCst));
            }
        });
        page
    }

    fn await_more(&self) {
        let wanted = self.served.load(SeqCst) + SCRAPES;
        wait("more scrapes", || self.served.load(SeqCst) >= wanted);
    }
}

fn answer(mut stream: &TcpStream, served: &AtomicU64, is_gone: bool) -> std::io::Result<()> {
    for line in BufReader::new(stream).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let (status, lines) = if is_gone {
        ("410 Gone", String::new())
    } else {
        let number = served.fetch_add(1, SeqCst) + 1;
        let line = |n| format!("page{{n=\"{n:02}\"}} {number}\n");
        ("200 OK", (0..SERIES).map(line).collect())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        lines.len()
    );
    stream.write_all((head + &lines).as_bytes())
}

/// Two queues at any time, so that requests overtake one another. What it says of metrics is left out:
/// each request is one of samples then.
fn prometheus(directory: &Path, url: &str, page: SocketAddr) -> Program {
    let text = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{page}']}}]}}]\n\
         remote_write:\n- url: {url}\n  \
         authorization: {{credentials: {SECRET}}}\n  \
         metadata_config: {{send: false}}\n  \
         queue_config: {{min_shards: 2, max_shards: 2, batch_send_deadline: 100ms, \
         min_backoff: 20ms, max_backoff: 100ms}}\n"
    );
    let path = directory.join("prometheus.yml");
    fs::write(&path, text).unwrap();
    let mut command = Command::new("prometheus");
    command
        .args(["--enable-feature=agent", "--web.listen-address=127.0.0.1:0"])
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.agent.path={}", directory.join("agent").display()));
    Program::start("prometheus", &mut command, |_| ()).unwrap()
}

/// One queue: several overtake one another with requests of the same series, and what it has scraped is
/// then stored in another order.
fn vmagent(directory: &Path, url: &str, page: SocketAddr) -> Program {
    let text = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{page}']}}]}}]\n"
    );
    let path = directory.join("vmagent.yml");
    fs::write(&path, text).unwrap();
    let mut command = Command::new("vmagent");
    command
        .arg(format!("-promscrape.config={}", path.display()))
        .arg(format!("-remoteWrite.tmpDataPath={}", directory.join("queue").display()))
        .arg(format!("-remoteWrite.url={url}"))
        .arg(format!("-remoteWrite.bearerToken={SECRET}"))
        .args(["-remoteWrite.flushInterval=100ms", "-remoteWrite.queues=1"])
        .args(["-httpListenAddr=127.0.0.1:0", "-loggerLevel=WARN"]);
    Program::start("vmagent", &mut command, |_| ()).unwrap()
}

fn address(hub: &Hub) -> SocketAddr {
    hub.url().strip_prefix("http://").unwrap().parse().unwrap()
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    wait_for(PATIENCE, || Ok(is_so().then_some(()))).unwrap_or_else(|_| panic!("never {what}"));
}

/// Samples that were sent again and were there, in this life of the hub.
fn duplicates(hub: &Hub) -> u64 {
    let name = "holdfast_hub_remote_write_duplicates_total ";
    let request = ureq::get(format!("{}/metrics", hub.url()));
    let mut answer = request.header("authorization", format!("Bearer {SECRET}")).call().unwrap();
    let page = answer.body_mut().read_to_string().unwrap();
    page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

/// Where the hub keeps what it is sent.
#[derive(Clone, Copy)]
struct Home<'a> {
    data_dir: &'a Path,
    /// Of a database; empty for none.
    database: &'a str,
}

/// What the hub has of a metric, by the label `n`; beside it while it runs.
fn stored(home: Home<'_>, metric: &str) -> BTreeMap<String, Samples> {
    let mut all = BTreeMap::<String, Samples>::new();
    let selector = Selector::metric(metric);
    let each = |series: &server_lite::store::Series, stored: &inspect::Stored| {
        let n = series.labels.get("n").cloned().unwrap_or_default();
        all.entry(n).or_default().push((stored.time_ms, stored.value, stored.place));
        Ok(())
    };
    if home.database.is_empty() {
        inspect::samples(home.data_dir, &selector, each).unwrap();
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(postgres::inspect::samples(home.database, &selector, each)).unwrap();
    }
    all
}

/// Whether all series have ended, and `up` is there up to then: each queue keeps its order, so all
/// before is there too.
fn has_ended(home: Home<'_>) -> bool {
    let page = stored(home, "page");
    let ends: Vec<_> = page.values().filter_map(|samples| samples.last()).collect();
    let up = stored(home, "up");
    let up_to = up.values().flatten().map(|(time_ms, ..)| *time_ms).max();
    ends.len() == SERIES && ends.iter().all(|end| is_stale(end.1) && Some(end.0) <= up_to)
}

/// Compares what is stored with what the page served, and with what Prometheus says of its scrapes: at
/// which times one was good.
fn check(home: Home<'_>, served: u64, gone_ms: i64) {
    let up = stored(home, "up").remove("").unwrap();
    let good: Vec<i64> = up.iter().filter(|one| one.1 == 1.0).map(|one| one.0).collect();
    // A sender can't keep a page that it got too late, and says that it was down. The page served it.
    let late = up.iter().filter(|(time_ms, up, _)| *up == 0.0 && *time_ms < gone_ms).count();
    let page = stored(home, "page");
    assert_eq!(page.len(), SERIES);
    let mut sealed = 0;
    for (n, samples) in &page {
        let is_sorted = samples.is_sorted_by(|a, b| a.0 < b.0);
        assert!(is_sorted, "series {n} isn't in order, or has a time twice: {samples:?}");
        let (marks, values): (Samples, Samples) =
            samples.iter().partition(|(_, value, _)| is_stale(*value));
        let times: Vec<i64> = values.iter().map(|one| one.0).collect();
        assert_eq!(times, good, "series {n} has a value whenever a scrape was good");
        let bits: Vec<u64> = values.iter().map(|one| one.1.to_bits()).collect();
        let all: Vec<u64> = (1..=served).map(|number| (number as f64).to_bits()).collect();
        if late == 0 {
            assert_eq!(bits, all, "series {n}: {samples:?}");
        } else {
            // f64s that are positive are in the order of their bits.
            assert!(bits.is_sorted_by(|a, b| a < b), "series {n}: {samples:?}");
            assert!(bits.iter().all(|bits| all.contains(bits)), "series {n}: {samples:?}");
            assert!(bits.len() + late >= all.len(), "series {n}, {late} late: {samples:?}");
        }
        let end = samples.last().unwrap();
        assert_eq!(end.1.to_bits(), STALE_BITS, "series {n}");
        assert!((1..=late + 1).contains(&marks.len()), "series {n}: {marks:?}");
        sealed += samples.iter().filter(|one| one.2 == Place::Block).count();
    }
    println!("{served} scrapes of {SERIES} series, {late} too late, {sealed} samples sealed");
}

/// Starts a sender in a directory, to a URL, from a page.
type Sender = fn(&Path, &str, SocketAddr) -> Program;

#[test]
fn what_prometheus_sends_is_there_once_and_in_order() {
    if Command::new("prometheus").arg("--version").output().is_err() {
        eprintln!("SKIPPED: prometheus is not here (apt-get install prometheus)");
        return;
    }
    run(prometheus, "");
}

#[test]
fn in_postgres_what_prometheus_sends_is_there_once_and_in_order() {
    let cluster = Cluster::start(Durability::Durable).unwrap();
    let is_here = Command::new("prometheus").arg("--version").output().is_ok();
    let Some(cluster) = cluster.filter(|_| is_here) else {
        eprintln!(
            "SKIPPED: prometheus or PostgreSQL is not here (apt-get install prometheus {PACKAGE})"
        );
        return;
    };
    run(prometheus, &cluster.url());
}

#[test]
fn what_vmagent_sends_is_there_once_and_in_order() {
    if Command::new("vmagent").arg("-version").output().is_err() {
        eprintln!("SKIPPED: vmagent is not here (apt-get install victoria-metrics)");
        return;
    }
    run(vmagent, "");
}

fn run(sender: Sender, database: &str) {
    let directory = tempfile::tempdir().unwrap();
    let binaries =
        Binaries { agent: PathBuf::new(), hub: env!("CARGO_BIN_EXE_holdfast-hub").into() };
    let environment = [("HOLDFAST_HUB_DATABASE_URL", database)];
    let mut hub = Hub::start_apart_with(&binaries, directory.path(), SECRET, &environment).unwrap();
    let data_dir = hub.data_dir().to_owned();
    let home = Home { data_dir: &data_dir, database };
    let at = address(&hub);
    let relay = Relay::start(at);
    let page = Page::start();
    let mut sender = sender(directory.path(), &relay.url(), page.address);
    let mut again = 0;
    for _ in 0..ROUNDS {
        page.await_more();
        // Stored, and killed before anybody heard of it.
        relay.drop_reply(3).recv_timeout(PATIENCE).unwrap();
        hub.kill().unwrap();
        page.await_more();
        hub.restart().unwrap();
        assert_eq!(address(&hub), at);
        relay.leads_to(Some(at));
        wait("the request that was stored came again", || duplicates(&hub) > 0);
        page.await_more();
        again += duplicates(&hub);
        // Whatever it does at the moment.
        hub.kill().unwrap();
        page.await_more();
        hub.restart().unwrap();
    }
    page.await_more();
    page.is_gone.store(true, SeqCst);
    let gone_ms = millis(unix_now());
    wait("the series ended", || has_ended(home));
    sender.stop().unwrap();
    hub.stop().unwrap();
    let (requests, bytes) = (relay.passed(), relay.bytes());
    println!("{requests} requests, {bytes} bytes, {again} samples came again");
    check(home, page.served.load(SeqCst), gone_ms);
}
