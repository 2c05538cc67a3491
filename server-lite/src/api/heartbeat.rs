//! `POST /api/v1/heartbeat`: an agent says that it is there.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use wire::{
    api::{Heartbeat, HeartbeatReply},
    limits::HEARTBEAT_BYTES_MAX,
};

use super::{Hub, body, error::ApiError};
use crate::{
    instances::{Caller, Refused},
    presence,
};

/// Takes a heartbeat.
///
/// # Errors
/// [`ApiError`] when it isn't one, or another agent has the same identity.
pub async fn heartbeat(
    State(hub): State<Arc<Hub>>,
    request: Request,
) -> Result<Json<HeartbeatReply>, ApiError> {
    let heard = super::heard(request.headers());
    let bytes = body::read(request.into_body(), HEARTBEAT_BYTES_MAX).await?;
    let heartbeat: Heartbeat = serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::new(400, "malformed", format!("the heartbeat is not one: {error}"))
    })?;
    let now_ms = hub.now_ms();
    presence::check(&heartbeat)
        .map_err(|wrong| ApiError::new(400, "malformed", format!("heartbeat: {wrong}")))?;
    let caller = Caller {
        agent_id: heartbeat.agent_id,
        instance_id: heartbeat.instance_id,
        sent_ms: heartbeat.sent_ms,
        heard,
        host: &heartbeat.hostname,
        addresses: &heartbeat.addresses,
    };
    match hub.instances.admit(&caller, now_ms) {
        Ok(admitted) if admitted.is_late => {}
        Ok(_) => hub.presence.beat(heartbeat, now_ms),
        // With the word of this answer it shows next time that it is there.
        Err(Refused::Unknown) => {}
        Err(Refused::Conflict(conflict)) => return Err(conflict.into()),
    }
    Ok(Json(HeartbeatReply { time_ms: now_ms }))
}
