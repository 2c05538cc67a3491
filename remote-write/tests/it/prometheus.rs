//! What a real Prometheus sends is read in full, and written again it is the same to the byte.
//!
//! Debian's `prometheus`, where it is installed, scrapes a page of this test and writes it to this
//! test. A capture of that lies in `tests/data`, for machines without (`UPDATE_GOLDEN=1` renews it).

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use remote_write::{
    Encoder, Limits, Metadata, MetricType, Version, content, decode, labels, snappy,
};

use crate::oracle::{ours, theirs};

/// Values that numbers are easily got wrong with.
const PAGE: &str = r#"# HELP page_requests_total Requests that were answered.
# TYPE page_requests_total counter
page_requests_total{code="200",path="/a\"b\\c"} 1.23456789e+10
page_requests_total{code="500",path="é"} 0
# TYPE page_seconds histogram
page_seconds_bucket{le="0.1"} 3
page_seconds_bucket{le="+Inf"} 4
page_seconds_sum 0.30000000000000004
page_seconds_count 4
# HELP page_state What can't be counted.
# TYPE page_state gauge
page_state{is="infinite"} -Inf
page_state{is="negative zero"} -0
page_state{is="no number"} NaN
page_state{is="tiny"} 5e-324
"#;

fn capture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/prometheus.snappy")
}

#[test]
fn a_capture_is_read() {
    check_samples(&fs::read(capture()).unwrap());
}

#[test]
fn a_real_prometheus_is_read() {
    if Command::new("prometheus").arg("--version").output().is_err() {
        eprintln!("SKIPPED: prometheus is not here (apt-get install prometheus)");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let _prometheus = Killed(start(directory.path(), listener.local_addr().unwrap()));
    let (mut samples, mut families) = (None, None);
    while samples.is_none() || families.is_none() {
        let (stream, _) = listener.accept().unwrap();
        let Some(post) = serve(stream) else { continue };
        assert_eq!(
            content::accept(post.header("content-type"), post.header("content-encoding")),
            Ok(Version::V1)
        );
        assert_eq!(
            post.header(&content::VERSION_HEADER.to_lowercase()),
            Some(Version::V1.header())
        );
        let message = snappy::decompress(&post.body, Limits::default().message_bytes).unwrap();
        let request = decode(Version::V1, &message, &Limits::default()).unwrap();
        let has_page = request.series().any(|s| labels::metric(s.labels) == Some("page_state"));
        if has_page {
            samples = Some(post.body);
        } else if !request.families().is_empty() {
            families = Some(message);
        }
    }
    check_families(&families.unwrap());
    let samples = samples.unwrap();
    check_samples(&samples);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(capture(), samples).unwrap();
    }
}

fn check_samples(body: &[u8]) {
    let message = snappy::decompress(body, Limits::default().message_bytes).unwrap();
    assert_eq!(ours(Version::V1, &message), theirs(Version::V1, &message));
    let request = decode(Version::V1, &message, &Limits::default()).unwrap();
    let mut encoder = Encoder::new(Version::V1);
    let mut found = BTreeMap::new();
    for series in request.series() {
        labels::check(series.labels, &Limits::default()).unwrap();
        encoder.series(series.labels, series.samples, &Metadata::default());
        let mut name = labels::metric(series.labels).unwrap().to_owned();
        for label in series
            .labels
            .iter()
            .filter(|label| !matches!(label.name, "__name__" | "instance" | "job"))
        {
            name += &format!(" {}", label.value);
        }
        found.insert(name, series.samples[0].value);
    }
    assert_eq!(encoder.finish(), message, "written again");
    let check = |name: &str, expected: f64| {
        assert_eq!(found[name].to_bits(), expected.to_bits(), "{name}: {}", found[name]);
    };
    check("page_requests_total 200 /a\"b\\c", 1.234_567_89e10);
    check("page_requests_total 500 é", 0.0);
    check("page_seconds_bucket +Inf", 4.0);
    check("page_seconds_sum", 0.1 + 0.2);
    check("page_state infinite", f64::NEG_INFINITY);
    // Go's encoder leaves it out, as it does zero
    check("page_state negative zero", 0.0);
    check("page_state tiny", 5e-324);
    // the NaN of Prometheus
    check("page_state no number", f64::from_bits(0x7ff8_0000_0000_0001));
}

fn check_families(message: &[u8]) {
    let request = decode(Version::V1, message, &Limits::default()).unwrap();
    let mut encoder = Encoder::new(Version::V1);
    request.families().iter().for_each(|family| encoder.family(family));
    assert_eq!(encoder.finish(), message, "written again");
    let named = |name| request.families().iter().find(|family| family.name == name).unwrap();
    let requests = named("page_requests_total");
    assert_eq!(
        (requests.kind, requests.help),
        (MetricType::Counter, "Requests that were answered.")
    );
    assert_eq!(named("page_seconds").kind, MetricType::Histogram);
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path, us: SocketAddr) -> Child {
    let configuration = format!(
        "global: {{ scrape_interval: 1s }}\n\
         scrape_configs:\n\
         - {{ job_name: page, static_configs: [{{ targets: ['{us}'] }}] }}\n\
         remote_write:\n\
         - url: http://{us}/write\n  \
           queue_config: {{ batch_send_deadline: 100ms }}\n  \
           metadata_config: {{ send_interval: 1s }}\n"
    );
    let file = directory.join("prometheus.yml");
    fs::write(&file, configuration).unwrap();
    Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

struct Post {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Post {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Answers one request: the page to who asks for it, 204 to who posts.
fn serve(mut stream: TcpStream) -> Option<Post> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let is_post = line.starts_with("POST");
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    if !is_post {
        let length = PAGE.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{PAGE}").unwrap();
        return None;
    }
    let mut post = Post { headers, body: Vec::new() };
    let length = post.header("content-length").unwrap().parse().unwrap();
    reader.take(length).read_to_end(&mut post.body).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    Some(post)
}
