//! What has to be true: every record that an agent's log took, how far the hub has committed, how far
//! agents believe it has.

use std::collections::BTreeMap;

use agent_core::{Batch, sink::LogRecord};
use server_lite::store::{
    GapEntry, LedgerReason,
    embedded::inspect::{Audit, Stored},
};
use wire::{AgentId, Gap, GapReason, SchemaId, StreamId, envelope, request::Body};

/// What a record says. Values as bits: a NaN has to come back too.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// A tick.
    Tick { time_ms: i64, values: Vec<(Name, u64)> },
    /// A gap.
    Gap(Gap),
}

/// A series of the simulation: its metric, and its label `n`.
pub(crate) type Name = (&'static str, usize);

/// One sample as a hub has it: stream, record, time, bits.
pub(crate) type Sample = (StreamId, u64, i64, u64);

/// One agent's.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) agent_id: AgentId,
    stream: Option<StreamId>,
    /// What the log took: record `n` at `n - 1`.
    records: Vec<Said>,
    /// Handed to the log, its answer not yet seen.
    trying: Option<Said>,
    /// As the hub's store says.
    committed: u64,
    /// As the hub has told the agent.
    told: u64,
    /// Where the agent's cursor is known to be.
    cursor: u64,
    /// Whether the log may drop what gets too old.
    drops: bool,
    /// No more ticks are to come.
    pub(crate) all_taken: bool,
    pub(crate) schemas_asked: u64,
}

/// What is wrong, for people.
pub(crate) type Checked = Result<(), String>;

fn check(is_right: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if is_right { Ok(()) } else { Err(otherwise()) }
}

impl Book {
    pub(crate) const fn new(agent_id: AgentId, drops: bool) -> Self {
        Self {
            agent_id,
            stream: None,
            records: Vec::new(),
            trying: None,
            committed: 0,
            told: 0,
            cursor: 0,
            drops,
            all_taken: false,
            schemas_asked: 0,
        }
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.records.len() as u64
    }

    /// The log was opened: it has what it took, in the stream it was in.
    pub(crate) fn opened(&mut self, stream: StreamId, last_seq: u64) -> Checked {
        let known = *self.stream.get_or_insert(stream);
        check(stream == known, || "the log began another stream".to_owned())?;
        // Killed before the log's answer was seen: it may have taken the record.
        let tried = self.trying.take();
        if last_seq == self.last_seq() + 1 {
            self.records.extend(tried);
        }
        let expected = self.last_seq();
        check(last_seq == expected, || format!("the log ends with {last_seq}, not {expected}"))
    }

    /// A cursor as the log gives it after an opening: it may lie behind, never ahead.
    pub(crate) fn reopened_at(&mut self, cursor: u64) -> Checked {
        let known = self.cursor;
        self.cursor = cursor;
        check(cursor <= known, || format!("the cursor came back at {cursor}, ahead of {known}"))
    }

    pub(crate) fn tries(&mut self, said: Said) {
        self.trying = Some(said);
    }

    /// The log has answered: that record is durable.
    pub(crate) fn appended(&mut self, seq: u64) -> Checked {
        self.records.extend(self.trying.take());
        let expected = self.last_seq();
        check(seq == expected, || format!("record {expected} was given the number {seq}"))
    }

    /// What the log gives to a sink: all that lies behind the cursor, in order; in the place of what it
    /// has dropped, a gap.
    pub(crate) fn read(&self, batch: &Batch) -> Checked {
        check(Some(batch.stream_id) == self.stream, || "another stream was read".to_owned())?;
        let mut next = self.cursor + 1;
        for record in &batch.records {
            let is_next = record.seq == next || self.drops && covers(record, next);
            let seqs = || batch.records.iter().map(|record| record.seq).collect::<Vec<_>>();
            check(is_next, || format!("read {:?}, not {next} next", seqs()))?;
            next = record.seq + 1;
        }
        check(next <= self.last_seq() + 1, || format!("read up to {next}, not yet durable"))
    }

    /// The hub has told the agent how far it is.
    pub(crate) fn told(&mut self, acked_seq: u64) -> Checked {
        let (before, committed) = (self.told, self.committed);
        check(acked_seq >= before, || format!("told {acked_seq} after {before}"))?;
        check(acked_seq <= committed, || {
            format!("told {acked_seq}, but only {committed} is committed")
        })?;
        self.told = acked_seq;
        self.cursor = self.cursor.max(acked_seq);
        Ok(())
    }

    /// The hub's store as it is.
    pub(crate) fn committed(&mut self, stream: StreamId, acked_seq: u64) -> Checked {
        check(Some(stream) == self.stream, || format!("the hub has another stream: {stream}"))?;
        let (before, last) = (self.committed, self.last_seq() + u64::from(self.trying.is_some()));
        check(acked_seq >= before, || format!("{before} was committed, now {acked_seq} is"))?;
        check(acked_seq <= last, || format!("{acked_seq} is committed, but {last} is the last"))?;
        self.committed = acked_seq;
        Ok(())
    }

    /// What the hub has answered, and may not have reached anyone.
    pub(crate) fn answered(&mut self, acked_seq: u64, need: &[SchemaId]) -> Checked {
        self.schemas_asked += u64::from(!need.is_empty());
        let committed = self.committed;
        check(acked_seq <= committed, || {
            format!("the hub acknowledges {acked_seq}, but only {committed} is committed")
        })
    }

    /// The agent has nothing more to say, and was told that everything is stored.
    pub(crate) fn is_delivered(&self) -> bool {
        self.all_taken && self.cursor == self.last_seq()
    }

