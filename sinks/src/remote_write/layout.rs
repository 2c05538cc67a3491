//! Which series of the receiver the values of a tick belong to.
//!
//! On a steady host one tick has the same series as the one before: their labels are put together and
//! encoded once, and then only copied.

use std::{collections::HashSet, sync::Arc};

use remote_write::{Label, Metadata, MetricType, Sample, Template, Version, labels, stale};
use wire::{EncodedSchema, MetricKind, SchemaId};

use super::config::{RemoteWriteConfig, RemoteWriteConfigError};

/// What Prometheus puts before a label of a target's own that has the name of one of the target.
const EXPORTED: &str = "exported_";

/// The labels that say which host a series is of.
#[derive(Clone, Debug)]
pub(super) struct Identities {
    /// `job` and `instance`: a series' own label of that name gives way.
    target: Vec<(String, String)>,
    /// A series' own label, or the target's, of that name stays.
    external: Vec<(String, String)>,
}

impl Identities {
    pub(super) fn new(config: &RemoteWriteConfig) -> Result<Self, RemoteWriteConfigError> {
        let target = [("instance", &config.instance), ("job", &config.job)];
        let target = target.into_iter().filter(|(_, value)| !value.is_empty());
        let target = target.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        for (name, value) in &config.external_labels {
            check_external(name, value)?;
        }
        let external = config.external_labels.clone().into_iter().collect();
        Ok(Self { target, external })
    }

    /// All labels of a series, sorted by name.
    fn labels(&self, metric: &str, own: &[(String, String)]) -> Vec<(String, String)> {
        let mut all = vec![(labels::NAME.to_owned(), metric.to_owned())];
        // a label without a value is none
        let own = || own.iter().filter(|(_, value)| !value.is_empty());
        for (name, value) in own() {
            let mut name = name.clone();
            while has(&self.target, &name) || (name.starts_with(EXPORTED) && has(&all, &name)) {
                name.insert_str(0, EXPORTED);
            }
            all.push((name, value.clone()));
        }
        all.extend(self.target.iter().cloned());
        let left: Vec<_> =
            self.external.iter().filter(|(name, _)| !has(&all, name)).cloned().collect();
        all.extend(left);
        all.sort();
        all
    }
}

fn has(labels: &[(String, String)], name: &str) -> bool {
    labels.iter().any(|(known, _)| known == name)
}

fn check_external(name: &str, value: &str) -> Result<(), RemoteWriteConfigError> {
    let wrong =
        |reason: &'static str| Err(RemoteWriteConfigError::Label { name: name.to_owned(), reason });
    if matches!(name, "job" | "instance") {
        return wrong("has a key of its own beside external_labels");
    }
    if !labels::is_label_name(name) || name.starts_with("__") {
        return wrong(
            "is not a label's name: letters, digits and _, not beginning with __ or a digit",
        );
    }
    if value.is_empty() { wrong("is empty: leave it out") } else { Ok(()) }
}

/// The series of one list of schemas.
pub(super) struct Layout {
    schemas: Vec<SchemaId>,
    ended: Vec<SchemaId>,
    template: Template,
    /// For each value of a tick its series; `None`: the tick has that series already.
    rows: Vec<Option<usize>>,
    /// Series that end.
    stale: Vec<usize>,
}

impl Layout {
    /// A layout for ticks of `schemas`, at whose beginning those series end that are in `ended` and
    /// not in `schemas`.
    pub(super) fn new(
        version: Version,
        identities: &Identities,
        schemas: &[&Arc<EncodedSchema>],
        ended: &[Arc<EncodedSchema>],
    ) -> Self {
        let mut adder =
            Adder { identities, template: Template::new(version), known: HashSet::new() };
        let rows = schemas.iter().flat_map(|schema| schema.schema.iter());
        let rows = rows.map(|(family, own)| adder.add(&family.name, own, family.kind)).collect();
        let stale = ended.iter().flat_map(|schema| schema.schema.iter());
        let stale = stale.filter_map(|(family, own)| adder.add(&family.name, own, family.kind));
        let stale = stale.collect();
        Self {
            schemas: schemas.iter().map(|schema| schema.id).collect(),
            ended: ended.iter().map(|schema| schema.id).collect(),
            template: adder.template,
            rows,
            stale,
        }
    }

