//! The real binary's copies: taken while agents send, put back, looked over. What was acknowledged before a
//! copy began is in it, and what came after is told as missing when it is put back.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use serde_json::Value;
use wire::{
    AgentId, EncodedSchema, Family, InstanceId, Kind, MetricKind, Schema, Series, StreamId, Tick,
    api::IngestReply, envelope, request,
};

const HOST: &str = "kept";
/// Records of one request: sealing is due every few requests.
const ONCE: u64 = 20;

struct Hub {
    child: Child,
    url: String,
}

impl Hub {
    fn start(data_dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast-hub"))
            .args(["run", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the hub");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its first line");
        let url = line.trim().strip_prefix("listening on ").expect("where it listens").to_owned();
        Self { child, url }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&Path]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-hub")).args(arguments).output();
    output.expect("run the hub")
}

fn run(name: &str, arguments: &[&Path], data_dir: &Path, code: i32, says: &str) -> String {
    let all = [&[Path::new(name)], arguments, &[Path::new("--data-dir"), data_dir]].concat();
    let output = command(&all);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    assert_eq!(output.status.code(), Some(code), "{name}: {text}");
    assert!(text.contains(says), "{name}: expected {says:?} in {text}");
    text
}

/// Lately: the ledger is asked for the last day.
static START_MS: LazyLock<i64> = LazyLock::new(|| server_lite::clock::system()() - 3_600_000);

fn body(first: u64) -> Vec<u8> {
    let schema = EncodedSchema::new(Schema {
        collector: "test".into(),
        families: vec![Family {
            name: "copied".into(),
            kind: MetricKind::Gauge,
            help: String::new(),
        }],
        series: vec![Series { family: 0, labels: vec![] }],
    });
    let header = request::Header {
        agent_id: AgentId::from_bytes([1; 16]),
        instance_id: InstanceId::from_bytes([1; 16]),
        stream_id: StreamId::from_bytes([1; 16]),
        hostname: HOST.into(),
        agent_version: "test".into(),
        sent_ms: 0,
        last_seq: None,
    };
    let record = |seq: u64| {
        let tick = Tick::encode(*START_MS + seq.cast_signed(), &[(schema.id, &[seq as f64])]);
        envelope::encode(Kind::Metrics, seq, &tick).expect("small")
    };
    let records: Vec<Vec<u8>> = (first..first + ONCE).map(record).collect();
    request::encode(&header, [&*schema], records.iter().map(Vec::as_slice)).expect("small")
}

/// Sends one request as an agent does: from the record after the last that it was acknowledged.
fn send(url: &str, acked: &AtomicU64) {
    let client = ureq::Agent::new_with_defaults();
    let text = client
        .post(format!("{url}/api/v1/ingest"))
        .content_type(request::CONTENT_TYPE)
        .send(body(acked.load(SeqCst) + 1))
        .and_then(|mut answer| answer.body_mut().read_to_string())
        .expect("an answer");
    let reply: IngestReply = serde_json::from_str(&text).expect("a reply");
    assert_eq!(reply.acked_seq, acked.load(SeqCst) + ONCE, "what was sent is acknowledged");
    acked.store(reply.acked_seq, SeqCst);
}

fn wait_for(acked: &AtomicU64, seq: u64) {
    while acked.load(SeqCst) < seq {
        thread::yield_now();
    }
}

/// Every stored record, in order.
fn stored(data_dir: &Path) -> Vec<u64> {
    let lines = run("samples", &["--metric", "copied"].map(Path::new), data_dir, 0, "");
    let seq = |line: &str| {
        let sample: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(sample["value"].as_f64(), sample["seq"].as_f64());
        sample["seq"].as_u64().expect("a number")
    };
    lines.lines().map(seq).collect()
}

#[test]
fn a_copy_holds_what_was_acknowledged_and_the_rest_is_told() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let [data_dir, copy, restored] =
        ["data", "copy", "restored"].map(|name| directory.path().join(name));
    let hub = Hub::start(&data_dir);
    let (acked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sender = {
        let (url, acked, stop) = (hub.url.clone(), Arc::clone(&acked), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(SeqCst) {
                send(&url, &acked);
            }
        })
    };
    wait_for(&acked, 1_000);
    let before = acked.load(SeqCst);
    run("backup", &[&copy], &data_dir, 0, "copied ");
    let after = acked.load(SeqCst);
    wait_for(&acked, after + 200);
    run("doctor", &[], &data_dir, 0, "good      checksums: ");
    stop.store(true, SeqCst);
    sender.join().expect("the sender");
    run("backup", &[&copy], &data_dir, 1, "is not empty");
    run("migrate", &[], &data_dir, 1, "is in use by process");
    drop(hub);

    let in_copy = stored(&copy);
    let last = in_copy.len() as u64;
    assert_eq!(in_copy, (1..=last).collect::<Vec<_>>());
    assert!((before..=after + ONCE).contains(&last), "{last} copied of {before} and {after}");
    run("restore", &[&copy], &data_dir, 1, "stop the hub and move what is there aside");
    run("restore", &[directory.path()], &restored, 1, "this is no backup of a hub");
    run("restore", &[&copy], &restored, 0, "restored ");
    assert_eq!(stored(&restored), in_copy);

    // The agent knows that more was acknowledged, and goes on there.
    let told = acked.load(SeqCst);
    let hub = Hub::start(&restored);
    send(&hub.url, &acked);
    let text = ureq::get(format!("{}/api/v1/gaps", hub.url)).call();
    let text = text.expect("an answer").body_mut().read_to_string().expect("text");
    let gaps: Value = serde_json::from_str(&text).expect("JSON");
    let gap = &gaps["gaps"][0];
    assert_eq!(gap["reason"], "unexplained", "{gaps}");
    assert_eq!((gap["first_seq"].as_u64(), gap["last_seq"].as_u64()), (Some(last + 1), Some(told)));
    let expected: Vec<u64> = (1..=last).chain(told + 1..=told + ONCE).collect();
    assert_eq!(stored(&restored), expected);
    drop(hub);
    run("migrate", &[], &restored, 0, "up to date");
}

#[test]
fn the_doctor_says_what_is_bad() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let data_dir = directory.path().join("data");
    run("doctor", &[], &data_dir, 1, "open database");
    run("backup", &[&directory.path().join("copy")], &data_dir, 1, "open database");
    let hub = Hub::start(&data_dir);
    send(&hub.url, &AtomicU64::new(0));
    drop(hub);
    run("doctor", &[], &data_dir, 0, "good      database: is whole");
    let database = data_dir.join("hub.sqlite");
    let connection = rusqlite::Connection::open(&database).expect("open");
    let change = |sql: &str| connection.execute(sql, []).expect("change");
    change("UPDATE head SET body = zeroblob(length(body))");
    let says = run("doctor", &[], &data_dir, 1, "bad       checksums: 1 of 1 no longer read back");
    assert!(says.contains("error: something is bad"), "{says}");
    change("DELETE FROM head");
    change("UPDATE agents SET last_seen_ms = last_seen_ms + 86400000");
    run("doctor", &[], &data_dir, 0, "doubtful  clock: an agent was heard of 86");
    drop(connection);
    fs::write(&database, "no database").expect("write");
    run("doctor", &[], &data_dir, 1, "is not a hub's database");
}
