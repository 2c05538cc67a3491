//! Presence: tells a hub every few seconds that this host is there. Never in the log, never repeated:
//! a heartbeat that doesn't arrive is the message. The first that arrives again wakes the shipper.
//!
//! Records that the hub acknowledged are as good a sign of life: at ticks of ten seconds they save every
//! second heartbeat. Not two in a row, for only a heartbeat says how the log stands.

use std::time::Duration;

use agent_core::{Status, sink::BoxFuture, wake::Wake};
use sinks::Identity;
use tokio::time::{Instant, sleep_until};
use wire::api::{HEARTBEAT_INTERVAL_S, Heartbeat};

/// Records go out at intervals that heartbeats would meet to the millisecond: this much later they have
/// been acknowledged.
const BEHIND_RECORDS: Duration = Duration::from_millis(250);
/// What asks the kernel's netlink for a dozen messages, and seldom changes.
const ADDRESSES_AGE_MAX: Duration = Duration::from_secs(60);

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
            let (mut is_away, mut addresses) = (false, Addresses::default());
            loop {
                let beat = self.client.beat(&self.heartbeat(addresses.now())).await;
                match &beat {
                    Ok(_) if is_away => self.back.far_side_is_back(),
                    Ok(_) => {}
                    // The shipper says at `warn` that the sink is away.
                    Err(error) => {
                        tracing::debug!(sink = self.sink, %error, "heartbeat did not arrive");
                    }
                }
                is_away = beat.is_err();
                wait(Instant::now(), || self.status.acked_at(&self.sink)).await;
            }
        })
    }

    fn heartbeat(&self, addresses: Vec<String>) -> Heartbeat {
        Heartbeat {
            agent_id: self.identity.agent_id,
            instance_id: self.identity.instance_id,
            sent_ms: 0,
            stream_id: self.status.stream_id(),
            hostname: self.identity.hostname(),
            agent_version: self.identity.version.clone(),
            addresses,
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            log: self.status.log(&self.sink),
        }
    }
}

/// Until the next heartbeat is due after the one at `beat`: the hub has heard nothing for an interval, or
/// records alone for two.
async fn wait(beat: Instant, acked_at: impl Fn() -> Option<Instant>) {
    let interval = Duration::from_secs(HEARTBEAT_INTERVAL_S) + BEHIND_RECORDS;
    sleep_until(beat + interval).await;
    if let Some(acked) = acked_at().filter(|acked| *acked > beat) {
        sleep_until(acked + interval).await;
    }
}

/// The host's addresses as they were lately.
#[derive(Default)]
struct Addresses(Option<(Instant, Vec<String>)>);

impl Addresses {
    fn now(&mut self) -> Vec<String> {
        let now = Instant::now();
        match &self.0 {
            Some((asked, found)) if now - *asked < ADDRESSES_AGE_MAX => found.clone(),
            _ => self.0.insert((now, sinks::addresses())).1.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn records_stand_for_one_heartbeat_and_no_more() {
        let check = async |acked_after_ms: Option<u64>, expected_ms: u128| {
            let begun = Instant::now();
            let asked = Cell::new(0);
            wait(begun, || {
                asked.set(asked.get() + 1);
                acked_after_ms.map(|after_ms| begun + Duration::from_millis(after_ms))
            })
            .await;
            assert_eq!((begun.elapsed().as_millis(), asked.get()), (expected_ms, 1));
        };
        check(None, 5_250).await;
        // before the last heartbeat
        check(Some(0), 5_250).await;
        check(Some(4_750), 10_000).await;
        check(Some(1_000), 6_250).await;
    }
}
