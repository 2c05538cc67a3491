//! What agents record: made-up ticks whose every value is told apart, and gaps.

use std::{collections::BTreeMap, sync::Arc};

use agent_core::wal::OwnedRecord;
use wire::{
    EncodedSchema, Family, Gap, GapReason, Kind, MetricKind, Schema, SchemaId, Series, Tick,
};

use crate::{
    book::{Name, Said},
    random::Random,
};

/// A collector that is always there: every tick has its series 0.
pub(crate) const BASE: &str = "sim_base";
/// One whose series come and go.
const DEVICES: &str = "sim_devices";
/// Every metric there is.
pub(crate) const METRICS: [&str; 2] = [BASE, DEVICES];
const DEVICES_MAX: u64 = 8;

/// One agent's ticks, one after the other.
pub(crate) struct Ticks {
    random: Random,
    series: usize,
    change: f64,
    devices: usize,
    schemas: BTreeMap<Name, Arc<EncodedSchema>>,
}

impl Ticks {
    /// `series` that are always there, and devices that change with the chance `change`.
    pub(crate) fn new(random: Random, series: usize, change: f64) -> Self {
        Self { random, series, change, devices: 0, schemas: BTreeMap::new() }
    }

    /// The next one.
    pub(crate) fn next(&mut self, time_ms: i64) -> (Said, OwnedRecord) {
        if self.random.chance(self.change) {
            self.devices = self.random.between(0, DEVICES_MAX) as usize;
        }
        let mut said = Vec::new();
        let mut blocks: Vec<(SchemaId, Vec<f64>)> = Vec::new();
        let mut schemas = Vec::new();
        for (metric, series) in [(BASE, self.series), (DEVICES, self.devices)] {
            if series == 0 {
                continue;
            }
            let schema = self.schema(metric, series);
            let values: Vec<f64> = (0..series).map(|_| self.value()).collect();
            said.extend((0..).zip(&values).map(|(n, value)| ((metric, n), value.to_bits())));
            blocks.push((schema.id, values));
            schemas.push(schema);
        }
        let blocks: Vec<(SchemaId, &[f64])> =
            blocks.iter().map(|(id, values)| (*id, values.as_slice())).collect();
        let payload = Tick::encode(time_ms, &blocks);
        let samples = said.len() as u64;
        let record = OwnedRecord { kind: Kind::Metrics, time_ms, samples, payload, schemas };
        (Said::Tick { time_ms, values: said }, record)
    }

    fn schema(&mut self, metric: &'static str, series: usize) -> Arc<EncodedSchema> {
        let schema = self.schemas.entry((metric, series)).or_insert_with(|| schema(metric, series));
        Arc::clone(schema)
    }

    /// Of every kind that is encoded in a way of its own.
    fn value(&mut self) -> f64 {
        let random = self.random.next();
        match random % 8 {
            0..3 => (random >> 40) as f64,
            3..5 => (random >> 44) as f64 / 100.0,
            5 => (random >> 44) as f64 / 1_000.0,
            6 => self.random.unit(),
            _ => self.random.one_of(&[f64::NAN, f64::INFINITY, -0.0, -1.5, f64::MIN_POSITIVE]),
        }
    }
}

/// The agent was down.
pub(crate) fn gap(from_ms: i64, to_ms: i64) -> (Said, OwnedRecord) {
    let gap = Gap {
        reason: GapReason::AgentDown,
        from_ms,
        to_ms,
        first_seq: 0,
        last_seq: 0,
        records: 0,
        samples: 0,
        detail: "simulated".to_owned(),
    };
    let payload = gap.encode();
    let record =
        OwnedRecord { kind: Kind::Gap, time_ms: from_ms, samples: 0, payload, schemas: Vec::new() };
    (Said::Gap(gap), record)
}

fn schema(metric: &str, series: usize) -> Arc<EncodedSchema> {
    let family = Family { name: metric.into(), kind: MetricKind::Gauge, help: "Made up.".into() };
    let series =
        (0..series).map(|n| Series { family: 0, labels: vec![("n".into(), n.to_string())] });
    EncodedSchema::new(Schema {
        collector: metric.into(),
        families: vec![family],
        series: series.collect(),
    })
}
