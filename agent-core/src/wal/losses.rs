//! What a sink lost that nothing waits for.
//!
//! Records wait for required sinks. A best-effort sink reads what is still there: at least the youngest
//! sealed generation, which is kept for it unless space is short. What went before it came is lost for
//! it alone, and it is told so by a gap of its own, in the place of what is lost and under the last lost
//! number, so that its stream stays whole and in order. No other sink sees that gap.
//!
//! A loss is kept in memory and in a file, written right after the records went:
//!
//! ```text
//! lost    0   for each sink: bytes of its name u16 · name · losses u16
//!                 for each loss: stream id 16 · first seq u64 · last seq u64 · tally, as in `tail`
//! ```
//! The file only says more. If it is gone, a cursor that lies before what is held says by itself which
//! numbers are lost, though not how many samples and when. After a crash, cursors may be old and a loss
//! be told again: under its number, which the far side knows already.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use wire::{Gap, GapReason, Kind, StreamId, envelope};

use super::{
    WalError,
    disk::Disk,
    log::SledWal,
    row::Entry,
    sidecar::{self, Tally},
};
use crate::sink::{Batch, Delivery, LogRecord};

/// Name of the file.
pub(super) const FILE_NAME: &str = "lost";

/// Records that are gone, in a sink's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    stream: StreamId,
    first_seq: u64,
    last_seq: u64,
    tally: Tally,
    /// Whether it has been read: then it can't grow any more. Only the first of a row can have been.
    given: bool,
}

/// Who doesn't hold anything back, and what sinks lost by that.
#[derive(Debug)]
pub(super) struct Losses {
    disk: Disk,
    path: PathBuf,
    best_effort: BTreeSet<String>,
    by_sink: BTreeMap<String, VecDeque<Loss>>,
    /// Records lost since the log was opened.
    counted: BTreeMap<String, u64>,
}

impl Losses {
    /// Whether the file is there and damaged.
    pub(super) fn is_unreadable(directory: &Path) -> bool {
        let path = directory.join(FILE_NAME);
        path.exists() && sidecar::read(&path).and_then(|(_, payload)| decode(&payload)).is_none()
    }

    /// As the file has them; a damaged one says nothing.
    pub(super) fn open(disk: &Disk, directory: &Path) -> Self {
        let path = directory.join(FILE_NAME);
        let by_sink = sidecar::read(&path).and_then(|(_, payload)| decode(&payload));
        Self {
            disk: disk.clone(),
            path,
            best_effort: BTreeSet::new(),
            by_sink: by_sink.unwrap_or_default(),
            counted: BTreeMap::new(),
        }
    }

    /// Whether records wait for a sink.
    pub(super) fn is_required(&self, sink: &str) -> bool {
        !self.best_effort.contains(sink)
    }

    /// Records lost since the log was opened, by sink.
    pub(super) const fn counted(&self) -> &BTreeMap<String, u64> {
        &self.counted
    }

    /// Where a sink goes on whose cursor is `seq`, in a log that gave back everything up to
    /// `given_back_to`. What lies between is lost, or was taken although that never came on disk: a
    /// required sink held it until then.
    pub(super) fn go_on(
        &mut self,
        sink: &str,
        delivery: Delivery,
        seq: u64,
        given_back_to: u64,
        held: (StreamId, i64),
    ) -> u64 {
        match delivery {
            Delivery::Required => self.best_effort.remove(sink),
            Delivery::BestEffort => self.best_effort.insert(sink.to_owned()),
        };
        self.forget(sink, seq);
        let from = self.noted_to(sink).map_or(seq, |noted_to| noted_to.max(seq)) + 1;
        if delivery == Delivery::BestEffort && from <= given_back_to {
            let (stream, time_ms) = held;
            let records = given_back_to + 1 - from;
            let tally = Tally { records, samples: 0, first_ms: time_ms, last_ms: time_ms };
            self.add(
                sink,
                Loss { stream, first_seq: from, last_seq: given_back_to, tally, given: true },
            );
        }
        if self.is_noted(sink) { seq } else { seq.max(given_back_to) }
    }

    /// Forgets a sink that is no longer there.
    pub(super) fn remove(&mut self, sink: &str) {
        self.best_effort.remove(sink);
        self.counted.remove(sink);
        if self.by_sink.remove(sink).is_some() {
            self.write();
        }
    }

