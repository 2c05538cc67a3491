//! What a request is made of, whichever version carries it.

/// A label of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label<'a> {
    /// Its name; `__name__` holds the metric's.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
}

impl<'a> Label<'a> {
    /// `name="value"`.
    #[must_use]
    pub const fn new(name: &'a str, value: &'a str) -> Self {
        Self { name, value }
    }
}

/// A value at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Unix milliseconds.
    pub time_ms: i64,
    /// The value; [`stale`] says that the series ends here.
    pub value: f64,
}

impl Sample {
    /// `value` at `time_ms`.
    #[must_use]
    pub const fn new(time_ms: i64, value: f64) -> Self {
        Self { time_ms, value }
    }
}

/// The bits of the one NaN that says "this series goes on no longer".
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker.
#[must_use]
pub const fn stale() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether a value is the stale marker; no other NaN is.
#[must_use]
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// What kind of metric a series is of. The numbers are those of both versions' messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MetricType {
    /// Not said, or said with a number that this crate doesn't know.
    #[default]
    Unknown = 0,
    /// Only grows, but for restarts.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// Counts in buckets.
    Histogram = 3,
    /// Counts in buckets that go up and down.
    GaugeHistogram = 4,
    /// Quantiles.
    Summary = 5,
    /// Says something with its labels.
    Info = 6,
    /// One of several states, by label.
    StateSet = 7,
}

impl MetricType {
    const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::GaugeHistogram,
        Self::Summary,
        Self::Info,
        Self::StateSet,
    ];

    pub(crate) fn from_number(number: u64) -> Self {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at)).copied().unwrap_or_default()
    }

    pub(crate) const fn number(self) -> u64 {
        self as u64
    }
}

/// What is said about a series beside its labels. Only 2.0 carries it with each series; 1.0 has
/// [`Family`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// Counter, gauge, ….
    pub kind: MetricType,
    /// What it counts; empty: not said.
    pub help: &'a str,
    /// In which unit; empty: not said.
    pub unit: &'a str,
    /// Since when it counts, in Unix milliseconds.
    pub created_ms: Option<i64>,
}

/// What a 1.0 message says about a metric, apart from its series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Family<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Counter, gauge, ….
    pub kind: MetricType,
    /// What it counts; empty: not said.
    pub help: &'a str,
    /// In which unit; empty: not said.
    pub unit: &'a str,
}
