//! Refusals: a status for machines, a word for programs, a sentence for people.
//!
//! | status | word | |
//! |---|---|---|
//! | 400 | `malformed` | not what was expected; `offset` says where |
//! | 400 | `truncated` | the body ends early |
//! | 400 | `damaged` | a checksum doesn't fit |
//! | 400 | `bad_record` | one record can never be stored; `record` names it |
//! | 400 | `bad_samples` | some samples of a remote write can never be stored: which, and why |
//! | 400 | `bad_parameter` | of a query |
//! | 401 | `unauthorised` | no token, or not a good one |
//! | 404, 405 | `not_found`, `method_not_allowed` | |
//! | 408 | `timeout` | the body came too slowly |
//! | 409 | `identity_conflict` | two agents use one identity: who the other is, and what to do |
//! | 413 | `too_large` | send less at once |
//! | 415 | `wrong_content_type` | |
//! | 422 | `unsupported_version` | made by another version |
//! | 429 | `busy` | this agent is ahead of what the hub has digested, or the hub doesn't know yet whether it runs |
//! | 500 | `internal` | |
//! | 503 | `busy`, `unavailable` | come back after `Retry-After` |

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use wire::{
    EnvelopeError,
    api::{BadRecord, ErrorBody, IDENTITY_CONFLICT},
    request::RequestError,
};

use crate::{
    ingest::Refusal,
    instances::{Conflict, Refused},
    query::QueryError,
    rules::AlertStoreError,
    store::{IngestError, StoreError},
};

/// Seconds after which a busy hub is asked again.
const BUSY_RETRY_AFTER_S: u16 = 1;
/// Seconds after which a hub whose store fails is asked again.
const UNAVAILABLE_RETRY_AFTER_S: u16 = 5;
/// How zstd says that a frame has no end.
const ZSTD_CUT_SHORT: &str = "incomplete frame";

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    status: u16,
    body: ErrorBody,
    retry_after_s: Option<u16>,
}

impl ApiError {
    /// A refusal with a status, a word and a sentence.
    pub fn new(status: u16, word: &str, message: impl Into<String>) -> Self {
        let body = ErrorBody {
            error: word.to_owned(),
            message: message.into(),
            record: None,
            offset: None,
        };
        Self { status, body, retry_after_s: None }
    }

    /// The hub has no room for it now.
    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(503, "busy", message).after(BUSY_RETRY_AFTER_S)
    }

    /// A parameter of a query can't be used.
    #[must_use]
    pub fn bad_parameter(message: impl Into<String>) -> Self {
        Self::new(400, "bad_parameter", message)
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Its sentence for people.
    #[must_use]
    pub fn into_message(self) -> String {
        self.body.message
    }

    fn after(mut self, seconds: u16) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Request(error) => error.into(),
            Refusal::Conflict(conflict) => conflict.into(),
            Refusal::Unknown(unknown) => unknown.into(),
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Conflict(conflict) => conflict.into(),
            Refused::Unknown => {
                Self::new(429, "busy", refused.to_string()).after(BUSY_RETRY_AFTER_S)
            }
        }
    }
}

impl From<Conflict> for ApiError {
    fn from(conflict: Conflict) -> Self {
        Self::new(409, IDENTITY_CONFLICT, conflict.to_string())
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let (status, word) = kind_of(&error);
        let mut refusal = Self::new(status, word, error.to_string());
        refusal.body.record = error.record().map(|(index, seq)| BadRecord { index, seq });
        refusal.body.offset = error.offset();
        refusal
    }
}

fn kind_of(error: &RequestError) -> (u16, &'static str) {
    match error {
        error if error.is_version() => (422, "unsupported_version"),
        RequestError::TooLarge | RequestError::TooMany { .. } => (413, "too_large"),
        RequestError::Record { .. } => (400, "bad_record"),
        RequestError::Compression(said) if said.contains(ZSTD_CUT_SHORT) => (400, "truncated"),
        RequestError::Envelope { source: EnvelopeError::Truncated { .. }, .. } => {
            (400, "truncated")
        }
        RequestError::Envelope { source: EnvelopeError::Checksum { .. }, .. } => (400, "damaged"),
        _ => (400, "malformed"),
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::BadRecord { index, seq, .. } => {
                let mut refusal = Self::new(400, "bad_record", error.to_string());
                refusal.body.record = Some(BadRecord { index, seq });
                refusal
            }
            IngestError::Conflict { .. } => Self::new(409, IDENTITY_CONFLICT, error.to_string()),
            IngestError::Busy(_) => {
                Self::new(429, "busy", error.to_string()).after(BUSY_RETRY_AFTER_S)
            }
            IngestError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "store failed");
        // What exactly is wrong with the disk is for the log, not for whoever asks.
        let message = format!("the hub's store failed ({error}); its log says why");
        Self::new(503, "unavailable", message).after(UNAVAILABLE_RETRY_AFTER_S)
    }
}

impl From<AlertStoreError> for ApiError {
    fn from(error: AlertStoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "alert store failed");
        Self::new(503, "unavailable", "the hub's alert store failed; its log says why")
            .after(UNAVAILABLE_RETRY_AFTER_S)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Refused(message) => Self::bad_parameter(message),
            QueryError::Store(error) => error.into(),
        }
    }
}
