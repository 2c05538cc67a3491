//! Who is there: the latest heartbeat of every agent, in memory only.
//!
//! Agents say every five seconds that they are there, by a heartbeat or by records; that is no data, and
//! a hub that was restarted knows again within ten. Only when an agent was last heard of is kept, and
//! written now and then.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use wire::{
    AgentId,
    api::{Heartbeat, OFFLINE_AFTER_S},
    limits::{ADDRESSES_MAX, HOSTNAME_BYTES_MAX, TEXT_BYTES_MAX},
};

use crate::store::Seen;

/// Agents remembered; a hub has to bear what anyone with the secret sends.
const AGENTS_MAX: usize = 100_000;
/// Bytes of an address: the longest IPv6 address with a zone.
const ADDRESS_BYTES_MAX: usize = 64;
const OFFLINE_AFTER_MS: i64 = OFFLINE_AFTER_S.cast_signed() * 1_000;

/// Who is there.
#[derive(Debug, Default)]
pub struct Presence {
    agents: Mutex<HashMap<AgentId, Known>>,
}

/// What is known of an agent's presence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Its latest heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// Unix milliseconds when anything came of it.
    pub seen_ms: i64,
    /// Whether that is to be written down.
    unsaved: bool,
}

impl Known {
    /// Whether it has said that it is there, and was heard of recently.
    #[must_use]
    pub fn is_online(&self, now_ms: i64) -> bool {
        self.heartbeat.is_some() && now_ms.saturating_sub(self.seen_ms) < OFFLINE_AFTER_MS
    }
}

impl Presence {
    /// Notes a heartbeat that [`check`] found good.
    pub fn beat(&self, heartbeat: Heartbeat, now_ms: i64) {
        self.note(heartbeat.agent_id, now_ms, |known| known.heartbeat = Some(heartbeat));
    }

    /// Notes that something came of an agent.
    pub fn seen(&self, agent_id: AgentId, now_ms: i64) {
        self.note(agent_id, now_ms, |_| ());
    }

    fn note(&self, agent_id: AgentId, now_ms: i64, change: impl FnOnce(&mut Known)) {
        let mut agents = self.lock();
        if agents.len() >= AGENTS_MAX && !agents.contains_key(&agent_id) {
            // Whoever is still there says so again within seconds.
            agents.retain(|_, known| known.is_online(now_ms));
        }
        if agents.len() < AGENTS_MAX || agents.contains_key(&agent_id) {
            let known = agents.entry(agent_id).or_default();
            change(known);
            (known.seen_ms, known.unsaved) = (now_ms, true);
        }
    }

    /// Everything known, by agent.
    #[must_use]
    pub fn all(&self) -> HashMap<AgentId, Known> {
        self.lock().clone()
    }

    /// Agents that are there.
    #[must_use]
    pub fn online(&self, now_ms: i64) -> usize {
        self.lock().values().filter(|known| known.is_online(now_ms)).count()
    }

    /// What was not written down since this was last called.
    #[must_use]
    pub fn take_unsaved(&self) -> Vec<Seen> {
        let mut agents = self.lock();
        let unsaved = agents.iter_mut().filter(|(_, known)| known.unsaved);
        let seen = unsaved.map(|(agent_id, known)| {
            known.unsaved = false;
            Seen { agent_id: *agent_id, at_ms: known.seen_ms }
        });
        seen.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Known>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a heartbeat is within its bounds.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(heartbeat: &Heartbeat) -> Result<(), String> {
    let check = |what: &str, text: &str, most: usize| match text {
        text if text.len() > most => {
            Err(format!("{what} is {} bytes long, at most {most}", text.len()))
        }
        text if text.chars().any(char::is_control) => {
            Err(format!("{what} {text:?} has control characters"))
        }
        _ => Ok(()),
    };
    check("hostname", &heartbeat.hostname, HOSTNAME_BYTES_MAX)?;
    check("agent_version", &heartbeat.agent_version, TEXT_BYTES_MAX)?;
    if heartbeat.addresses.len() > ADDRESSES_MAX {
        return Err(format!("{} addresses, at most {ADDRESSES_MAX}", heartbeat.addresses.len()));
    }
    heartbeat.addresses.iter().try_for_each(|address| check("address", address, ADDRESS_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use wire::{InstanceId, StreamId, api::LogStatus};

    use super::*;

    fn heartbeat(agent: u8) -> Heartbeat {
        Heartbeat {
            agent_id: AgentId::from_bytes([agent; 16]),
            instance_id: InstanceId::from_bytes([agent; 16]),
            sent_ms: 0,
            stream_id: StreamId::from_bytes([1; 16]),
            hostname: "web-1".into(),
            agent_version: "1".into(),
            addresses: vec!["10.0.0.1".into()],
            interval_ms: 10_000,
            log: LogStatus::default(),
        }
    }

    #[test]
    fn offline_after_three_missed_heartbeats() {
        let presence = Presence::default();
        presence.beat(heartbeat(1), 1_000);
        presence.seen(AgentId::from_bytes([2; 16]), 1_000);
        assert_eq!(presence.online(15_999), 1);
        assert_eq!(presence.online(16_000), 0);
        presence.beat(heartbeat(1), 20_000);
        assert_eq!(presence.online(20_000), 1);
        // records are a sign of life too
        presence.seen(AgentId::from_bytes([1; 16]), 30_000);
        assert_eq!((presence.online(44_999), presence.online(45_000)), (1, 0));
    }

    #[test]
    fn what_was_seen_is_given_once() {
        let presence = Presence::default();
        presence.beat(heartbeat(1), 1_000);
        presence.seen(AgentId::from_bytes([1; 16]), 2_000);
        let seen = Seen { agent_id: AgentId::from_bytes([1; 16]), at_ms: 2_000 };
        assert_eq!(presence.take_unsaved(), [seen]);
        assert_eq!(presence.take_unsaved(), []);
    }

    #[test]
    fn hostile_heartbeats_are_refused() {
        let check = |change: fn(&mut Heartbeat), expected: &str| {
            let mut heartbeat = heartbeat(1);
            change(&mut heartbeat);
            let error = super::check(&heartbeat).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(|h| h.hostname = "x".repeat(254), "hostname is 254 bytes long, at most 253");
        check(|h| h.hostname = "a\nb".into(), "hostname \"a\\nb\" has control characters");
        check(|h| h.addresses = vec![String::new(); 65], "65 addresses, at most 64");
        check(|h| h.addresses = vec!["x".repeat(65)], "address is 65 bytes long");
    }
}
