//! Samples that come by remote write: what a request holds, and what becomes of it.
//!
//! Their senders have no identity, no streams and no numbers: a series is known by its labels alone,
//! which are kept exactly as they were sent, and a sample by its series and its time. So:
//!
//! - A sample that is there already, bit for bit, is stored no second time; whoever sends a request again
//!   loses and doubles nothing.
//! - Another value at a time that has one is refused ([`Reason::OtherValue`]), as Prometheus does.
//! - Samples come in any order and at any age.
//! - What can't be stored doesn't keep the rest of its request from being stored.
//!
//! Series that share `job` and `instance` are what one [`Target`] has: an agent that isn't there. It has
//! the bounds that an agent has, but it is no host, and [`super::Store::agents`] doesn't list it.

mod parts;

use std::{collections::HashMap, fmt};

use sha2::{Digest as _, Sha256};
use wire::{AgentId, MetricKind};

use super::{INSTANCE_LABEL, JOB_LABEL};

pub(crate) use parts::{Prepared, SeriesKey, TargetPart, key};

/// Series with samples, and what is said about metrics. Made by [`WriteBatch::push`].
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// Unix milliseconds when it came.
    pub received_ms: i64,
    /// What was said about metrics apart from their series, as 1.0 does. It holds for series that are
    /// there or come in this request.
    pub families: Vec<WriteFamily>,
    /// All names and values, one after the other: a request has thousands of them.
    text: String,
    labels: Vec<(Span, Span)>,
    samples: Vec<(i64, f64)>,
    rows: Vec<Row>,
}

/// What was said about a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteFamily {
    /// Its name, as its series have it.
    pub metric: String,
    /// What its values mean.
    pub kind: MetricKind,
    /// What it counts; empty if that isn't said.
    pub help: String,
}

/// A piece of [`WriteBatch::text`].
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    metric: Span,
    /// Where its labels and samples end; they begin where those before end.
    labels_end: usize,
    samples_end: usize,
    kind: Option<MetricKind>,
    help: Span,
}

/// A series of a batch.
#[derive(Clone, Copy, Debug)]
pub struct WriteSeries<'a> {
    batch: &'a WriteBatch,
    labels: &'a [(Span, Span)],
    row: Row,
    /// Times in Unix milliseconds, and values, as they came.
    pub samples: &'a [(i64, f64)],
}

impl WriteBatch {
    /// Nothing yet.
    #[must_use]
    pub fn new(received_ms: i64) -> Self {
        Self { received_ms, ..Self::default() }
    }

    /// Adds a series. Its labels are those without the metric's name; they have to be in the order of
    /// their names, each there once, none empty. `kind` is `None` when the request doesn't say it, and
    /// `help` empty. The same series may be added more than once.
    pub fn push<'a>(
        &mut self,
        metric: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        (kind, help): (Option<MetricKind>, &str),
        samples: impl IntoIterator<Item = (i64, f64)>,
    ) {
        let metric = self.put(metric);
        for (name, value) in labels {
            let label = (self.put(name), self.put(value));
            self.labels.push(label);
        }
        self.samples.extend(samples);
        let help = self.put(help);
        let (labels_end, samples_end) = (self.labels.len(), self.samples.len());
        self.rows.push(Row { metric, labels_end, samples_end, kind, help });
    }

    fn put(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span { start, end: self.text.len() }
    }

    fn get(&self, span: Span) -> &str {
        // Spans are made by `put`.
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.text.len()
            + size_of::<(Span, Span)>() * self.labels.len()
            + size_of::<(i64, f64)>() * self.samples.len()
            + size_of::<Row>() * self.rows.len()
    }

    /// Series in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Samples of all series.
    #[must_use]
    pub const fn samples(&self) -> usize {
        self.samples.len()
    }

    /// A series by its place, in the order in which they were added.
    #[must_use]
    pub fn series(&self, at: usize) -> Option<WriteSeries<'_>> {
        let row = *self.rows.get(at)?;
        let before = at.checked_sub(1).and_then(|at| self.rows.get(at));
        let (labels, samples) = before.map_or((0, 0), |row| (row.labels_end, row.samples_end));
        Some(WriteSeries {
            batch: self,
            labels: self.labels.get(labels..row.labels_end)?,
            samples: self.samples.get(samples..row.samples_end)?,
            row,
        })
    }

    /// The series, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = WriteSeries<'_>> {
        (0..self.rows.len()).filter_map(|at| self.series(at))
    }

    /// The places of the series by target, each target in the order in which it first comes.
    #[must_use]
    pub fn by_target(&self) -> Vec<(Target<'_>, Vec<usize>)> {
        let mut targets: Vec<(Target<'_>, Vec<usize>)> = Vec::new();
        let mut places = HashMap::new();
        for (at, series) in self.iter().enumerate() {
            let target = series.target();
            // Neighbours mostly are of one target.
            let last = targets.len().checked_sub(1).filter(|last| targets[*last].0 == target);
            let place = last.unwrap_or_else(|| *places.entry(target).or_insert(targets.len()));
            match targets.get_mut(place) {
                Some((_, series)) => series.push(at),
                None => targets.push((target, vec![at])),
            }
        }
        targets
    }
}

