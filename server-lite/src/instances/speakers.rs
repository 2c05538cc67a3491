//! The processes of one agent: which of them speaks, and which are refused.
//!
//! Two of them are *rivals* when each has heard a word that the hub gave after it had first heard of the
//! other: both ran after both had begun. No lateness, no order of arrival and no clock makes rivals of a
//! process and the one that was started after it had ended.

use std::cmp::Ordering;

use wire::{AgentId, InstanceId};

use super::{Caller, FADE_MS, Noted, OTHERS_MAX, Place, SILENT_MS};

/// What is known of the processes of one agent.
#[derive(Debug)]
pub(super) struct Speakers {
    current: InstanceId,
    all: Vec<Speaker>,
    pub(super) conflict: Option<Noted>,
}

#[derive(Debug)]
struct Speaker {
    instance_id: InstanceId,
    place: Place,
    /// The word that the hub might have given when it first heard of it.
    first: u64,
    /// The latest word that it has heard; 0 for none.
    heard: u64,
    /// By its own clock: when it said the latest.
    sent_ms: i64,
    /// By the hub's clock: when it last showed that it runs.
    shown_ms: i64,
    refused_ms: Option<i64>,
}

/// Whether a caller may speak.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It speaks.
    Speaks {
        /// No other was there lately, and it certainly is.
        is_alone: bool,
        /// It has said something later already.
        is_late: bool,
    },
    /// It may have ended long ago.
    Unknown,
    /// Another one speaks, and is there.
    Refused(Place),
}

impl Speakers {
    /// The first that is heard of.
    pub(super) fn new(caller: &Caller<'_>, word: u64, now_ms: i64) -> Self {
        let first = Speaker::new(caller, word, now_ms);
        Self { current: first.instance_id, all: vec![first], conflict: None }
    }

    /// Hears a caller, who has heard the word `heard` (0 for none); `word` is one that nobody was given.
    pub(super) fn admit(
        &mut self,
        caller: &Caller<'_>,
        heard: u64,
        word: u64,
        now_ms: i64,
    ) -> Standing {
        let Some(known) = self.place_among(caller, word, now_ms) else { return Standing::Unknown };
        let said = self.all[known].hear(caller, heard, now_ms);
        match self.judge(known, said, now_ms) {
            Verdict::Speaks => {
                self.speak(known, caller.agent_id, now_ms);
                let latest = self.all.iter().map(|speaker| speaker.first).max().unwrap_or(0);
                let is_alone = self.all[known].runs_since(latest) && !self.has_other(known, now_ms);
                Standing::Speaks { is_alone, is_late: said == Said::Late }
            }
            Verdict::Unknown => Standing::Unknown,
            Verdict::Refused(other) => {
                self.all[known].refused_ms = Some(now_ms);
                Standing::Refused(self.all[other].place.clone())
            }
        }
    }

    fn judge(&self, caller: usize, said: Said, now_ms: i64) -> Verdict {
        let (speaker, others) = (&self.all[caller], self.others_there(caller, now_ms));
        let stronger = others
            .filter(|other| self.all[*other].is_rival_of(speaker))
            .filter(|other| self.all[*other].rank(now_ms) < speaker.rank(now_ms))
            .min_by_key(|other| self.all[*other].rank(now_ms));
        if let Some(other) = stronger {
            return Verdict::Refused(other);
        }
        let Some(current) = self.index_of(self.current).filter(|current| *current != caller) else {
            return Verdict::Speaks;
        };
        let is_there = self.all[current].is_there(now_ms);
        if is_there && speaker.is_refused(now_ms) {
            return Verdict::Refused(current);
        }
        // Where nobody is there, it needn't be certain; but a copy of what it said before shows nothing.
        let runs = speaker.runs_since(speaker.first.max(self.all[current].first));
        if runs || !is_there && said == Said::New { Verdict::Speaks } else { Verdict::Unknown }
    }

    fn speak(&mut self, index: usize, agent_id: AgentId, now_ms: i64) {
        let speaker = &mut self.all[index];
        if speaker.refused_ms.take().is_some() && self.current != speaker.instance_id {
            tracing::info!(
                agent = %agent_id, now = %speaker.place,
                "the other agent of this identity has gone, this one is let in again"
            );
        }
        if self.current != speaker.instance_id {
            self.current = speaker.instance_id;
            speaker.shown_ms = now_ms;
        }
    }

