//! Which process speaks for an agent, and whether two do.
//!
//! An agent's identity and its log are files; a copied disk, virtual machine or data directory is a
//! second host under the first one's name. Both would go on with the same stream under the same numbers,
//! and what the second sends would look like the first one's retries: acknowledged, and dropped. So
//! each start of an agent draws an instance id, and says it with every heartbeat and request.
//!
//! - A new instance takes over from the one before: that is a restart. If it was heard of only once
//!   when the one before goes on, it was none, but a request of a forgotten process that was late on the
//!   way, and the one before speaks again.
//! - One that was taken over from and comes again is refused ([`Conflict`], 409). The conflict fades after
//!   [`FADE_MS`] unless it is seen again.
//! - What was late on the way shows no conflict: by its sender's clock it was not said after what was
//!   heard of that sender, or after the process that speaks now has begun. Nothing of it is taken, and
//!   who sends it is told to ask again ([`Refused::Late`]): if it is there all the same, with a clock
//!   that was set back, it is let in soon.
//! - When the one that took over has been silent for [`SILENT_MS`], one that knocks again and again is
//!   let in: the other has gone, and nobody needs to do anything.
//! - One whose records contradict what is stored ([`Instances::diverged`]) gives way to one that was
//!   heard of lately: the store holds that one's records, and it can go on.
//!
//! What is caught: two processes that speak to this hub within [`SILENT_MS`] of each other, whatever
//! they send. By the store, over restarts of the hub: content that differs from the latest records
//! stored, and a log that ends before what is stored. What isn't: two that never run at the same time,
//! where the second goes on exactly where the first has ended (one host, as far as anyone can tell);
//! and, long after the first has gone, one that is more than the store's memory of checksums behind but
//! has itself written more than the first: what it has under the first one's numbers counts as sent.
//!
//! All of it is in memory and bounded. A hub that was restarted learns it again within one heartbeat,
//! and takes nobody to be alone until then.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::Serialize;
use wire::{
    AgentId, InstanceId,
    api::{IDENTITY_ADVICE, OFFLINE_AFTER_S},
};

/// An instance that wasn't heard of for so long has gone, in milliseconds.
pub const SILENT_MS: i64 = OFFLINE_AFTER_S.cast_signed() * 1_000;
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
    /// Unix milliseconds by its clock when it said this.
    pub sent_ms: i64,
    /// Its host's name.
    pub host: &'a str,
    /// Its host's addresses, if it says them.
    pub addresses: &'a [String],
}

/// How a caller was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whether nobody else spoke for its agent lately.
    pub is_alone: bool,
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
    /// It was late on the way, as far as can be told.
    #[error("another process of this agent speaks now, if this one runs too, ask again")]
    Late,
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

/// The processes of one agent.
#[derive(Debug)]
struct Speakers {
    current: Speaker,
    /// Those that were taken over from, or gave way.
    others: Vec<Speaker>,
    /// Which of them the current one has taken over from.
    before: Option<InstanceId>,
    conflict: Option<Noted>,
}

#[derive(Debug)]
struct Speaker {
    instance_id: InstanceId,
    place: Place,
    heard_ms: i64,
    /// By its own clock: when it said the first and the latest that was heard.
    sent_ms: (i64, i64),
    refused_ms: Option<i64>,
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
        Self { started_ms: now_ms, agents: Mutex::default(), begun: AtomicU64::new(0) }
    }

    /// Lets the caller speak for its agent.
    ///
    /// # Errors
    /// [`Refused`] when somebody else speaks for it.
    pub fn admit(&self, caller: &Caller<'_>, now_ms: i64) -> Result<Admitted, Refused> {
        let is_new_here = now_ms.saturating_sub(self.started_ms) < SILENT_MS;
        let mut agents = self.lock();
        make_room(&mut agents, caller.agent_id, now_ms);
        let has_room = agents.len() < AGENTS_MAX;
        let speakers = match agents.entry(caller.agent_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) if has_room => {
                vacant.insert(Speakers::of(Speaker::new(caller, now_ms)))
            }
            // More agents than are remembered: the store still compares.
            Entry::Vacant(_) => return Ok(Admitted { is_alone: !is_new_here, is_late: false }),
        };
        let is_late = speakers.is_late(caller, now_ms);
        let is_current = speakers.current.instance_id == caller.instance_id;
        if is_late && !is_current {
            return Err(Refused::Late);
        }
        if speakers.admit(caller, now_ms) {
            speakers.current.hear(caller, now_ms);
            let is_alone = !is_new_here && speakers.heard_lately(now_ms).is_none();
            return Ok(Admitted { is_alone, is_late });
        }
        let other = speakers.current.place.clone();
        let evidence = Evidence::Instance(Some(other.clone()));
        self.note(speakers, caller, Some(other), &evidence, now_ms);
        Err(Conflict { agent_id: caller.agent_id, evidence }.into())
    }

    /// What the caller sent, whom [`Instances::admit`] let in, isn't what is stored, for this reason.
    pub fn diverged(&self, caller: &Caller<'_>, reason: String, now_ms: i64) -> Conflict {
        let mut agents = self.lock();
        let Some(speakers) = agents.get_mut(&caller.agent_id) else {
            let evidence = Evidence::Records(reason, None);
            return Conflict { agent_id: caller.agent_id, evidence };
        };
        let other = speakers.give_way(caller.instance_id, now_ms);
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
        agents.retain(|_, speakers| speakers.current.is_heard(now_ms));
    }
}