    /// Forgets what a sink has been told.
    pub(super) fn forget(&mut self, sink: &str, acked_seq: u64) {
        let Some(losses) = self.by_sink.get_mut(sink) else { return };
        let before = losses.len();
        losses.retain(|loss| loss.last_seq > acked_seq);
        let is_changed = losses.len() != before;
        if losses.is_empty() {
            self.by_sink.remove(sink);
        }
        if is_changed {
            self.write();
        }
    }

    /// The gap that comes next for a sink, if one does.
    pub(super) fn tell(&mut self, sink: &str, acked_seq: u64) -> Result<Option<Batch>, WalError> {
        let losses = self.by_sink.get_mut(sink);
        let next =
            losses.and_then(|losses| losses.iter_mut().find(|loss| loss.last_seq > acked_seq));
        let Some(loss) = next else { return Ok(None) };
        loss.given = true;
        loss.batch(sink, acked_seq).map(Some)
    }

    /// All the gaps that come next for a sink, in order.
    pub(super) fn untold(&self, sink: &str, acked_seq: u64) -> Result<Vec<Batch>, WalError> {
        let losses = self.by_sink.get(sink).into_iter().flatten();
        let untold = losses.filter(|loss| loss.last_seq > acked_seq);
        untold.map(|loss| loss.batch(sink, acked_seq)).collect()
    }

    /// Whether anything is noted of a sink.
    pub(super) fn is_noted(&self, sink: &str) -> bool {
        self.by_sink.contains_key(sink)
    }

    /// The last number that a sink lost and was not told.
    fn noted_to(&self, sink: &str) -> Option<u64> {
        Some(self.by_sink.get(sink)?.back()?.last_seq)
    }

    /// The number before the first that a sink lost and was not told.
    pub(super) fn seq_before(&self, sink: &str) -> Option<u64> {
        self.by_sink.get(sink)?.front().map(|loss| loss.first_seq - 1)
    }

    /// The stream that a sink is in, and its last number, if what comes next for it is lost.
    pub(super) fn stream_of(&self, sink: &str) -> Option<(StreamId, u64)> {
        let losses = self.by_sink.get(sink)?;
        let stream = losses.front()?.stream;
        let last = losses.iter().take_while(|loss| loss.stream == stream).last()?;
        Some((stream, last.last_seq))
    }

    fn add(&mut self, sink: &str, loss: Loss) {
        *self.counted.entry(sink.to_owned()).or_default() += loss.tally.records;
        let losses = self.by_sink.entry(sink.to_owned()).or_default();
        match losses.back_mut().filter(|last| last.can_grow_by(&loss)) {
            Some(last) => last.grow(loss),
            None => losses.push_back(loss),
        }
    }

    fn write(&self) {
        let written = match self.by_sink.is_empty() {
            true => self.disk.remove_file(&self.path),
            false => sidecar::write(&self.disk, &self.path, 0, &encode(&self.by_sink)),
        };
        if let Err(error) = written {
            tracing::debug!(%error, "can't note what best-effort sinks lost");
        }
    }
}

impl Loss {
    /// What is lost of an entry for a sink that has acknowledged `acked_seq`, when it goes up to
    /// `to_seq`.
    fn of(entry: &Entry, acked_seq: u64, to_seq: u64) -> Option<Self> {
        let first_seq = entry.first_seq.max(acked_seq + 1);
        let last_seq = entry.last_seq.min(to_seq);
        let tally = match &entry.gap {
            Some(gap) => {
                let Gap { records, samples, from_ms, to_ms, .. } =
                    gap.gap_from_best_effort(first_seq);
                Tally { records, samples, first_ms: from_ms, last_ms: to_ms }
            }
            None => {
                let (lost, left) = (entry.after(first_seq - 1), entry.after(last_seq));
                Tally {
                    records: lost.records.saturating_sub(left.records),
                    samples: lost.samples.saturating_sub(left.samples),
                    first_ms: lost.first_ms,
                    last_ms: entry.after(last_seq.saturating_sub(1)).first_ms,
                }
            }
        };
        let stream = entry.stream;
        (first_seq <= last_seq).then_some(Self { stream, first_seq, last_seq, tally, given: false })
    }

    fn batch(&self, sink: &str, acked_seq: u64) -> Result<Batch, WalError> {
        let gap = self.gap(sink, acked_seq);
        let bytes = envelope::encode(Kind::Gap, self.last_seq, &gap.encode())?;
        let records = vec![LogRecord { seq: self.last_seq, bytes }];
        Ok(Batch { stream_id: self.stream, records, schemas: std::sync::Arc::default() })
    }

