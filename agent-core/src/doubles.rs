//! Series that two collectors have: the same name with the same labels.
//!
//! A tick with both would hold two values for one series, and nobody could tell which one a store keeps. Our
//! own collectors have no series in common. What other programs write into files can be named like anything:
//! so a collector that passes on what others say gives way ([`Collector::gives_way`]), and each of its series
//! that another collector has too is left out, counted, and said.
//!
//! What collectors have changes seldom, so they are compared only when a schema did. A collector that isn't due,
//! or has failed, still has what it had last: its series don't change hands for a tick.
//!
//! [`Collector::gives_way`]: crate::Collector::gives_way

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use wire::{EncodedSchema, Schema};

use crate::runner::{Outcome, Report};

/// Finds series that two collectors have, tick by tick.
#[derive(Debug, Default)]
pub struct Doubles {
    /// Whether any collector gives way: otherwise nothing is compared.
    is_needed: bool,
    /// What each collector had last.
    known: BTreeMap<String, Arc<EncodedSchema>>,
    /// Of each collector that gives way, as long as no schema changes.
    found: BTreeMap<String, Found>,
}

/// What one collector leaves out.
#[derive(Debug, Default)]
struct Found {
    /// By their place in its schema, ascending.
    places: Vec<usize>,
    /// One of them, and who has it.
    example: String,
}

impl Doubles {
    /// Takes out of the tick what another collector has too.
    pub fn settle(&mut self, reports: &mut [Report<'_>]) {
        self.is_needed |= reports.iter().any(|report| report.gives_way);
        if !self.is_needed {
            return;
        }
        reports.iter_mut().for_each(|report| self.note(report));
        for report in reports.iter_mut().filter(|report| report.gives_way) {
            let Some(samples) = report.samples.as_deref_mut() else { continue };
            let known = &self.known;
            let find = || find(report.name, known);
            let found = self.found.entry(report.name.to_owned()).or_insert_with(find);
            report.left_out = found.places.len();
            if !found.places.is_empty() {
                samples.leave_out(&found.places);
                let (count, example) = (found.places.len(), &found.example);
                samples.remark(&format!("{count} series that another collector has: {example}"));
            }
        }
    }

    fn note(&mut self, report: &mut Report<'_>) {
        let is_known = |schema: &EncodedSchema| {
            self.known.get(report.name).is_some_and(|known| known.id == schema.id)
        };
        match (report.outcome, report.samples.as_deref_mut()) {
            (_, Some(samples)) => {
                let (schema, _) = samples.finish();
                if is_known(schema) {
                    return;
                }
                self.known.insert(report.name.to_owned(), Arc::clone(schema));
            }
            (Outcome::Unavailable(_) | Outcome::Denied(_), None) => {
                if self.known.remove(report.name).is_none() {
                    return;
                }
            }
            _ => return,
        }
        self.found.clear();
    }
}

/// A series: its name, and its labels but for those without a value, which are none to Prometheus.
type Key<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Series of a schema whose families these are, with their places.
fn series<'a>(
    schema: &'a Schema,
    is_wanted: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (usize, Key<'a>)> {
    let named = schema.iter().enumerate();
    let wanted = named.filter(move |(_, (family, _))| is_wanted(&family.name));
    wanted.map(|(place, (family, labels))| {
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (name.as_str(), value.as_str()));
        (place, (family.name.as_str(), labels.collect()))
    })
}

