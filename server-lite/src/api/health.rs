//! `GET /healthz`, `/readyz` and `/metrics`: of the hub itself. Open to all: they say nothing of any
//! host.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::header, response::IntoResponse};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Hub, error::ApiError};
use crate::telemetry::Fleet;

/// A store that takes longer than this for one write is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The process runs.
pub async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// The store commits a write.
///
/// # Errors
/// [`ApiError`] when it doesn't, or not soon enough.
pub async fn readyz(State(hub): State<Arc<Hub>>) -> Result<Json<Value>, ApiError> {
    match timeout(READY_WITHIN, hub.store.check()).await {
        Ok(checked) => checked?,
        Err(_) => {
            let within = READY_WITHIN.as_secs();
            return Err(ApiError::busy(format!("the store took no write within {within} s")));
        }
    }
    Ok(Json(json!({ "status": "ready" })))
}

/// The hub's own metrics.
pub async fn metrics(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    let now_ms = hub.now_ms();
    let fleet = Fleet {
        online: hub.presence.online(now_ms),
        conflicts: hub.instances.conflicts(now_ms).len(),
        conflicts_begun: hub.instances.begun(),
        leads: hub.store.is_leader(),
    };
    let page = hub.telemetry.page(&hub.store.stats(), fleet, &hub.rule_metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page)
}