    /// What a hub that was sent everything once, and in order, has of each series; without the records
    /// that the log has dropped, which `ledger` has to tell of, and which `is_stored` doesn't know.
    ///
    /// # Errors
    /// When a record is neither stored nor told to be lost.
    pub(crate) fn samples(
        &self,
        ledger: &[GapEntry],
        is_stored: impl Fn(u64) -> bool,
    ) -> Result<Samples, String> {
        let mut samples = BTreeMap::<Name, Vec<Sample>>::new();
        let stream = self.stream.unwrap_or(StreamId::from_bytes([0; 16]));
        for (seq, said) in (1..).zip(&self.records) {
            let Said::Tick { time_ms, values } = said else { continue };
            if self.drops && !is_stored(seq) {
                let is_told = ledger.iter().any(|gap| is_loss_of(gap, seq));
                check(is_told, || format!("record {seq} is neither stored nor told to be lost"))?;
                continue;
            }
            for (name, bits) in values {
                samples.entry(*name).or_default().push((stream, seq, *time_ms, *bits));
            }
        }
        Ok(Samples(samples))
    }

    /// Compares with the hub's ledger: the gaps that were sent, once, and no hole.
    pub(crate) fn ledger(&self, found: &[GapEntry]) -> Checked {
        let place = |gap: &GapEntry| (gap.from_ms, gap.to_ms);
        let is_drop = |gap: &&GapEntry| gap.reason == LedgerReason::Agent(GapReason::LogOverflow);
        let drops: Vec<&GapEntry> = found.iter().filter(is_drop).collect();
        check(self.drops || drops.is_empty(), || format!("something was dropped: {drops:?}"))?;
        let mut told: Vec<_> =
            found.iter().filter(|gap| !is_drop(gap)).map(|gap| (gap.reason, place(gap))).collect();
        let mut sent: Vec<_> = (1..)
            .zip(&self.records)
            .filter_map(|(seq, said)| match said {
                Said::Gap(gap) => Some((seq, gap)),
                Said::Tick { .. } => None,
            })
            // A gap that was dropped itself may have been sent before, or not.
            .filter(|(seq, gap)| {
                let entry = (LedgerReason::Agent(gap.reason), (gap.from_ms, gap.to_ms));
                told.contains(&entry) || !drops.iter().any(|drop| is_loss_of(drop, *seq))
            })
            .map(|(_, gap)| (LedgerReason::Agent(gap.reason), (gap.from_ms, gap.to_ms)))
            .collect();
        told.sort_by_key(|gap| gap.1);
        sent.sort_by_key(|gap| gap.1);
        check(told == sent, || format!("the ledger has {told:?}, not {sent:?}"))
    }

    /// Everything is there, and the hub says so.
    pub(crate) fn ended(&self) -> Checked {
        let (last, committed, cursor) = (self.last_seq(), self.committed, self.cursor);
        check(committed == last && cursor == last, || {
            format!("{last} records, but {committed} committed and {cursor} acknowledged")
        })
    }
}

/// Whether a record is a gap in the place of what begins with that number, or before it.
fn covers(record: &LogRecord, first_seq: u64) -> bool {
    let found = envelope::split_first(&record.bytes).map(|(found, _)| Body::decode(&found));
    matches!(found, Ok(Ok(Body::Gap(gap)))
        if (gap.first_seq..=gap.last_seq).contains(&first_seq) && gap.last_seq == record.seq)
}

fn is_loss_of(gap: &GapEntry, seq: u64) -> bool {
    gap.reason == LedgerReason::Agent(GapReason::LogOverflow)
        && (gap.first_seq..=gap.last_seq).contains(&seq)
}

/// What has to be stored, series by series in the order in which it was sent.
pub(crate) struct Samples(BTreeMap<Name, Vec<Sample>>);

impl Samples {
    fn of(&self, name: Name) -> &[Sample] {
        self.0.get(&name).map_or(&[], Vec::as_slice)
    }

    /// Compares with every sample of a series that lies in a store, in the order in which it lies there.
    pub(crate) fn stored(&self, name: Name, found: &[Sample]) -> Checked {
        let expected = self.of(name);
        check(found == expected, || {
            let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
            let (n, all) = (found.len(), expected.len());
            let (found, expected) = (found.get(at), expected.get(at));
            format!("{name:?} has {n} samples of {all}; at {at}: {found:?}, not {expected:?}")
        })
    }

    /// Compares with what an audit counts over all series.
    pub(crate) fn audited(&self, audit: &Audit) -> Checked {
        let found = (audit.series, audit.samples);
        let samples: usize = self.0.values().map(Vec::len).sum();
        let expected = (self.0.len() as u64, samples as u64);
        let wrong = audit.doubled + audit.out_of_order + audit.unexplained_records + audit.damaged;
        check(found == expected && wrong == 0, || {
            format!("{expected:?} was sent, stored {audit:?}")
        })
    }

    /// Compares with what is read of a series: in order of time, of one time the sample sent last.
    pub(crate) fn read_back(&self, name: Name, found: &[(i64, f64)]) -> Checked {
        let expected: BTreeMap<i64, u64> =
            self.of(name).iter().map(|(_, _, time_ms, bits)| (*time_ms, *bits)).collect();
        let found = found.iter().map(|(time_ms, value)| (*time_ms, value.to_bits()));
        check(found.eq(expected), || format!("{name:?} is read back otherwise than it was sent"))
    }
}

pub(crate) fn sample_of(stored: &Stored) -> Sample {
    (stored.stream_id, stored.seq, stored.time_ms, stored.value.to_bits())
}
