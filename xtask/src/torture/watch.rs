//! Looks at the hub from outside, all the time: what it says it holds of each agent may never become
//! less, and an agent's stream may never become another.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;

use crate::programs::{Api, Life, millis, unix_now};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What the hub said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// By host: the highest number acknowledged.
    pub(super) acked: BTreeMap<String, u64>,
    /// By host: its stream.
    streams: BTreeMap<String, Value>,
    /// What must not be.
    pub(super) faults: Vec<String>,
    /// By host: when more was acknowledged, Unix milliseconds, and up to which number.
    progress: BTreeMap<String, Vec<(i64, u64)>>,
    /// Unix milliseconds when the hub answered again.
    returns_ms: Vec<i64>,
    is_away: bool,
}

/// A thread that looks until it is dropped.
pub(super) struct Watch {
    eye: Arc<Eye>,
    thread: Option<JoinHandle<()>>,
}

struct Eye {
    api: Api,
    /// Looks don't overlap: an earlier answer must not be taken for one that went back.
    looking: Mutex<()>,
    seen: Mutex<Seen>,
    over: AtomicBool,
}

impl Watch {
    pub(super) fn start(api: Api) -> Self {
        let (looking, seen, over) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        let eye = Arc::new(Eye { api, looking, seen, over });
        let looking = Arc::clone(&eye);
        let thread = thread::spawn(move || {
            while !looking.over.load(SeqCst) {
                looking.look();
                thread::sleep(LOOK_INTERVAL);
            }
        });
        Self { eye, thread: Some(thread) }
    }

    /// Looks now, and says what was seen so far.
    pub(super) fn look(&self) -> Seen {
        self.eye.look();
        self.seen()
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        lock(&self.eye.seen).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.eye.over.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Eye {
    /// One look; a hub that is away says nothing.
    fn look(&self) {
        let _one = lock(&self.looking);
        let answer = self.api.get("/api/v1/hosts").ok();
        lock(&self.seen).take(answer.as_ref(), millis(unix_now()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn take(&mut self, answer: Option<&Value>, now_ms: i64) {
        let was_away = std::mem::replace(&mut self.is_away, answer.is_none());
        let Some(answer) = answer else { return };
        if was_away {
            self.returns_ms.push(now_ms);
        }
        for host in answer["hosts"].as_array().into_iter().flatten() {
            let Some(name) = host["host"].as_str() else { continue };
            let acked_seq = host["acked_seq"].as_u64().unwrap_or(0);
            let before = self.acked.insert(name.to_owned(), acked_seq).unwrap_or(0);
            if acked_seq < before {
                self.faults.push(format!("{name}: acknowledged {before}, then {acked_seq}"));
            }
            if acked_seq > before {
                self.progress.entry(name.to_owned()).or_default().push((now_ms, acked_seq));
            }
            if host["stream_id"].is_null() {
                continue;
            }
            let stream = &host["stream_id"];
            let before = self.streams.insert(name.to_owned(), stream.clone());
            if let Some(before) = before.filter(|before| before != stream) {
                self.faults.push(format!("{name}: stream {before}, then {stream}"));
            }
        }
    }
}

impl Seen {
    /// Longest time from a return of the hub until it had all that an agent had said was durable.
    pub(super) fn longest_drain(&self, host: &str, lives: &[Life]) -> Duration {
        let progress = self.progress.get(host).map_or(&[][..], Vec::as_slice);
        let said = |until_ms: i64| {
            let said = lives.iter().flat_map(|life| &life.said);
            said.filter(|durable| durable.time_ms <= until_ms).map(|durable| durable.seq).max()
        };
        let drained_after = |back_ms: &i64| {
            let waiting = said(*back_ms)?;
            let had_it = progress.iter().find(|(_, acked_seq)| *acked_seq >= waiting)?.0;
            u64::try_from(had_it - back_ms).ok()
        };
        let longest = self.returns_ms.iter().filter_map(drained_after).max();
        Duration::from_millis(longest.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::programs::Durable;

    fn hosts(acked_seq: u64, stream_id: &str) -> Value {
        json!({"hosts": [{"host": "a", "acked_seq": acked_seq, "stream_id": stream_id}]})
    }

    #[test]
    fn a_drain_lasts_from_the_return_until_all_has_come() {
        let said =
            (1..=4).map(|seq| Durable { seq, time_ms: 1_000 * seq.cast_signed(), is_gap: false });
        let lives = [Life { said: said.collect(), ..Life::default() }];
        let mut seen = Seen::default();
        let mut at = |now_ms, acked: Option<u64>| {
            seen.take(acked.map(|acked_seq| hosts(acked_seq, "s")).as_ref(), now_ms);
        };
        at(1_100, Some(1));
        at(1_200, None);
        at(3_200, Some(1));
        at(3_700, Some(2));
        at(3_900, Some(3));
        at(4_100, Some(4));
        assert_eq!(seen.longest_drain("a", &lives), Duration::from_millis(700));
        assert_eq!(seen.longest_drain("b", &lives), Duration::ZERO);
    }

    #[test]
    fn going_back_is_a_fault() {
        let check = |answers: &[(u64, &str)], faults: usize| {
            let mut seen = Seen::default();
            for (acked_seq, stream_id) in answers {
                seen.take(Some(&hosts(*acked_seq, stream_id)), 0);
            }
            assert_eq!(seen.faults.len(), faults, "{answers:?}: {:?}", seen.faults);
        };
        check(&[(1, "s"), (1, "s"), (5, "s")], 0);
        check(&[(5, "s"), (4, "s")], 1);
        check(&[(5, "s"), (5, "t")], 1);
    }
}