/// Which series of one collector another one has too.
fn find(name: &str, known: &BTreeMap<String, Arc<EncodedSchema>>) -> Found {
    let Some(own) = known.get(name) else { return Found::default() };
    let families: HashSet<&str> = own.schema.families.iter().map(|f| f.name.as_str()).collect();
    let mut others = HashMap::new();
    for (other, schema) in known.iter().filter(|(other, _)| *other != name) {
        let theirs = series(&schema.schema, |family| families.contains(family));
        others.extend(theirs.map(|(_, key)| (key, other)));
    }
    let shared: HashSet<&str> = others.keys().map(|(family, _)| *family).collect();
    let mut found = Found::default();
    for (place, key) in series(&own.schema, |family| shared.contains(family)) {
        let Some(other) = others.get(&key) else { continue };
        if found.places.is_empty() {
            let labels: Vec<_> = key.1.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
            found.example = format!("{}{{{}}} is {other}'s", key.0, labels.join(","));
        }
        found.places.push(place);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Metric, Samples};

    /// Collectors of a tick, and what is left of the one that gives way.
    #[derive(Default)]
    struct Ticks {
        doubles: Doubles,
        samples: BTreeMap<&'static str, Samples>,
    }

    type Series = (&'static str, &'static [(&'static str, &'static str)]);

    impl Ticks {
        /// What `files` is left with, how many are left out, and what is said.
        fn tick(&mut self, collectors: &[(&'static str, &[Series])]) -> (String, usize, String) {
            for (name, series) in collectors {
                let samples = self.samples.entry(name).or_insert_with(|| Samples::new(name));
                samples.clear();
                for (value, (metric, labels)) in (1..).zip(*series) {
                    samples.push(&Metric::gauge(metric, "A metric."), labels, f64::from(value));
                }
            }
            let is_due = |name: &str| collectors.iter().any(|(one, _)| *one == name);
            let due = self.samples.iter_mut().filter(|(name, _)| is_due(name));
            let mut reports: Vec<_> = due
                .map(|(name, samples)| Report {
                    name,
                    outcome: &Outcome::Collected,
                    duration: Duration::ZERO,
                    samples: Some(samples),
                    gives_way: *name == "files",
                    left_out: 0,
                })
                .collect();
            self.doubles.settle(&mut reports);
            let files = reports.into_iter().find(|report| report.name == "files").unwrap();
            let samples = files.samples.unwrap();
            let remarks = samples.remarks();
            let (schema, values) = samples.finish();
            let shown = schema.schema.iter().zip(values).map(|((family, labels), value)| {
                let labels: Vec<_> = labels.iter().map(|(_, value)| value.as_str()).collect();
                format!("{}{labels:?}={value}", family.name)
            });
            assert_eq!(schema.schema.series.len(), values.len());
            (shown.collect::<Vec<_>>().join(" "), files.left_out, remarks)
        }
    }

    const LOAD: Series = ("node_load1", &[]);
    const ETH0: Series = ("node_up", &[("device", "eth0")]);
    const ETH1: Series = ("node_up", &[("device", "eth1")]);
    const NO_DUPLEX: Series = ("node_up", &[("device", "eth1"), ("duplex", "")]);
    const BACKUP: Series = ("backup_time", &[]);

    #[test]
    fn what_another_collector_has_is_left_out() {
        let mut ticks = Ticks::default();
        let mut check = |others: &[Series], files: &[Series], left: &str, said: &str| {
            let collectors = [("files", files), ("kernel", others)];
            let (shown, left_out, remarks) = ticks.tick(&collectors);
            assert_eq!((shown.as_str(), remarks.as_str()), (left, said));
            assert_eq!(left_out > 0, !said.is_empty());
        };
        check(&[LOAD], &[BACKUP], "backup_time[]=1", "");
        let said = "1 series that another collector has: node_load1{} is kernel's";
        check(&[LOAD], &[LOAD, BACKUP], "backup_time[]=2", said);
        check(&[LOAD], &[LOAD, BACKUP], "backup_time[]=2", said);
        // the other one has it no longer
        check(&[ETH0], &[LOAD, BACKUP], "node_load1[]=1 backup_time[]=2", "");
        check(&[ETH0], &[ETH1, BACKUP], r#"node_up["eth1"]=1 backup_time[]=2"#, "");
        let said = r#"2 series that another collector has: node_up{device="eth0"} is kernel's"#;
        check(&[ETH0, NO_DUPLEX], &[BACKUP, ETH0, ETH1], "backup_time[]=1", said);
        check(&[ETH0, NO_DUPLEX], &[ETH1, ETH0], "", &said.replace("eth0", "eth1"));
        check(&[], &[ETH1], r#"node_up["eth1"]=1"#, "");
    }

    #[test]
    fn a_collector_that_rests_keeps_what_it_has() {
        let mut ticks = Ticks::default();
        let files = ("files", &[LOAD, BACKUP][..]);
        assert_eq!(ticks.tick(&[files, ("kernel", &[LOAD])]).1, 1);
        assert_eq!(ticks.tick(&[files]).1, 1);
        assert_eq!(ticks.tick(&[files, ("kernel", &[ETH0])]).1, 0);
    }

    #[test]
    fn nothing_is_compared_without_need() {
        let mut doubles = Doubles::default();
        let mut samples = Samples::new("kernel");
        samples.push(&Metric::gauge("node_load1", "Load."), &[], 1.0);
        let mut reports = [Report {
            name: "kernel",
            outcome: &Outcome::Collected,
            duration: Duration::ZERO,
            samples: Some(&mut samples),
            gives_way: false,
            left_out: 0,
        }];
        doubles.settle(&mut reports);
        assert!(doubles.known.is_empty());
    }
}
