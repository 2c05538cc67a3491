//! Where rules get their samples from: the narrow part of a store that they need.

use std::{future::Future, pin::Pin, sync::Arc};

use wire::MetricKind;

use super::{alert::SeriesKey, rule::Selector};
use crate::store::{self, ReadRequest, Series, Store, StoreError};

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

/// Gives rules their samples.
pub trait SampleSource: Send + Sync {
    /// Every series that the selector selects and that has samples in the time asked for, once, with
    /// all its committed samples of that time.
    ///
    /// # Errors
    /// [`SourceError`] when the store can't be read. An answer is whole or an error: a part would
    /// look like hosts that have gone silent.
    fn samples<'a>(
        &'a self,
        query: Query<'a>,
    ) -> BoxFuture<'a, Result<Vec<SeriesSamples>, SourceError>>;
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
pub struct StoreSource(Arc<dyn Store>);

impl StoreSource {
    /// Reads from `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    async fn read(&self, query: Query<'_>) -> Result<Vec<SeriesSamples>, StoreError> {
        let selector = store::Selector {
            host: None,
            metric: query.selector.metric.clone(),
            labels: query.selector.labels.clone(),
        };
        let mut series = self.0.series(selector).await?;
        series.retain(|one| query.selector.selects_host(&one.hostname));
        let ids = series.iter().map(|one| one.id).collect();
        let request = ReadRequest { series: ids, from_ms: query.from_ms, to_ms: query.to_ms };
        let samples = self.0.read(request).await?.collect(series.len()).await?;
        let with_samples =
            series.into_iter().zip(samples).filter(|(_, samples)| !samples.is_empty());
        Ok(with_samples.map(|(series, samples)| together(series, samples)).collect())
    }
}

impl SampleSource for StoreSource {
    fn samples<'a>(
        &'a self,
        query: Query<'a>,
    ) -> BoxFuture<'a, Result<Vec<SeriesSamples>, SourceError>> {
        Box::pin(async move {
            let failed = |error: StoreError| SourceError {
                metric: query.selector.metric.clone(),
                source: error.into(),
            };
            self.read(query).await.map_err(failed)
        })
    }
}

fn together(series: Series, samples: Vec<(i64, f64)>) -> SeriesSamples {
    let Series { agent_id, hostname, metric, kind, labels, .. } = series;
    SeriesSamples { key: SeriesKey { agent_id, metric, labels }, host: hostname, kind, samples }
}

#[cfg(test)]
mod tests;
