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
    Embedded, Host, IngestBatch, ReadRequest, Selector, Store, embedded::Options,
};
use wire::{
    AgentId, EncodedSchema, Family, Kind, MetricKind, Schema, Series, StreamId, Tick, envelope,
    request,
};

const START_MS: i64 = 1_700_000_000_000;
const INTERVAL_MS: i64 = 10_000;
/// Requests under way at one time.
const IN_FLIGHT: usize = 64;

/// A host as a small random walk: what node_exporter's values look like, by their share.
struct FakeHost {
    header: request::Header,
    schemas: Vec<Arc<EncodedSchema>>,
    values: Vec<f64>,
    random: Random,
    seq: u64,
}

/// xorshift64*: the same numbers every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, most: u64) -> f64 {
        (self.next() % most) as f64
    }
}

impl FakeHost {
    fn new(number: u32, series: usize) -> Self {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let header = request::Header {
            agent_id: AgentId::from_bytes(id),
            stream_id: StreamId::from_bytes(id),
            hostname: format!("host-{number}"),
            agent_version: "bench".into(),
            sent_ms: START_MS,
        };
        let schemas = (0..series.div_ceil(50)).map(|n| schema(n, 50.min(series - n * 50)));
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(number) << 32);
        let values = (0..series).map(|_| random.below(1 << 33)).collect();
        Self { header, schemas: schemas.collect(), values, random, seq: 0 }
    }

    /// Of a hundred series 45 stand still, 20 are counters of bytes and packets, 15 CPU time in
    /// hundredths, 5 disk time in thousandths, 10 gauges in kilobytes, 3 loads, 2 microseconds.
    fn step(&mut self) {
        for (index, value) in self.values.iter_mut().enumerate() {
            let random = &mut self.random;
            match index % 100 {
                0..45 => {}
                45..65 => *value += random.below(60_000),
                65..80 => *value = (*value * 100.0 + random.below(1_000)).round() / 100.0,
                80..85 => *value = (*value * 1_000.0 + random.below(3_000)).round() / 1_000.0,
                85..95 => *value += (random.below(2_001) - 1_000.0) * 1_024.0,
                95..98 => *value = random.below(400) / 100.0,
                _ => *value = (*value * 1e6 + random.below(1_000_000)).round() / 1e6,
            }
        }
    }

    fn body(&mut self) -> Vec<u8> {
        self.step();
        self.seq += 1;
        let mut rest = self.values.as_slice();
        let mut blocks = Vec::new();
        for schema in &self.schemas {
            let (values, after) = rest.split_at(schema.schema.series.len());
            blocks.push((schema.id, values));
            rest = after;
        }
        let time_ms = START_MS + self.seq.cast_signed() * INTERVAL_MS;
        let tick = Tick::encode(time_ms, &blocks);
        let record = envelope::encode(Kind::Metrics, self.seq, &tick).unwrap_or_default();
        let send = self.schemas.iter().map(AsRef::as_ref).filter(|_| self.seq == 1);
        request::encode(&self.header, send, [record.as_slice()]).unwrap_or_default()
    }
}

fn schema(number: usize, series: usize) -> Arc<EncodedSchema> {
    let family = Family {
        name: format!("bench_metric_{number}_bytes_total"),
        kind: MetricKind::Counter,
        help: "As long as help is.".into(),
    };
    let series = (0..series)
        .map(|n| Series { family: 0, labels: vec![("device".into(), format!("device{n}"))] });
    EncodedSchema::new(Schema {
        collector: format!("collector{number}"),
        families: vec![family],
        series: series.collect(),
    })
}

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
                    let batch = IngestBatch { request, body, received_ms: START_MS };
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
    let selector = Selector {
        host: Some(Host::Name("host-1".into())),
        metric: "bench_metric_1_bytes_total".into(),
        labels: [("device".to_owned(), "device7".to_owned())].into(),
    };
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
    let mut hosts: Vec<FakeHost> =
        (0..agents).map(|number| FakeHost::new(number, series)).collect();
    let (mut first, mut took, mut wire_bytes) = (Duration::ZERO, Duration::ZERO, 0);
    for tick in 0..ticks {
        let bodies: Vec<Vec<u8>> = hosts.iter_mut().map(FakeHost::body).collect();
        wire_bytes += bodies.iter().map(Vec::len).sum::<usize>();
        let elapsed = round(&store, bodies).await;
        if tick == 0 { first = elapsed } else { took += elapsed }
    }
    let unsealed = store.stats().unsealed_samples;
    let head = query(&store, ticks.into()).await;
    let started = Instant::now();
    store.maintain(i64::MAX / 2, Duration::from_secs(u64::MAX / 4)).await.expect("maintain");
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
