//! `GET /api/v1/buckets`: samples in buckets of time.
//!
//! | parameter | | |
//! |---|---|---|
//! | `metric` | required | name |
//! | `host` | every host | name, or agent id |
//! | `labels` | | `k=v,k2=v2`, or a JSON object where values hold commas; exact; an empty value asks for a label that isn't there |
//! | `from`, `to` | `-1h`, `now` | Unix milliseconds, RFC 3339, or before now: `-1h30m`; `to` not included |
//! | `step` | the span / 300, at least 1 s | a duration; buckets begin at its multiples |
//! | `agg` | `avg` | `avg`, `min`, `max`, `last`, `rate` (see [`crate::query::bucket`]) |

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
};

use super::{Hub, error::ApiError, params::Params};
use crate::{
    query::{self, BucketQuery, Buckets, bucket::Aggregation},
    store::Selector,
};

const NAMES: [&str; 7] = ["metric", "host", "labels", "from", "to", "step", "agg"];
/// Points of a series where no step is asked for.
const POINTS_DEFAULT: i64 = 300;
const STEP_MIN_MS: i64 = 1_000;

/// Answers a query.
///
/// # Errors
/// [`ApiError`]: a parameter is wrong, more is asked for than may be, or the store can't be read.
pub async fn buckets(
    State(hub): State<Arc<Hub>>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Buckets>, ApiError> {
    let query = parse(raw.as_deref().unwrap_or(""), hub.now_ms())?;
    Ok(Json(query::buckets(hub.store.as_ref(), &query, hub.query_limits).await?))
}

fn parse(raw: &str, now_ms: i64) -> Result<BucketQuery, ApiError> {
    let params = Params::parse(raw, &NAMES)?;
    let (from_ms, to_ms) = params.span(now_ms)?;
    let default_step = || {
        let span = to_ms.saturating_sub(from_ms) / POINTS_DEFAULT;
        span.div_euclid(STEP_MIN_MS).saturating_mul(STEP_MIN_MS).max(STEP_MIN_MS)
    };
    Ok(BucketQuery {
        selector: Selector::metric(params.required("metric")?)
            .labelled(&params.labels()?)
            .on(params.host()),
        from_ms,
        to_ms,
        step_ms: params.duration_ms("step")?.unwrap_or_else(default_step),
        aggregation: params.word("agg", &Aggregation::WORDS)?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Host, Labels};

    const NOW_MS: i64 = 1_700_000_000_000;

    #[test]
    fn parameters_have_defaults() {
        let query = parse("metric=m", NOW_MS).unwrap();
        assert_eq!((query.from_ms, query.to_ms), (NOW_MS - 3_600_000, NOW_MS));
        assert_eq!((query.step_ms, query.aggregation), (12_000, Aggregation::Avg));
        assert_eq!(query.selector, Selector::metric("m"));
    }

    #[test]
    fn parameters_are_read() {
        let raw = "metric=m&host=web-1&labels=a%3D1,b=&from=1000&to=61000&step=1m&agg=rate";
        let query = parse(raw, NOW_MS).unwrap();
        let labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
        let expected = BucketQuery {
            selector: Selector::metric("m")
                .labelled(&Labels::from(labels))
                .on(Some(Host::Name("web-1".into()))),
            from_ms: 1_000,
            to_ms: 61_000,
            step_ms: 60_000,
            aggregation: Aggregation::Rate,
        };
        assert_eq!(query, expected);
    }
}
