//! `POST /api/v1/write`: Prometheus remote write, 1.0 and 2.0.
//!
//! | status | |
//! |---|---|
//! | 204 | all of it is stored |
//! | 400 | it can't be read; or some of it can never be stored, by name, and the rest is stored |
//! | 413 | too much at once |
//! | 415 | another message or compression |
//! | 503 | come back after `Retry-After`; nothing of it is stored. Never 429: Prometheus drops what is refused with that, unless it is told not to |
//!
//! Replies to 2.0 say how much was written.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use remote_write::{
    DecodeError, Version,
    content::{self, Unsupported},
    snappy::SnappyError,
};

use super::{Hub, body, error::ApiError};
use crate::{
    ingest::{
        Room,
        remote_write::{BODY_BYTES_MAX, Outcome, WriteRefusal},
    },
    store::IngestError,
};

/// Takes a request's samples.
pub async fn write(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let version = match version(&parts.headers) {
        Ok(version) => version,
        Err(unsupported) => {
            body::discard(body).await;
            let message = unsupported.to_string();
            return ApiError::new(415, "wrong_content_type", message).into_response();
        }
    };
    let Outcome { written, faults } = match take(&hub, version, &parts.headers, body).await {
        Ok(outcome) => outcome,
        Err(error) => return with_counts(version, content::Written::default(), error),
    };
    match faults.message() {
        None => with_counts(version, written, StatusCode::NO_CONTENT),
        Some(message) => with_counts(version, written, ApiError::new(400, "bad_samples", message)),
    }
}

fn version(headers: &HeaderMap) -> Result<Version, Unsupported> {
    // What isn't text is nothing that is known.
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    content::accept(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING))
}

async fn take(
    hub: &Hub,
    version: Version,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Outcome, ApiError> {
    let room = match room(hub, headers) {
        Ok(room) => room,
        Err(error) => {
            body::discard(body).await;
            return Err(error);
        }
    };
    let bytes: Bytes = body::read(body, BODY_BYTES_MAX).await?;
    Ok(hub.ingest.write(version, bytes, room).await?)
}

fn room(hub: &Hub, headers: &HeaderMap) -> Result<Room, ApiError> {
    // Who doesn't say how much gets room for the most.
    let bytes = body::content_length(headers).unwrap_or(BODY_BYTES_MAX);
    if bytes > BODY_BYTES_MAX {
        return Err(body::too_large(BODY_BYTES_MAX));
    }
    hub.ingest.room(bytes).ok_or_else(|| WriteRefusal::NoRoom.into())
}

fn with_counts(
    version: Version,
    written: content::Written,
    response: impl IntoResponse,
) -> Response {
    let mut response = response.into_response();
    if version == Version::V2 {
        for (name, value) in written.headers() {
            let name = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            response.headers_mut().extend(name);
        }
    }
    response
}

impl From<WriteRefusal> for ApiError {
    fn from(refusal: WriteRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            WriteRefusal::Snappy(SnappyError::Malformed(_))
            | WriteRefusal::Decode(DecodeError::Malformed { .. }) => {
                Self::new(400, "malformed", message)
            }
            WriteRefusal::Snappy(SnappyError::TooLarge { .. })
            | WriteRefusal::Decode(DecodeError::TooMany { .. })
            | WriteRefusal::TooLarge(_) => Self::new(413, "too_large", message),
            WriteRefusal::NoRoom | WriteRefusal::Store(IngestError::Busy(_)) => Self::busy(message),
            WriteRefusal::Store(error) => error.into(),
        }
    }
}
