//! What clients ask before they ask for anything: whether this is there, which version it speaks.

use std::sync::Arc;

use axum::extract::{Request, State};
use promql::Query;
use serde_json::json;

use super::{
    answer::{Answer, Failure},
    params::Params,
};
use crate::api::{Hub, error::ApiError, health};

/// The Prometheus whose API and language these are: clients decide by it what they may ask for.
pub const PROMETHEUS_VERSION: &str = "2.42.0";

/// Which Prometheus this answers as; the hub's own version is the revision.
///
/// # Errors
/// None.
pub async fn buildinfo() -> Result<Answer, Failure> {
    let revision = concat!("holdfast-hub ", env!("CARGO_PKG_VERSION"));
    let data = json!({
        "version": PROMETHEUS_VERSION, "revision": revision, "branch": "", "buildUser": "",
        "buildDate": "", "goVersion": "",
    });
    Answer::of(&data, vec![])
}

/// Exemplars: there are none here, of any expression.
///
/// # Errors
/// [`Failure`] where the expression is none, or the times can't be read.
pub async fn exemplars(request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    let (start_ms, end_ms) = params.span_ms()?;
    if end_ms < start_ms {
        return Err(Failure::bad_data("end timestamp must not be before start timestamp"));
    }
    Query::parse(params.get("query")).map_err(|error| Failure::expression("query", &error))?;
    Answer::of(&json!([]), vec![])
}

/// The process runs.
pub async fn healthy() -> &'static str {
    "holdfast-hub is healthy.\n"
}

/// The store commits a write.
///
/// # Errors
/// [`ApiError`] when it doesn't, or not soon enough.
pub async fn ready(State(hub): State<Arc<Hub>>) -> Result<&'static str, ApiError> {
    health::readyz(State(hub)).await.map(|_| "holdfast-hub is ready.\n")
}
