//! Remote write over HTTP: status codes, headers, reasons, and what is there afterwards.

use remote_write::{
    Encoder, Label, Metadata, MetricType, Sample, Version,
    content::{EXEMPLARS_WRITTEN_HEADER, HISTOGRAMS_WRITTEN_HEADER, SAMPLES_WRITTEN_HEADER},
    snappy,
};

use super::{Answer, Running, SECRET};

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
