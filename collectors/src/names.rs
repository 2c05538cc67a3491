//! Metric names that are made of what the kernel says: `Tcp` and `InSegs` become
//! `node_netstat_Tcp_InSegs`.
//!
//! A steady host says the same in the same order every tick, so names are made when a field is first
//! seen at its place and kept; from then on a field costs a comparison.

use agent_core::{Metric, MetricKind};

/// Longer than any field of the kernel by far; names of metrics are bounded too.
const FIELD_BYTES_MAX: usize = 100;

/// Names by the place of their field in a tick.
#[derive(Debug)]
pub(crate) struct Names {
    kind: MetricKind,
    made: Vec<Made>,
    place: usize,
}

/// What became of a field.
#[derive(Debug)]
struct Made {
    group: String,
    field: String,
    /// Name and help; `None` when the field is left out.
    metric: Option<(String, String)>,
}

impl Names {
    /// No names yet; metrics will be of that kind.
    pub(crate) fn new(kind: MetricKind) -> Self {
        Self { kind, made: Vec::new(), place: 0 }
    }

    /// What the metrics are.
    pub(crate) const fn kind(&self) -> MetricKind {
        self.kind
    }

    /// A tick begins.
    pub(crate) fn restart(&mut self) {
        self.place = 0;
    }

    /// The metric of a field of a group. `make` gives name and help when it is seen for the first time
    /// at this place, or leaves it out.
    pub(crate) fn next(
        &mut self,
        group: &str,
        field: &str,
        make: impl FnOnce() -> Option<(String, String)>,
    ) -> Option<Metric<'_>> {
        let place = self.place;
        self.place += 1;
        let known = |made: &Made| made.field == field && made.group == group;
        if !self.made.get(place).is_some_and(known) {
            self.made.truncate(place);
            let short = group.len() + field.len() <= FIELD_BYTES_MAX;
            let metric = if short { make() } else { None };
            self.made.push(Made { group: group.to_owned(), field: field.to_owned(), metric });
        }
        let (name, help) = self.made[place].metric.as_ref()?;
        Some(Metric { name, kind: self.kind, help })
    }
}

/// A part of a metric's name: what no name may hold becomes an underscore.
pub(crate) fn part(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_once_and_made_anew_when_a_field_changes() {
        let mut names = Names::new(MetricKind::Untyped);
        let mut tick = |fields: &[&str]| {
            names.restart();
            let mut made = 0;
            let mut found = Vec::new();
            for field in fields {
                let metric = names.next("Tcp", field, || {
                    made += 1;
                    (*field != "odd").then(|| (format!("node_{field}"), String::new()))
                });
                found.extend(metric.map(|metric| metric.name.to_owned()));
            }
            (made, found.join(" "))
        };
        assert_eq!(tick(&["a", "odd", "b"]), (3, "node_a node_b".to_owned()));
        assert_eq!(tick(&["a", "odd", "b"]), (0, "node_a node_b".to_owned()));
        assert_eq!(tick(&["a", "c"]), (1, "node_a node_c".to_owned()));
        assert_eq!(tick(&["a", "c", "b"]), (1, "node_a node_c node_b".to_owned()));
        let long = "x".repeat(FIELD_BYTES_MAX);
        assert_eq!(tick(&[&long]), (0, String::new()));
    }
}
