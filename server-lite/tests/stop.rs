//! The real binary is told to stop while a webhook hangs: it ends in time all the same, and what was
//! being sent is still to be sent.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use wire::{
    AgentId, EncodedSchema, Family, InstanceId, Kind, MetricKind, Schema, Series, StreamId, Tick,
    envelope, request,
};

/// Longer than the test waits for anything.
const WEBHOOK_TIMEOUT: &str = "1m";

fn start(config: &str) -> (Child, String) {
    let mut hub = Command::new(env!("CARGO_BIN_EXE_holdfast-hub"))
        .args(["run", "--config", config])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the hub");
    let mut line = String::new();
    let stdout = hub.stdout.take().expect("its output");
    BufReader::new(stdout).read_line(&mut line).expect("its first line");
    let url = line.trim().strip_prefix("listening on ").expect("where it listens").to_owned();
    (hub, url)
}

/// One tick of now, with a value that the rule is about.
fn send_a_tick(url: &str) {
    let schema = EncodedSchema::new(Schema {
        collector: "test".into(),
        families: vec![Family { name: "m".into(), kind: MetricKind::Gauge, help: String::new() }],
        series: vec![Series { family: 0, labels: vec![] }],
    });
    let header = request::Header {
        agent_id: AgentId::from_bytes([1; 16]),
        instance_id: InstanceId::from_bytes([1; 16]),
        stream_id: StreamId::from_bytes([1; 16]),
        hostname: "web-1".into(),
        agent_version: "test".into(),
        sent_ms: 0,
        last_seq: None,
    };
    let tick = Tick::encode(server_lite::clock::system()(), &[(schema.id, &[1.0])]);
    let record = envelope::encode(Kind::Metrics, 1, &tick).expect("small");
    let body = request::encode(&header, [&*schema], [record.as_slice()]).expect("small");
    let ingest = format!("{url}/api/v1/ingest");
    ureq::post(ingest).content_type(request::CONTENT_TYPE).send(body).expect("taken");
}

#[test]
fn a_webhook_that_hangs_does_not_hold_up_the_end() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let silent = TcpListener::bind("127.0.0.1:0").expect("listen");
    let config = format!(
        "data_dir = {:?}\nlisten = '127.0.0.1:0'\nshutdown_deadline = '1s'\nrule_interval = '1s'\n\
         [[rules]]\nname = 'any'\nmetric = 'm'\nop = '>'\nthreshold = 0\n\
         [notify.webhooks.ops]\nurl = 'http://{}/hook'\ntimeout = '{WEBHOOK_TIMEOUT}'\n",
        directory.path().join("data"),
        silent.local_addr().expect("its address"),
    );
    let path = directory.path().join("hub.toml");
    fs::write(&path, config).expect("write the configuration");
    let path = path.to_str().expect("plain");

    let (mut hub, url) = start(path);
    send_a_tick(&url);
    let (mut hook, _) = silent.accept().expect("the webhook is called");
    let mut begun = [0; 4];
    hook.read_exact(&mut begun).expect("a request");
    assert_eq!(&begun, b"POST");
    let told = Instant::now();
    let pid = Pid::from_raw(i32::try_from(hub.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("tell it to stop");
    assert!(hub.wait().expect("its end").success());
    let took = told.elapsed();
    assert!(took < Duration::from_secs(20), "two deadlines of a second each, and it took {took:?}");

    let (mut hub, url) = start(path);
    let text = ureq::get(format!("{url}/api/v1/incidents")).call().expect("alerts");
    let text = text.into_body().read_to_string().expect("text");
    let alerts: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(alerts["notifications"]["pending"], 1, "{alerts}");
    hub.kill().expect("kill");
    hub.wait().expect("its end");
}
