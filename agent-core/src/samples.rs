//! What a collector fills: one tick's series and values.
//!
//! On a steady host a collector names the same series in the same order every tick. [`Samples`]
//! compares what comes with what came last and, as long as they agree, keeps only the values: no
//! allocation a series, and the schema is encoded and hashed once. The first difference turns it
//! into building a new schema.

use std::sync::Arc;

use wire::{CodecError, EncodedSchema, Family, MetricKind, Schema, SchemaId, Series, limits};

/// A metric as a collector names it. Most are constants; names can also be made while parsing
/// (`node_memory_<field>_bytes`).
#[derive(Clone, Copy, Debug)]
pub struct Metric<'a> {
    /// Name, as node_exporter's where it has the metric.
    pub name: &'a str,
    /// What its values mean.
    pub kind: MetricKind,
    /// One sentence for people.
    pub help: &'a str,
}

impl<'a> Metric<'a> {
    /// A counter: goes up, and back to zero at a restart.
    #[must_use]
    pub const fn counter(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: MetricKind::Counter, help }
    }

    /// A gauge: goes up and down.
    #[must_use]
    pub const fn gauge(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: MetricKind::Gauge, help }
    }

    /// Not known which.
    #[must_use]
    pub const fn untyped(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: MetricKind::Untyped, help }
    }
}

/// One collector's series and values of one tick.
#[derive(Debug)]
pub struct Samples {
    known: Arc<EncodedSchema>,
    /// Series of `known` that came again so far, in order.
    matched: usize,
    /// The new schema, once this tick differed from `known`.
    building: Option<Schema>,
    values: Vec<f64>,
    /// Why nobody could read `known` back, if so.
    fault: Option<CodecError>,
    /// What this tick goes without.
    remarks: Vec<String>,
    /// Remarks beyond those.
    remarks_more: usize,
    /// Series beyond the bound.
    left_out: usize,
    /// What is there without some series, if there was ever such a tick.
    without: Option<Without>,
}

/// Samples that some series are left out of.
#[derive(Debug)]
struct Without {
    /// Of this tick.
    is_now: bool,
    /// Of that schema, at these places.
    of: SchemaId,
    places: Vec<usize>,
    schema: Arc<EncodedSchema>,
    values: Vec<f64>,
}

/// Remarks of one tick that are kept; the others are counted.
const REMARKS_MAX: usize = 8;

impl Samples {
    /// Empty samples of the collector of that name.
    #[must_use]
    pub fn new(collector: &str) -> Self {
        let schema = Schema { collector: collector.to_owned(), ..Schema::default() };
        let known = EncodedSchema::new(schema);
        let fault = known.check().err();
        let (values, remarks) = (Vec::new(), Vec::new());
        Self {
            known,
            matched: 0,
            building: None,
            values,
            fault,
            remarks,
            remarks_more: 0,
            left_out: 0,
            without: None,
        }
    }

    /// Forgets the values, to be filled anew; what is known of the series stays.
    pub fn clear(&mut self) {
        self.matched = 0;
        self.building = None;
        self.values.clear();
        self.remarks.clear();
        self.remarks_more = 0;
        self.left_out = 0;
        if let Some(without) = &mut self.without {
            without.is_now = false;
        }
    }

    /// Leaves series out of what [`Samples::finish`] gives, by their places in it, until the next
    /// [`Samples::clear`].
    pub fn leave_out(&mut self, places: &[usize]) {
        self.finish();
        let (of, values) = (self.known.id, &self.values);
        let is_left = |place: &usize| places.binary_search(place).is_err();
        let left = (0..values.len()).filter(is_left);
        match &mut self.without {
            Some(without) if without.of == of && without.places == places => {
                without.values.clear();
                without.values.extend(left.map(|place| values[place]));
                without.is_now = true;
            }
            without => {
                let series = left.clone().map(|place| self.known.schema.series[place].clone());
                let schema = Schema { series: series.collect(), ..self.known.schema.clone() };
                let values = left.map(|place| values[place]).collect();
                let (schema, places) = (EncodedSchema::new(compact(schema)), places.to_vec());
                *without = Some(Without { is_now: true, of, places, schema, values });
            }
        }
    }

