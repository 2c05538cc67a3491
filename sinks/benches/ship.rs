//! What one tick of this host costs on the way out, by sink: CPU of the agent's side and bytes of the
//! request, without sockets and TLS, which are the same for all.
//!
//! Ticks are real ones, one after the other, so that values move as they do; each goes as a request of
//! its own, as on a host that isn't behind. `cargo bench -p sinks --bench ship`.

use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_core::{
    Batch, Roots, Samples, Sink,
    clock::SystemClock,
    sink::{BoxFuture, LogRecord},
};
use reqwest::{StatusCode, header::HeaderMap};
use sinks::{
    HttpConfig, HttpSink, Identity, RemoteWriteConfig, RemoteWriteSink,
    http::{Post, Reply, Transport},
    remote_write::Protocol,
};
use wire::{
    AgentId, EncodedSchema, InstanceId, Kind, SchemaId, StreamId, envelope, tick::TickEncoder,
};

/// Enough that the first requests, with schemas or layouts, don't count.
const TICKS: u64 = 300;
const WARM: u64 = 20;

fn main() {
    let ticks = ticks();
    let series = ticks.series;
    println!("{TICKS} ticks of {series} series");
    println!("{:<22}{:>14}{:>14}{:>16}", "", "µs a tick", "µs a series", "bytes a sample");
    let (identity, clock) = (identity(), Rc::new(SystemClock));
    measure("http", &ticks, |wire| {
        let config = HttpConfig::new("http://hub");
        Box::new(HttpSink::over(wire, config, identity.clone(), clock.clone()).expect("a sink"))
    });
    for (name, protocol) in [("remote_write 1.0", Protocol::V1), ("remote_write 2.0", Protocol::V2)]
    {
        measure(name, &ticks, |wire| {
            let config = RemoteWriteConfig {
                protocol,
                instance: "web-1.example.org".to_owned(),
                ..RemoteWriteConfig::new("http://receiver/api/v1/write")
            };
            Box::new(RemoteWriteSink::over(wire, config, clock.clone()).expect("a sink"))
        });
    }
}

fn identity() -> Identity {
    let (agent, instance) = (AgentId::from_bytes([1; 16]), InstanceId::from_bytes([2; 16]));
    Identity::new(agent, instance, "0.1.0", || "web-1.example.org".to_owned())
}

/// Takes everything and says so, and counts its bytes.
#[derive(Clone, Default)]
struct Wire {
    bytes: Rc<Cell<usize>>,
}

impl Transport for Wire {
    fn post(&self, request: Post) -> BoxFuture<'_, Result<Reply, String>> {
        self.bytes.set(self.bytes.get() + request.body.len());
        let mut headers = HeaderMap::new();
        headers.insert("x-prometheus-remote-write-samples-written", 1_000_000.into());
        let body = format!(r#"{{"acked_seq":{},"time_ms":1}}"#, u64::MAX);
        let (status, body) = (StatusCode::OK, body.into_bytes());
        Box::pin(std::future::ready(Ok(Reply { status, headers, body })))
    }
}

fn measure(name: &str, ticks: &Ticks, make: impl Fn(Wire) -> Box<dyn Sink>) {
    let wire = Wire::default();
    let mut sink = make(wire.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut taken = Duration::ZERO;
    for (at, batch) in (0..).zip(&ticks.batches) {
        if at == WARM {
            taken = Duration::ZERO;
            wire.bytes.set(0);
        }
        let begun = Instant::now();
        runtime.block_on(sink.send(batch)).expect("it is taken");
        taken += begun.elapsed();
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let (ticks, series, bytes) =
        ((TICKS - WARM) as f64, ticks.series as f64, wire.bytes.get() as f64);
    let us = taken.as_secs_f64() * 1e6 / ticks;
    println!("{name:<22}{us:>14.0}{:>14.3}{:>16.2}", us / series, bytes / ticks / series);
}

struct Ticks {
    series: usize,
    batches: Vec<Batch>,
}

/// Ticks of this host's default collectors, each a batch of its own.
fn ticks() -> Ticks {
    let built = collectors::build_defaults(&Roots::default()).expect("default options are good");
    let mut all: Vec<_> =
        built.into_iter().map(|(name, collector)| (collector, Samples::new(name))).collect();
    let mut encoder = TickEncoder::new();
    let mut schemas: HashMap<SchemaId, Arc<EncodedSchema>> = HashMap::new();
    let (mut records, mut series) = (Vec::new(), 0);
    for seq in 1..=TICKS {
        series = 0;
        for (collector, samples) in &mut all {
            samples.clear();
            if collector.collect(samples).is_err() {
                continue;
            }
            let (schema, values) = samples.finish();
            schemas.entry(schema.id).or_insert_with(|| Arc::clone(schema));
            series += values.len();
            encoder.push(schema.id, values);
        }
        let time_ms = 1_767_312_000_000 + i64::try_from(seq).unwrap_or(0) * 10_000;
        let bytes = envelope::encode(Kind::Metrics, seq, &encoder.finish(time_ms));
        records.push(LogRecord { seq, bytes: bytes.expect("it fits") });
    }
    let (schemas, stream_id) = (Arc::new(schemas), StreamId::from_bytes([3; 16]));
    let batch = |record| Batch { stream_id, records: vec![record], schemas: Arc::clone(&schemas) };
    Ticks { series, batches: records.into_iter().map(batch).collect() }
}
