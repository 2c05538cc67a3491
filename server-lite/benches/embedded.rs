//! What the embedded store takes a second, and what a sample costs on disk.
//!
//! ```text
//! cargo bench -p server-lite --bench embedded -- [agents [series [ticks]]]
//! ```
//! In process, without HTTP: each request is one tick of one agent, decoded, checked, committed and
//! acknowledged as the hub does it, many agents at a time. Requests are made before the clock runs;
//! sealing runs beside, and what is left of it is waited for and counted.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use server_lite::store::{
    Embedded, Host, IngestBatch, ReadRequest, Reader as _, Retention, Selector, Store,
    embedded::Options,
};
use wire::request;
use xtask::workload::{self, START_MS};

const INTERVAL_MS: i64 = 10_000;
/// Requests under way at one time.
const IN_FLIGHT: usize = 64;

/// Stores one tick of every host; how long it took.
async fn round(store: &Arc<Embedded>, bodies: Vec<Vec<u8>>) -> Duration {
    let started = Instant::now();
    let mut parts: Vec<Vec<Vec<u8>>> = (0..IN_FLIGHT).map(|_| Vec::new()).collect();
    for (index, body) in bodies.into_iter().enumerate() {
        parts[index % IN_FLIGHT].push(body);
    }
    let tasks: Vec<_> = parts
        .into_iter()
        .map(|bodies| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for body in bodies {
                    let request = request::decode(&body).expect("made above");
                    let body = Bytes::from(body);
                    let batch = IngestBatch {
                        request,
                        body,
                        received_ms: START_MS,
                        is_alone: true,
                        number: 1,
                        after: 1,
                    };
                    let stored = store.ingest(batch).await.expect("stored");
                    assert_eq!(stored.records, 1);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    started.elapsed()
}

async fn query(store: &Embedded, ticks: i64) -> Duration {
    let started = Instant::now();
    let selector = Selector::metric("bench_metric_1_bytes_total")
        .labelled(&[("device".to_owned(), "device7".to_owned())].into())
        .on(Some(Host::Name("host-1".into())));
    let series = store.series(selector).await.expect("series");
    let request = ReadRequest {
        series: series.iter().map(|series| series.id).collect(),
        from_ms: START_MS,
        to_ms: i64::MAX,
    };
    let found = store.read(request).await.expect("read").collect(1).await.expect("samples");
    assert_eq!(found[0].len() as i64, ticks);
    started.elapsed()
}

async fn run(directory: &Path, agents: u32, series: usize, ticks: u32) {
    let store = Arc::new(Embedded::open(&Options::new(directory)).expect("open"));
    let mut hosts: Vec<workload::Host> =
        (0..agents).map(|number| workload::Host::new(number, series, INTERVAL_MS)).collect();
    let (mut first, mut took, mut wire_bytes) = (Duration::ZERO, Duration::ZERO, 0);
    for tick in 0..ticks {
        let bodies: Vec<Vec<u8>> =
            hosts.iter_mut().map(|host| host.request().expect("encoded")).collect();
        wire_bytes += bodies.iter().map(Vec::len).sum::<usize>();
        let elapsed = round(&store, bodies).await;
        if tick == 0 { first = elapsed } else { took += elapsed }
    }
    let unsealed = store.stats().unsealed_samples;
    let head = query(&store, ticks.into()).await;
    let started = Instant::now();
    store.maintain(i64::MAX / 2, Retention::all(Duration::MAX)).await.expect("maintain");
    while store.stats().unsealed_samples > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let sealing = started.elapsed();
    let blocks = query(&store, ticks.into()).await;
    let stats = store.stats();
    store.close().await;
    let samples = f64::from(agents) * series as f64 * f64::from(ticks);
    let after_first = samples * f64::from(ticks - 1) / f64::from(ticks);
    println!("{agents} agents, {series} series, {ticks} ticks, one tick a request");
    println!("first tick, series registered: {first:?}");
    println!(
        "then {:.0} samples/s in {} commits, the longest {:.0} ms",
        after_first / took.as_secs_f64(),
        stats.commits,
        stats.commit_seconds_max * 1e3
    );
    println!(
        "until all was sealed too: {:.0} samples/s ({unsealed} left to {sealing:?})",
        samples / (first + took + sealing).as_secs_f64()
    );
    println!(
        "bytes a sample: wire {:.2}, columns {:.3}",
        wire_bytes as f64 / samples,
        stats.sealed_bytes as f64 / samples
    );
    println!("one series, {ticks} ticks: {head:?} with its head, {blocks:?} sealed");
    let database = directory.join("hub.sqlite").metadata().map_or(0, |file| file.len());
    println!(
        "database file: {:.3} bytes a sample, with what the head left free",
        database as f64 / samples
    );
    let compact = directory.join("compact.sqlite");
    let connection = rusqlite::Connection::open(directory.join("hub.sqlite")).expect("open");
    connection.execute("VACUUM INTO ?1", [compact.to_string_lossy()]).expect("vacuum");
    let bytes = compact.metadata().map_or(0, |file| file.len());
    println!("without: {:.3} bytes a sample", bytes as f64 / samples);
}

fn main() {
    let arguments: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let number = |index, default| arguments.get(index).copied().unwrap_or(default);
    let directory = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let (agents, series, ticks) = (number(0, 100), number(1, 500), number(2, 300));
    runtime.block_on(run(directory.path(), agents, series as usize, ticks));
}