    /// Says what this tick goes without although the collector succeeds: a file of many that can't be
    /// read. It is logged when it changes, not every tick.
    pub fn remark(&mut self, what: &str) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(what.to_owned());
        } else {
            self.remarks_more += 1;
        }
    }

    /// All remarks since the last [`Samples::clear`] in one line; empty if there are none.
    #[must_use]
    pub fn remarks(&self) -> String {
        let mut text = self.remarks.join("; ");
        if self.remarks_more > 0 {
            text.push_str(&format!("; and {} more", self.remarks_more));
        }
        if self.left_out > 0 {
            let (count, most) = (self.left_out, limits::SCHEMA_SERIES_MAX);
            let separator = if text.is_empty() { "" } else { "; " };
            text.push_str(&format!(
                "{separator}{count} series, for one collector has at most {most}"
            ));
        }
        text
    }

    /// Adds one sample. Labels come in ascending order of their names, as node_exporter prints them;
    /// values of labels longer than [`limits::LABEL_VALUE_BYTES_MAX`] are cut. Series beyond
    /// [`limits::SCHEMA_SERIES_MAX`] are left out, and remarked.
    pub fn push(&mut self, metric: &Metric<'_>, labels: &[(&str, &str)], value: f64) {
        debug_assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "{}: {labels:?}", metric.name);
        if self.values.len() >= limits::SCHEMA_SERIES_MAX {
            self.left_out += 1;
            return;
        }
        self.values.push(value);
        if self.building.is_none() {
            if is_series(&self.known.schema, self.matched, metric, labels) {
                self.matched += 1;
                return;
            }
            self.building = Some(prefix(&self.known.schema, self.matched));
        }
        if let Some(schema) = &mut self.building {
            add_series(schema, metric, labels);
        }
    }

    /// Samples added since the last [`Samples::clear`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was added since the last [`Samples::clear`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The schema of what was added, and the values in its order.
    pub fn finish(&mut self) -> (&Arc<EncodedSchema>, &[f64]) {
        if self.building.is_none() && self.matched < self.known.schema.series.len() {
            self.building = Some(prefix(&self.known.schema, self.matched));
        }
        if let Some(schema) = self.building.take() {
            self.matched = schema.series.len();
            self.known = EncodedSchema::new(schema);
            self.fault = self.known.check().err();
        }
        match &self.without {
            Some(without) if without.is_now => (&without.schema, &without.values),
            _ => (&self.known, &self.values),
        }
    }

    /// What is wrong with the series that [`Samples::finish`] gave: a name that is none, a bound of
    /// [`limits`] broken. Such samples must go nowhere: no log and no hub could read them back.
    #[must_use]
    pub const fn fault(&self) -> Option<&CodecError> {
        self.fault.as_ref()
    }
}

fn is_series(schema: &Schema, index: usize, metric: &Metric<'_>, labels: &[(&str, &str)]) -> bool {
    let Some(series) = schema.series.get(index) else {
        return false;
    };
    let same_metric = |family: &Family| {
        family.name == metric.name && family.kind == metric.kind && family.help == metric.help
    };
    let same_labels = || {
        series.labels.len() == labels.len()
            && series.labels.iter().zip(labels).all(|(a, b)| a.0 == b.0 && a.1 == cut(b.1))
    };
    schema.families.get(series.family as usize).is_some_and(same_metric) && same_labels()
}

/// The first series of a schema, with the families they use.
fn prefix(schema: &Schema, series: usize) -> Schema {
    let series = schema.series[..series].to_vec();
    let families = series.iter().map(|s| s.family as usize + 1).max().unwrap_or(0);
    Schema {
        collector: schema.collector.clone(),
        families: schema.families[..families].to_vec(),
        series,
    }
}

/// Without families that have no series.
fn compact(schema: Schema) -> Schema {
    let mut places = vec![None; schema.families.len()];
    let mut families = Vec::new();
    let mut series = schema.series;
    for one in &mut series {
        let family = one.family as usize;
        one.family = *places[family].get_or_insert_with(|| {
            families.push(schema.families[family].clone());
            // at most as many as before
            families.len() as u32 - 1
        });
    }
    Schema { collector: schema.collector, families, series }
}