impl<'a> WriteSeries<'a> {
    /// Its metric's name.
    #[must_use]
    pub fn metric(&self) -> &'a str {
        self.batch.get(self.row.metric)
    }

    /// Its other labels, in the order of their names.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let batch = self.batch;
        self.labels.iter().map(|(name, value)| (batch.get(*name), batch.get(*value)))
    }

    /// What its values mean, if the request says it with the series.
    #[must_use]
    pub const fn kind(&self) -> Option<MetricKind> {
        self.row.kind
    }

    /// What it counts, if the request says it with the series; else empty.
    #[must_use]
    pub fn help(&self) -> &'a str {
        self.batch.get(self.row.help)
    }

    /// Whose it is.
    #[must_use]
    pub fn target(&self) -> Target<'a> {
        let label = |wanted| self.labels().find(|(name, _)| *name == wanted);
        let value = |wanted| label(wanted).map_or("", |(_, value)| value);
        Target { job: value(JOB_LABEL), instance: value(INSTANCE_LABEL) }
    }
}

/// As it is asked for: `up{job="x"}`.
impl fmt::Display for WriteSeries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric())?;
        let mut before = "{";
        for (name, value) in self.labels() {
            write!(f, "{before}{name}={value:?}")?;
            before = ", ";
        }
        f.write_str(if before == "{" { "" } else { "}" })
    }
}

/// What sends series under one `job` and `instance`; empty ones are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target<'a> {
    /// The label `job`.
    pub job: &'a str,
    /// The label `instance`: the host's name, where an agent has one.
    pub instance: &'a str,
}

impl Target<'_> {
    /// What its series have as [`super::Series::agent_id`]: a UUID of version 8 made of both labels, which
    /// no agent draws.
    #[must_use]
    pub fn id(&self) -> AgentId {
        let mut hash = Sha256::new_with_prefix(b"holdfast remote write target");
        for text in [self.job, self.instance] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        // RFC 9562, 5.8.
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        AgentId::from_bytes(id)
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples that are stored now and weren't before.
    pub samples: u64,
    /// Samples that were there already, bit for bit, or twice in the batch.
    pub duplicates: u64,
    /// Samples that can't be stored; the same request would fare no better.
    pub refused: Vec<Refused>,
}

/// Samples of a series that can't be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Place of the series in the batch.
    pub series: usize,
    /// Why.
    pub reason: Reason,
    /// Time of the first of them, Unix milliseconds.
    pub time_ms: i64,
    /// How many.
    pub samples: u64,
}

/// Why a sample can't be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The series has another value at that time.
    OtherValue,
    /// The series would be one more than its target may have.
    SeriesLimit,
}

impl Written {
    /// Notes a sample that can't be stored; those of one series and reason, one after the other, are told
    /// together.
    pub fn refuse(&mut self, series: usize, reason: Reason, time_ms: i64) {
        match self.refused.last_mut() {
            Some(last) if (last.series, last.reason) == (series, reason) => last.samples += 1,
            _ => self.refused.push(Refused { series, reason, time_ms, samples: 1 }),
        }
    }

    /// Samples that can't be stored.
    #[must_use]
    pub fn refused_samples(&self) -> u64 {
        self.refused.iter().map(|refused| refused.samples).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_given_by_target() {
        let mut batch = WriteBatch::new(7);
        let gauge = (Some(MetricKind::Gauge), "Help.");
        batch.push("up", [("instance", "a:1"), ("job", "x")], gauge, [(1, 0.5), (2, 0.25)]);
        batch.push("up", [("instance", "b:1"), ("job", "x")], (None, ""), []);
        batch.push("total", [], (None, ""), [(3, 1.0)]);
        batch.push("other", [("instance", "a:1"), ("job", "x")], (None, ""), [(4, 2.0)]);
        assert_eq!((batch.len(), batch.samples()), (4, 4));
        let first = batch.series(0).unwrap();
        assert_eq!((first.metric(), first.kind(), first.help()), ("up", gauge.0, "Help."));
        assert_eq!(first.labels().collect::<Vec<_>>(), [("instance", "a:1"), ("job", "x")]);
        let samples: Vec<_> = batch.iter().map(|series| series.samples).collect();
        assert_eq!(samples, [&[(1, 0.5), (2, 0.25)][..], &[], &[(3, 1.0)], &[(4, 2.0)]]);
        let target = |job, instance| Target { job, instance };
        let expected = [
            (target("x", "a:1"), vec![0, 3]),
            (target("x", "b:1"), vec![1]),
            (target("", ""), vec![2]),
        ];
        assert_eq!(batch.by_target(), expected);
        assert!(batch.series(4).is_none());
    }

    #[test]
    fn a_target_keeps_its_id() {
        let id = |job, instance| Target { job, instance }.id().to_string();
        assert_eq!(id("node", "web-1:9100"), "6ca841a4-f857-82f3-99bf-ad073440fd7f");
        assert_ne!(id("a", "bc"), id("ab", "c"));
        assert_ne!(id("", "a"), id("a", ""));
    }

    #[test]
    fn refusals_of_a_series_are_told_together() {
        let mut written = Written::default();
        for time_ms in [5, 6, 7] {
            written.refuse(1, Reason::OtherValue, time_ms);
        }
        written.refuse(2, Reason::OtherValue, 9);
        assert_eq!(written.refused.len(), 2);
        let first = Refused { series: 1, reason: Reason::OtherValue, time_ms: 5, samples: 3 };
        assert_eq!((written.refused[0], written.refused_samples()), (first, 4));
    }
}
