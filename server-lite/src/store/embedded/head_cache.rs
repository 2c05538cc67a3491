//! Rows of the head as they were read last, in memory: a dashboard asks for the same ones every few seconds, and
//! reading a row again means to unpack all of a tick for a few of its values.
//!
//! A row never changes while it is there; what it is known by ([`Key`]) says which of its records count, so
//! nothing has to be told of what is sealed: it is asked for no more, and goes when newer ones need the room.
//! Bounded by bytes; what was read first goes first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    head::{HeadTick, Members},
    ledger::Seqs,
};

/// Bytes of ticks in memory: of some forty hosts' heads of 400 series.
const BYTES_MAX: usize = 64 << 20;

/// What a row is known by: its id might be given again once it is sealed and the hub has forgotten its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Its id.
    pub(crate) id: i64,
    /// First and last of its records that count.
    pub(crate) seqs: (u64, u64),
    /// Earliest and latest time.
    pub(crate) span: (i64, i64),
}

impl Key {
    /// Of a row.
    pub(crate) const fn new(id: i64, seqs: Seqs, span: (i64, i64)) -> Self {
        Self { id, seqs: (seqs.first, seqs.last), span }
    }
}

/// Rows, unpacked.
#[derive(Debug, Default)]
pub(crate) struct HeadCache(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    rows: HashMap<Key, Arc<[HeadTick]>>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl HeadCache {
    /// The ticks of a row, if they are there.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<[HeadTick]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rows.get(key).map(Arc::clone)
    }

    /// Keeps the ticks of a row.
    pub(crate) fn put(&self, key: Key, ticks: &Arc<[HeadTick]>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, ticks, BYTES_MAX);
    }
}

impl Rows {
    fn put(&mut self, key: Key, ticks: &Arc<[HeadTick]>, bytes_max: usize) {
        let bytes = bytes_of(ticks);
        if bytes > bytes_max || self.rows.contains_key(&key) {
            return;
        }
        while self.bytes + bytes > bytes_max
            && let Some(first) = self.order.pop_front()
        {
            self.bytes -= self.rows.remove(&first).map_or(0, |gone| bytes_of(&gone));
        }
        self.rows.insert(key, Arc::clone(ticks));
        self.order.push_back(key);
        self.bytes += bytes;
    }
}

/// What ticks take in memory, with what is needed to find them.
fn bytes_of(ticks: &[HeadTick]) -> usize {
    let series = |tick: &HeadTick| match &tick.series {
        Members::Schemas(schemas) => size_of_val(schemas.as_slice()),
        Members::Ids(ids) => size_of_val(ids.as_slice()),
    };
    let tick = |tick: &HeadTick| size_of_val(tick.values.as_slice()) + series(tick);
    size_of_val(ticks) + ticks.iter().map(tick).sum::<usize>() + 3 * size_of::<Key>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i64) -> Key {
        Key::new(id, Seqs { first: 1, last: 1 }, (0, 0))
    }

    fn row(value: f64) -> Arc<[HeadTick]> {
        Arc::from([HeadTick { time_ms: 0, series: Members::Ids(vec![1]), values: vec![value] }])
    }

    #[test]
    fn what_was_read_first_goes_first() {
        let mut rows = Rows::default();
        let bytes_max = 3 * bytes_of(&row(0.0));
        for id in 1..=5 {
            rows.put(key(id), &row(id as f64), bytes_max);
            rows.put(key(id), &row(9.0), bytes_max);
        }
        let there: Vec<i64> = (1..=5).filter(|id| rows.rows.contains_key(&key(*id))).collect();
        assert_eq!((there, rows.bytes, rows.order.len()), (vec![3, 4, 5], bytes_max, 3));
        assert_eq!(rows.rows[&key(5)][0].values, [5.0], "a row never changes");
        rows.put(key(6), &row(6.0), 1);
        assert!(!rows.rows.contains_key(&key(6)), "too large");
    }

    #[test]
    fn another_row_of_the_same_id_is_another() {
        let cache = HeadCache::default();
        cache.put(key(1), &row(1.0));
        assert!(cache.get(&key(1)).is_some());
        assert!(cache.get(&Key::new(1, Seqs { first: 2, last: 2 }, (0, 0))).is_none());
        assert!(cache.get(&Key::new(1, Seqs { first: 1, last: 1 }, (0, 9))).is_none());
    }
}
