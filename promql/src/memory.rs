//! A source in memory: what scripts load, and what a test needs.

use std::collections::BTreeMap;

use crate::{
    error::{Error, Result},
    labels::Labels,
    source::{Matcher, Sample, Selection, Source, Visit},
};

/// Series in memory, by their labels.
#[derive(Debug, Default)]
pub struct Memory {
    series: BTreeMap<Labels, Vec<Sample>>,
}

impl Memory {
    /// Adds samples to a series, in any order; of two with one time the later added counts.
    pub fn add(&mut self, labels: Labels, samples: impl IntoIterator<Item = Sample>) {
        let kept = self.series.entry(labels).or_default();
        let mut by_time: BTreeMap<i64, Sample> = kept.iter().map(|s| (s.time_ms, *s)).collect();
        by_time.extend(samples.into_iter().map(|sample| (sample.time_ms, sample)));
        *kept = by_time.into_values().collect();
    }
}

impl Source for Memory {
    fn select(&self, selection: &Selection<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
        for (labels, samples) in &self.series {
            if !Matcher::all_match(selection.matchers, labels) {
                continue;
            }
            let from = samples.partition_point(|sample| sample.time_ms < selection.start_ms);
            let to = samples.partition_point(|sample| sample.time_ms <= selection.end_ms);
            if from < to {
                visit(labels, &samples[from..to])?;
            }
        }
        Ok(())
    }
}
