//! Samples with every oddity: resets, gaps, NaN and infinities, the very large and the very small, a
//! histogram, labels that need escaping.

use std::process::Command;

use wire::{
    AgentId, EncodedSchema, Family, InstanceId, Kind, MetricKind, Schema, Series, StreamId, Tick,
    envelope, request,
};
use xtask::programs::{Hub, Peer, Prometheus};

use super::{Both, binaries, is_possible, line, same_number};

const START_MS: i64 = 1_700_000_010_000;
const TICKS: u32 = 60;
const INTERVAL_MS: i64 = 15_000;
/// A time at which all is there, in seconds.
const NOW: &str = "1700000700";

/// The series of every host: metric, labels, and the value of a tick.
type Made = (&'static str, &'static [(&'static str, &'static str)], fn(u32) -> f64);

const SERIES: &[Made] = &[
    ("requests_total", &[("code", "200")], |n| f64::from(n * 7 % 90 + n / 13)),
    ("requests_total", &[("code", "500"), ("path", "/a\"b\\c<&>")], |n| f64::from(n) * 0.1),
    ("level", &[("zone", "a")], |n| (f64::from(n) / 7.0).sin() * 1e3),
    ("level", &[("zone", "b")], |n| if n % 20 < 3 { f64::NAN } else { f64::from(n % 9) }),
    ("odd", &[("is", "large")], |_| 1.5e300),
    ("odd", &[("is", "small")], |_| 4e-7),
    ("odd", &[("is", "infinite")], |n| if n % 2 == 0 { f64::INFINITY } else { f64::NEG_INFINITY }),
    ("odd", &[("is", "zero")], |_| -0.0),
    ("latency_bucket", &[("le", "0.1")], |n| f64::from(n)),
    ("latency_bucket", &[("le", "1")], |n| f64::from(n) * 3.0),
    ("latency_bucket", &[("le", "+Inf")], |n| f64::from(n) * 4.0),
];

