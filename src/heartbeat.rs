//! Presence: tells a hub every few seconds that this host is there. Never in the log, never repeated:
//! a heartbeat that doesn't arrive is the message. The first that arrives again wakes the shipper.

use std::time::Duration;

use agent_core::{Status, sink::BoxFuture, wake::Wake};
use sinks::Identity;
use tokio::time::{MissedTickBehavior, interval};
use wire::api::{HEARTBEAT_INTERVAL_S, Heartbeat};

/// Who beats, and for which sink.
pub(crate) struct Heart {
    pub(crate) client: sinks::http::Heartbeats,
    pub(crate) sink: String,
    pub(crate) identity: Identity,
    pub(crate) interval: Duration,
    pub(crate) status: Status,
    /// Of the same sink's shipper.
    pub(crate) back: Wake,
}

impl Heart {
    /// Beats until dropped.
    pub(crate) fn beat(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut ticks = interval(Duration::from_secs(HEARTBEAT_INTERVAL_S));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut is_away = false;
            loop {
                ticks.tick().await;
                let beat = self.client.beat(&self.heartbeat()).await;
                match &beat {
                    Ok(_) if is_away => self.back.far_side_is_back(),
                    Ok(_) => {}
                    // The shipper says at `warn` that the sink is away.
                    Err(error) => {
                        tracing::debug!(sink = self.sink, %error, "heartbeat did not arrive");
                    }
                }
                is_away = beat.is_err();
            }
        })
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            agent_id: self.identity.agent_id,
            instance_id: self.identity.instance_id,
            sent_ms: 0,
            stream_id: self.status.stream_id(),
            hostname: self.identity.hostname(),
            agent_version: self.identity.version.clone(),
            addresses: sinks::addresses(),
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            log: self.status.log(&self.sink),
        }
    }
}
