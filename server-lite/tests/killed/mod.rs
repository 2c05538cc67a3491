//! Agents, a hub as a child process, and what it has stored: for tests that kill.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use serde_json::Value;
use wire::{
    AgentId, EncodedSchema, Family, InstanceId, Kind, MetricKind, Schema, Series, StreamId, Tick,
    api::IngestReply, envelope, request,
};

pub(crate) const AGENTS: u8 = 4;
/// Records of one request: sealing is due every few requests.
pub(crate) const RECORDS_A_REQUEST: u64 = 10;
const SERIES: usize = 3;

/// A hub as a child process.
pub(crate) struct Hub {
    child: Child,
    pub(crate) url: String,
}

/// Where a hub keeps what it is sent.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) data_dir: &'a Path,
    /// Of a database; empty for none.
    pub(crate) database: &'a str,
}

impl Hub {
    pub(crate) fn start(home: Home<'_>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast-hub"))
            .args(["run", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(home.data_dir)
            .env("HOLDFAST_HUB_DATABASE_URL", home.database)
            .env("RUST_LOG", "off")
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the hub");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its first line");
        let url = line.trim().strip_prefix("listening on ").expect("where it listens").to_owned();
        Self { child, url }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill the hub");
        self.child.wait().expect("wait for the hub");
    }
}

fn schema() -> Arc<EncodedSchema> {
    let series =
        (0..SERIES).map(|n| Series { family: 0, labels: vec![("n".into(), n.to_string())] });
    EncodedSchema::new(Schema {
        collector: "test".into(),
        families: vec![Family {
            name: "killed".into(),
            kind: MetricKind::Gauge,
            help: String::new(),
        }],
        series: series.collect(),
    })
}

/// Of today: what is older than the hub's retention goes when it is sealed.
static START_MS: LazyLock<i64> = LazyLock::new(|| server_lite::clock::system()());

fn time_of(seq: u64) -> i64 {
    *START_MS + seq.cast_signed()
}

/// What every series of a record has to hold.
fn value_of(agent: u8, seq: u64) -> f64 {
    f64::from(agent) * 1e6 + seq as f64
}

fn body(agent: u8, first: u64) -> Vec<u8> {
    let schema = schema();
    let header = request::Header {
        agent_id: AgentId::from_bytes([agent; 16]),
        instance_id: InstanceId::from_bytes([agent; 16]),
        stream_id: StreamId::from_bytes([agent; 16]),
        hostname: format!("host-{agent}"),
        agent_version: "test".into(),
        sent_ms: 0,
        last_seq: None,
    };
    let record = |seq| {
        let tick = Tick::encode(time_of(seq), &[(schema.id, &[value_of(agent, seq); SERIES])]);
        envelope::encode(Kind::Metrics, seq, &tick).expect("small")
    };
    let records: Vec<Vec<u8>> = (first..first + RECORDS_A_REQUEST).map(record).collect();
    request::encode(&header, [&*schema], records.iter().map(Vec::as_slice)).expect("small")
}

/// Sends until the hub is gone; what it acknowledged last. A hub that can't store is asked again.
fn send_until_gone(agent: u8, url: &str, acked: &AtomicU64) {
    let client = ureq::Agent::new_with_defaults();
    let mut next = acked.load(SeqCst) + 1;
    loop {
        let sent = client
            .post(format!("{url}/api/v1/ingest"))
            .content_type(request::CONTENT_TYPE)
            .send(body(agent, next))
            .and_then(|mut answer| answer.body_mut().read_to_string());
        let text = match sent {
            Ok(text) => text,
            Err(ureq::Error::StatusCode(503 | 429)) => continue,
            Err(_) => return,
        };
        let reply: IngestReply = serde_json::from_str(&text).expect("a reply");
        assert_eq!(reply.need_schemas, []);
        assert!(reply.acked_seq >= acked.load(SeqCst), "an acknowledgement is never taken back");
        acked.store(reply.acked_seq, SeqCst);
        next = reply.acked_seq + 1;
    }
}

/// Agents that send to a hub, until it is gone.
pub(crate) struct Senders(Vec<JoinHandle<()>>);

impl Senders {
    pub(crate) fn start(url: &str, acked: &[Arc<AtomicU64>]) -> Self {
        let senders = (1..=AGENTS).zip(acked).map(|(agent, acked)| {
            let (url, acked) = (url.to_owned(), Arc::clone(acked));
            thread::spawn(move || send_until_gone(agent, &url, &acked))
        });
        Self(senders.collect())
    }

    /// Waits until each has been given acknowledgements up to that.
    pub(crate) fn wait(&self, acked: &[Arc<AtomicU64>], until: u64) {
        while acked.iter().any(|acked| acked.load(SeqCst) < until) {
            assert!(!self.0.iter().any(JoinHandle::is_finished), "a sender gave up early");
            thread::yield_now();
        }
    }

    pub(crate) fn join(self) {
        for sender in self.0 {
            sender.join().expect("a sender");
        }
    }
}

/// One life of the hub: agents send until each has been given so many acknowledgements, then SIGKILL.
pub(crate) fn live_and_die(home: Home<'_>, acked: &[Arc<AtomicU64>], until: u64) {
    let hub = Hub::start(home);
    let senders = Senders::start(&hub.url, acked);
    senders.wait(acked, until);
    hub.kill();
    senders.join();
}

pub(crate) fn run_hub(home: Home<'_>, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-hub"))
        .args(arguments)
        .arg("--data-dir")
        .arg(home.data_dir)
        .env("HOLDFAST_HUB_DATABASE_URL", home.database)
        .output()
        .expect("run the hub");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Every stored record of an agent, as often as it is stored; each series has to hold the same.
fn stored(home: Home<'_>, agent: u8) -> Vec<u64> {
    let host = format!("host-{agent}");
    let lines = run_hub(home, &["samples", "--host", &host, "--metric", "killed"]);
    let mut series = vec![Vec::new(); SERIES];
    for line in lines.lines() {
        let sample: Value = serde_json::from_str(line).expect("JSON");
        let seq = sample["seq"].as_u64().expect("a number");
        assert_eq!(sample["time_ms"].as_i64(), Some(time_of(seq)));
        assert_eq!(sample["value"].as_f64(), Some(value_of(agent, seq)));
        let n: usize = sample["labels"]["n"].as_str().and_then(|n| n.parse().ok()).expect("n");
        series[n].push(seq);
    }
    assert!(series.iter().all(|one| *one == series[0]), "the series of {host} differ");
    series.swap_remove(0)
}

/// Whether what was acknowledged is stored, once and in order, and little more.
pub(crate) fn check(home: Home<'_>, acked: &[Arc<AtomicU64>], when: &str) {
    for (agent, acked) in (1..=AGENTS).zip(acked) {
        let found = stored(home, agent);
        let last = found.len() as u64;
        let expected: Vec<u64> = (1..=last).collect();
        assert_eq!(found, expected, "agent {agent} after {when}");
        let (acked, most) = (acked.load(SeqCst), acked.load(SeqCst) + RECORDS_A_REQUEST);
        assert!((acked..=most).contains(&last), "{last} stored, {acked} acknowledged");
    }
    let audit: Value = serde_json::from_str(&run_hub(home, &["audit", "--json"])).expect("JSON");
    for host in audit["hosts"].as_array().expect("hosts") {
        for fault in ["duplicates", "doubled", "out_of_order", "time_backwards", "gaps", "damaged"]
        {
            assert_eq!(host[fault], 0, "{fault} of {host}");
        }
    }
}
