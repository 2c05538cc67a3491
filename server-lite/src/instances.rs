//! Which process speaks for an agent, and whether two do.
//!
//! An agent's identity and its log are files; a copied disk, virtual machine or data directory is a
//! second host under the first one's name. Both would go on with the same stream under the same numbers,
//! and what the second sends would look like the first one's retries. So each start of an agent draws an
//! instance id, and says it with every heartbeat and request.
//!
//! A network delays and doubles what is said, by minutes, and clocks are set: neither the order in which
//! things come nor the times in them tell a process that runs from the late word of one that has ended.
//! What does is an answer. Every reply carries a [`Word`], and every request the latest that its sender
//! has heard: so the hub knows that it was said after that.
//!
//! - Two processes that have each heard a word which was given after the other was first heard of run at
//!   the same time: that is a [`Conflict`] (409). The one that was there first goes on, the other is
//!   refused for as long as the first is there. Nothing else is a conflict of processes.
//! - A new one that has heard a word takes over from one that hasn't since: that is a restart.
//! - One that hasn't, while another is there, may have ended long ago. Nothing of it is taken, and it is
//!   asked to come again ([`Refused::Unknown`]): with the word of that answer it is known to run.
//! - When the one that speaks hasn't shown for [`SILENT_MS`] that it runs, another is let in: it has gone,
//!   and nobody needs to do anything.
//! - One whose records contradict what is stored ([`Instances::diverged`]) gives way to one that is
//!   there: the store holds that one's records, and it can go on.
//!
//! What is caught: two processes that speak to this hub within [`SILENT_MS`] of each other, whatever
//! they send, within three heartbeats. By the store, over restarts of the hub: content that differs from
//! what is stored, and a log that ends before what is stored. What isn't: two that never run at the same
//! time. If they have written to one stream, the store keeps what each has written; one host is shown.
//!
//! All of it is in memory and bounded. A hub that was restarted learns it again as soon,
//! and takes nobody to be alone until then.

mod speakers;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::Serialize;
use wire::{
    AgentId, InstanceId,
    api::{HEARTBEAT_INTERVAL_S, IDENTITY_ADVICE, OFFLINE_AFTER_S, Word},
};

use self::speakers::{Speakers, Standing};

/// An instance that hasn't shown for so long that it runs has gone, in milliseconds. What shows it is a
/// heartbeat old when it comes.
pub const SILENT_MS: i64 = (OFFLINE_AFTER_S + HEARTBEAT_INTERVAL_S).cast_signed() * 1_000;
/// A conflict that wasn't seen for so long is over, in milliseconds: longer than agents wait between
/// two attempts.
pub const FADE_MS: i64 = 120_000;
/// Agents remembered, as in [`crate::presence`].
const AGENTS_MAX: usize = 100_000;
/// Instances of one agent remembered beside the current one.
const OTHERS_MAX: usize = 8;
/// Addresses of a host that are told.
const ADDRESSES_KEPT: usize = 3;

/// Who speaks for which agent.
#[derive(Debug)]
pub struct Instances {
    started_ms: i64,
    /// Tells this hub's words from another's.
    hub: u32,
    words: AtomicU64,
    agents: Mutex<HashMap<AgentId, Speakers>>,
    begun: AtomicU64,
}

/// Where an instance runs, as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The host's name.
    pub host: String,
    /// Its addresses, the first few, if they are known.
    pub addresses: Vec<String>,
}

/// Who says something.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Which agent.
    pub agent_id: AgentId,
    /// Which process of it.
    pub instance_id: InstanceId,
    /// By a clock of its own when it said this: later is more.
    pub sent_ms: i64,
    /// The latest word that it had got then.
    pub heard: Option<Word>,
    /// Its host's name.
    pub host: &'a str,
    /// Its host's addresses, if it says them.
    pub addresses: &'a [String],
}

