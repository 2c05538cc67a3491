//! Presence: says every few seconds that this agent is there. Never in the log.

use std::rc::Rc;

use agent_core::SinkError;
use wire::api::{HEARTBEAT_PATH, Heartbeat, HeartbeatReply};

use super::client::Client;

/// Speaks to the same hub as the sink it comes from, over the same connections.
#[derive(Clone)]
pub struct Heartbeats {
    client: Rc<Client>,
}

impl Heartbeats {
    pub(crate) const fn new(client: Rc<Client>) -> Self {
        Self { client }
    }

    /// Says once that this agent is there, and how its log stands; when it says so is filled in here.
    ///
    /// # Errors
    /// As [`Sink::send`](agent_core::Sink::send) of the sink it comes from. Nothing is to be kept:
    /// the next beat says it all again.
    pub async fn beat(&self, status: &Heartbeat) -> Result<HeartbeatReply, SinkError> {
        let status = Heartbeat { sent_ms: self.client.sent_ms(), ..status.clone() };
        let body = serde_json::to_vec(&status)
            .map_err(|error| SinkError::Refused { reason: format!("encode heartbeat: {error}") })?;
        self.client.post(HEARTBEAT_PATH, "application/json", body).await
    }
}
