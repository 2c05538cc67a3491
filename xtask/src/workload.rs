//! Hosts that aren't there, with the values that real ones have: for benches and load.
//!
//! Of a hundred series 40 stand still, 30 are integer counters, 15 are float counters (ten CPU time in
//! hundredths of a second, five disk time in thousandths) and 15 are gauges (ten in whole kilobytes, three
//! loads with two digits, two ratios with every digit an f64 has). That is the mix of a node_exporter page.
//! Random floats instead would flatter nobody: they don't compress at all.
//!
//! [`Host::node`] has node_exporter's own names besides, for what asks by them (`node`).

mod node;

use std::sync::Arc;

use remote_write::{Encoder, Label, Metadata, Sample, Version, snappy};
use wire::{
    AgentId, EncodedSchema, EnvelopeError, Family, InstanceId, Kind, MetricKind, Schema, Series,
    StreamId, Tick, envelope, request,
};

/// When a workload begins unless told otherwise, in Unix milliseconds.
pub const START_MS: i64 = 1_700_000_000_000;
/// Series of one schema: what a collector has.
const SCHEMA_SERIES: usize = 50;

/// One such host.
#[derive(Clone)]
pub struct Host {
    name: String,
    id: [u8; 16],
    schemas: Vec<Arc<EncodedSchema>>,
    moves: Vec<Move>,
    values: Vec<f64>,
    random: Random,
    ticks: u64,
    start_ms: i64,
    interval_ms: i64,
}

impl Host {
    /// Host `number` with so many series; the same every time.
    #[must_use]
    pub fn new(number: u32, series: usize, interval_ms: i64) -> Self {
        let schemas = (0..series.div_ceil(SCHEMA_SERIES))
            .map(|index| schema(index, SCHEMA_SERIES.min(series - index * SCHEMA_SERIES)));
        Self::of(number, schemas.collect(), (0..series).map(Move::of_mix).collect(), interval_ms)
    }

    /// Host `number` with node_exporter's names, labels and sizes; the same every time.
    #[must_use]
    pub fn node(number: u32, interval_ms: i64) -> Self {
        let (schemas, moves) = node::host();
        Self::of(number, schemas, moves, interval_ms)
    }

    fn of(
        number: u32,
        schemas: Vec<Arc<EncodedSchema>>,
        moves: Vec<Move>,
        interval_ms: i64,
    ) -> Self {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(number) << 32);
        let values = moves.iter().enumerate().map(|(at, of)| of.first(at, &mut random)).collect();
        let (name, ticks, start_ms) = (format!("host-{number}"), 0, START_MS);
        Self { name, id, schemas, moves, values, random, ticks, start_ms, interval_ms }
    }

    /// The same host, from another time on.
    #[must_use]
    pub const fn starting_at(mut self, start_ms: i64) -> Self {
        self.start_ms = start_ms;
        self
    }

    /// How many series it has.
    #[must_use]
    pub fn series(&self) -> usize {
        self.values.len()
    }

    /// The schemas that every tick names.
    #[must_use]
    pub fn schemas(&self) -> &[Arc<EncodedSchema>] {
        &self.schemas
    }

    /// Ticks it has made: also the sequence number of the last one.
    #[must_use]
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Unix milliseconds of its last tick.
    #[must_use]
    pub const fn time_ms(&self) -> i64 {
        self.start_ms + self.ticks.cast_signed() * self.interval_ms
    }

    /// The name that it has as `instance`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The payload of its next tick.
    pub fn tick(&mut self) -> Vec<u8> {
        self.step();
        let mut rest = self.values.as_slice();
        let mut blocks = Vec::with_capacity(self.schemas.len());
        for schema in &self.schemas {
            let (values, after) = rest.split_at(schema.schema.series.len());
            blocks.push((schema.id, values));
            rest = after;
        }
        Tick::encode(self.time_ms(), &blocks)
    }

    /// The body of a request with its next tick; the first one carries the schemas.
    ///
    /// # Errors
    /// [`EnvelopeError`] when the host has more series than a record holds.
    pub fn request(&mut self) -> Result<Vec<u8>, EnvelopeError> {
        let tick = self.tick();
        let record = envelope::encode(Kind::Metrics, self.ticks, &tick)?;
        let schemas = self.schemas.iter().map(AsRef::as_ref).filter(|_| self.ticks == 1);
        request::encode(&self.header(), schemas, [record.as_slice()])
    }

    /// The body of a remote write request (1.0) with its next tick, labelled as a hub labels it.
    pub fn remote_write(&mut self) -> Vec<u8> {
        self.step();
        let (mut encoder, time_ms) = (Encoder::new(Version::V1), self.time_ms());
        let series = self.schemas.iter().flat_map(|schema| schema.schema.iter());
        for ((family, labels), value) in series.zip(&self.values) {
            let given = [("__name__", &*family.name), ("instance", &*self.name), ("job", "node")];
            let own = labels.iter().map(|(name, value)| (&**name, &**value));
            let mut labels: Vec<(&str, &str)> = given.into_iter().chain(own).collect();
            labels.sort_unstable();
            let labels: Vec<Label<'_>> =
                labels.into_iter().map(|(name, value)| Label::new(name, value)).collect();
            encoder.series(&labels, &[Sample::new(time_ms, *value)], &Metadata::default());
        }
        snappy::compress(&encoder.finish())
    }

    fn step(&mut self) {
        self.ticks += 1;
        for (of, value) in self.moves.iter().zip(&mut self.values) {
            of.step(value, &mut self.random);
        }
    }

    fn header(&self) -> request::Header {
        request::Header {
            agent_id: AgentId::from_bytes(self.id),
            instance_id: InstanceId::from_bytes(self.id),
            stream_id: StreamId::from_bytes(self.id),
            hostname: self.name.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            sent_ms: self.time_ms(),
            last_seq: Some(self.ticks),
        }
    }
}