/// How a caller was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whether nobody else spoke for its agent lately, and it is known to run.
    pub is_alone: bool,
    /// Counts what the hub has heard, this included.
    pub number: u64,
    /// It said this after all had come whose number is less; 0 if that isn't known.
    pub after: u64,
    /// Whether it has said something later already: what this says of its log is old.
    pub is_late: bool,
}

/// Two agents use one identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("agent {agent_id} {evidence}, {IDENTITY_ADVICE}")]
pub struct Conflict {
    /// The identity.
    pub agent_id: AgentId,
    /// How it is known.
    pub evidence: Evidence,
}

/// Why a caller was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Two agents use one identity.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// It may have ended.
    #[error("another process of this agent spoke moments ago, if this one runs, ask again")]
    Unknown,
}

/// How a conflict is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Another instance speaks for the agent now; where, if that is known.
    Instance(Option<Place>),
    /// What it sends isn't what is stored: in words, and where the other is, if that is known.
    Records(String, Option<Place>),
}

/// A conflict as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConflictView {
    /// Unix milliseconds when it was first seen.
    pub since_ms: i64,
    /// Unix milliseconds when it was last seen.
    pub last_ms: i64,
    /// The hosts that use the identity, the refused one first.
    pub hosts: Vec<Place>,
    /// What to do with one of the two, once it is stopped.
    pub advice: &'static str,
}

#[derive(Debug)]
struct Noted {
    since_ms: i64,
    last_ms: i64,
    refused: Place,
    other: Option<Place>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, addresses } = self;
        match addresses.as_slice() {
            [] => write!(f, "host {host}"),
            addresses => write!(f, "host {host} ({})", addresses.join(", ")),
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |f: &mut fmt::Formatter<'_>, place: &Option<Place>| match place {
            Some(place) => write!(f, " on {place}"),
            None => Ok(()),
        };
        match self {
            Self::Instance(place) => {
                write!(f, "is in use by another process")?;
                on(f, place)?;
                write!(f, ": stop one of the two agents")
            }
            Self::Records(reason, place) => {
                write!(f, "is in use with another log")?;
                on(f, place)?;
                write!(f, ": {reason}: stop this agent")
            }
        }
    }
}

impl Instances {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(now_ms: i64) -> Self {
        // The standard library's own source of chance, so that it needs no other.
        let drawn = RandomState::new().hash_one(now_ms);
        Self {
            started_ms: now_ms,
            hub: u32::try_from(drawn >> 32).unwrap_or_default(),
            words: AtomicU64::new(0),
            agents: Mutex::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// A word for a reply: to be taken when what it answers was heard.
    #[must_use]
    pub fn word(&self) -> Word {
        Word { hub: self.hub, n: self.words.fetch_add(1, Relaxed) + 1 }
    }

    /// Lets the caller speak for its agent.
    ///
    /// # Errors
    /// [`Refused`] when somebody else speaks for it.
    pub fn admit(&self, caller: &Caller<'_>, now_ms: i64) -> Result<Admitted, Refused> {
        let is_new_here = now_ms.abs_diff(self.started_ms) < SILENT_MS.unsigned_abs();
        let mut agents = self.lock();
        let Word { hub, n: word } = self.word();
        // What another hub has said is nothing to this one.
        let heard = caller.heard.filter(|heard| heard.hub == hub && heard.n < word);
        let heard = heard.map_or(0, |heard| heard.n);
        make_room(&mut agents, caller.agent_id, now_ms);
        let has_room = agents.len() < AGENTS_MAX;
        let speakers = match agents.entry(caller.agent_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) if has_room => vacant.insert(Speakers::new(caller, word, now_ms)),
            // More agents than are remembered: the store still compares.
            Entry::Vacant(_) => {
                return Ok(Admitted {
                    is_alone: false,
                    is_late: false,
                    number: word,
                    after: heard,
                });
            }
        };
        match speakers.admit(caller, heard, word, now_ms) {
            Standing::Speaks { is_alone, is_late } => {
                let is_alone = is_alone && !is_new_here;
                Ok(Admitted { is_alone, is_late, number: word, after: heard })
            }
            Standing::Unknown => Err(Refused::Unknown),
            Standing::Refused(other) => {
                let evidence = Evidence::Instance(Some(other.clone()));
                self.note(speakers, caller, Some(other), &evidence, now_ms);
                Err(Conflict { agent_id: caller.agent_id, evidence }.into())
            }
        }
    }

