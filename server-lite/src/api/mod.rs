//! What the hub says over HTTP.
//!
//! | | |
//! |---|---|
//! | `POST /api/v1/ingest` | [`records`]: records in, acknowledgement out |
//! | `POST /api/v1/write` | [`written`]: samples in, by Prometheus remote write |
//! | `POST /api/v1/heartbeat` | [`heartbeat`]: presence |
//! | `GET /api/v1/hosts` | [`hosts`]: every host and how it stands |
//! | `GET /api/v1/buckets` | [`buckets`]: samples in buckets of time |
//! | `GET /api/v1/gaps` | [`gaps`]: what is missing, and why |
//! | `GET /api/v1/incidents` | [`incidents`]: what is pending and firing, and what fired |
//! | `/api/v1/query`, … | [`prometheus`]: Prometheus's API |
//! | `GET /healthz`, `/readyz`, `/metrics` | [`health`]: of the hub itself; open to all |
//!
//! With a secret, everything below `/api/` needs a token made with it ([`auth`]). Every refusal is a
//! [`wire::api::ErrorBody`] ([`error`]), but for Prometheus's paths; parameters are read by [`params`].

pub mod auth;
pub mod body;
pub mod buckets;
pub mod error;
pub mod gaps;
pub mod health;
pub mod heartbeat;
pub mod hosts;
pub mod incidents;
pub mod params;
pub mod prometheus;
pub mod records;
pub mod written;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use settings::Secret;
use wire::api::{HEARD_HEADER, HEARTBEAT_PATH, INGEST_PATH, WORD_HEADER, Word};

use self::error::ApiError;
use crate::{
    clock::Clock,
    ingest::Ingest,
    instances::Instances,
    presence::Presence,
    query::{QueryLimits, expression::Expressions},
    rules::{AlertStore, RuleMetrics, Rules},
    store::Store,
    telemetry::Telemetry,
};

/// Where senders of Prometheus remote write send to.
pub const WRITE_PATH: &str = "/api/v1/write";

/// What requests are answered with.
pub struct Hub {
    /// Where records are kept.
    pub store: Arc<dyn Store>,
    /// Takes requests.
    pub ingest: Ingest,
    /// Which process speaks for an agent.
    pub instances: Arc<Instances>,
    /// Who is there.
    pub presence: Arc<Presence>,
    /// What the hub counts of itself.
    pub telemetry: Arc<Telemetry>,
    /// Where alerts are kept.
    pub alerts: AlertStore,
    /// What is watched for.
    pub rules: Rules,
    /// Time between two evaluations of all rules.
    pub rule_interval: Duration,
    /// What rules count of themselves.
    pub rule_metrics: Arc<RuleMetrics>,
    /// The secret, if there is one.
    pub token: Option<Secret>,
    /// Bounds of queries.
    pub query_limits: QueryLimits,
    /// Reckons expressions.
    pub expressions: Expressions,
    /// What time it is.
    pub clock: Clock,
}

impl Hub {
    /// Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }
}

/// Everything the hub answers.
pub fn router(hub: Arc<Hub>) -> Router {
    let behind_token = Router::new()
        .route(INGEST_PATH, post(records::ingest))
        .route(WRITE_PATH, post(written::write))
        .route(HEARTBEAT_PATH, post(heartbeat::heartbeat))
        .route("/api/v1/hosts", get(hosts::hosts))
        .route("/api/v1/buckets", get(buckets::buckets))
        .route("/api/v1/gaps", get(gaps::gaps))
        .route("/api/v1/incidents", get(incidents::incidents))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&hub), auth::require_token))
        .layer(middleware::from_fn_with_state(Arc::clone(&hub), give_word));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(wrong_method)
        .merge(behind_token)
        .merge(prometheus::open())
        .merge(prometheus::behind_token(&hub))
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state(Arc::clone(&hub), count))
        .with_state(hub)
}

async fn nothing_here(request: Request) -> ApiError {
    let path = request.uri().path();
    ApiError::new(
        404,
        "not_found",
        format!("there is nothing at {path}; the API is below /api/v1/"),
    )
}

async fn wrong_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(405, "method_not_allowed", format!("{path} doesn't take {method}"))
}

/// Counts every answer by its endpoint.
async fn count(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let endpoint = endpoint_of(request.uri().path());
    let response = next.run(request).await;
    hub.telemetry.answered(endpoint, response.status().as_u16());
    response
}

/// Puts the hub's word on every answer, a refusal too: see [`crate::instances`].
async fn give_word(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(word) = HeaderValue::try_from(hub.instances.word().to_string()) {
        response.headers_mut().insert(WORD_HEADER, word);
    }
    response
}

/// The hub's word that the sender has heard; what can't be read is none.
fn heard(headers: &HeaderMap) -> Option<Word> {
    headers.get(HEARD_HEADER)?.to_str().ok()?.parse().ok()
}

/// Few names, whatever is asked for.
fn endpoint_of(path: &str) -> &'static str {
    match path {
        INGEST_PATH => "ingest",
        WRITE_PATH => "write",
        HEARTBEAT_PATH => "heartbeat",
        "/api/v1/hosts" => "hosts",
        "/api/v1/buckets" => "buckets",
        "/api/v1/gaps" => "gaps",
        "/api/v1/incidents" => "incidents",
        "/healthz" => "healthz",
        "/readyz" => "readyz",
        "/metrics" => "metrics",
        path => prometheus::endpoint_of(path).unwrap_or("other"),
    }
}

#[cfg(test)]
mod tests;
