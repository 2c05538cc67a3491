//! What is known of a log that tests use: what must hold of it, and what may.

use std::{
    collections::BTreeMap,
    fs::{self, DirEntry},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use wire::{GapReason, StreamId};

use super::{
    super::{SledWal, Wal, WalError, disk::Disk, log::Bounds, packed::is_packed},
    support::{ALL, Seen, append_with, drain, payload},
};
use crate::sink::Delivery;

/// Sinks of the log, and which of them it waits for.
pub(super) const SINKS: [(&str, Delivery); 3] =
    [("hub", Delivery::Required), ("slow", Delivery::Required), ("beside", Delivery::BestEffort)];

/// What must hold of a log, and what may.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) record_bytes: usize,
    bytes_max: u64,
    /// Seeds of the records whose append returned; several where it isn't known which of those that
    /// were tried stayed.
    records: BTreeMap<u64, Vec<u64>>,
    /// Seeds of the record whose append is under way, or failed and was not yet tried again.
    tried: Vec<u64>,
    pub(super) acked: [Acked; 3],
    /// Up to here records may have been dropped by the bound.
    pub(super) dropped_to: u64,
    /// Most packed generations that there were at once.
    pub(super) packed: usize,
    stream: Option<StreamId>,
}

/// What a sink has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acked {
    /// What is durable of it.
    least: u64,
    /// What the log knows of it.
    now: u64,
    /// All of it.
    pub(super) most: u64,
}

impl Known {
    /// A log that was never opened.
    pub(super) fn new(record_bytes: usize, bytes_max: u64) -> Self {
        Self { record_bytes, bytes_max, ..Self::default() }
    }

    /// Small generations, so that few records make many, and room for a handful.
    pub(super) fn bounds(&self) -> Bounds {
        let generation_bytes = self.record_bytes as u64 * 6;
        Bounds { bytes_max: self.bytes_max, age_ms_max: i64::MAX, generation_bytes }
    }