impl Speakers {
    const fn of(current: Speaker) -> Self {
        Self { current, others: Vec::new(), before: None, conflict: None }
    }

    /// Whether this was said before what is known already.
    fn is_late(&self, caller: &Caller<'_>, now_ms: i64) -> bool {
        if self.current.instance_id == caller.instance_id {
            return caller.sent_ms < self.current.sent_ms.1;
        }
        let known = self.others.iter().find(|other| other.instance_id == caller.instance_id);
        let is_older = self.current.is_heard(now_ms) && caller.sent_ms < self.current.sent_ms.0;
        known.is_some_and(|other| is_older || caller.sent_ms <= other.sent_ms.1)
    }

    /// Whether the caller, who isn't late, is who speaks, or takes over now.
    fn admit(&mut self, caller: &Caller<'_>, now_ms: i64) -> bool {
        if self.current.instance_id == caller.instance_id {
            return true;
        }
        let known = self.others.iter().position(|other| other.instance_id == caller.instance_id);
        let Some(index) = known else { return self.succeed(caller, now_ms) };
        if self.before == Some(caller.instance_id) && self.current.is_heard_once() {
            std::mem::swap(&mut self.current, &mut self.others[index]);
            self.before = None;
            return true;
        }
        let knocks = self.others[index].refused_ms.replace(now_ms);
        let keeps_knocking = knocks.is_some_and(|before| now_ms.saturating_sub(before) < FADE_MS);
        self.others[index].hear(caller, now_ms);
        if self.current.is_heard(now_ms) || !keeps_knocking {
            return false;
        }
        tracing::info!(
            agent = %caller.agent_id, now = %self.others[index].place, before = %self.current.place,
            "the other agent of this identity has gone, this one is let in again"
        );
        self.others[index].refused_ms = None;
        std::mem::swap(&mut self.current, &mut self.others[index]);
        true
    }

    /// A new instance takes over, unless so many speak at once that they can't be told apart.
    fn succeed(&mut self, caller: &Caller<'_>, now_ms: i64) -> bool {
        if self.others.len() == OTHERS_MAX {
            let oldest = (0..OTHERS_MAX).min_by_key(|index| self.others[*index].heard_ms);
            let gone = oldest.filter(|index| !self.others[*index].is_heard(now_ms));
            let Some(index) = gone else { return false };
            self.others.swap_remove(index);
        }
        let new = Speaker::new(caller, now_ms);
        self.before = Some(self.current.instance_id);
        self.others.push(std::mem::replace(&mut self.current, new));
        true
    }

    /// The current instance gives way to one that was heard of lately; returns where that is.
    fn give_way(&mut self, instance_id: InstanceId, now_ms: i64) -> Option<Place> {
        if self.current.instance_id == instance_id {
            let index = self.heard_lately(now_ms)?;
            self.current.refused_ms = Some(now_ms);
            self.others[index].refused_ms = None;
            std::mem::swap(&mut self.current, &mut self.others[index]);
        }
        Some(self.current.place.clone())
    }

    /// The other that was heard of last, if it was lately.
    fn heard_lately(&self, now_ms: i64) -> Option<usize> {
        let latest = (0..self.others.len()).max_by_key(|index| self.others[*index].heard_ms);
        latest.filter(|index| self.others[*index].is_heard(now_ms))
    }

    /// Where the caller is, with the addresses that it said before.
    fn place_of(&self, caller: &Caller<'_>) -> Place {
        let mut known = self.others.iter().chain([&self.current]);
        let known = known.find(|speaker| speaker.instance_id == caller.instance_id);
        known.map_or_else(|| Place::of(caller), |speaker| speaker.place.clone())
    }
}

impl Speaker {
    fn new(caller: &Caller<'_>, now_ms: i64) -> Self {
        let place = Place::of(caller);
        let (instance_id, sent_ms) = (caller.instance_id, (caller.sent_ms, caller.sent_ms));
        Self { instance_id, place, heard_ms: now_ms, sent_ms, refused_ms: None }
    }

    fn hear(&mut self, caller: &Caller<'_>, now_ms: i64) {
        self.heard_ms = now_ms;
        self.sent_ms.1 = self.sent_ms.1.max(caller.sent_ms);
        if self.place.host != caller.host {
            caller.host.clone_into(&mut self.place.host);
        }
        let addresses = &caller.addresses[..caller.addresses.len().min(ADDRESSES_KEPT)];
        if !addresses.is_empty() && self.place.addresses != addresses {
            self.place.addresses = addresses.to_vec();
        }
    }

    const fn is_heard_once(&self) -> bool {
        self.sent_ms.0 == self.sent_ms.1
    }

    const fn is_heard(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.heard_ms) < SILENT_MS
    }
}

impl Place {
    fn of(caller: &Caller<'_>) -> Self {
        let addresses = caller.addresses.iter().take(ADDRESSES_KEPT).cloned().collect();
        Self { host: caller.host.to_owned(), addresses }
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
