//! A whole hub on a real socket, and everything that can be sent to it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use wire::{
    Kind,
    api::{HEARD_HEADER, WORD_HEADER},
    envelope, limits,
    request::{self, CONTENT_TYPE},
};

use crate::{
    Config, HubError,
    store::conformance::{Fake, FakeAgent, START_MS, gap, schema, tick, time_of},
};

mod prometheus;
mod written;

const SECRET: &str = "test secret";

/// A hub that runs until it is stopped.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), HubError>>,
    token: Option<String>,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The hub's word that goes with it.
    fn word(&self) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(WORD_HEADER));
        line.and_then(|rest| rest.strip_prefix(": ")).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Status, word, and part of the message of a refusal.
    fn check(&self, status: u16, word: &str, message: &str) {
        let body = self.json();
        assert_eq!((self.status, body["error"].as_str()), (status, Some(word)), "{self:?}");
        let found = body["message"].as_str().unwrap();
        assert!(found.contains(message), "expected {message:?} in {found:?}");
    }
}

fn config(directory: &Path, secret: Option<&str>) -> Config {
    let toml = format!("data_dir = {directory:?}\nlisten = '127.0.0.1:0'");
    let path = directory.join("hub.toml");
    std::fs::write(&path, toml).unwrap();
    let variables = secret.map(|secret| ("AGENT_TOKEN".to_owned(), secret.to_owned()));
    let inputs = crate::config::Inputs {
        path: Some(&path),
        variables: variables.into_iter().collect(),
        flags: vec![],
    };
    Config::load(inputs).unwrap().config
}

impl Running {
    async fn start(directory: &Path, secret: Option<&str>) -> Self {
        Self::start_with(config(directory, secret), secret).await
    }

    async fn start_with(config: Config, secret: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(crate::run(listener, config, shutdown));
        let now_s = (crate::clock::system())() / 1_000;
        let token = secret.map(|secret| wire::token::mint(secret, "test", now_s as u64).unwrap());
        Self { address, stop, ended, token }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }

    /// Sends a request as it is and reads the answer; blocking, off the runtime.
    async fn raw(&self, request: Vec<u8>) -> Answer {
        let address = self.address;
        tokio::task::spawn_blocking(move || exchange(address, &request, false)).await.unwrap()
    }