    /// What the caller sent, whom [`Instances::admit`] let in, isn't what is stored, for this reason.
    pub fn diverged(&self, caller: &Caller<'_>, reason: String, now_ms: i64) -> Conflict {
        let mut agents = self.lock();
        let Some(speakers) = agents.get_mut(&caller.agent_id) else {
            let evidence = Evidence::Records(reason, None);
            return Conflict { agent_id: caller.agent_id, evidence };
        };
        let other = speakers.give_way(caller, now_ms);
        let evidence = Evidence::Records(reason, other.clone());
        self.note(speakers, caller, other, &evidence, now_ms);
        Conflict { agent_id: caller.agent_id, evidence }
    }

    /// Notes that a conflict was seen; says so when it is a new one.
    fn note(
        &self,
        speakers: &mut Speakers,
        caller: &Caller<'_>,
        other: Option<Place>,
        evidence: &Evidence,
        now_ms: i64,
    ) {
        let refused = speakers.place_of(caller);
        let lasting = speakers.conflict.take().filter(|noted| noted.is_on(now_ms));
        let since_ms = lasting.as_ref().map_or(now_ms, |noted| noted.since_ms);
        if lasting.is_none() {
            self.begun.fetch_add(1, Relaxed);
            tracing::warn!(
                refused = %refused,
                "two agents use one identity: agent {} {evidence}, {IDENTITY_ADVICE}",
                caller.agent_id
            );
        }
        let other = other.or_else(|| lasting.and_then(|noted| noted.other));
        speakers.conflict = Some(Noted { since_ms, last_ms: now_ms, refused, other });
    }

    /// The conflicts that are on, by agent.
    #[must_use]
    pub fn conflicts(&self, now_ms: i64) -> HashMap<AgentId, ConflictView> {
        let agents = self.lock();
        let on = agents.iter().filter_map(|(agent_id, speakers)| {
            let noted = speakers.conflict.as_ref().filter(|noted| noted.is_on(now_ms))?;
            Some((*agent_id, noted.view()))
        });
        on.collect()
    }

    /// Conflicts that were seen since the hub started, each counted once.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Speakers>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets agents that have gone when there are too many.
fn make_room(agents: &mut HashMap<AgentId, Speakers>, for_whom: AgentId, now_ms: i64) {
    if agents.len() >= AGENTS_MAX && !agents.contains_key(&for_whom) {
        agents.retain(|_, speakers| speakers.is_there(now_ms));
    }
}

impl Place {
    fn of(caller: &Caller<'_>) -> Self {
        let addresses = caller.addresses.iter().take(ADDRESSES_KEPT).cloned().collect();
        Self { host: caller.host.to_owned(), addresses }
    }

    /// The host as the caller says it; addresses, if it says them.
    fn hear(&mut self, caller: &Caller<'_>) {
        if self.host != caller.host {
            caller.host.clone_into(&mut self.host);
        }
        let addresses = &caller.addresses[..caller.addresses.len().min(ADDRESSES_KEPT)];
        if !addresses.is_empty() && self.addresses != addresses {
            self.addresses = addresses.to_vec();
        }
    }
}

impl Noted {
    const fn is_on(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.last_ms) < FADE_MS
    }

    fn view(&self) -> ConflictView {
        ConflictView {
            since_ms: self.since_ms,
            last_ms: self.last_ms,
            hosts: std::iter::once(&self.refused).chain(&self.other).cloned().collect(),
            advice: IDENTITY_ADVICE,
        }
    }
}

#[cfg(test)]
mod tests;
