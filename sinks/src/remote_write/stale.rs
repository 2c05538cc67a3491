//! Series that have ended: Prometheus wants to be told, with a marker in their next tick.
//!
//! A series ends when its collector runs again and doesn't have it any more, or when the collector was
//! due and isn't there: it failed, or was switched off. One that runs less often than the agent ticks
//! is no news in between. What was sent before this process began isn't known: such series end for the
//! receiver after its lookback (5 minutes), as they do when the host goes.

use std::{collections::BTreeMap, sync::Arc};

use wire::EncodedSchema;

use crate::intervals::Intervals;

/// What each collector last had that the receiver took.
#[derive(Debug)]
pub(super) struct Series {
    intervals: Intervals,
    last: BTreeMap<String, Last>,
}

#[derive(Clone, Debug)]
struct Last {
    schema: Arc<EncodedSchema>,
    time_ms: i64,
}

impl Series {
    pub(super) const fn new(intervals: Intervals) -> Self {
        Self { intervals, last: BTreeMap::new() }
    }

    /// Schemas with series that may have ended by this tick: not all of their series need have.
    pub(super) fn ended(
        &self,
        time_ms: i64,
        schemas: &[&Arc<EncodedSchema>],
    ) -> Vec<Arc<EncodedSchema>> {
        let is_over = |(collector, last): (&String, &Last)| {
            let now = schemas.iter().find(|schema| &schema.schema.collector == collector);
            match now {
                Some(now) => now.id != last.schema.id,
                None => self.intervals.was_due(collector, last.time_ms, time_ms),
            }
        };
        let over = self.last.iter().filter(|known| is_over(*known));
        over.map(|(_, last)| Arc::clone(&last.schema)).collect()
    }

    /// The receiver has taken this tick, with the markers for what ended.
    pub(super) fn taken(&mut self, time_ms: i64, schemas: &[&Arc<EncodedSchema>]) {
        for ended in self.ended(time_ms, schemas) {
            self.last.remove(&ended.schema.collector);
        }
        for schema in schemas {
            let last = Last { schema: Arc::clone(schema), time_ms };
            self.last.insert(schema.schema.collector.clone(), last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_core::{Metric, Samples};

    use super::*;

    fn schema(collector: &str, devices: &[&str]) -> Arc<EncodedSchema> {
        let mut samples = Samples::new(collector);
        for device in devices {
            samples.push(&Metric::gauge("x", ""), &[("device", device)], 0.0);
        }
        Arc::clone(samples.finish().0)
    }

    /// A tick: its time in seconds, its schemas, and what ends with it, by collector.
    type Step<'a> = (i64, &'a [&'a Arc<EncodedSchema>], &'a [&'a str]);

    fn check(ticks: &[Step<'_>]) {
        let intervals = [("slow".to_owned(), Duration::from_secs(60))].into();
        let mut series = Series::new(Intervals::new(intervals));
        for (time_s, schemas, expected) in ticks {
            let ended = series.ended(time_s * 1000, schemas);
            let ended: Vec<_> = ended.iter().map(|ended| &*ended.schema.collector).collect();
            assert_eq!(&ended, expected, "at {time_s} s");
            series.taken(time_s * 1000, schemas);
        }
    }

    #[test]
    fn what_ends() {
        let (both, one) = (schema("disk", &["a", "b"]), schema("disk", &["a"]));
        let (cpu, slow) = (schema("cpu", &[""]), schema("slow", &[""]));
        // a device goes; then its collector fails; then it comes back
        check(&[
            (0, &[&both, &cpu], &[]),
            (10, &[&both, &cpu], &[]),
            (20, &[&one, &cpu], &["disk"]),
            (30, &[&cpu], &["disk"]),
            (40, &[&cpu], &[]),
            (50, &[&both, &cpu], &[]),
        ]);
        // a slow one isn't there in between; it is switched off
        check(&[
            (50, &[&cpu, &slow], &[]),
            (60, &[&cpu, &slow], &[]),
            (70, &[&cpu], &[]),
            (110, &[&cpu], &[]),
            (120, &[&cpu], &["slow"]),
            (180, &[&cpu], &[]),
        ]);
    }
}
