//! Request bodies, read within bounds of size and time.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::error::ApiError;

/// Time that a whole body may take.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes that are read and thrown away so that a sender gets to see why it was refused.
const DISCARD_BYTES_MAX: usize = 32 << 20;

/// What the sender says about the length of the body.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, of at most so many bytes.
///
/// # Errors
/// [`ApiError`]: too large, too slow, or cut off.
pub async fn read(body: Body, most: usize) -> Result<Bytes, ApiError> {
    match timeout(TIME_MAX, collect(body, most)).await {
        Ok(read) => read,
        Err(_) => {
            let message = format!("the body did not come within {} s", TIME_MAX.as_secs());
            Err(ApiError::new(408, "timeout", message))
        }
    }
}

async fn collect(mut body: Body, most: usize) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let cut = |error: axum::Error| {
            ApiError::new(400, "truncated", format!("the body ended early: {error}"))
        };
        let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
        if bytes.len() + data.len() > most {
            drop(bytes);
            throw_away(body).await;
            return Err(too_large(most));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// The refusal of a body that is too large.
#[must_use]
pub fn too_large(most: usize) -> ApiError {
    ApiError::new(
        413,
        "too_large",
        format!("the body is larger than {most} bytes: send less at once"),
    )
}

/// Reads a body that is of no use.
pub async fn discard(body: Body) {
    // However it ends, nobody is waiting for it.
    let _ = timeout(TIME_MAX, throw_away(body)).await;
}

async fn throw_away(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DISCARD_BYTES_MAX {
            return;
        }
    }
}