fn add_series(schema: &mut Schema, metric: &Metric<'_>, labels: &[(&str, &str)]) {
    // Series of one family mostly follow each other: look from the end.
    let known = schema.families.iter().rposition(|family| family.name == metric.name);
    let family = known.unwrap_or_else(|| {
        schema.families.push(Family {
            name: metric.name.to_owned(),
            kind: metric.kind,
            help: metric.help.to_owned(),
        });
        schema.families.len() - 1
    });
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), cut(value).to_owned()));
    // At most SCHEMA_SERIES_MAX families: they fit.
    let family = u32::try_from(family).unwrap_or(u32::MAX);
    schema.series.push(Series { family, labels: labels.collect() });
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(limits::LABEL_VALUE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Metric<'_> = Metric::gauge("node_load1", "1m load average.");
    const BYTES: Metric<'_> = Metric::counter("node_network_receive_bytes_total", "Bytes.");

    fn tick(samples: &mut Samples, devices: &[&str]) -> (Arc<EncodedSchema>, Vec<f64>) {
        samples.clear();
        samples.push(&LOAD, &[], 0.5);
        for (value, device) in (1..).zip(devices) {
            samples.push(&BYTES, &[("device", device)], f64::from(value));
        }
        let (schema, values) = samples.finish();
        (Arc::clone(schema), values.to_vec())
    }

    #[test]
    fn a_steady_host_keeps_its_schema() {
        let mut samples = Samples::new("test");
        let (first, values) = tick(&mut samples, &["eth0", "eth1"]);
        assert_eq!(values, [0.5, 1.0, 2.0]);
        let (second, _) = tick(&mut samples, &["eth0", "eth1"]);
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn series_come_go_and_change_places() {
        let mut samples = Samples::new("test");
        let check = |samples: &mut Samples, devices: &[&str]| {
            let (schema, values) = tick(samples, devices);
            let (fresh, _) = tick(&mut Samples::new("test"), devices);
            assert_eq!(schema, fresh, "{devices:?}");
            assert_eq!(values.len(), schema.schema.series.len());
            assert_eq!(EncodedSchema::from_payload(&schema.payload), Ok(schema));
        };
        for devices in [&["a", "b"][..], &["a"], &[], &["b", "a"], &["a", "b", "c"], &["c"]] {
            check(&mut samples, devices);
        }
    }

    #[test]
    fn series_that_nobody_could_read_back_are_a_fault() {
        let check = |collector: &str, metric: &str, expected: Option<&str>| {
            let mut samples = Samples::new(collector);
            samples.push(&Metric::gauge(metric, "A metric."), &[], 1.0);
            samples.finish();
            let fault = samples.fault().map(ToString::to_string);
            match expected {
                None => assert_eq!(fault, None),
                Some(part) => assert!(fault.is_some_and(|text| text.contains(part)), "{part}"),
            }
        };
        check("test", "node_load1", None);
        check("my-app", "node_load1", Some("collector name \"my-app\""));
        check("test", "node load", Some("metric name \"node load\""));
    }

    #[test]
    fn series_are_left_out_for_one_tick() {
        let mut samples = Samples::new("test");
        let mut check = |devices: &[&str], places: &[usize], expected: &[f64]| {
            tick(&mut samples, devices);
            samples.leave_out(places);
            let (schema, values) = samples.finish();
            assert_eq!(values, expected);
            assert_eq!(schema.schema.series.len(), values.len());
            assert_eq!(EncodedSchema::from_payload(&schema.payload), Ok(Arc::clone(schema)));
            Arc::clone(schema)
        };
        let first = check(&["a", "b"], &[0], &[1.0, 2.0]);
        assert_eq!(first.schema.families.len(), 1);
        assert!(Arc::ptr_eq(&check(&["a", "b"], &[0], &[1.0, 2.0]), &first));
        check(&["a", "b", "c"], &[0, 2], &[1.0, 3.0]);
        check(&["a"], &[0, 1], &[]);
        let (whole, values) = tick(&mut samples, &["a"]);
        assert_eq!((whole.schema.series.len(), values.len()), (2, 2));
    }

    #[test]
    fn remarks_are_bounded_and_forgotten() {
        let mut samples = Samples::new("test");
        assert_eq!(samples.remarks(), "");
        for number in 0..REMARKS_MAX + 3 {
            samples.remark(&format!("file {number}"));
        }
        let remarks = samples.remarks();
        assert!(remarks.starts_with("file 0; file 1; "), "{remarks}");
        assert!(remarks.ends_with("; file 7; and 3 more"), "{remarks}");
        samples.clear();
        assert_eq!(samples.remarks(), "");
    }

    #[test]
    fn series_beyond_the_bound_are_left_out_and_told() {
        let mut samples = Samples::new("test");
        for _ in 0..limits::SCHEMA_SERIES_MAX {
            samples.push(&LOAD, &[], 1.0);
        }
        assert_eq!(samples.remarks(), "");
        (0..3).for_each(|_| samples.push(&LOAD, &[], 1.0));
        assert_eq!(samples.len(), limits::SCHEMA_SERIES_MAX);
        assert_eq!(samples.remarks(), "3 series, for one collector has at most 50000");
        samples.remark("a file");
        assert_eq!(samples.remarks(), "a file; 3 series, for one collector has at most 50000");
        samples.clear();
        assert_eq!(samples.remarks(), "");
    }

    #[test]
    fn long_label_values_are_cut_between_characters() {
        let mut samples = Samples::new("test");
        let long = "é".repeat(limits::LABEL_VALUE_BYTES_MAX);
        let (first, _) = tick(&mut samples, &[&long]);
        assert_eq!(first.schema.series[1].labels[0].1.len(), limits::LABEL_VALUE_BYTES_MAX);
        let (second, _) = tick(&mut samples, &[&long]);
        assert!(Arc::ptr_eq(&first, &second));
    }
}