    fn can_grow_by(&self, next: &Self) -> bool {
        !self.given && self.stream == next.stream && self.last_seq + 1 == next.first_seq
    }

    fn grow(&mut self, next: Self) {
        self.last_seq = next.last_seq;
        self.tally.records += next.tally.records;
        self.tally.samples += next.tally.samples;
        self.tally.last_ms = next.tally.last_ms;
    }

    fn gap(&self, sink: &str, acked_seq: u64) -> Gap {
        let first_seq = self.first_seq.max(acked_seq + 1);
        let left = self.tally.after(self.first_seq, self.last_seq, first_seq - 1);
        let detail = format!(
            "sink {sink} is best_effort and fell behind: every required sink had these records, so \
             they were given back"
        );
        let cut = detail.floor_char_boundary(wire::limits::TEXT_BYTES_MAX);
        Gap {
            reason: GapReason::LogOverflow,
            from_ms: left.first_ms,
            to_ms: left.last_ms.max(left.first_ms),
            first_seq,
            last_seq: self.last_seq,
            records: left.records,
            samples: left.samples,
            detail: detail[..cut].to_owned(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = [self.first_seq.to_le_bytes(), self.last_seq.to_le_bytes()].concat();
        [&self.stream.as_bytes()[..], &numbers, &self.tally.encode()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (stream, rest) = bytes.split_first_chunk()?;
        let (first_seq, rest) = rest.split_first_chunk()?;
        let (last_seq, tally) = rest.split_first_chunk()?;
        let (first_seq, last_seq) = (u64::from_le_bytes(*first_seq), u64::from_le_bytes(*last_seq));
        let (stream, tally) = (StreamId::from_bytes(*stream), Tally::decode(tally)?);
        let is_sound = 0 < first_seq && first_seq <= last_seq;
        is_sound.then_some(Self { stream, first_seq, last_seq, tally, given: false })
    }
}

/// Bytes of one loss.
const LOSS_BYTES: usize = 16 + 8 + 8 + 32;

fn encode(by_sink: &BTreeMap<String, VecDeque<Loss>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (sink, losses) in by_sink {
        let lengths = (u16::try_from(sink.len()), u16::try_from(losses.len()));
        // Neither is ever as large: names are short, and losses that follow each other are one.
        let (Ok(name), Ok(count)) = lengths else { continue };
        bytes.extend_from_slice(&name.to_le_bytes());
        bytes.extend_from_slice(sink.as_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        losses.iter().for_each(|loss| bytes.extend_from_slice(&loss.encode()));
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<BTreeMap<String, VecDeque<Loss>>> {
    let mut by_sink = BTreeMap::new();
    while !bytes.is_empty() {
        let (name, rest) = bytes.split_first_chunk()?;
        let (sink, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*name)))?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = usize::from(u16::from_le_bytes(*count));
        let (losses, rest) = rest.split_at_checked(count * LOSS_BYTES)?;
        let losses: Option<VecDeque<Loss>> =
            losses.chunks_exact(LOSS_BYTES).map(Loss::decode).collect();
        let mut losses = losses?;
        // Whether it has been read is not known any more.
        losses.front_mut()?.given = true;
        by_sink.insert(str::from_utf8(sink).ok()?.to_owned(), losses);
        bytes = rest;
    }
    Some(by_sink)
}

impl SledWal {
    /// Whether a best-effort sink still reads an entry.
    pub(super) fn is_lagged_behind(&self, entry: &Entry) -> bool {
        self.lagging().any(|(_, seq)| seq < entry.last_seq)
    }

    /// Notes what is gone of an entry, up to `to_seq`, for sinks that had not come so far.
    pub(super) fn lose(&mut self, entry: &Entry, to_seq: u64) {
        let lost = self.lagging().filter_map(|(sink, seq)| {
            // Of a gap's place, what required sinks had is noted since it was dropped.
            let noted_to = self.losses.noted_to(sink).unwrap_or(0);
            Some((sink.to_owned(), Loss::of(entry, seq.max(noted_to), to_seq)?))
        });
        let lost: Vec<(String, Loss)> = lost.collect();
        for (sink, loss) in &lost {
            let (records, samples) = (loss.tally.records, loss.tally.samples);
            tracing::warn!(
                sink,
                records,
                samples,
                "a best_effort sink fell behind, it lost records"
            );
            self.losses.add(sink, loss.clone());
        }
        if !lost.is_empty() {
            self.losses.write();
        }
    }

    /// Best-effort sinks, and how far they have come.
    fn lagging(&self) -> impl Iterator<Item = (&str, u64)> {
        let cursors = self.cursors.iter().filter(|(sink, _)| !self.losses.is_required(sink));
        cursors.map(|(sink, cursor)| (sink.as_str(), cursor.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([7; 16]);

    fn loss(first_seq: u64, last_seq: u64) -> Loss {
        let records = last_seq + 1 - first_seq;
        let ms = |seq: u64| seq.cast_signed() * 1_000;
        let tally =
            Tally { records, samples: records * 5, first_ms: ms(first_seq), last_ms: ms(last_seq) };
        Loss { stream: STREAM, first_seq, last_seq, tally, given: false }
    }

    fn open(directory: &Path) -> Losses {
        Losses::open(&Disk::default(), directory)
    }

    fn told(losses: &mut Losses, acked_seq: u64) -> Option<Gap> {
        let batch = losses.tell("b", acked_seq).unwrap()?;
        let (found, _) = envelope::split_first(&batch.records[0].bytes).unwrap();
        assert_eq!((found.seq, batch.stream_id), (batch.records[0].seq, STREAM));
        Some(Gap::decode(found.payload).unwrap())
    }

    #[test]
    fn what_follows_is_one_until_it_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let mut losses = open(directory.path());
        losses.add("b", loss(1, 10));
        losses.add("b", loss(11, 20));
        let gap = told(&mut losses, 4).unwrap();
        assert_eq!((gap.first_seq, gap.last_seq, gap.records, gap.samples), (5, 20, 16, 80));
        assert_eq!((gap.from_ms, gap.to_ms), (5_000, 20_000));
        losses.add("b", loss(21, 30));
        losses.add("b", loss(31, 40));
        assert_eq!(told(&mut losses, 4), Some(gap), "it was given and stays as it was");
        losses.forget("b", 20);
        let gap = told(&mut losses, 20).unwrap();
        assert_eq!((gap.first_seq, gap.last_seq, gap.records), (21, 40, 20));
        losses.forget("b", 40);
        assert_eq!(told(&mut losses, 40), None);
        assert_eq!(losses.counted()["b"], 40);
        assert_eq!(told(&mut open(directory.path()), 0), None, "the file is gone");
    }

    #[test]
    fn the_file_says_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut losses = open(directory.path());
        losses.add("b", loss(1, 10));
        losses.add("b", loss(15, 20));
        losses.add("another", loss(3, 3));
        losses.write();
        let mut found = open(directory.path());
        for losses in [&mut losses, &mut found] {
            losses.by_sink.values_mut().for_each(|row| row[0].given = true);
        }
        assert_eq!(found.by_sink, losses.by_sink);
        let path = directory.path().join("lost");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(open(directory.path()).by_sink.is_empty());
    }

    #[test]
    fn where_a_sink_goes_on() {
        use Delivery::{BestEffort, Required};
        let directory = tempfile::tempdir().unwrap();
        let check = |noted: &[Loss], delivery, seq, expected, gaps: &[(u64, u64)]| {
            let mut losses = open(directory.path());
            noted.iter().for_each(|loss| losses.add("b", loss.clone()));
            assert_eq!(losses.go_on("b", delivery, seq, 40, (STREAM, 9)), expected);
            let mut found = Vec::new();
            let mut acked_seq = seq;
            while let Some(gap) = told(&mut losses, acked_seq) {
                found.push((gap.first_seq, gap.last_seq));
                acked_seq = gap.last_seq;
            }
            assert_eq!(found, gaps, "{noted:?} {delivery:?} {seq}");
        };
        // Its cursor never came on disk: it had taken all that was given back.
        check(&[], Required, 10, 40, &[]);
        check(&[], Required, 50, 50, &[]);
        check(&[], BestEffort, 50, 50, &[]);
        check(&[], BestEffort, 10, 10, &[(11, 40)]);
        check(&[loss(11, 40)], BestEffort, 10, 10, &[(11, 40)]);
        check(&[loss(11, 30)], BestEffort, 10, 10, &[(11, 40)]);
        check(&[loss(11, 30)], BestEffort, 35, 35, &[(36, 40)]);
        check(&[loss(11, 30)], BestEffort, 40, 40, &[]);
        // It was best-effort before, and is told what it lost by that.
        check(&[loss(11, 30)], Required, 10, 10, &[(11, 30)]);
        check(&[loss(11, 30)], Required, 30, 40, &[]);
    }
}
