//! Where rules get their samples from: the narrow part of a store that they need.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use wire::{AgentId, MetricKind};

use super::{alert::SeriesKey, rule::Selector};
use crate::store::{self, ReadRequest, Readable, Reader, Series, StoreError};

/// What a source returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is asked of a source.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Which series.
    pub selector: &'a Selector,
    /// Unix milliseconds of the oldest sample wanted.
    pub from_ms: i64,
    /// Unix milliseconds of the newest sample wanted.
    pub to_ms: i64,
}

/// One series and its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesSamples {
    /// Which series.
    pub key: SeriesKey,
    /// The host's name as its agent calls it now.
    pub host: String,
    /// What its values mean.
    pub kind: MetricKind,
    /// Unix milliseconds and value, ascending in time.
    pub samples: Vec<(i64, f64)>,
}

/// What a source knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Every series that the selector selects and that has samples in the time asked for, once, with
    /// all its committed samples of that time.
    pub series: Vec<SeriesSamples>,
    /// Series that the selector selects and that have samples which no longer read back: a part of
    /// them would say something else than the whole.
    pub unread: BTreeMap<SeriesKey, Unread>,
    /// Agents that have such series, but whose hosts the selector doesn't select; what they are called.
    pub elsewhere: BTreeMap<AgentId, String>,
}

/// Why nothing is known of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The host's name as its agent calls it now.
    pub host: String,
    /// What the store said.
    pub reason: String,
}

/// Gives rules their samples.
pub trait SampleSource: Send + Sync {
    /// What there is of what a rule asks for.
    ///
    /// # Errors
    /// [`SourceError`] when the store can't be read. An answer is whole, or says what it lacks, or is an
    /// error: a part would look like hosts that have gone silent.
    fn samples<'a>(&'a self, query: Query<'a>) -> BoxFuture<'a, Result<Found, SourceError>>;
}

/// The store can't be read.
#[derive(Debug, thiserror::Error)]
#[error("read samples of {metric}")]
pub struct SourceError {
    /// What was asked for.
    pub metric: String,
    /// What the store said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A store as a source.
#[derive(Clone)]
pub struct StoreSource(Arc<dyn Reader>);

impl StoreSource {
    /// Reads through `reader`, which queries should not hold up: [`crate::store::Store::apart`].
    #[must_use]
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self(reader)
    }

    async fn read(&self, query: Query<'_>) -> Result<Found, StoreError> {
        let selector =
            store::Selector::metric(&query.selector.metric).labelled(&query.selector.labels);
        let all = self.0.series(selector).await?;
        let (series, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| query.selector.selects_host(&one.hostname));
        let ids = series.iter().map(|one| one.id).collect();
        let request = ReadRequest { series: ids, from_ms: query.from_ms, to_ms: query.to_ms };
        let samples = self.0.read(request).await?;
        let Readable { samples, mut unread } = samples.collect_readable(series.len()).await?;
        let elsewhere = others.into_iter().map(|one| (one.agent_id, one.hostname)).collect();
        let mut found = Found { elsewhere, ..Found::default() };
        for (place, (series, samples)) in series.into_iter().zip(samples).enumerate() {
            let one = together(series, samples);
            if let Some(reason) = unread.remove(&place) {
                found.unread.insert(one.key, Unread { host: one.host, reason });
            } else if !one.samples.is_empty() {
                found.series.push(one);
            }
        }
        Ok(found)
    }
}

impl SampleSource for StoreSource {
    fn samples<'a>(&'a self, query: Query<'a>) -> BoxFuture<'a, Result<Found, SourceError>> {
        Box::pin(async move {
            let failed = |error: StoreError| SourceError {
                metric: query.selector.metric.clone(),
                source: error.into(),
            };
            self.read(query).await.map_err(failed)
        })
    }
}

fn together(series: Series, mut samples: Vec<(i64, f64)>) -> SeriesSamples {
    // The marker of a series' end is no value: there is none from then on.
    samples.retain(|(_, value)| !promql::is_stale(*value));
    let Series { agent_id, hostname, metric, kind, labels, .. } = series;
    SeriesSamples { key: SeriesKey { agent_id, metric, labels }, host: hostname, kind, samples }
}

#[cfg(test)]
mod tests;
