//! Prometheus's HTTP API, for Grafana, promtool and whoever else speaks it.
//!
//! | | |
//! |---|---|
//! | `/api/v1/query`, `/api/v1/query_range`, `/api/v1/format_query` | [`query`] |
//! | `/api/v1/series`, `/api/v1/labels`, `/api/v1/label/{name}/values`, `/api/v1/metadata` | [`series`] |
//! | `/api/v1/rules`, `/api/v1/alerts` | [`alerts`]: the hub's own rules in Prometheus's words |
//! | `/api/v1/query_exemplars`, `/api/v1/status/buildinfo`, `/-/healthy`, `/-/ready` | [`status`] |
//!
//! As Prometheus 2.42 documents and answers them: parameters in the query string or, with POST, in a
//! form ([`params`]); its JSON ([`answer`], [`values`]), with its own form of refusals on these paths;
//! parameters it doesn't know are ignored. What came later and clients ask for is there too: `limit`.

pub mod alerts;
pub mod answer;
pub mod params;
pub mod query;
pub mod series;
pub mod status;
pub mod values;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use self::answer::Failure;
use super::{Hub, auth, body};

/// The paths below `/api/`, behind the token.
pub(super) fn behind_token(hub: &Arc<Hub>) -> Router<Arc<Hub>> {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(status::exemplars).post(status::exemplars))
        .route("/api/v1/format_query", get(query::format).post(query::format))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/labels", get(series::names).post(series::names))
        .route("/api/v1/label/{name}/values", get(series::values))
        .route("/api/v1/metadata", get(series::metadata))
        .route("/api/v1/rules", get(alerts::rules))
        .route("/api/v1/alerts", get(alerts::alerts))
        .route("/api/v1/status/buildinfo", get(status::buildinfo))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(hub), require_token))
}

/// The paths that are open to all: they say nothing of any host.
pub(super) fn open() -> Router<Arc<Hub>> {
    Router::new().route("/-/healthy", get(status::healthy)).route("/-/ready", get(status::ready))
}

/// As [`auth::require_token`], with a refusal of this form.
async fn require_token(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    match auth::check(&hub, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => {
            body::discard(request.into_body()).await;
            Failure::unauthorised(refused).into_response()
        }
    }
}

async fn wrong_method(request: Request) -> Failure {
    let (method, path) = (request.method(), request.uri().path());
    Failure::wrong_method(format!("{path} doesn't take {method}"))
}

/// Few names for what these paths are counted under.
pub(super) fn endpoint_of(path: &str) -> Option<&'static str> {
    Some(match path {
        "/api/v1/query" => "query",
        "/api/v1/query_range" => "query_range",
        "/api/v1/query_exemplars" => "query_exemplars",
        "/api/v1/format_query" => "format_query",
        "/api/v1/series" => "series",
        "/api/v1/labels" => "labels",
        "/api/v1/metadata" => "metadata",
        "/api/v1/rules" => "rules",
        "/api/v1/alerts" => "alerts",
        "/api/v1/status/buildinfo" => "buildinfo",
        "/-/healthy" => "healthy",
        "/-/ready" => "ready",
        path if path.starts_with("/api/v1/label/") && path.ends_with("/values") => "label_values",
        _ => return None,
    })
}
