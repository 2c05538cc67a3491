//! Rules: what is watched for, in which state each series is, and who has to be told.
//!
//! - [`rule`]: a threshold rule as it is written; [`pattern`] and [`summary`] are parts of it.
//! - [`keys`]: how it is documented in the hub's table of keys.
//! - [`aggregate`]: from samples to the one value that is compared.
//! - [`alert`]: states and what changes them.
//! - [`evaluate`](mod@evaluate): pure evaluation, with time passed in.
//! - [`source`]: where samples come from.
//! - [`alert_store`]: states, history and outbox, in one file.
//! - [`runner`]: evaluates all rules, again and again.
//! - [`metrics`] and [`view`]: how it all stands, for machines and for people.

pub mod aggregate;
pub mod alert;
pub mod alert_store;
pub mod evaluate;
pub mod keys;
pub mod metrics;
pub mod pattern;
pub mod rule;
pub mod runner;
pub mod source;
pub mod summary;
pub mod view;

pub use aggregate::Aggregation;
pub use alert::{Alert, AlertStates, Change, Labels, Phase, SeriesKey, Transition};
pub use alert_store::{AlertStore, AlertStoreError};
pub use evaluate::{Moment, evaluate};
pub use metrics::RuleMetrics;
pub use rule::{Rule, Rules, Selector};
pub use runner::{Clock, Parts, Runner};
pub use source::{Query, SampleSource, SeriesSamples, SourceError, StoreSource};
