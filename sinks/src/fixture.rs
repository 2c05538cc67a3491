//! A small stream for tests: record `n` is at `n` seconds, and says `n` in several ways.

use std::{collections::HashMap, sync::Arc};

use agent_core::{Batch, Metric, Samples, sink::LogRecord};
use wire::{EncodedSchema, Gap, GapReason, Kind, StreamId, Tick, envelope};

pub(crate) const STREAM: StreamId = StreamId::from_bytes([2; 16]);

const LOAD: Metric<'_> = Metric::gauge("node_load1", "1m load average.");
const CPU: Metric<'_> =
    Metric::counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");

pub(crate) fn load_schema() -> Arc<EncodedSchema> {
    let mut samples = Samples::new("loadavg");
    samples.push(&LOAD, &[], 0.0);
    Arc::clone(samples.finish().0)
}

pub(crate) fn cpu_schema() -> Arc<EncodedSchema> {
    let mut samples = Samples::new("cpu");
    samples.push(&CPU, &[("cpu", "0"), ("mode", "user")], 0.0);
    samples.push(&CPU, &[("cpu", "0"), ("mode", "idle")], 0.0);
    Arc::clone(samples.finish().0)
}

pub(crate) fn record(seq: u64, kind: Kind, payload: &[u8]) -> LogRecord {
    LogRecord { seq, bytes: envelope::encode(kind, seq, payload).unwrap() }
}

pub(crate) fn tick_record(seq: u64) -> LogRecord {
    let n = u32::try_from(seq).map(f64::from).unwrap();
    let load: &[f64] = &[n / 100.0];
    let cpu: &[f64] = &[n + 0.25, n * 10.0];
    let blocks = [(load_schema().id, load), (cpu_schema().id, cpu)];
    record(seq, Kind::Metrics, &Tick::encode(seq as i64 * 1000, &blocks))
}

pub(crate) fn gap() -> Gap {
    Gap {
        reason: GapReason::LogOverflow,
        from_ms: 1_000,
        to_ms: 4_000,
        first_seq: 1,
        last_seq: 3,
        records: 3,
        samples: 9,
        detail: "bound of 16 MiB".into(),
    }
}

pub(crate) fn gap_record(seq: u64) -> LogRecord {
    record(seq, Kind::Gap, &gap().encode())
}

pub(crate) fn batch(records: Vec<LogRecord>) -> Batch {
    let schemas = [load_schema(), cpu_schema()].into_iter().map(|schema| (schema.id, schema));
    Batch { stream_id: STREAM, records, schemas: Arc::new(schemas.collect::<HashMap<_, _>>()) }
}

pub(crate) fn ticks(seqs: impl IntoIterator<Item = u64>) -> Batch {
    batch(seqs.into_iter().map(tick_record).collect())
}
