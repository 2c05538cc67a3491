//! Answers to questions, over any [`Reader`].
//!
//! - [`bucket`]: samples in buckets of time: from samples to points, pure.
//! - here: which series, within which bounds.
//! - [`expression`]: PromQL. [`names`]: the labels that expressions see.

pub mod bucket;
mod coarse;
pub mod expression;
pub mod names;
pub(crate) mod source;
mod stop;

use serde::Serialize;
use wire::AgentId;

use self::bucket::{Aggregation, Fold, Point};
use crate::store::{Labels, ReadRequest, Reader, Selector, Series, StoreError};

/// Points of one series.
pub const POINTS_PER_SERIES_MAX: i64 = 11_000;
/// How far before the first bucket the sample may lie that a first rate is counted from.
const RATE_LOOKBACK_MS: i64 = 5 * 60 * 1_000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketQuery {
    /// Which series.
    pub selector: Selector,
    /// From this time on, Unix milliseconds.
    pub from_ms: i64,
    /// Up to this time, not included.
    pub to_ms: i64,
    /// Length of a bucket, in milliseconds. Buckets begin at multiples of it.
    pub step_ms: i64,
    /// How the samples of a bucket become one point.
    pub aggregation: Aggregation,
}

/// How much may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// Series.
    pub series: usize,
    /// Points, all series together.
    pub points: i64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Buckets {
    /// The series that fit and have samples in that time.
    pub series: Vec<BucketSeries>,
    /// What an answer may be missing, for people; mostly empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One series in buckets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BucketSeries {
    /// Name of its agent's host.
    pub host: String,
    /// Its agent.
    pub agent_id: AgentId,
    /// Metric name.
    pub metric: String,
    /// Labels.
    pub labels: Labels,
    /// Beginning of the bucket in Unix milliseconds, and value; buckets without samples are absent.
    pub points: Vec<Point>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// More than may be asked for, or nothing that makes sense.
    #[error("{0}")]
    Refused(String),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers a query.
///
/// # Errors
/// [`QueryError`].
pub async fn buckets(
    store: &dyn Reader,
    query: &BucketQuery,
    limits: QueryLimits,
) -> Result<Buckets, QueryError> {
    let per_series = points_per_series(query)?;
    let series = store.series(query.selector.clone()).await?;
    check_size(series.len(), per_series, limits)?;
    let lookback_ms = match query.aggregation {
        Aggregation::Rate => RATE_LOOKBACK_MS.max(query.step_ms),
        _ => 0,
    };
    let request = ReadRequest {
        series: series.iter().map(|series| series.id).collect(),
        from_ms: query.from_ms.saturating_sub(lookback_ms),
        to_ms: query.to_ms - 1,
    };
    let mut samples = store.read(request).await?;
    let fold = |one: &Series| Fold::new(query.aggregation, one.kind, query.from_ms, query.step_ms);
    let mut folds: Vec<Fold> = series.iter().map(fold).collect();
    let mut warnings = Vec::new();
    loop {
        match samples.next().await {
            Ok(None) => break,
            Ok(Some(chunk)) => {
                if let Some(fold) = folds.get_mut(chunk.series) {
                    let samples = chunk.times.iter().zip(&chunk.values);
                    // The marker of a series' end is no value.
                    let values = samples.filter(|(_, value)| !promql::is_stale(**value));
                    values.for_each(|(t, v)| fold.push(*t, *v));
                }
            }
            // Said at the end, after all that could be read.
            Err(StoreError::Damaged { .. }) => {
                warnings.push("some stored samples no longer read and are left out".to_owned());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let found = series.into_iter().zip(folds).map(|(series, fold)| one(series, fold.finish()));
    Ok(Buckets { series: found.filter(|one| !one.points.is_empty()).collect(), warnings })
}

fn one(series: Series, points: Vec<Point>) -> BucketSeries {
    let Series { agent_id, hostname, metric, labels, .. } = series;
    BucketSeries { host: hostname, agent_id, metric, labels, points }
}

fn points_per_series(query: &BucketQuery) -> Result<i64, QueryError> {
    let refused = |text: String| Err(QueryError::Refused(text));
    if query.step_ms <= 0 {
        return refused("step must be longer than nothing".to_owned());
    }
    if query.from_ms >= query.to_ms {
        return refused("from must lie before to".to_owned());
    }
    let points = query.to_ms.saturating_sub(query.from_ms) / query.step_ms + 1;
    if points > POINTS_PER_SERIES_MAX {
        return refused(format!(
            "{points} points a series, at most {POINTS_PER_SERIES_MAX}: ask for less time or a longer step"
        ));
    }
    Ok(points)
}

fn check_size(series: usize, per_series: i64, limits: QueryLimits) -> Result<(), QueryError> {
    if series > limits.series {
        return Err(QueryError::Refused(format!(
            "{series} series fit, at most {}: name a host or labels",
            limits.series
        )));
    }
    let points = per_series.saturating_mul(i64::try_from(series).unwrap_or(i64::MAX));
    if points > limits.points {
        return Err(QueryError::Refused(format!(
            "{series} series of {per_series} points are {points}, at most {}: ask for less time, a \
             longer step, or fewer series",
            limits.points
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
