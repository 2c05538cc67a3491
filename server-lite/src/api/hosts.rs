//! `GET /api/v1/hosts`: every host, from what it has sent and what it says of itself.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::State};
use serde::Serialize;
use wire::{AgentId, StreamId, api::LogStatus};

use super::{Hub, error::ApiError};
use crate::{instances::ConflictView, presence::Known, store::Agent};

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hosts {
    /// Unix milliseconds by the hub's clock.
    pub time_ms: i64,
    /// By name.
    pub hosts: Vec<HostView>,
}

/// One agent and its host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostView {
    /// The host's name.
    pub host: String,
    /// The agent's identity.
    pub agent_id: String,
    /// Whether its heartbeat is recent.
    pub online: bool,
    /// Unix milliseconds when anything came of it last.
    pub last_seen_ms: i64,
    /// Unix milliseconds of its first request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen_ms: Option<i64>,
    /// Unix milliseconds of its latest tick.
    pub last_tick_ms: Option<i64>,
    /// Its stream.
    pub stream_id: Option<StreamId>,
    /// Highest sequence number stored of that stream.
    pub acked_seq: u64,
    /// Version of the agent.
    pub version: String,
    /// Addresses of the host, as it last said.
    pub addresses: Vec<String>,
    /// Time between two ticks in milliseconds, as it last said.
    pub interval_ms: Option<u64>,
    /// How its log stands, as it last said.
    pub log: Option<LogStatus>,
    /// Series stored of it.
    pub series: u64,
    /// Set while two agents use this identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<ConflictView>,
}

/// Every host.
///
/// # Errors
/// [`ApiError`] when the store can't be read.
pub async fn hosts(State(hub): State<Arc<Hub>>) -> Result<Json<Hosts>, ApiError> {
    let agents = hub.store.agents().await?;
    let time_ms = hub.now_ms();
    let mut hosts = together(agents, hub.presence.all(), time_ms);
    let mut conflicts = hub.instances.conflicts(time_ms);
    if !conflicts.is_empty() {
        for host in &mut hosts {
            let agent_id = host.agent_id.parse().ok();
            host.conflict = agent_id.and_then(|agent_id| conflicts.remove(&agent_id));
        }
    }
    Ok(Json(Hosts { time_ms, hosts }))
}

/// What is stored and what is said, agent by agent; those that have only said so far included.
fn together(agents: Vec<Agent>, mut known: HashMap<AgentId, Known>, now_ms: i64) -> Vec<HostView> {
    let stored = agents.into_iter().map(|agent| {
        let known = known.remove(&agent.agent_id);
        view(stored_view(agent), known, now_ms)
    });
    let mut hosts: Vec<HostView> = stored.collect();
    let only_said = known.into_iter().filter(|(_, known)| known.heartbeat.is_some());
    hosts.extend(only_said.map(|(agent_id, known)| {
        let host = HostView { agent_id: agent_id.to_string(), ..HostView::default() };
        view(host, Some(known), now_ms)
    }));
    hosts.sort_by(|a, b| (&a.host, &a.agent_id).cmp(&(&b.host, &b.agent_id)));
    hosts
}

fn stored_view(agent: Agent) -> HostView {
    let stream = agent.streams.last();
    HostView {
        host: agent.hostname,
        agent_id: agent.agent_id.to_string(),
        last_seen_ms: agent.last_seen_ms,
        first_seen_ms: Some(agent.first_seen_ms),
        last_tick_ms: stream.and_then(|stream| stream.last_tick_ms),
        stream_id: stream.map(|stream| stream.stream_id),
        acked_seq: stream.map_or(0, |stream| stream.acked_seq),
        version: agent.version,
        series: agent.series,
        ..HostView::default()
    }
}

fn view(mut host: HostView, known: Option<Known>, now_ms: i64) -> HostView {
    let Some(known) = known else { return host };
    host.online = known.is_online(now_ms);
    host.last_seen_ms = host.last_seen_ms.max(known.seen_ms);
    if let Some(said) = known.heartbeat {
        host.host = said.hostname;
        host.version = said.agent_version;
        host.addresses = said.addresses;
        host.interval_ms = Some(said.interval_ms);
        host.log = Some(said.log);
        host.stream_id = host.stream_id.or(Some(said.stream_id));
    }
    host
}
