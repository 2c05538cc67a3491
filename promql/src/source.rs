//! Where samples come from: the one thing that an engine asks of a store.

use std::{fmt, mem};

use regex::Regex;

use crate::{
    error::{Error, Result},
    labels::Labels,
};

/// The bits of the NaN that marks where a series ended.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The marker itself. No arithmetic makes it: results of arithmetic are quiet NaNs.
pub(crate) const STALE: f64 = f64::from_bits(STALE_BITS);

/// Whether a value is the marker, not just any NaN.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// One value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Unix time.
    pub time_ms: i64,
    /// Value; [`STALE_BITS`] where the series ended.
    pub value: f64,
}

/// How a matcher compares.
#[derive(Debug, Clone)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends.
    Regex(Regex),
    /// `!~`, anchored at both ends.
    NotRegex(Regex),
}

/// One condition on a label.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// What is compared with, as it was written.
    pub value: String,
    /// How.
    pub op: MatchOp,
}

impl Matcher {
    /// `name="value"`; with an empty value: the label isn't there.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), op: MatchOp::Equal }
    }

    /// Whether a value of the label fits; a label that isn't there has the value "".
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match &self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex(regex) => regex.is_match(value),
            MatchOp::NotRegex(regex) => !regex.is_match(value),
        }
    }

    /// Whether every one of these matches the labels.
    #[must_use]
    pub fn all_match(matchers: &[Self], labels: &Labels) -> bool {
        matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        // A regular expression is made of the value.
        (&self.name, &self.value) == (&other.name, &other.value)
            && mem::discriminant(&self.op) == mem::discriminant(&other.op)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex(_) => "=~",
            MatchOp::NotRegex(_) => "!~",
        };
        write!(f, "{}{op}{:?}", self.name, self.value)
    }
}

/// What is asked of a source: series by their labels, samples by their time.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// All must match.
    pub matchers: &'a [Matcher],
    /// First time, included.
    pub start_ms: i64,
    /// Last time, included.
    pub end_ms: i64,
}

/// What the samples of a series in one span of time come to. A span is closed at its end, and its end is a
/// multiple of its length: of an hour, that of 13:00 has what came after 12:00 up to 13:00 itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Its end, Unix time.
    pub end_ms: i64,
    /// Samples but for markers of the series' end; 0 if there is only such a one.
    pub count: u64,
    /// The first of them.
    pub first: Sample,
    /// The last of them.
    pub last: Sample,
    /// The least; NaN only if all are.
    pub min: f64,
    /// The greatest; NaN only if all are.
    pub max: f64,
    /// Their sum.
    pub sum: f64,
    /// How much a counter has grown from the first to the last: what is less than the value before it has
    /// begun at nothing again.
    pub increase: f64,
    /// Whether the series ended in it, after its last sample.
    pub is_ended: bool,
}

/// Gets one series and its spans, by time; an error ends the selection and is the query's.
pub type VisitSpans<'a> = dyn FnMut(&Labels, &[Span]) -> Result<(), Error> + 'a;

/// Gets one series and its samples; an error ends the selection and is the query's.
pub type Visit<'a> = dyn FnMut(&Labels, &[Sample]) -> Result<(), Error> + 'a;

/// Series with samples. Synchronous and without a lock of the engine's: it is asked once for each
/// selector of an expression, and each series is worked off before the next one has to be in memory.
pub trait Source {
    /// Shows every series that has samples in the selection, each once, its samples by time and each
    /// time once. A source may show more samples at both ends than were asked for.
    ///
    /// # Errors
    /// What `visit` returns, at once; [`Error::Source`] when the source can't be read.
    fn select(&self, selection: &Selection<'_>, visit: &mut Visit<'_>) -> Result<(), Error>;

    /// As [`Source::select`], with spans of this length that end within the selection, which is asked for
    /// only where they say all that samples would. `false` if the source has none or would rather show
    /// samples; then it has shown nothing.
    ///
    /// # Errors
    /// As [`Source::select`].
    fn spans(
        &self,
        _selection: &Selection<'_>,
        _length_ms: i64,
        _visit: &mut VisitSpans<'_>,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    /// How far apart what [`Source::select`] shows of a time may lie because the samples themselves are no
    /// longer kept, in milliseconds; 0 where they are. It is asked while a selection is shown. An instant
    /// looks back at least so far, and what counts samples has no value there.
    fn resolution_ms(&self, _time_ms: i64) -> i64 {
        0
    }

    /// The names of labels of the series in the selection, sorted.
    ///
    /// # Errors
    /// [`Error::Source`] when the source can't be read.
    fn label_names(&self, selection: &Selection<'_>) -> Result<Vec<String>, Error> {
        let mut names = std::collections::BTreeSet::new();
        self.select(selection, &mut |labels, _| {
            names.extend(labels.iter().map(|label| label.name.to_string()));
            Ok(())
        })?;
        Ok(names.into_iter().collect())
    }

    /// The values of one label of the series in the selection, sorted.
    ///
    /// # Errors
    /// [`Error::Source`] when the source can't be read.
    fn label_values(&self, name: &str, selection: &Selection<'_>) -> Result<Vec<String>, Error> {
        let mut values = std::collections::BTreeSet::new();
        self.select(selection, &mut |labels, _| {
            values.extend(labels.find(name).map(|label| label.value.to_string()));
            Ok(())
        })?;
        Ok(values.into_iter().collect())
    }
}
