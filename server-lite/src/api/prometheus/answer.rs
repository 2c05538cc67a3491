//! Answers and refusals in Prometheus's form.
//!
//! ```json
//! {"status": "success", "data": …, "warnings": ["…"]}
//! {"status": "error", "errorType": "bad_data", "error": "…"}
//! ```

use std::error::Error as _;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use promql::Error;
use serde::Serialize;
use serde_json::json;

use crate::{
    api::error::ApiError, query::expression::Unanswered, rules::AlertStoreError, store::StoreError,
};

/// Seconds after which a hub that is busy, or whose store fails, is asked again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What a warning says when `limit` has cut something off.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// An answer: data that is JSON already, and what it may lack.
#[derive(Debug)]
pub struct Answer {
    data: String,
    warnings: Vec<String>,
}

impl Answer {
    /// Of JSON as it stands.
    pub(super) fn raw(data: String, warnings: Vec<String>) -> Self {
        Self { data, warnings }
    }

    /// Of anything that is to become JSON.
    ///
    /// # Errors
    /// [`Failure`] where that can't be, which maps with other keys than text would be.
    pub(super) fn of(data: &impl Serialize, warnings: Vec<String>) -> Result<Self, Failure> {
        let data = serde_json::to_string(data);
        Ok(Self { data: data.map_err(|error| Failure::internal(error.to_string()))?, warnings })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Self { data, warnings } = self;
        let warnings = match warnings.as_slice() {
            [] => String::new(),
            some => format!(",\"warnings\":{}", json!(some)),
        };
        let body = ["{\"status\":\"success\",\"data\":", &data, &warnings, "}"].concat();
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// A refusal: status, kind and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    status: u16,
    kind: &'static str,
    message: String,
}

impl Failure {
    /// A request that can't be meant.
    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self { status: 400, kind: "bad_data", message: message.into() }
    }

    /// A parameter that can't be meant, in Prometheus's words.
    pub(super) fn parameter(name: &str, message: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {message}"))
    }

    /// An expression that is none.
    pub(super) fn expression(name: &str, error: &Error) -> Self {
        Self::parameter(name, error)
    }

    pub(super) fn unauthorised(refused: ApiError) -> Self {
        Self { status: 401, kind: "unauthorized", message: refused.into_message() }
    }

    pub(super) fn wrong_method(message: String) -> Self {
        Self { status: 405, kind: "bad_data", message }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self { status: 500, kind: "internal", message: message.into() }
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self { status: 503, kind: "unavailable", message: message.into() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"status": "error", "errorType": self.kind, "error": self.message});
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body.to_string())
            .into_response();
        let headers = response.headers_mut();
        match self.status {
            401 => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            503 => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Query(error) => error.into(),
            Unanswered::Store(error) => error.into(),
            Unanswered::TimedOutWaiting => {
                Self { status: 503, kind: "timeout", message: unanswered.to_string() }
            }
            Unanswered::Full => Self::unavailable(unanswered.to_string()),
            Unanswered::Broken => Self::internal(unanswered.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, kind) = match &error {
            // The text has been parsed: it is the kind of the expression that doesn't suit.
            Error::Parse(message) => return Self::bad_data(message),
            Error::Unsupported(_) => (400, "bad_data"),
            Error::Execution(_) | Error::TooLarge(_) => (422, "execution"),
            Error::Timeout => (503, "timeout"),
            Error::Canceled => (503, "canceled"),
            Error::Source(_) => (500, "internal"),
        };
        Self { status, kind, message: error.to_string() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "store failed");
        Self::internal(format!("the hub's store failed ({error}); its log says why"))
    }
}

impl From<AlertStoreError> for Failure {
    fn from(error: AlertStoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, source = ?error.source(), "alert store failed");
        Self::internal("the hub's alert store failed; its log says why")
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { status: error.status(), kind: "bad_data", message: error.into_message() }
    }
}
