//! Which series there are, and how they are asked for.
//!
//! A series is known by its metric, its labels and who sends it. To whoever asks by labels, it also has
//! `instance`, the name of its agent's host, and `job`, [`JOB`], as a scrape of node_exporter would give
//! it, unless labels of that name came with it. One that came by remote write has the labels that were
//! sent, and no others.

use promql::{METRIC_NAME, Matcher};
use wire::{AgentId, MetricKind};

use super::Labels;

/// The label that names a host.
pub const INSTANCE_LABEL: &str = "instance";
/// The label that names what is watched.
pub const JOB_LABEL: &str = "job";
/// What an agent's series have as [`JOB_LABEL`]: dashboards and rules for node_exporter look for it.
pub const JOB: &str = "node";

/// Which series: all that is said has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Of which hosts; `None` for all.
    pub host: Option<Host>,
    /// What their metric ([`METRIC_NAME`]) and labels have to be: see [`Series::label`].
    pub matchers: Vec<Matcher>,
    /// Only those that may have samples from the first to the last of these times, Unix milliseconds. A
    /// store may return more.
    pub span: Option<(i64, i64)>,
    /// At most so many; `None` for all. A store may return more.
    pub limit: Option<usize>,
}

impl Selector {
    /// All series of a metric.
    #[must_use]
    pub fn metric(name: impl Into<String>) -> Self {
        Self { matchers: vec![Matcher::equal(METRIC_NAME, name)], ..Self::default() }
    }

    /// Of these hosts only.
    #[must_use]
    pub fn on(self, host: Option<Host>) -> Self {
        Self { host, ..self }
    }

    /// Only with exactly these labels, whatever others they have; an empty one they must not have.
    #[must_use]
    pub fn labelled(mut self, labels: &Labels) -> Self {
        self.matchers.extend(labels.iter().map(|(name, value)| Matcher::equal(name, value)));
        self
    }

    /// The value that a label has to have by [`promql::MatchOp::Equal`], if one is named: what an index
    /// can look for.
    #[must_use]
    pub fn equal(&self, label: &str) -> Option<&str> {
        let is_one = |one: &&Matcher| matches!(one.op, promql::MatchOp::Equal) && one.name == label;
        self.matchers.iter().find(is_one).map(|one| one.value.as_str())
    }

    /// Whether a series fits, but for its host and its times.
    #[must_use]
    pub fn fits(&self, series: &Series) -> bool {
        self.matchers.iter().all(|one| one.matches(series.label(&one.name)))
    }
}

/// How a host is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Every agent whose host has that name.
    Name(String),
    /// One agent.
    Agent(AgentId),
}

impl Host {
    /// An agent's id if `text` is one, else a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Agent)
    }
}

/// What a store calls a series; good until the series is forgotten, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub i64);

/// A series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// For [`super::ReadRequest`].
    pub id: SeriesId,
    /// Who sends it.
    pub agent_id: AgentId,
    /// Name of that agent's host.
    pub hostname: String,
    /// Metric name.
    pub metric: String,
    /// What its values mean.
    pub kind: MetricKind,
    /// Labels.
    pub labels: Labels,
    /// Whether it came by remote write, from a [`super::write::Target`].
    pub is_written: bool,
}

impl Series {
    /// The value of a label as it is asked for; empty when it isn't there.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        match (name, self.labels.get(name)) {
            (METRIC_NAME, _) => &self.metric,
            (_, Some(value)) => value,
            _ if self.is_written => "",
            (_, None) => given(name, &self.hostname),
        }
    }

    /// Every label as it is asked for, in no order; none is empty.
    pub fn each_label(&self) -> impl Iterator<Item = (&str, &str)> {
        let given = [METRIC_NAME, INSTANCE_LABEL, JOB_LABEL];
        let own = self.labels.keys().map(String::as_str).filter(move |name| !given.contains(name));
        let all = given.into_iter().chain(own).map(|name| (name, self.label(name)));
        all.filter(|(_, value)| !value.is_empty())
    }
}

/// The value of a label that did not come with a series of that host; empty where it has none.
pub(crate) fn given<'a>(name: &str, hostname: &'a str) -> &'a str {
    match name {
        INSTANCE_LABEL => hostname,
        JOB_LABEL => JOB,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_the_labels_of_a_scrape() {
        let series = |is_written, labels: &[(&str, &str)]| Series {
            id: SeriesId(1),
            agent_id: AgentId::from_bytes([1; 16]),
            hostname: "web-1".into(),
            metric: "up".into(),
            kind: MetricKind::Gauge,
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            is_written,
        };
        let check_of = |is_written, labels: &[(&str, &str)], asked: &[(&str, &str)], fits| {
            let matchers =
                asked.iter().map(|(name, value)| Matcher::equal(*name, *value)).collect();
            let selector = Selector { matchers, ..Selector::default() };
            assert_eq!(selector.fits(&series(is_written, labels)), fits, "{labels:?} {asked:?}");
            let all: Labels = series(is_written, labels)
                .each_label()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let found = asked
                .iter()
                .all(|(name, value)| all.get(*name).map_or("", String::as_str) == *value);
            assert_eq!(found, fits, "{all:?} {asked:?}");
        };
        let check = |labels: &[(&str, &str)], asked: &[(&str, &str)], fits| {
            check_of(false, labels, asked, fits);
        };
        check(&[], &[("__name__", "up"), ("instance", "web-1"), ("job", "node")], true);
        check(&[], &[("instance", "web-2")], false);
        check(&[("job", "other")], &[("job", "node")], false);
        check(&[("job", "other"), ("instance", "x")], &[("instance", "x")], true);
        check(&[("a", "1")], &[("a", "1"), ("b", "")], true);
        check(&[("a", "1")], &[("a", "")], false);
        check(&[("instance", ""), ("job", "")], &[("instance", ""), ("job", "")], true);
        check_of(true, &[("job", "x")], &[("job", "x"), ("instance", "")], true);
        check_of(true, &[], &[("job", "node")], false);
    }
}
