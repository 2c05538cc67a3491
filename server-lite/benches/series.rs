//! How long the embedded store looks for series, and what a query of one value of each takes.
//!
//! ```text
//! cargo bench -p server-lite --bench series -- [hosts [series]]
//! ```
//! Hosts that aren't there send one tick each; then each question is asked several times, and the fastest
//! and the median answer are shown. In process, without HTTP.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use promql::{Query, Settings, Value};
use server_lite::{
    query::expression::{Bounds, Expressions, Wishes},
    store::{Embedded, IngestBatch, Reader, Selector, Store, embedded::Options},
};
use wire::request;
use xtask::workload::{self, START_MS};

const INTERVAL_MS: i64 = 10_000;
const TIMES: usize = 7;

/// What dashboards and their variables look for.
const SELECTORS: [&str; 9] = [
    "bench_metric_1_bytes_total",
    "bench_metric_1_bytes_total{instance=\"host-7\"}",
    "{instance=\"host-7\"}",
    "{instance=~\"host-7|host-8\", device!=\"\"}",
    "{__name__=~\"bench_metric_[12]_.*\"}",
    "{__name__=~\"bench_metric_[12]_.*\", instance=\"host-7\"}",
    "bench_metric_1_bytes_total{device!~\"device[0-8]\"}",
    "{device=\"device7\", instance!=\"host-7\"}",
    "{job=\"node\"}",
];

async fn fill(store: &Embedded, hosts: u32, series: usize) {
    for number in 0..hosts {
        let body = workload::Host::new(number, series, INTERVAL_MS).request().expect("encoded");
        let request = request::decode(&body).expect("made above");
        let body = Bytes::from(body);
        let (received_ms, number, after) = (START_MS, 1, 1);
        let batch = IngestBatch { request, body, received_ms, is_alone: true, number, after };
        store.ingest(batch).await.expect("stored");
    }
}

/// Asks again and again; prints what it takes.
async fn time<T, F: Future<Output = T>>(
    what: &str,
    size: impl Fn(&T) -> usize,
    ask: impl Fn() -> F,
) {
    let mut took = Vec::new();
    let mut found = 0;
    for _ in 0..TIMES {
        let started = Instant::now();
        let answer = ask().await;
        took.push(started.elapsed());
        found = size(&answer);
    }
    took.sort_unstable();
    println!("{:>9.3?} {:>9.3?} {found:>7}  {what}", took[0], took[TIMES / 2]);
}

async fn run(directory: &Path, hosts: u32, series: usize) {
    let store = Arc::new(Embedded::open(&Options::new(directory)).expect("open"));
    let started = Instant::now();
    fill(&store, hosts, series).await;
    println!("{hosts} hosts, {series} series each, registered in {:.1?}", started.elapsed());
    println!("  fastest    median   found");
    let selector = |text: &str| Selector {
        matchers: promql::matchers(text).expect("a selector"),
        ..Selector::default()
    };
    for text in SELECTORS {
        time(text, Vec::len, || async { store.series(selector(text)).await.expect("series") })
            .await;
    }
    let all = Selector::default;
    for label in ["__name__", "instance", "device"] {
        let values =
            || async { store.label_values(label.to_owned(), all()).await.expect("values") };
        time(&format!("values of {label}"), Vec::len, values).await;
    }
    time("names of labels", Vec::len, || async { store.label_names(all()).await.expect("names") })
        .await;
    time("metadata", Vec::len, || async { store.families().await.expect("families") }).await;
    queries(&store).await;
    store.close().await;
}

async fn queries(store: &Arc<Embedded>) {
    let bounds = Bounds {
        settings: Settings::default(),
        time_max: Duration::from_secs(600),
        at_once: 1,
        waiting_max: 0,
    };
    let expressions = Expressions::new(Arc::clone(store) as Arc<dyn Reader>, bounds);
    for text in [SELECTORS[0], SELECTORS[1], "sum by (device) (bench_metric_1_bytes_total)"] {
        let ask = || async {
            let query = Query::parse(text).expect("an expression");
            let answered =
                expressions.run(Wishes::default(), move |source, settings, interrupt| {
                    query.instant(source, START_MS + INTERVAL_MS, settings, interrupt)
                });
            answered.await.expect("an answer").0
        };
        let size = |value: &Value| match value {
            Value::Vector(all) => all.len(),
            _ => 0,
        };
        time(&format!("query {text}"), size, ask).await;
    }
}

fn main() {
    let arguments: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let number = |index, default| arguments.get(index).copied().unwrap_or(default);
    let directory = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(run(directory.path(), number(0, 1_000), number(1, 500) as usize));
}