/// How a series moves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Move {
    /// Not at all.
    Still,
    /// Not at all, and this is its value.
    Fixed(f64),
    /// A counter of whole numbers.
    Count,
    /// A counter of seconds, in hundredths: CPU time.
    Hundredths,
    /// A counter of seconds, in thousandths: disk time.
    Thousandths,
    /// A gauge in pages of memory.
    Pages,
    /// A load with two digits.
    Load,
    /// A ratio with every digit an f64 has.
    Ratio,
}

impl Move {
    /// Of the n-th series of the mix.
    const fn of_mix(index: usize) -> Self {
        match index % 100 {
            0..40 => Self::Still,
            40..70 => Self::Count,
            70..80 => Self::Hundredths,
            80..85 => Self::Thousandths,
            85..95 => Self::Pages,
            95..98 => Self::Load,
            _ => Self::Ratio,
        }
    }

    /// Where a value begins: any size up to 2^33 is as likely as any other, as on a host that has been up
    /// for a while. A third of what stands still is 0, a third 1.
    fn first(self, index: usize, random: &mut Random) -> f64 {
        let bits = random.below(34) as u32;
        let value = random.below(1 << bits);
        match (self, index % 3) {
            (Self::Fixed(value), _) => value,
            (Self::Still, 0) => 0.0,
            (Self::Still, 1) => 1.0,
            (Self::Hundredths, _) => (value / 100.0).round() / 100.0,
            (Self::Thousandths, _) => (value / 1_000.0).round() / 1_000.0,
            (Self::Pages, _) => (value / 1_024.0).round() * 1_024.0,
            _ => value,
        }
    }

    /// Moves a value to the next tick. What has counted far counts fast.
    fn step(self, value: &mut f64, random: &mut Random) {
        let pace = |share: f64| (*value / share) as u64 + 2;
        match self {
            Self::Still | Self::Fixed(_) => {}
            Self::Count => *value += random.below(pace(50_000.0)),
            Self::Hundredths => {
                *value = (*value * 100.0 + random.below(pace(500.0).min(1_000))).round() / 100.0;
            }
            Self::Thousandths => {
                *value = (*value * 1_000.0 + random.below(pace(50.0).min(3_000))).round() / 1_000.0;
            }
            Self::Pages => {
                let pages = pace(1_024.0 * 200.0);
                *value = (*value + (random.below(2 * pages + 1) - pages as f64) * 1_024.0).abs();
            }
            Self::Load => *value = random.below(400) / 100.0,
            Self::Ratio => *value = random.below(1 << 53) / (1_u64 << 53) as f64,
        }
    }
}

fn schema(number: usize, series: usize) -> Arc<EncodedSchema> {
    let family = Family {
        name: format!("bench_metric_{number}_bytes_total"),
        kind: MetricKind::Counter,
        help: "As long as help is.".to_owned(),
    };
    let series = (0..series)
        .map(|n| Series { family: 0, labels: vec![("device".to_owned(), format!("device{n}"))] });
    EncodedSchema::new(Schema {
        collector: format!("collector{number}"),
        families: vec![family],
        series: series.collect(),
    })
}

/// xorshift64*: the same numbers every time.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of 53 bits are exact")]
    fn below(&mut self, most: u64) -> f64 {
        (self.next() % most) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_same_every_time_and_moves_as_the_mix_says() {
        let (mut one, mut other) = (Host::new(7, 300, 10_000), Host::new(7, 300, 10_000));
        let first = one.tick();
        assert_eq!(first, other.tick());
        let decode = |payload: &[u8]| Tick::decode(payload).unwrap();
        let (before, after) = (decode(&first), decode(&one.tick()));
        assert_eq!(after.time_ms, before.time_ms + 10_000);
        let moved = before.values.iter().zip(&after.values).filter(|(a, b)| a != b).count();
        assert!((100..=180).contains(&moved), "{moved} of 300 moved");
    }

    #[test]
    fn a_request_is_one_that_the_hub_takes() {
        let mut host = Host::new(1, 120, 10_000);
        let body = host.request().unwrap();
        let request = request::decode(&body).unwrap();
        assert_eq!((request.records.len(), request.schemas.len()), (1, 3));
        let request = request::decode(&host.request().unwrap()).unwrap().records.len();
        assert_eq!(request, 1);
        let mut node = Host::node(1, 15_000);
        let request = request::decode(&node.request().unwrap()).unwrap();
        let series: usize = request.schemas.iter().map(|one| one.schema.series.len()).sum();
        assert_eq!((request.records.len(), series), (1, node.series()));
    }
}
