//! `GET /api/v1/incidents`: what is pending and firing, what fired, how rules and notifications stand.
//!
//! `/api/v1/alerts` is Prometheus's: [`super::prometheus::alerts`].
//!
//! Parameter: `limit` of past incidents.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
};

use super::{Hub, error::ApiError, params::Params};
use crate::rules::view::{AlertsView, LIMIT_DEFAULT, LIMIT_MAX};

/// Answers with what is committed now.
///
/// # Errors
/// [`ApiError`]: a parameter is wrong, or alerts can't be read.
pub async fn incidents(
    State(hub): State<Arc<Hub>>,
    RawQuery(raw): RawQuery,
) -> Result<Json<AlertsView>, ApiError> {
    let params = Params::parse(raw.as_deref().unwrap_or(""), &["limit"])?;
    let limit = params.number("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let (metrics, now_ms) = (Arc::clone(&hub.rule_metrics), hub.now_ms());
    let view = hub.alerts.blocking(move |store| AlertsView::read(store, &metrics, now_ms, limit));
    Ok(Json(view.await?))
}
