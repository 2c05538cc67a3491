//! Who may go on with a stream, and what of a request is told back: pure, and the same for every store.
//!
//! See the module above: one writer a stream. What a store has of it is given as numbers, and as what its
//! checksums say ([`super::sums`]).

use wire::SchemaId;

use super::{
    IngestError,
    incoming::{Incoming, Record, What},
    sums::{Comparison, Known},
};

/// What of a request lies within what is stored.
pub(crate) fn again(acked: u64, incoming: &Incoming) -> Vec<Known> {
    let again = incoming.records.iter().take_while(|record| record.seq <= acked);
    again.map(|record| (record.seq, record.sum)).collect()
}

/// How far a stream has come that another log begins with the number `seq`: what comes before it in
/// this request is the same in both.
pub(crate) fn begins(seq: u64, incoming: &Incoming) -> u64 {
    let begins = incoming.records.iter().take_while(|record| record.seq < seq).last();
    begins.map_or(seq.saturating_sub(1), |record| record.seq)
}

/// Numbers that are left out, and that no gap stands for: no log does that. The first after them.
pub(crate) fn jump(acked: u64, incoming: &Incoming) -> Option<(u64, String)> {
    let first = incoming.records.first()?;
    let is_told = matches!(&first.what, What::Gap(gap)
        if (gap.first_seq..=gap.last_seq).contains(&(acked + 1)));
    let reason = || format!("records up to {acked} are stored, and {} comes next", first.seq);
    (first.seq > acked + 1 && !is_told).then(|| (first.seq, reason()))
}

/// Why a request can't come from who wrote what is stored: the number at fault, and in words.
pub(crate) fn contradiction(
    acked: u64,
    compared: Comparison,
    incoming: &Incoming,
    is_fresh: bool,
) -> Result<Option<(u64, String)>, IngestError> {
    let short = incoming.header.last_seq.filter(|last| *last < acked);
    match (compared, short) {
        (Comparison::Differs(seq), _) => {
            let reason = format!("record {seq} is stored already, with other content");
            Ok(Some((seq, reason)))
        }
        // A retry, or late on the way, from when its log was shorter. Or the log was set back: what it
        // sends next will be different.
        (Comparison::Same, _) => Ok(None),
        (_, Some(_)) if !is_fresh => Err(IngestError::Busy(
            "its log has grown since this was sent, or is another one, ask again",
        )),
        (_, Some(last)) => {
            let reason = format!("records up to {acked} are stored, but its log ends with {last}");
            Ok(Some((incoming.records.first().map_or(last, |first| first.seq), reason)))
        }
        // Older than checksums are kept: a retry, unless another is there.
        (Comparison::Unknown, None) if !incoming.is_alone => Err(IngestError::Busy(
            "another process of this agent was heard of moments ago, and may have sent these records",
        )),
        (Comparison::Unknown | Comparison::Nothing, None) => Ok(None),
    }
}

/// What is acknowledged to the sender: a log that ends before what is stored was set back, or this is
/// late; of what its records don't show it isn't told.
pub(crate) fn told(acked_seq: u64, incoming: &Incoming) -> u64 {
    let is_short = incoming.header.last_seq.is_some_and(|last| last < acked_seq);
    let shown = incoming.records.last().map_or(0, |record| record.seq);
    if is_short { shown.min(acked_seq) } else { acked_seq }
}

/// Schemas that records name, as often as they do.
pub(crate) fn named(records: &[Record]) -> impl Iterator<Item = SchemaId> {
    records
        .iter()
        .flat_map(|record| match &record.what {
            What::Tick { schemas, .. } => schemas.as_slice(),
            What::Gap(_) => &[],
        })
        .copied()
}

/// Samples in records.
pub(crate) fn samples(records: &[Record]) -> u64 {
    records
        .iter()
        .map(|record| match record.what {
            What::Tick { values, .. } => values,
            What::Gap(_) => 0,
        })
        .sum()
}

/// The time that a record is of.
pub(crate) fn time_of(record: &Record) -> i64 {
    match &record.what {
        What::Tick { time_ms, .. } => *time_ms,
        What::Gap(gap) => gap.to_ms,
    }
}

/// Earliest and latest time of the ticks.
pub(crate) fn span(records: &[Record]) -> Option<(i64, i64)> {
    let times = || {
        records.iter().filter_map(|record| match record.what {
            What::Tick { time_ms, .. } => Some(time_ms),
            What::Gap(_) => None,
        })
    };
    Some((times().min()?, times().max()?))
}
