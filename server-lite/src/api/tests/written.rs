//! Remote write over HTTP: status codes, headers, reasons, and what is there afterwards.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use remote_write::{
    Encoder, Family, Label, Metadata, MetricType, Sample, Version,
    content::{EXEMPLARS_WRITTEN_HEADER, HISTOGRAMS_WRITTEN_HEADER, SAMPLES_WRITTEN_HEADER},
    snappy,
};

use settings::Size;

use super::{Answer, Running, SECRET, config};

/// Series by their labels, with samples.
type Sent<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

const UP: &[(&str, &str)] = &[("__name__", "up"), ("instance", "web-1:9100"), ("job", "x")];
const V2_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

fn body(version: Version, series: &[Sent<'_>]) -> Vec<u8> {
    let mut encoder = Encoder::new(version);
    for (labels, samples) in series {
        let labels: Vec<_> = labels.iter().map(|(name, value)| Label::new(name, value)).collect();
        let samples: Vec<_> =
            samples.iter().map(|(time_ms, value)| Sample::new(*time_ms, *value)).collect();
        let metadata = Metadata { kind: MetricType::Gauge, help: "Up.", ..Metadata::default() };
        encoder.series(&labels, &samples, &metadata);
    }
    snappy::compress(&encoder.finish())
}

impl Running {
    async fn write(&self, version: Version, series: &[Sent<'_>]) -> Answer {
        let headers = [("content-type", version.content_type()), ("content-encoding", "snappy")];
        self.send("POST", "/api/v1/write", &headers, &body(version, series)).await
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let name = format!("{}: ", name.to_lowercase());
    answer.head.lines().find_map(|line| line.strip_prefix(&name))
}

/// Status, and what 2.0's headers say of samples.
fn check(answer: &Answer, status: u16, written: Option<&str>) {
    let found = header(answer, SAMPLES_WRITTEN_HEADER);
    assert_eq!((answer.status, found), (status, written), "{answer:?}");
    for name in [HISTOGRAMS_WRITTEN_HEADER, EXEMPLARS_WRITTEN_HEADER] {
        assert_eq!(header(answer, name), written.map(|_| "0"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), Some(SECRET)).await;
    let two = (UP, &[(1_000, 1.0), (2_000, 1.0)][..]);
    check(&hub.write(Version::V1, &[two]).await, 204, None);
    check(&hub.write(Version::V2, &[two]).await, 204, Some("2"));
    let other = (UP, &[(2_000, 0.5), (3_000, 1.0)][..]);
    let unsorted = (&[("__name__", "up"), ("b", "1"), ("a", "1")][..], &[(1, 1.0)][..]);
    for (version, written) in [(Version::V2, Some("1")), (Version::V1, None)] {
        let answer = hub.write(version, &[other, unsorted]).await;
        check(&answer, 400, written);
        answer.check(400, "bad_samples", r#"label "a" comes after "b""#);
        let named = r#"up{instance="web-1:9100", job="x"}: duplicate sample for timestamp 2000"#;
        answer.check(400, "bad_samples", named);
    }
    let query = hub.get("/api/v1/query?query=up%5B1h%5D&time=10").await.json();
    let result = &query["data"]["result"][0];
    let labels = serde_json::json!({"__name__": "up", "instance": "web-1:9100", "job": "x"});
    assert_eq!(result["metric"], labels);
    let values = serde_json::json!([[1, "1"], [2, "1"], [3, "1"]]);
    assert_eq!(result["values"], values, "{query}");
    assert_eq!(hub.get("/api/v1/hosts").await.json()["hosts"], serde_json::json!([]));
    let page = hub.get("/metrics").await.body;
    for line in [
        "holdfast_hub_http_requests_total{endpoint=\"write\",status=\"204\"} 2",
        "holdfast_hub_http_requests_total{endpoint=\"write\",status=\"400\"} 2",
        "holdfast_hub_remote_write_requests_total{version=\"2.0\"} 2",
        "holdfast_hub_remote_write_samples_total 3",
        "holdfast_hub_remote_write_duplicates_total 3",
        "holdfast_hub_remote_write_refused_total{reason=\"labels\"} 2",
        "holdfast_hub_remote_write_refused_total{reason=\"other_value\"} 2",
        "holdfast_hub_store_targets 1",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_remote_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), None).await;
    let good = body(Version::V2, &[(UP, &[(1, 1.0)])]);
    let check = async |kind: &str, encoding: &str, body: &[u8], status, word: &str, says: &str| {
        let headers = [("content-type", kind), ("content-encoding", encoding)];
        hub.send("POST", "/api/v1/write", &headers, body).await.check(status, word, says);
    };
    let wrong = "wrong_content_type";
    check("text/plain", "snappy", &good, 415, wrong, "isn't remote write").await;
    check(V2_TYPE, "zstd", &good, 415, wrong, "expected snappy").await;
    check("application/x-protobuf;proto=x.Y", "snappy", &good, 415, wrong, "isn't known").await;
    check(V2_TYPE, "snappy", b"\x05hello", 400, "malformed", "snappy").await;
    let not_utf8 = snappy::compress(b"\x22\x00\x22\x01\xff");
    check(V2_TYPE, "snappy", &not_utf8, 400, "malformed", "isn't UTF-8").await;
    let large = snappy::compress(&vec![0; 17 << 20]);
    check(V2_TYPE, "snappy", &large, 413, "too_large", "after decompression").await;
    check(V2_TYPE, "snappy", &vec![0; (8 << 20) + 1], 413, "too_large", "larger than").await;
    hub.get("/api/v1/write").await.check(405, "method_not_allowed", "");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_behind_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Running::start(directory.path(), Some(SECRET)).await;
    hub.token = None;
    hub.write(Version::V1, &[(UP, &[(1, 1.0)])]).await.check(401, "unauthorised", "no token");
    hub.stop().await;
}

/// A field of a message that is text or a message; short.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 0x80 && number < 0x10);
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// `Sample` of 2.0 and 1.0, and `Exemplar` without labels: a value; the time is 0.
fn sample(number: u8, value: f64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// A series with a sample, two native histograms and an exemplar.
fn of_all_kinds(version: Version) -> Vec<u8> {
    let (name, value) = ("__name__", "latency");
    // schema: 0
    let histogram = [0x20, 0];
    let message = match version {
        Version::V1 => {
            let label = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
            let parts = [
                field(1, &label),
                field(2, &sample(1, 0.5)),
                field(3, &sample(2, 7.0)),
                field(4, &histogram),
                field(4, &histogram),
            ];
            field(1, &parts.concat())
        }
        Version::V2 => {
            let parts = [
                field(1, &[1, 2]),
                field(2, &sample(1, 0.5)),
                field(3, &histogram),
                field(3, &histogram),
                field(4, &sample(2, 7.0)),
            ];
            let symbols = ["", name, value].map(|symbol| field(4, symbol.as_bytes()));
            [symbols.concat(), field(5, &parts.concat())].concat()
        }
    };
    snappy::compress(&message)
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_are_refused_by_name_and_exemplars_counted() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), Some(SECRET)).await;
    for (version, written) in [(Version::V1, None), (Version::V2, Some("1"))] {
        let headers = [("content-type", version.content_type()), ("content-encoding", "snappy")];
        let body = of_all_kinds(version);
        let answer = hub.send("POST", "/api/v1/write", &headers, &body).await;
        check(&answer, 400, written);
        answer.check(400, "bad_samples", "latency\"}: native histograms are not supported");
    }
    let query = hub.get("/api/v1/query?query=latency&time=0").await.json();
    assert_eq!(query["data"]["result"][0]["value"], serde_json::json!([0, "0.5"]), "{query}");
    let page = hub.get("/metrics").await.body;
    for line in [
        "holdfast_hub_remote_write_samples_total 1",
        "holdfast_hub_remote_write_duplicates_total 1",
        "holdfast_hub_remote_write_refused_total{reason=\"histogram\"} 4",
        "holdfast_hub_remote_write_refused_total{reason=\"exemplar\"} 2",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_metrics_holds_for_series_before_and_after() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Running::start(directory.path(), Some(SECRET)).await;
    let later = &[("__name__", "jobs_total")][..];
    check(&hub.write(Version::V1, &[(UP, &[(1, 1.0)])]).await, 204, None);
    let mut encoder = Encoder::new(Version::V1);
    for (name, kind, help) in
        [("up", MetricType::Gauge, "Up."), ("jobs_total", MetricType::Counter, "Jobs.")]
    {
        encoder.family(&Family { name, kind, help, unit: "" });
    }
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    let body = snappy::compress(&encoder.finish());
    check(&hub.send("POST", "/api/v1/write", &headers, &body).await, 204, None);
    check(&hub.write(Version::V1, &[(later, &[(1, 1.0)])]).await, 204, None);
    let found = hub.get("/api/v1/metadata").await.json();
    let expected = serde_json::json!({
        "jobs_total": [{"type": "counter", "help": "Jobs.", "unit": ""}],
        "up": [{"type": "gauge", "help": "Up.", "unit": ""}],
    });
    assert_eq!(found["data"], expected);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_its_sender_is_told_to_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), None);
    config.limits.ingest_memory = Size::from_mib(8);
    let hub = Running::start_with(config, None).await;
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\
         content-type: {V2_TYPE}\r\ncontent-encoding: snappy\r\n"
    );
    // Announced, waited for, and never sent: all the room is taken.
    let mut slow = TcpStream::connect(hub.address).unwrap();
    let rest = format!("expect: 100-continue\r\ncontent-length: {}\r\n\r\n", 8 << 20);
    slow.write_all((head.clone() + &rest).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(&slow).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    let one = (UP, &[(1, 1.0)][..]);
    let answer = hub.write(Version::V2, &[one]).await;
    check(&answer, 503, Some("0"));
    answer.check(503, "busy", "too many requests are being taken");
    let after = header(&answer, "retry-after").unwrap();
    assert!(after.parse::<u64>().unwrap() > 0, "{answer:?}");
    drop(slow);
    let begun = Instant::now();
    while hub.write(Version::V2, &[one]).await.status != 204 {
        assert!(begun.elapsed() < Duration::from_secs(30), "never room again");
    }
    // Who doesn't say how much gets room for the most, which is all there is.
    let body = body(Version::V2, &[(UP, &[(2, 1.0)])]);
    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    let request = [chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    check(&hub.raw(request).await, 204, Some("1"));
    hub.stop().await;
}
