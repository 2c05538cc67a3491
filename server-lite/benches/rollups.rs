//! What kept rollups cost and give: making them, bytes of each level, and a query of many days at an hour
//! and at a day, beside the same folded from samples in the same run.
//!
//! ```text
//! cargo bench -p server-lite --bench rollups -- [series [days [interval in seconds]]]
//! ```

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use server_lite::store::{
    Embedded, IngestBatch, Reader as _, Retention, RollupRequest, Rollups, Selector, SeriesId,
    Store as _, embedded::Options, rollup::Level,
};
use wire::{AgentId, InstanceId, Kind, StreamId, envelope, request};
use xtask::workload::{self, START_MS};

const DAY_MS: i64 = Level::Day.ms();
/// Ticks of one request.
const ONCE: i64 = 360;
/// Queries of one kind, of which the median counts.
const TIMES: usize = 5;

async fn fill(store: &Embedded, host: &mut workload::Host, ticks: i64) {
    let id = [7; 16];
    let header = request::Header {
        agent_id: AgentId::from_bytes(id),
        instance_id: InstanceId::from_bytes(id),
        stream_id: StreamId::from_bytes(id),
        hostname: "host-0".into(),
        agent_version: "0".into(),
        sent_ms: 0,
        last_seq: None,
    };
    let mut left = ticks;
    while left > 0 {
        let records: Vec<Vec<u8>> = (0..left.min(ONCE))
            .map(|_| {
                let tick = host.tick();
                envelope::encode(Kind::Metrics, host.ticks(), &tick).expect("small")
            })
            .collect();
        left -= ONCE;
        let schemas = host.schemas().iter().map(AsRef::as_ref);
        let body = request::encode(&header, schemas, records.iter().map(Vec::as_slice));
        let body = body.expect("small");
        let request = request::decode(&body).expect("made above");
        let (received_ms, is_alone, number, after) = (START_MS, true, 1, 1);
        let body = Bytes::from(body);
        let batch = IngestBatch { request, body, received_ms, is_alone, number, after };
        store.ingest(batch).await.expect("stored");
        while store.stats().unsealed_samples > 10_000_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Makes all pages; how long it took.
async fn make(store: &Embedded, now_ms: i64) -> Duration {
    let round = || store.maintain(now_ms, Retention::all(Duration::MAX));
    round().await.expect("maintain");
    while store.stats().unsealed_samples > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What has come since the round before waits for one more.
    let pages = || store.stats().rollup_pages;
    let (mut took, mut before, mut idle) = (Duration::ZERO, pages(), 0);
    while idle < 3 {
        let started = Instant::now();
        round().await.expect("maintain");
        if pages() > before {
            (took, before, idle) = (took + started.elapsed(), pages(), 0);
        } else {
            idle += 1;
        }
    }
    took
}

async fn query(store: &Embedded, request: &RollupRequest, fold: bool) -> (Duration, usize) {
    let mut took = Vec::new();
    let mut spans = 0;
    for _ in 0..TIMES {
        let started = Instant::now();
        let rollups = if fold {
            Rollups::fold(store.read(request.samples()).await.expect("read"), request)
        } else {
            store.rollups(request.clone()).await.expect("rollups")
        };
        let found = rollups.collect(request.series.len()).await.expect("rollups");
        took.push(started.elapsed());
        spans = found.iter().map(Vec::len).sum();
    }
    took.sort_unstable();
    (took[TIMES / 2], spans)
}

async fn run(directory: &Path, series: usize, days: i64, interval_ms: i64) {
    let store = Embedded::open(&Options::new(directory)).expect("open");
    let mut host = workload::Host::new(0, series, interval_ms);
    let ticks = days * DAY_MS / interval_ms;
    let samples = (series as i64 * ticks) as f64;
    fill(&store, &mut host, ticks).await;
    let took = make(&store, host.time_ms() + 2 * DAY_MS).await;
    let stats = store.stats();
    println!("{series} series, {days} days, one tick every {} s", interval_ms / 1_000);
    println!("columns: {:.3} bytes a sample", stats.sealed_bytes as f64 / samples);
    println!(
        "{} pages made in {took:?}: {:.0} ns a sample",
        stats.rollup_pages,
        took.as_nanos() as f64 / samples
    );
    let connection = rusqlite::Connection::open(directory.join("hub.sqlite")).expect("open");
    for (level, number) in Level::ALL.iter().zip(1..) {
        let sql = "SELECT sum(length(data)) FROM pages WHERE level = ?1";
        let bytes: i64 = connection.query_row(sql, [number], |row| row.get(0)).expect("bytes");
        println!("{}: {:.4} bytes a sample", level.as_str(), bytes as f64 / samples);
    }
    let all = store.series(Selector::default()).await.expect("series");
    let all: Vec<SeriesId> = all.iter().map(|series| series.id).collect();
    for series in [all[all.len() / 2..].iter().take(1).copied().collect(), all] {
        for level in Level::ALL {
            let request = RollupRequest {
                series: Vec::clone(&series),
                level,
                from_ms: START_MS,
                to_ms: START_MS + days * DAY_MS,
            };
            let (kept, spans) = query(&store, &request, false).await;
            let (folded, same) = query(&store, &request, true).await;
            assert_eq!(spans, same);
            let (count, level) = (series.len(), level.as_str());
            println!("{count} series at {level}, {spans} spans: {kept:?}; folded {folded:?}");
        }
    }
    store.close().await;
}

fn main() {
    let arguments: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let number = |index, default| arguments.get(index).copied().unwrap_or(default);
    let directory = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let (series, days, interval) = (number(0, 100), number(1, 30), number(2, 10));
    let interval_ms = i64::from(interval) * 1_000;
    runtime.block_on(run(directory.path(), series as usize, days.into(), interval_ms));
}