    /// Whether it is the layout for this.
    pub(super) fn fits(
        &self,
        version: Version,
        schemas: &[&Arc<EncodedSchema>],
        ended: &[Arc<EncodedSchema>],
    ) -> bool {
        self.template.version() == version
            && self.schemas.iter().eq(schemas.iter().map(|schema| &schema.id))
            && self.ended.iter().eq(ended.iter().map(|schema| &schema.id))
    }

    /// A tick's samples by series, the markers of those that end last.
    pub(super) fn samples<'l>(
        &'l self,
        time_ms: i64,
        values: &'l [f64],
    ) -> impl Iterator<Item = (usize, Sample)> + use<'l> {
        let sample = move |value| Sample::new(time_ms, value);
        let values = self.rows.iter().zip(values);
        let values = values.filter_map(move |(row, value)| Some(((*row)?, sample(*value))));
        values.chain(self.stale.iter().map(move |row| (*row, sample(stale()))))
    }

    pub(super) fn message(&self, samples: &[(usize, Sample)]) -> Vec<u8> {
        self.template.message(samples.iter().copied())
    }
}

struct Adder<'i> {
    identities: &'i Identities,
    template: Template,
    known: HashSet<Vec<(String, String)>>,
}

impl Adder<'_> {
    /// Adds a series that isn't there yet. One that comes twice in a tick would be two values at one
    /// time, which receivers refuse with all the rest: the first counts, as in Prometheus's own scrapes.
    fn add(&mut self, metric: &str, own: &[(String, String)], kind: MetricKind) -> Option<usize> {
        let all = self.identities.labels(metric, own);
        let labels: Vec<_> = all.iter().map(|(name, value)| Label::new(name, value)).collect();
        let kind = match kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Untyped => MetricType::Unknown,
        };
        if self.known.contains(&all) {
            return None;
        }
        let row = self.template.push(&labels, &Metadata { kind, ..Metadata::default() });
        self.known.insert(all);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(external: &[(&str, &str)]) -> Result<Identities, RemoteWriteConfigError> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Identities::new(&RemoteWriteConfig {
            instance: "web-1".to_owned(),
            external_labels: external.iter().map(pair).collect(),
            ..RemoteWriteConfig::new("http://x")
        })
    }

    #[test]
    fn labels_are_sorted_and_each_there_once() {
        let check = |own: &[(&str, &str)], expected: &str| {
            let own: Vec<_> = own.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let external = identities(&[("Zone", "a"), ("cluster", "c")]).unwrap();
            let all = external.labels("up", &own);
            let all: Vec<_> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(all.join(" "), expected);
        };
        check(&[], "Zone=a __name__=up cluster=c instance=web-1 job=node");
        check(&[("cpu", "0")], "Zone=a __name__=up cluster=c cpu=0 instance=web-1 job=node");
        check(&[("cpu", "")], "Zone=a __name__=up cluster=c instance=web-1 job=node");
        // the series' own stays
        check(&[("cluster", "d")], "Zone=a __name__=up cluster=d instance=web-1 job=node");
        check(
            &[("instance", "db"), ("job", "x")],
            "Zone=a __name__=up cluster=c exported_instance=db exported_job=x instance=web-1 job=node",
        );
        check(
            &[("exported_job", "y"), ("job", "x")],
            "Zone=a __name__=up cluster=c exported_exported_job=x exported_job=y instance=web-1 job=node",
        );
    }

    #[test]
    fn external_labels_that_make_no_sense() {
        let check = |name, value, expected: &str| {
            let error = identities(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(expected), "expected {expected:?} in {error:?}");
        };
        check("job", "x", "has a key of its own");
        check("a-b", "x", "is not a label's name");
        check("__x", "x", "is not a label's name");
        check("a", "", "external_labels: \"a\" is empty: leave it out");
    }
}
