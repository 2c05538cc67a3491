//! `POST /api/v1/ingest`: records in, acknowledgement out.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, header},
};
use wire::{api::IngestReply, limits::REQUEST_BYTES_MAX, request::CONTENT_TYPE};

use super::{Hub, body, error::ApiError};

/// Takes a request's records.
///
/// # Errors
/// [`ApiError`]; nothing of the request is stored then.
pub async fn ingest(
    State(hub): State<Arc<Hub>>,
    request: Request,
) -> Result<Json<IngestReply>, ApiError> {
    let (parts, body) = request.into_parts();
    let (room, body) = match admit(&hub, &parts.headers) {
        Ok(room) => (room, body),
        Err(error) => {
            body::discard(body).await;
            return Err(error);
        }
    };
    let heard = super::heard(&parts.headers);
    let bytes = body::read(body, REQUEST_BYTES_MAX).await?;
    Ok(Json(hub.ingest.take(bytes, room, heard).await?))
}

fn admit(hub: &Hub, headers: &HeaderMap) -> Result<crate::ingest::Room, ApiError> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if found != Some(CONTENT_TYPE) {
        let message = format!("content type {:?}, expected {CONTENT_TYPE:?}", found.unwrap_or(""));
        return Err(ApiError::new(415, "wrong_content_type", message));
    }
    // Who doesn't say how much gets room for the most.
    let bytes = body::content_length(headers).unwrap_or(REQUEST_BYTES_MAX);
    if bytes > REQUEST_BYTES_MAX {
        return Err(body::too_large(REQUEST_BYTES_MAX));
    }
    hub.ingest.room(bytes).ok_or_else(|| ApiError::busy("too many requests are being taken"))
}