    /// The last record that must be there.
    pub(super) fn last_seq(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// A log was opened: it says which of what was possible is so.
    pub(super) fn opened(&mut self, wal: &mut dyn Wal) -> Result<(), WalError> {
        let (stream, last_seq) = (wal.stream_id(), wal.stats().last_seq);
        // Before the first record nothing of a stream is promised.
        let known = self.stream.filter(|_| !self.records.is_empty());
        assert!(known.is_none_or(|known| known == stream), "begins another stream");
        self.stream = Some(stream);
        let tried = std::mem::take(&mut self.tried);
        if last_seq > self.last_seq() {
            assert!(last_seq == self.last_seq() + 1 && !tried.is_empty(), "ends with {last_seq}");
            self.records.insert(last_seq, tried);
        }
        assert_eq!(last_seq, self.last_seq());
        for (acked, (sink, delivery)) in self.acked.iter_mut().zip(SINKS) {
            let cursor = wal.register_as(sink, delivery)?;
            assert!((acked.least..=acked.most).contains(&cursor), "{sink} at {cursor}: {acked:?}");
            acked.now = cursor;
        }
        Ok(())
    }

    /// The next record is about to be appended.
    pub(super) fn appending(&mut self, seed: u64) {
        self.tried.push(seed);
    }

    /// Its append returned.
    pub(super) fn appended(&mut self, wal: &SledWal) {
        let seed = self.tried.pop();
        self.tried.clear();
        self.records.insert(self.last_seq() + 1, seed.into_iter().collect());
        self.look_at(wal);
        self.flushed();
    }

    /// What was dropped shows as gaps, and some of what is sealed is packed.
    pub(super) fn look_at(&mut self, wal: &SledWal) {
        let packed = wal.row.iter().filter(|entry| is_packed(&entry.path)).count();
        self.packed = self.packed.max(packed);
        let gaps = wal.row.iter().filter(|entry| entry.gap.is_some());
        let dropped_to = gaps.map(|entry| entry.last_seq).max().unwrap_or(0);
        self.dropped_to = self.dropped_to.max(dropped_to);
    }

    /// Cursors are durable with a flush.
    pub(super) fn flushed(&mut self) {
        self.acked.iter_mut().for_each(|acked| acked.least = acked.now);
    }

    /// Cursors may have gone back, even durable ones.
    pub(super) fn forget_cursors(&mut self) {
        self.acked.iter_mut().for_each(|acked| acked.least = 0);
    }

    /// A sink is about to acknowledge.
    pub(super) fn acknowledging(&mut self, sink: usize, seq: u64) {
        self.acked[sink].now = seq;
        self.acked[sink].most = self.acked[sink].most.max(seq);
    }

    /// What a sink read: each record as it was written, or a gap where it was dropped. What a best-effort
    /// sink doesn't come for in time is gone for it.
    pub(super) fn check(&self, sink: usize, from: u64, records: &[(u64, Seen)]) {
        let is_required = SINKS[sink].1 == Delivery::Required;
        let dropped_to = if is_required { self.dropped_to } else { u64::MAX };
        let mut expected = from;
        for (seq, seen) in records {
            match seen {
                Seen::Payload(found) => {
                    assert_eq!(*seq, expected);
                    assert!(self.may_be(*seq, found), "{seq} came back wrong");
                }
                Seen::Gap(gap) => {
                    let dropped = gap.reason == GapReason::LogOverflow && *seq <= dropped_to;
                    // What it had acknowledged before a cut is not lost to it.
                    let told_from = expected.max(self.acked[sink].most + 1);
                    let is_next = gap.first_seq <= told_from && *seq >= expected;
                    assert!(dropped && is_next, "{gap:?} in place of {expected}");
                }
            }
            expected = seq + 1;
        }
    }

    fn may_be(&self, seq: u64, found: &[u8]) -> bool {
        let seeds = self.records.get(&seq).unwrap_or(&self.tried);
        seeds.iter().any(|seed| payload(*seed, self.record_bytes) == found)
    }

    /// Whether the log in a directory holds all that it must, read as some of the sinks. It is used up;
    /// `cut` says how it came to be.
    pub(super) fn judge(&self, root: &Path, sinks: &[usize], cut: &str) -> Result<(), String> {
        let left = listing(&log_path(root));
        let judged = catch_unwind(AssertUnwindSafe(|| self.clone().look(&log_path(root), sinks)));
        judged.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            format!("{cut}: {text}; it left {left}")
        })
    }

    fn look(mut self, path: &Path, sinks: &[usize]) {
        let bounds = self.bounds();
        // A drop may have failed on the way, and a cut then makes it true.
        self.dropped_to = self.dropped_to.max(last_gap(path));
        let open = || SledWal::open_on(Disk::default(), path, bounds).unwrap();
        let mut wal = open();
        self.opened(&mut wal).unwrap();
        for index in sinks {
            let from = self.acked[*index].now + 1;
            let records = drain(&mut wal, SINKS[*index].0, ALL);
            self.check(*index, from, &records);
            assert_eq!(records.last().map_or(from - 1, |(seq, _)| *seq), self.last_seq());
        }
        drop(wal);
        let mut wal = open();
        assert_eq!((Some(wal.stream_id()), wal.stats().last_seq), (self.stream, self.last_seq()));
        assert_eq!(append_with(&mut wal, 0, b"after", &[]).unwrap(), self.last_seq() + 1);
        let quarantined = listing(&path.join("quarantine"));
        assert!(quarantined.is_empty(), "taken for damage: {quarantined}");
    }
}

/// The log's directory and the one above are made by the log.
pub(super) fn log_path(root: &Path) -> PathBuf {
    root.join("state/wal")
}

/// The last number of a gap's file.
fn last_gap(log: &Path) -> u64 {
    let names = fs::read_dir(log).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let gaps = names.filter_map(|name| name.to_str()?.strip_suffix(".gap")?.parse().ok());
    gaps.max().unwrap_or(0)
}

/// What lies in a directory, and below.
fn listing(directory: &Path) -> String {
    let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(DirEntry::path);
    let entries = entries.iter().map(|entry| {
        let name = entry.file_name().to_string_lossy().trim_start_matches('0').to_owned();
        match entry.path().is_dir() {
            true => format!("{name}({})", listing(&entry.path())),
            false => name,
        }
    });
    entries.collect::<Vec<_>>().join(" ")
}