    /// The caller, who was let in, gives way to another that is there; returns where that is.
    pub(super) fn give_way(&mut self, caller: &Caller<'_>, now_ms: i64) -> Option<Place> {
        let index = self.index_of(caller.instance_id)?;
        self.all[index].refused_ms = Some(now_ms);
        let other =
            self.others_there(index, now_ms).min_by_key(|other| self.all[*other].rank(now_ms))?;
        self.all[other].refused_ms = None;
        self.current = self.all[other].instance_id;
        Some(self.all[other].place.clone())
    }

    /// The caller's index; `None` if there is no room for one more.
    fn place_among(&mut self, caller: &Caller<'_>, word: u64, now_ms: i64) -> Option<usize> {
        if let Some(known) = self.index_of(caller.instance_id) {
            return Some(known);
        }
        if self.all.len() > OTHERS_MAX {
            let gone = (0..self.all.len()).filter(|index| self.is_gone(*index, now_ms));
            let gone = gone.min_by_key(|index| self.all[*index].shown_ms)?;
            self.all.swap_remove(gone);
        }
        self.all.push(Speaker::new(caller, word, now_ms));
        Some(self.all.len() - 1)
    }

    /// Whether it isn't there, or may have ended before the current one began.
    fn is_gone(&self, index: usize, now_ms: i64) -> bool {
        let speaker = &self.all[index];
        let began = self.index_of(self.current).map_or(0, |current| self.all[current].first);
        speaker.instance_id != self.current
            && (!speaker.is_there(now_ms) || !speaker.runs_since(began))
    }

    fn index_of(&self, instance_id: InstanceId) -> Option<usize> {
        self.all.iter().position(|speaker| speaker.instance_id == instance_id)
    }

    fn others_there(&self, index: usize, now_ms: i64) -> impl Iterator<Item = usize> {
        let there = move |other: &usize| *other != index && self.all[*other].is_there(now_ms);
        (0..self.all.len()).filter(there)
    }

    fn has_other(&self, index: usize, now_ms: i64) -> bool {
        self.others_there(index, now_ms).next().is_some()
    }

    /// Whether the one that speaks is there.
    pub(super) fn is_there(&self, now_ms: i64) -> bool {
        self.index_of(self.current).is_some_and(|current| self.all[current].is_there(now_ms))
    }

    /// Where the caller is, with the addresses that it said before.
    pub(super) fn place_of(&self, caller: &Caller<'_>) -> Place {
        let known = self.index_of(caller.instance_id);
        known.map_or_else(|| Place::of(caller), |known| self.all[known].place.clone())
    }
}

enum Verdict {
    Speaks,
    Unknown,
    Refused(usize),
}

/// What a message shows of the process that sent it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// More than was known.
    New,
    /// Nothing: it has come before, or might have.
    Again,
    /// Nothing: it was said before what is known.
    Late,
}

impl Speaker {
    fn new(caller: &Caller<'_>, word: u64, now_ms: i64) -> Self {
        Self {
            instance_id: caller.instance_id,
            place: Place::of(caller),
            first: word,
            heard: 0,
            sent_ms: i64::MIN,
            shown_ms: now_ms,
            refused_ms: None,
        }
    }

    fn hear(&mut self, caller: &Caller<'_>, heard: u64, now_ms: i64) -> Said {
        if heard > self.heard {
            (self.heard, self.shown_ms) = (heard, now_ms);
        }
        match caller.sent_ms.cmp(&self.sent_ms) {
            Ordering::Less => Said::Late,
            Ordering::Equal => Said::Again,
            Ordering::Greater => {
                self.sent_ms = caller.sent_ms;
                self.place.hear(caller);
                Said::New
            }
        }
    }

    /// Whether it is known to have run after that word was given.
    const fn runs_since(&self, word: u64) -> bool {
        self.heard >= word
    }

    const fn is_rival_of(&self, other: &Self) -> bool {
        self.runs_since(other.first) && other.runs_since(self.first)
    }

    const fn is_there(&self, now_ms: i64) -> bool {
        is_within(self.shown_ms, now_ms, SILENT_MS)
    }

    fn is_refused(&self, now_ms: i64) -> bool {
        self.refused_ms.is_some_and(|at_ms| is_within(at_ms, now_ms, FADE_MS))
    }

    /// Of two rivals the lesser goes on: one that is refused stays so, else the one that was there first
    /// goes on.
    fn rank(&self, now_ms: i64) -> (bool, u64) {
        (self.is_refused(now_ms), self.first)
    }
}

/// Whether less than `span_ms` lies between; after a clock was set, either way.
const fn is_within(then_ms: i64, now_ms: i64, span_ms: i64) -> bool {
    now_ms.abs_diff(then_ms) < span_ms.unsigned_abs()
}
