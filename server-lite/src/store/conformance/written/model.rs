//! What a map says of samples that come in any order, again, and with other values; and whether a store
//! says the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{STALE, Sent, found, send};
use crate::store::{Store, conformance::START_MS};

/// Series, seconds from the start, and number of a value.
pub(crate) type Sample = (usize, i64, u64);

const SERIES: usize = 6;

/// Values that are easily taken for each other, among them what ends a series.
fn value_of_bits(number: u64) -> f64 {
    [1.0, -0.0, 0.0, STALE, f64::NAN][number as usize % 5]
}

/// Samples of one request.
pub(crate) fn samples() -> impl Strategy<Value = Vec<Sample>> {
    // Some times lie hours apart.
    let time = prop_oneof![4 => 0_i64..40, 1 => 20_000_i64..20_003];
    proptest::collection::vec((0..SERIES, time, 0_u64..5), 1..40)
}

/// What should be there of a metric, by series and time.
pub(crate) struct Model {
    metric: String,
    samples: BTreeMap<(usize, i64), u64>,
}

impl Model {
    /// Nothing yet.
    pub(crate) const fn new(metric: String) -> Self {
        Self { metric, samples: BTreeMap::new() }
    }

    /// Samples that should be there.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.len() as u64
    }

    /// Sends samples, and compares what the store says of them.
    pub(crate) async fn write(&mut self, store: &dyn Store, samples: &[Sample]) {
        let expected = self.note(samples);
        let instances: Vec<String> =
            (0..SERIES).map(|n| format!("{}-{}:1", self.metric, n % 2)).collect();
        let numbers: Vec<String> = (0..SERIES).map(|n| n.to_string()).collect();
        let labels: Vec<[(&str, &str); 3]> = (0..SERIES)
            .map(|n| [("instance", &*instances[n]), ("job", "x"), ("n", &*numbers[n])])
            .collect();
        // A series' samples in a row are one of the request, as senders put them together.
        let parts: Vec<(usize, Vec<(i64, f64)>)> = samples
            .chunk_by(|a, b| a.0 == b.0)
            .map(|part| {
                let sample = |(_, time, number): &(_, i64, u64)| {
                    (START_MS + time * 1_000, value_of_bits(*number))
                };
                (part[0].0, part.iter().map(sample).collect())
            })
            .collect();
        let sent: Vec<Sent<'_>> = parts
            .iter()
            .map(|(series, samples)| (&*self.metric, &labels[*series][..], samples.as_slice()))
            .collect();
        let written = send(store, &sent).await;
        assert_eq!((written.samples, written.duplicates, written.refused_samples()), expected);
    }

    /// Samples stored, there already, and refused.
    fn note(&mut self, samples: &[Sample]) -> (u64, u64, u64) {
        let mut counts = (0, 0, 0);
        for (series, time, number) in samples {
            let bits = value_of_bits(*number).to_bits();
            match self.samples.get(&(*series, *time)) {
                None => {
                    self.samples.insert((*series, *time), bits);
                    counts.0 += 1;
                }
                Some(there) if *there == bits => counts.1 += 1,
                Some(_) => counts.2 += 1,
            }
        }
        counts
    }

    /// Compares what is read.
    pub(crate) async fn check(&self, store: &dyn Store) {
        let mut expected = vec![Vec::new(); SERIES];
        for ((series, time), bits) in &self.samples {
            expected[*series].push((START_MS + time * 1_000, *bits));
        }
        let mut all = vec![Vec::new(); SERIES];
        for (series, samples) in found(store, &self.metric).await {
            all[series.labels["n"].parse::<usize>().unwrap()] = samples;
        }
        assert_eq!(all, expected);
    }
}