    /// The same, and then says that nothing more comes.
    async fn raw_and_no_more(&self, request: Vec<u8>) -> Answer {
        let address = self.address;
        tokio::task::spawn_blocking(move || exchange(address, &request, true)).await.unwrap()
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n");
        if let Some(token) = &self.token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        self.raw([head.as_bytes(), body].concat()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    async fn ingest(&self, body: &[u8]) -> Answer {
        self.send("POST", "/api/v1/ingest", &[("content-type", CONTENT_TYPE)], body).await
    }

    /// As one that has heard the hub's word in that answer.
    async fn ingest_after(&self, answer: &Answer, body: &[u8]) -> Answer {
        let headers = [("content-type", CONTENT_TYPE), (HEARD_HEADER, answer.word())];
        self.send("POST", "/api/v1/ingest", &headers, body).await
    }
}

fn exchange(address: SocketAddr, request: &[u8], no_more: bool) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    if no_more {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn compressed(parts: &[&[u8]]) -> Vec<u8> {
    zstd::bulk::compress(&parts.concat(), 3).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_goes_in_and_comes_out() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let schema = schema("m", 2);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let unsent = FakeAgent { send: vec![], ..agent.clone() };
    let ticks: Vec<Fake> = (1..=12).map(|seq| tick(seq, &schema)).collect();
    let asked = hub.ingest(&unsent.body(&ticks)).await.json();
    assert_eq!(
        (&asked["acked_seq"], &asked["need_schemas"]),
        (&json!(0), &json!([schema.id.to_string()]))
    );
    for _ in 0..2 {
        let answer = hub.ingest(&agent.body(&ticks)).await;
        assert_eq!((answer.status, &answer.json()["acked_seq"]), (200, &json!(12)));
    }
    let path = format!(
        "/api/v1/buckets?metric=m&host=host-1&labels=n=1&from={}&to={}&step=1m&agg=max",
        START_MS,
        time_of(100)
    );
    let found = hub.get(&path).await.json();
    let bucket = |seq: u64| time_of(seq) / 60_000 * 60_000;
    let expected = json!([[bucket(1), 3.01], [bucket(4), 9.01], [bucket(10), 12.01]]);
    assert_eq!(found["series"][0]["points"], expected);
    assert_eq!(found["series"][0]["labels"], json!({ "n": "1" }));
    assert_eq!(found["series"].as_array().unwrap().len(), 1);
    let hosts = hub.get("/api/v1/hosts").await.json();
    let host = &hosts["hosts"][0];
    assert_eq!((&host["host"], &host["acked_seq"]), (&json!("host-1"), &json!(12)));
    assert_eq!((&host["online"], &host["last_tick_ms"]), (&json!(false), &json!(time_of(12))));
    let metrics = hub.get("/metrics").await.body;
    for line in [
        "holdfast_hub_http_requests_total{endpoint=\"ingest\",status=\"200\"} 3",
        "holdfast_hub_ingest_samples_total 24",
        "holdfast_hub_ingest_duplicates_total 12",
        "holdfast_hub_store_series 2",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    hub.stop().await;
    let hub = Running::start(directory.path(), None).await;
    assert_eq!(hub.get(&path).await.json(), found, "still there after a restart");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_body_has_its_own_answer_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let schema = schema("m", 1);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let good = agent.body(&[tick(1, &schema)]);
    let bytes = zstd::stream::decode_all(good.as_slice()).unwrap();

    hub.ingest(b"").await.check(400, "truncated", "incomplete");
    hub.ingest(b"not zstd at all").await.check(400, "malformed", "not a whole zstd frame");
    hub.ingest(&good[..good.len() - 4]).await.check(400, "truncated", "not a whole zstd frame");
    let answer = hub.ingest(&compressed(&[&bytes[..bytes.len() - 4]])).await;
    answer.check(400, "truncated", "truncated record");
    assert!(answer.json()["offset"].is_u64());
    hub.ingest(&compressed(&[&bytes, b"and so on, and so on, and so on"])).await.check(
        400,
        "malformed",
        "no record here",
    );
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    hub.ingest(&compressed(&[&flipped])).await.check(400, "damaged", "checksum mismatch");
    let newer = [&bytes[..4], &[9], &bytes[5..]].concat();
    hub.ingest(&compressed(&[&newer])).await.check(422, "unsupported_version", "version 9");
    hub.ingest(&compressed(&[&vec![0; limits::REQUEST_DECODED_BYTES_MAX + 1]])).await.check(
        413,
        "too_large",
        "decompresses",
    );
    let large = vec![0; limits::REQUEST_BYTES_MAX + 1];
    hub.ingest(&large).await.check(413, "too_large", "larger than 8388608 bytes");

    let malformed = envelope::encode(Kind::Metrics, 9, b"\xff\xff").unwrap();
    let answer = hub.ingest(&compressed(&[&bytes, &malformed])).await;
    answer.check(400, "bad_record", "record 1 (seq 9): malformed tick");
    assert_eq!(answer.json()["record"], json!({ "index": 1, "seq": 9 }));
    let misfit = Fake::Tick(2, vec![(schema.id, vec![1.0, 2.0])]);
    let answer = hub.ingest(&agent.body(&[tick(1, &schema), misfit])).await;
    answer.check(400, "bad_record", "2 values, but its schemas have 1 series");
    assert_eq!(answer.json()["record"], json!({ "index": 1, "seq": 2 }));

    let plain = hub.send("POST", "/api/v1/ingest", &[("content-type", "text/plain")], &good).await;
    plain.check(415, "wrong_content_type", "expected \"application/vnd.holdfast.records\"");
    let none = hub.send("POST", "/api/v1/ingest", &[], &good).await;
    none.check(415, "wrong_content_type", "content type \"\"");
    hub.get("/api/v1/ingest").await.check(405, "method_not_allowed", "doesn't take GET");
    hub.get("/api/v2/ingest").await.check(404, "not_found", "below /api/v1/");

    assert_eq!(hub.get("/api/v1/hosts").await.json()["hosts"], json!([]));
    assert_eq!(hub.ingest(&good).await.status, 200, "and the hub goes on");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_early_or_has_no_length() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let schema = schema("m", 1);
    let good = FakeAgent::new(1, 1, &[&schema]).body(&[tick(1, &schema)]);
    let head = |more: &str| {
        format!(
            "POST /api/v1/ingest HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: {CONTENT_TYPE}\r\n{more}\r\n\r\n"
        )
    };
    let cut = [head("content-length: 1000").as_bytes(), &good].concat();
    hub.raw_and_no_more(cut).await.check(400, "truncated", "ended early");
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let (first, second) = good.split_at(10);
    let chunked =
        [head("transfer-encoding: chunked").into_bytes(), chunk(first), chunk(second), chunk(b"")];
    assert_eq!(hub.raw(chunked.concat()).await.status, 200);
    let endless = [
        head("transfer-encoding: chunked").into_bytes(),
        chunk(&vec![0; limits::REQUEST_BYTES_MAX]),
        chunk(b"x"),
        chunk(b""),
    ];
    hub.raw(endless.concat()).await.check(413, "too_large", "larger than");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_secret_nothing_is_told_or_taken_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Running::start(directory.path(), Some(SECRET)).await;
    let good_token = hub.token.clone();
    let schema = schema("m", 1);
    let body = FakeAgent::new(1, 1, &[&schema]).body(&[tick(1, &schema)]);
    let now_s = ((crate::clock::system())() / 1_000) as u64;
    let mint = |secret: &str, now_s| Some(wire::token::mint(secret, "test", now_s).unwrap());
    let bad = [
        (None, "no token"),
        (Some("rubbish".to_owned()), "token is not valid"),
        (mint("another secret", now_s), "token is not valid"),
        (mint(SECRET, now_s - 200_000), "token expired"),
        (mint(SECRET, now_s + 4_000), "in the future"),
    ];
    for (token, message) in bad {
        hub.token = token;
        hub.ingest(&body).await.check(401, "unauthorised", message);
        let answer = hub.get("/api/v1/hosts").await;
        answer.check(401, "unauthorised", "auth.token");
        assert!(answer.head.contains("www-authenticate: bearer"));
        for path in ["/api/v1/buckets?metric=m", "/api/v1/gaps", "/api/v1/incidents"] {
            assert_eq!(hub.get(path).await.status, 401, "{path}");
        }
        assert_eq!(hub.send("POST", "/api/v1/heartbeat", &[], b"{}").await.status, 401);
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(hub.get(path).await.status, 200, "{path}");
        }
    }
    hub.token = good_token;
    assert_eq!(hub.get("/api/v1/hosts").await.json()["hosts"], json!([]));
    assert_eq!(hub.ingest(&body).await.status, 200);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_what_agents_say() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let beat = json!({
        "agent_id": "01010101-0101-0101-0101-010101010101",
        "instance_id": "03030303-0303-0303-0303-030303030303", "sent_ms": START_MS,
        "stream_id": "02020202-0202-0202-0202-020202020202",
        "hostname": "web-1", "agent_version": "0.1.0", "addresses": ["10.0.0.1"], "interval_ms": 10000,
        "log": { "last_seq": 7, "acked_seq": 5, "disk_bytes": 100, "pending_records": 2 },
    });
    let post = async |body: &[u8]| {
        hub.send("POST", "/api/v1/heartbeat", &[("content-type", "application/json")], body).await
    };
    let answer = post(beat.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["time_ms"].as_i64().unwrap() > START_MS);
    post(b"{").await.check(400, "malformed", "EOF");
    post(&vec![b' '; limits::HEARTBEAT_BYTES_MAX + 1]).await.check(413, "too_large", "65536");
    let mut nameless = beat.clone();
    nameless["hostname"] = json!("x".repeat(254));
    post(nameless.to_string().as_bytes()).await.check(400, "malformed", "hostname is 254 bytes");
    let hosts = hub.get("/api/v1/hosts").await.json();
    let host = &hosts["hosts"][0];
    assert_eq!((&host["host"], &host["online"]), (&json!("web-1"), &json!(true)));
    assert_eq!((&host["log"], &host["addresses"]), (&beat["log"], &beat["addresses"]));
    assert_eq!((&host["last_tick_ms"], &host["interval_ms"]), (&Value::Null, &json!(10_000)));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_with_one_identity_is_refused_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let schema = schema("m", 1);
    let first = FakeAgent::new(1, 1, &[&schema]);
    let mut second = first.clone();
    second.header.instance_id = wire::InstanceId::from_bytes([7; 16]);
    second.header.hostname = "host-2".into();
    assert_eq!(hub.ingest(&first.body(&[tick(1, &schema)])).await.status, 200);
    // It may be the late word of a process that has ended, until it has heard the hub.
    let other = [Fake::Tick(1, vec![(schema.id, vec![9.0])]), tick(2, &schema)];
    let asked = hub.ingest(&second.body(&other)).await;
    asked.check(429, "busy", "if this one runs, ask again");
    // Other content under the same number: it gives way to the one that was heard of.
    let refused = hub.ingest_after(&asked, &second.body(&other)).await;
    refused.check(409, "identity_conflict", "record 1 is stored already, with other content");
    refused.check(409, "identity_conflict", "01010101-0101-0101-0101-010101010101");
    refused.check(409, "identity_conflict", "on host host-1");
    refused.check(409, "identity_conflict", "stop this agent, delete the file `agent-id`");
    second.header.sent_ms += 1;
    let refused = hub.ingest_after(&refused, &second.body(&[tick(2, &schema)])).await;
    refused.check(409, "identity_conflict", "by another process on host host-1");
    let beat = json!({
        "agent_id": "01010101-0101-0101-0101-010101010101",
        "instance_id": "07070707-0707-0707-0707-070707070707", "sent_ms": START_MS + 2,
        "stream_id": "02020202-0202-0202-0202-020202020202",
        "hostname": "host-2", "agent_version": "1", "addresses": ["10.0.0.2"], "interval_ms": 1,
        "log": { "last_seq": 7, "acked_seq": 5, "disk_bytes": 100, "pending_records": 2 },
    });
    let headers = [("content-type", "application/json"), (HEARD_HEADER, refused.word())];
    let beat = hub.send("POST", "/api/v1/heartbeat", &headers, beat.to_string().as_bytes()).await;
    beat.check(409, "identity_conflict", "by another process on host host-1");

    assert_eq!(hub.ingest(&first.body(&[tick(2, &schema)])).await.json()["acked_seq"], json!(2));
    let hosts = hub.get("/api/v1/hosts").await.json();
    let host = &hosts["hosts"][0];
    assert_eq!((&host["host"], &host["online"]), (&json!("host-1"), &json!(false)));
    let expected = json!([
        { "host": "host-2", "addresses": ["10.0.0.2"] },
        { "host": "host-1", "addresses": [] },
    ]);
    assert_eq!(host["conflict"]["hosts"], expected);
    let metrics = hub.get("/metrics").await.body;
    assert!(metrics.contains("holdfast_hub_identity_conflicts_total 1"), "{metrics}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_and_alerts_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let schema = schema("m", 1);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let records = [tick(1, &schema), tick(5, &schema), Fake::Gap(6, gap(2, 3))];
    assert_eq!(hub.ingest(&agent.body(&records)).await.status, 200);
    let found = hub.get("/api/v1/gaps?host=host-1&from=0&to=now").await.json();
    let told: Vec<_> = found["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gap| (gap["reason"].as_str().unwrap(), gap["first_seq"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        (told.len(), told.contains(&("log_overflow", 2)), told.contains(&("unexplained", 4))),
        (2, true, true)
    );
    assert_eq!(hub.get("/api/v1/gaps?from=0&limit=1").await.json()["truncated"], json!(true));
    assert_eq!(hub.get("/api/v1/gaps?host=nobody&from=0").await.json()["gaps"], json!([]));
    hub.get("/api/v1/gaps?from=yesterday").await.check(400, "bad_parameter", "from: found");
    let alerts = hub.get("/api/v1/incidents").await;
    assert_eq!((alerts.status, &alerts.json()["alerts"]), (200, &json!([])));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_cannot_be_meant_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let check = async |query: &str, message: &str| {
        let path = format!("/api/v1/buckets?{query}");
        hub.get(&path).await.check(400, "bad_parameter", message);
    };
    check("", "parameter metric is missing").await;
    check("metric=m&setp=1m", "unknown parameter \"setp\"").await;
    check("metric=m&agg=median", "expected one of avg, min, max, last, rate").await;
    check("metric=m&step=0s", "step must be longer than nothing").await;
    check("metric=m&from=-1h&to=-2h", "from must lie before to").await;
    check("metric=m&from=-30d&step=1s", "at most 11000").await;
    check("metric=m&labels=x", "labels: found \"x\"").await;
    let empty = hub.get("/api/v1/buckets?metric=never_heard_of").await;
    assert_eq!((empty.status, empty.json()), (200, json!({ "series": [] })));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_address_without_a_secret_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let ended = crate::run(listener, config(directory.path(), None), std::future::pending()).await;
    assert!(matches!(ended, Err(HubError::Open(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_answered_when_the_hub_stops() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let schema = schema("m", 1);
    let body = FakeAgent::new(1, 1, &[&schema]).body(&[tick(1, &schema)]);
    let address = hub.address;
    let (half_sent, half) = std::sync::mpsc::channel();
    let (go_on, going_on) = std::sync::mpsc::channel::<()>();
    let slow = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /api/v1/ingest HTTP/1.1\r\nhost: h\r\ncontent-type: {CONTENT_TYPE}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut go = [0; 25];
        stream.read_exact(&mut go).unwrap();
        assert!(go.starts_with(b"HTTP/1.1 100 Continue"), "the hub waits for the body");
        half_sent.send(()).unwrap();
        going_on.recv().unwrap();
        stream.write_all(&body).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    });
    tokio::task::spawn_blocking(move || half.recv().unwrap()).await.unwrap();
    let Running { stop, ended, .. } = hub;
    stop.send(()).unwrap();
    go_on.send(()).unwrap();
    let answer = slow.await.unwrap();
    assert!(answer.contains(" 200 OK") && answer.contains("\"acked_seq\":1"), "{answer}");
    ended.await.unwrap().unwrap();
}

#[test]
fn the_protocol_s_content_type_is_the_documented_one() {
    assert_eq!(request::CONTENT_TYPE, "application/vnd.holdfast.records");
}
