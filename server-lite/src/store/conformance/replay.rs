//! Several hosts come back after the hub was away for three days, and what they send goes in between what
//! is there: every bucket of every level is what the samples come to, at each moment.

use std::{collections::BTreeMap, sync::Arc};

use wire::EncodedSchema;

use super::{
    Fake, FakeAgent,
    rollups::{DAY_MS, FOR_LONG, FROM_MS, keep_house, recomputed},
    schema, series_of,
};
use crate::store::{RollupRequest, SeriesId, Store, rollup::Level};

const AGENTS: [u8; 4] = [30, 31, 32, 33];
const TICK_MS: i64 = 5 * 60_000;
const TICKS_A_DAY: u64 = 288;
/// Ticks of one request.
const ONCE: usize = 108;

/// Numbers of records and their times.
type Part = Vec<(u64, i64)>;

/// A host, and what has been acknowledged to it.
struct Sender {
    agent: u8,
    schema: Arc<EncodedSchema>,
    ids: Vec<SeriesId>,
    stored: Vec<BTreeMap<i64, f64>>,
}

pub(super) async fn run(store: &dyn Store) {
    let schema = schema("replayed", 2);
    let mut senders: Vec<Sender> = AGENTS
        .iter()
        .map(|agent| Sender {
            agent: *agent,
            schema: Arc::clone(&schema),
            ids: vec![],
            stored: vec![BTreeMap::new(); 2],
        })
        .collect();
    // A day before the hub went away, and one after it came back; each agent has been started anew.
    for (stream, days, now) in [(1, 0..1, 4), (2, 4..5, 6)] {
        for sender in &mut senders {
            for ticks in ticks(days.clone()).chunks(ONCE) {
                sender.send(store, stream, ticks).await;
            }
        }
        check(store, &mut senders).await;
        keep_house(store, FROM_MS + now * DAY_MS, FOR_LONG).await;
        check(store, &mut senders).await;
    }
    // The three days between, each host's in order, the hosts as chance has it.
    let mut left: Vec<(usize, Vec<Part>)> = (0..senders.len())
        .map(|host| (host, ticks(1..4).chunks(ONCE).rev().map(<[_]>::to_vec).collect()))
        .collect();
    let mut random = 4_u64;
    for sent in 1.. {
        left.retain(|(_, rest)| !rest.is_empty());
        if left.is_empty() {
            break;
        }
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let next = (random >> 33) as usize % left.len();
        let (host, rest) = &mut left[next];
        let ticks = rest.pop().unwrap();
        senders[*host].send(store, 1, &ticks).await;
        if sent % 8 == 0 {
            check(store, &mut senders).await;
        }
        if sent == 16 {
            keep_house(store, FROM_MS + 6 * DAY_MS, FOR_LONG).await;
            check(store, &mut senders).await;
        }
    }
    keep_house(store, FROM_MS + 7 * DAY_MS, FOR_LONG).await;
    check(store, &mut senders).await;
    // And what was late on the way: before all there is, in the middle of it, and behind it.
    for sender in &mut senders {
        let late = (0..60_u64)
            .map(|n| (n + 1, FROM_MS - DAY_MS / 2 + n.cast_signed() * (DAY_MS / 9) + 977));
        sender.send(store, 3, &late.collect::<Vec<_>>()).await;
    }
    check(store, &mut senders).await;
    keep_house(store, FROM_MS + 9 * DAY_MS, FOR_LONG).await;
    check(store, &mut senders).await;
}

/// Sequence numbers and times of some days.
fn ticks(days: std::ops::Range<u64>) -> Vec<(u64, i64)> {
    let ticks = days.start * TICKS_A_DAY + 1..=days.end * TICKS_A_DAY;
    ticks.map(|n| (n, FROM_MS + n.cast_signed() * TICK_MS)).collect()
}

impl Sender {
    async fn send(&mut self, store: &dyn Store, stream: u8, ticks: &[(u64, i64)]) {
        let agent = FakeAgent::new(self.agent, stream, &[&self.schema]);
        // A counter that begins again now and then, and a gauge.
        let values = |time_ms: i64| {
            let n = time_ms / 1_000 + i64::from(self.agent);
            vec![(n % 90_000) as f64, (n * 31 % 17) as f64]
        };
        let records: Vec<Fake> = ticks
            .iter()
            .map(|(seq, time_ms)| {
                Fake::TickAt(*seq, *time_ms, vec![(self.schema.id, values(*time_ms))])
            })
            .collect();
        let reply = agent.send(store, &records).await;
        assert_eq!(reply.records as usize, ticks.len());
        for (_, time_ms) in ticks {
            for (stored, value) in self.stored.iter_mut().zip(values(*time_ms)) {
                stored.insert(*time_ms, value);
            }
        }
    }
}

async fn check(store: &dyn Store, senders: &mut [Sender]) {
    for sender in senders.iter_mut().filter(|sender| sender.ids.is_empty()) {
        let series = series_of(store, &format!("host-{}", sender.agent), "replayed").await;
        sender.ids = series.iter().map(|series| series.id).collect();
    }
    let series: Vec<SeriesId> = senders.iter().flat_map(|sender| sender.ids.clone()).collect();
    let stored: Vec<_> = senders.iter().flat_map(|sender| &sender.stored).collect();
    for level in Level::ALL {
        let (from_ms, to_ms) = super::EVER;
        let request = RollupRequest { series: series.clone(), level, from_ms, to_ms };
        let found = store.rollups(request).await.unwrap().collect(series.len()).await.unwrap();
        for (found, stored) in found.iter().zip(&stored) {
            let samples: Vec<(i64, f64)> = stored.iter().map(|(t, v)| (*t, *v)).collect();
            assert_eq!(*found, recomputed(level, &samples), "{level:?}");
        }
    }
}