fn label(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What the store puts to each series, for the one that doesn't.
fn with_host(name: &str, labels: &[(&str, &str)], host: &str) -> Vec<(String, String)> {
    let given = [("__name__", name), ("instance", host), ("job", "node")];
    given.iter().chain(labels).map(|(name, value)| label(name, value)).collect()
}

fn page(hosts: &[&str]) -> String {
    let mut page = String::new();
    for host in hosts {
        for (name, labels, value) in SERIES {
            for tick in ticks(host) {
                line(&mut page, &with_host(name, labels, host), value(tick), time_of(tick));
            }
        }
    }
    page + "# EOF\n"
}

/// One host was away for a while.
fn ticks(host: &str) -> impl Iterator<Item = u32> {
    let away = if host == "web-2" { 20..45 } else { 0..0 };
    (0..TICKS).filter(move |tick| !away.contains(tick))
}

fn time_of(tick: u32) -> i64 {
    START_MS + i64::from(tick) * INTERVAL_MS
}

fn feed(hub: &Hub, number: u8, host: &str) {
    let families = SERIES.iter().map(|(name, ..)| Family {
        name: (*name).to_owned(),
        kind: MetricKind::Untyped,
        help: String::new(),
    });
    let series = (0..).zip(SERIES).map(|(family, (_, labels, _))| Series {
        family,
        labels: labels.iter().map(|(name, value)| label(name, value)).collect(),
    });
    let schema = EncodedSchema::new(Schema {
        collector: "made_up".into(),
        families: families.collect(),
        series: series.collect(),
    });
    let header = request::Header {
        agent_id: AgentId::from_bytes([number; 16]),
        instance_id: InstanceId::from_bytes([number; 16]),
        stream_id: StreamId::from_bytes([number; 16]),
        hostname: host.to_owned(),
        agent_version: "test".into(),
        sent_ms: 0,
        last_seq: None,
    };
    let records: Vec<Vec<u8>> = (1..)
        .zip(ticks(host))
        .map(|(seq, tick)| {
            let values: Vec<f64> = SERIES.iter().map(|(.., value)| value(tick)).collect();
            let payload = Tick::encode(time_of(tick), &[(schema.id, &values)]);
            envelope::encode(Kind::Metrics, seq, &payload).unwrap()
        })
        .collect();
    let body = request::encode(&header, [&*schema], records.iter().map(Vec::as_slice)).unwrap();
    ureq::post(format!("{}/api/v1/ingest", hub.url()))
        .header("authorization", format!("Bearer {}", hub.token()))
        .content_type(request::CONTENT_TYPE)
        .send(body)
        .unwrap();
}

struct Fed {
    _directory: tempfile::TempDir,
    _hub: Hub,
    _prometheus: Prometheus,
    both: Both,
}

fn fed() -> Fed {
    let directory = tempfile::tempdir().unwrap();
    let hosts = ["web-1", "web-2", "db-1"];
    let prometheus = Prometheus::start(directory.path(), &page(&hosts)).unwrap();
    let hub = Hub::start(&binaries(), directory.path(), "a-secret").unwrap();
    for (number, host) in (1..).zip(hosts) {
        feed(&hub, number, host);
    }
    let both = Both::new(&hub, &prometheus);
    Fed { _directory: directory, _hub: hub, _prometheus: prometheus, both }
}

#[test]
fn answers_and_refusals_are_the_same() {
    if !is_possible() {
        return;
    }
    let fed = fed();
    for query in [
        "1",
        "-1.5e-9",
        "1e21",
        "NaN",
        "1/0",
        "\"text <&>\"",
        "time()",
        "vector(1e-7)",
        "requests_total",
        "requests_total{code=\"200\"}",
        "odd",
        "level",
        "{instance=\"web-1\"}",
        "{__name__=~\"l.*\", instance!~\"web.*\"}",
        "{job=\"node\", zone!=\"\"}",
        "nothing",
        "requests_total[1m]",
        "odd[30s] offset 1m",
        "{instance=~\"web-[12]\"}[20s]",
        "sum by (instance) (rate(requests_total[5m]))",
        "increase(requests_total[3m])",
        "irate(requests_total[1m])",
        // Without equal values: which of those Prometheus takes hangs on the order of its heap.
        "topk(2, {__name__=~\"level|odd\", instance=\"web-1\"})",
        "sort(level)",
        "quantile(0.9, level)",
        "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))",
        "requests_total / ignoring(path, code) group_left level",
        "count_values(\"v\", level)",
        "level > bool 0",
        "level and on(instance) odd",
        "absent(nothing{a=\"b\"})",
        "label_replace(level, \"n\", \"$1\", \"zone\", \"(.*)\")",
        "avg_over_time(level[10m:1m])",
        "requests_total + on(job) level",
        "sum(level) by",
        "level[",
        "up{",
        "foo(level)",
        "",
        "level[0s]",
        "rate(level)",
        "level @ 1700000100",
        "changes(level[10m])",
        "stddev_over_time(level[5m])",
    ] {
        for time in [NOW, "2023-11-14T22:19:00.5Z", "1700000410.123", "1690000000"] {
            let asked = [("query", query), ("time", time)];
            let answer = fed.both.check("/api/v1/query", &asked);
            let (_, form) = fed.both.hub.post("/api/v1/query", &asked).unwrap();
            assert!(super::agree(&super::ordered(form), &answer), "{query}");
        }
        for (start, end, step) in
            [("1700000000", "1700000900", "15"), ("1700000003.5", "1700000800", "1m7s")]
        {
            let asked = [("query", query), ("start", start), ("end", end), ("step", step)];
            fed.both.check("/api/v1/query_range", &asked);
        }
    }
    parameters(&fed.both);
    series(&fed.both);
    fed.both.agreed();
}

/// Not `lookback_delta` and `limit`, which the hub knows and 2.42 passes over.
fn parameters(both: &Both) {
    let check = |path: &str, parameters: &[(&str, &str)]| {
        both.check(path, parameters);
    };
    for wrong in [
        ("time", "x"),
        ("time", "2023-11-14"),
        ("timeout", "x"),
        ("timeout", "1.5m"),
        ("time", "1e3"),
        ("unknown", "x"),
        ("timeout", "5m"),
    ] {
        check("/api/v1/query", &[("query", "level"), ("time", NOW), wrong]);
        check("/api/v1/query", &[("query", "level"), wrong, ("time", NOW)]);
    }
    let range = |start: &str, end: &str, step: &str| {
        let asked = [("query", "level"), ("start", start), ("end", end), ("step", step)];
        both.check("/api/v1/query_range", &asked);
    };
    range("", "1", "1");
    range("0", "x", "1");
    range("2", "1", "1");
    range("0", "1", "");
    range("0", "1", "0");
    range("0", "1", "-5");
    range("0", "1", "1h1");
    range("0", "11000", "1");
    range("0", "11001", "1");
    range(NOW, NOW, "1e30");
    range("1700000000.0004", "1700000030.0006", "7.5");
    check("/api/v1/query_range", &[("start", "0"), ("end", "1"), ("step", "1")]);
    for query in ["level[1m]", "\"a\"", "1", "time()"] {
        let asked = [("query", query), ("start", "1"), ("end", "2.5"), ("step", "0.5")];
        check("/api/v1/query_range", &asked);
    }
    for query in ["sum(level)by(zone)", "level{zone=\"a\",}[5m:1m]offset 1m", "level{", "1+2*3"] {
        check("/api/v1/format_query", &[("query", query)]);
    }
    check("/api/v1/query_exemplars", &[("query", "level"), ("start", "0"), ("end", "1")]);
    check("/api/v1/rules", &[]);
    check("/api/v1/rules", &[("type", "alert")]);
    check("/api/v1/alerts", &[]);
}

fn series(both: &Both) {
    let ever = [("start", "1699999000"), ("end", "1700001000")];
    for matchers in [
        &["level"][..],
        &["{instance=\"web-1\"}"],
        &["odd", "level{zone=\"b\"}"],
        &["nothing"],
        &["{__name__=~\".*_total\", code!=\"200\"}"],
        &["{zone=\"\", job=\"node\"}"],
        &[],
        &["{}"],
        &["{zone=\"\"}"],
        &["level["],
        &["{}", "level["],
        &["level[5m]"],
        &["{instance!~\"web.*\", le=~\".+\"}"],
    ] {
        let mut asked: Vec<_> = matchers.iter().map(|one| ("match[]", *one)).collect();
        asked.extend(ever);
        both.check("/api/v1/series", &asked);
        both.check("/api/v1/labels", &asked);
        for name in ["__name__", "instance", "job", "zone", "le", "path", "nothing", "a-b"] {
            both.check(&format!("/api/v1/label/{name}/values"), &asked);
        }
    }
    both.check("/api/v1/series", &[("match[]", "level"), ("start", "x")]);
    both.check("/api/v1/labels", &[("end", "x")]);
    both.check("/api/v1/metadata", &[("limit", "x")]);
}

#[test]
fn promtool_prints_the_same() {
    if !is_possible() {
        return;
    }
    let fed = fed();
    let range = ["--start=1700000100", "--end=1700000700", "--step=1m"];
    check(
        &fed.both,
        &["instant", "--time", NOW],
        &["sum by (instance) (rate(requests_total[5m]))"],
    );
    check(&fed.both, &["instant", "-o", "json", "--time", NOW], &["requests_total[1m]"]);
    check(&fed.both, &["instant", "--time", NOW], &["1 + 1"]);
    check(&fed.both, &[&["range"][..], &range].concat(), &["level{zone=\"a\"}"]);
    check(
        &fed.both,
        &[&["range", "-o", "json"][..], &range].concat(),
        &["rate(latency_bucket[2m])"],
    );
    check(
        &fed.both,
        &[
            "series",
            "--match",
            "level",
            "--match",
            "odd{is=\"zero\"}",
            "--start=1699999000",
            "--end=1700001000",
        ],
        &[],
    );
    check(&fed.both, &["labels", "--start=1699999000", "--end=1700001000"], &["zone"]);
    check(&fed.both, &["labels", "--start=1699999000", "--end=1700001000"], &["__name__"]);
    // what it says of a refusal, too
    check(&fed.both, &["instant", "--time", NOW], &["level + on(job) level"]);
    check(
        &fed.both,
        &["range", "--start=1700000100", "--end=1700000100", "--step=1m"],
        &["level[1m]"],
    );
}

fn check(both: &Both, flags: &[&str], arguments: &[&str]) {
    let run = |peer: &Peer| {
        let output = Command::new("promtool")
            .arg("query")
            .args(flags)
            .arg(peer.url())
            .args(arguments)
            .output()
            .unwrap();
        let lines = |bytes: &[u8]| {
            let mut lines: Vec<String> =
                String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
            lines.sort();
            lines.join("\n")
        };
        (output.status.success(), lines(&output.stdout), lines(&output.stderr))
    };
    let (found, expected) = (run(&both.hub), run(&both.prometheus));
    assert!(!expected.1.is_empty() || !expected.2.is_empty(), "promtool said nothing: {flags:?}");
    let is_same = found.0 == expected.0
        && same_text(&found.1, &expected.1)
        && same_text(&found.2, &expected.2);
    assert!(is_same, "{flags:?} {arguments:?}\n{found:#?}\n{expected:#?}");
}

/// Equal, but for the last bits of numbers.
fn same_text(found: &str, expected: &str) -> bool {
    fn is_between(c: char) -> bool {
        !c.is_alphanumeric() && !"+-.".contains(c)
    }
    let (found, expected): (Vec<_>, Vec<_>) = (
        found.split_inclusive(is_between).collect(),
        expected.split_inclusive(is_between).collect(),
    );
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(a, b)| {
            let (a_word, b_word) = (a.trim_end_matches(is_between), b.trim_end_matches(is_between));
            let same_end = a[a_word.len()..] == b[b_word.len()..];
            same_end && (a_word == b_word || same_number(a_word, b_word))
        })
}

#[test]
fn texts_differ_in_the_last_bits_of_numbers_only() {
    let check = |a: &str, b: &str, expected| assert_eq!(same_text(a, b), expected, "{a:?} {b:?}");
    check("{a=\"b\"} => 0.47 @[17]", "{a=\"b\"} => 0.47000000000000003 @[17]", true);
    check("[1,\"0.47\"]", "[1,\"0.47000000000000003\"]", true);
    check("NaN -Inf", "NaN -Inf", true);
    check("=> 0.47 @[17]", "=> 0.4700001 @[17]", false);
    check("=> 0.47 @[17]", "=> 0.47 @(17]", false);
    check("{a=\"b\"} 1", "{a=\"c\"} 1", false);
    check("1 +Inf", "1 NaN", false);
    check("1 +Inf", "1 3", false);
    check("1 2", "1", false);
}
