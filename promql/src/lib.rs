//! PromQL over any source of samples. Knows neither HTTP nor a store.
//!
//! - [`Query`]: text in, answer out, at one time or at many.
//! - [`Source`]: what a store implements to be asked; [`Memory`] is one for tests.
//! - [`Limits`]: what one query may use, enforced while it runs.
//! - [`script`]: test scripts in the format of Prometheus's own tests, and what they find.
//!
//! ```
//! use promql::{Labels, Memory, Query, Sample, Settings, Value};
//!
//! let mut memory = Memory::default();
//! let labels = Labels::new([("__name__", "up"), ("job", "node")]);
//! memory.add(labels, [Sample { time_ms: 0, value: 1.0 }]);
//!
//! let query = Query::parse("sum by (job) (up) * 2")?;
//! let answer = query.instant(&memory, 60_000, &Settings::default(), &|| Ok(()))?;
//! assert_eq!(answer, Value::Vector(vec![(Labels::new([("job", "node")]), 2.0)]));
//! # Ok::<(), promql::Error>(())
//! ```
//!
//! # Which Prometheus
//!
//! The semantics are those of Prometheus 2.42, which Debian ships: a window includes both its ends, a
//! sample exactly as old as the lookback still counts, and a metric's name goes away at once where a
//! function drops it. (Prometheus 3 excludes a window's start, and can delay the dropping.) Language that
//! came later is taken where it changes nothing that was valid before: `limitk`, `mad_over_time`,
//! `first_over_time`, `double_exponential_smoothing`, `ts_of_*_over_time`, `histogram_fraction` of classic
//! histograms, `start`, `end`, `range`, `step`, `min_of`, `max_of`, durations as numbers, UTF-8 names in quotes.
//!
//! # What is refused by name
//!
//! Native histograms and the functions on them, `limit_ratio`, `info`, `sort_by_label`,
//! `histogram_quantiles`, `fill` in vector matching, and `or` between label matchers, which is the parser's
//! own.
//!
//! # Where the parser is behind
//!
//! The grammar is `promql-parser`'s. Against Prometheus's own parser:
//!
//! - An error has no line and column, and is "invalid promql query" where Prometheus says which token
//!   was unexpected.
//! - It panics on durations that no `Duration` can hold (`x[1e30]`); here that is an error.
//! - It lets a constant through where `ln`, `log2`, `log10` and `exp` want a vector, and any parameter of
//!   `limitk`; both are checked here.
//! - It knows `holt_winters` by its later name only; here it has both.
//! - Regular expressions are those of the `regex` crate: anchored, `.` without newline; `\d` and `\w` match
//!   Unicode, where Go's match ASCII.

mod error;
mod eval;
mod expr;
mod functions;
mod labels;
mod limits;
mod memory;
mod parse;
mod query;
pub mod script;
mod source;

pub use error::Error;
pub use labels::{BUCKET, Label, Labels, METRIC_NAME};
pub use limits::{Interrupt, Limits};
pub use memory::Memory;
pub use parse::{format, matchers};
pub use query::{Query, SeriesSamples, Settings, Steps, Value};
pub use source::{
    MatchOp, Matcher, STALE_BITS, Sample, Selection, Source, Span, Visit, VisitSpans, is_stale,
};
