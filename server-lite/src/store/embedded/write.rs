//! Stores what came by remote write, in the transaction it is given: for each target one row of its head,
//! of what is new. What is there already isn't stored again, and what contradicts it is refused.

use rusqlite::Connection;
use wire::{MetricKind, StreamId};

use super::{
    apply::HEAD_BYTES_MAX,
    catalog::{AgentState, Families, StreamState},
    database::database,
    head,
    held::{self, Wanted},
    ledger,
    registry::{self, Registration, day_of},
    seal,
    targets::{Known, TargetState},
    writer::Writing,
    written,
};
use crate::store::{
    IngestError, Written,
    holes::Seqs,
    rows,
    write::{Reason, SeriesKey, TargetPart, WriteBatch, WriteSeries},
};

pub(super) use crate::store::write::Prepared;

/// What groups of series have as their collector.
const COLLECTOR: &str = "remote_write";

/// A sample on its way into the head.
#[derive(Clone, Copy, Debug)]
struct Sample {
    time_ms: i64,
    series: i64,
    value: f64,
    /// Place of its series in the batch.
    place: usize,
    /// Whether the series may have a value at that time.
    is_old: bool,
}

/// Stores a batch.
///
/// # Errors
/// [`IngestError`]; the caller rolls back what was written and what the catalog remembers.
pub(crate) fn apply(
    writing: &mut Writing<'_>,
    prepared: &Prepared,
    series_max: u64,
) -> Result<Written, IngestError> {
    let mut written = Written::default();
    learn_families(writing, &prepared.batch).map_err(database("store metadata"))?;
    for part in &prepared.targets {
        store_part(writing, &prepared.batch, part, series_max, &mut written)?;
    }
    Ok(written)
}

/// Notes what is said of metrics, for series that are there and for those to come.
fn learn_families(writing: &mut Writing<'_>, batch: &WriteBatch) -> rusqlite::Result<()> {
    for family in &batch.families {
        if writing.catalog.families.learn(family) {
            registry::describe(writing.connection, &family.metric, family.kind, &family.help)?;
        }
    }
    Ok(())
}

fn store_part(
    writing: &mut Writing<'_>,
    batch: &WriteBatch,
    part: &TargetPart,
    series_max: u64,
    written: &mut Written,
) -> Result<(), IngestError> {
    let Writing { connection, catalog, after } = writing;
    let (connection, failed) = (*connection, || database("store written samples"));
    let target = part.target();
    let (agent, families, is_new) =
        catalog.target(connection, target, batch.received_ms).map_err(database("read target"))?;
    after.tally.targets += u64::from(is_new);
    let stream_id = StreamId::from_bytes(*part.id.as_bytes());
    if agent.target.is_none() {
        let reason = format!("an agent has the identity of {target:?}");
        return Err(IngestError::Conflict { seq: 0, reason });
    }
    let stream = agent.streams.get(&stream_id);
    if stream.is_some_and(|stream| stream.head.bytes > HEAD_BYTES_MAX) {
        return Err(IngestError::Busy("this target's earlier samples are still being sealed"));
    }
    let series_before = agent.series;
    let mut resolving = Resolving::new(connection, batch, families, agent, series_max);
    let mut samples = resolving.samples(agent, part).map_err(failed())?;
    let refused = resolving.refused;
    for (place, time_ms) in &refused {
        written.refuse(*place, Reason::SeriesLimit, *time_ms);
    }
    let stream = agent.stream(connection, stream_id, 0, batch.received_ms).map_err(failed())?;
    keep_new(connection, stream, &mut samples, written).map_err(failed())?;
    tell_limit(connection, stream, &refused, batch.received_ms).map_err(failed())?;
    if !samples.is_empty() {
        insert(connection, stream, &samples, batch.received_ms).map_err(failed())?;
        after.due.extend(seal::is_due(stream).then_some(stream.row));
    }
    after.tally.series += agent.series - series_before;
    after.tally.samples += samples.len() as u64;
    after.tally.refused_samples += refused.len() as u64;
    written.samples += samples.len() as u64;
    Ok(())
}

/// Finds the series of a part, and registers those that are new.
struct Resolving<'a> {
    connection: &'a Connection,
    batch: &'a WriteBatch,
    families: &'a Families,
    registration: Registration<'a>,
    /// Samples of series that are one too many: place of the series, and time.
    refused: Vec<(usize, i64)>,
}

impl<'a> Resolving<'a> {
    fn new(
        connection: &'a Connection,
        batch: &'a WriteBatch,
        families: &'a Families,
        agent: &AgentState,
        series_max: u64,
    ) -> Self {
        let registration =
            Registration::new(connection, agent, COLLECTOR, series_max, batch.received_ms);
        Self { connection, batch, families, registration, refused: Vec::new() }
    }

    /// The samples of a part in the order of time, then series; of one series and time, as they came.
    fn samples(
        &mut self,
        agent: &mut AgentState,
        part: &TargetPart,
    ) -> rusqlite::Result<Vec<Sample>> {
        let Some(target) = &mut agent.target else { return Ok(Vec::new()) };
        let known_before = target.series.len();
        let mut samples = Vec::with_capacity(part.series.len());
        for (place, key) in &part.series {
            let Some(series) = self.batch.series(*place) else { continue };
            match self.known(target, *key, &series)? {
                Some(known) => samples.extend(samples_of(&series, *place, &known)),
                None => {
                    let times = series.samples.iter().map(|(time_ms, _)| (*place, *time_ms));
                    self.refused.extend(times);
                }
            }
        }
        // Only now: a series may come several times.
        for (place, key) in &part.series {
            let samples = self.batch.series(*place).map_or(&[][..], |series| series.samples);
            let last_ms = samples.iter().map(|(time_ms, _)| *time_ms).max();
            if let (Some(known), Some(last_ms)) = (target.series.get_mut(key), last_ms) {
                known.last_ms = known.last_ms.max(last_ms);
            }
        }
        samples.sort_by_key(|sample| (sample.time_ms, sample.series));
        let added = target.series.len() - known_before;
        if added > 0 {
            agent.count_series(self.connection, added as u64)?;
        }
        Ok(samples)
    }

    /// What is known of a series; `None` if it is one too many.
    fn known(
        &mut self,
        target: &mut TargetState,
        key: SeriesKey,
        series: &WriteSeries<'_>,
    ) -> rusqlite::Result<Option<Known>> {
        let day = day_of(self.batch.received_ms);
        if let Some(known) = target.series.get_mut(&key) {
            if known.day < day {
                registry::note_day(self.connection, known.id, day)?;
                known.day = day;
            }
            if let Some(kind) = series.kind().filter(|kind| *kind != known.kind) {
                registry::describe_one(self.connection, known.id, kind, series.help())?;
                known.kind = kind;
            }
            return Ok(Some(*known));
        }
        let (kind, help) = self.described(series)?;
        let labels = rows::canonical(series.labels());
        let (id, _) = self.registration.series(series.metric(), &labels, kind, &help)?;
        if id == 0 {
            return Ok(None);
        }
        let known = Known { id, last_ms: i64::MIN, day, kind };
        target.series.insert(key, known);
        Ok(Some(known))
    }

    /// What is said of a new series: with it, of its metric, or of another series of that.
    fn described(&self, series: &WriteSeries<'_>) -> rusqlite::Result<(MetricKind, String)> {
        if let Some(kind) = series.kind() {
            return Ok((kind, series.help().to_owned()));
        }
        if let Some((kind, help)) = self.families.get(series.metric()) {
            return Ok((kind, help.to_owned()));
        }
        let of_another = registry::description(self.connection, series.metric())?;
        Ok(of_another.unwrap_or((MetricKind::Untyped, String::new())))
    }
}

fn samples_of(
    series: &WriteSeries<'_>,
    place: usize,
    known: &Known,
) -> impl Iterator<Item = Sample> {
    let (id, last_ms) = (known.id, known.last_ms);
    series.samples.iter().map(move |(time_ms, value)| Sample {
        time_ms: *time_ms,
        series: id,
        value: *value,
        place,
        is_old: *time_ms <= last_ms,
    })
}

/// Leaves the samples that are to be stored.
fn keep_new(
    connection: &Connection,
    stream: &StreamState,
    samples: &mut Vec<Sample>,
    written: &mut Written,
) -> rusqlite::Result<()> {
    let mut wanted = Wanted::new();
    for sample in samples.iter().filter(|sample| sample.is_old) {
        wanted.entry(sample.series).or_default().push(sample.time_ms);
    }
    let held = held::held(connection, stream.row, &mut wanted)?;
    let mut before: Option<Sample> = None;
    samples.retain(|sample| {
        let same =
            before.filter(|one| (one.time_ms, one.series) == (sample.time_ms, sample.series));
        let there = same.map(|one| one.value.to_bits());
        let there = there.or_else(|| held.get(&(sample.series, sample.time_ms)).copied());
        match there {
            None => before = Some(*sample),
            Some(bits) if bits == sample.value.to_bits() => written.duplicates += 1,
            Some(_) => written.refuse(sample.place, Reason::OtherValue, sample.time_ms),
        }
        there.is_none()
    });
    Ok(())
}

/// Writes down in the gap ledger what was refused because its target has too many series.
fn tell_limit(
    connection: &Connection,
    stream: &StreamState,
    refused: &[(usize, i64)],
    received_ms: i64,
) -> rusqlite::Result<()> {
    let times = || refused.iter().map(|(_, time_ms)| *time_ms);
    let Some(span) = times().min().zip(times().max()) else { return Ok(()) };
    ledger::record_series_limit(connection, stream.row, span, refused.len() as u64, received_ms)
}

fn insert(
    connection: &Connection,
    stream: &mut StreamState,
    samples: &[Sample],
    received_ms: i64,
) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(()) };
    let triples = samples.iter().map(|sample| (sample.time_ms, sample.series, sample.value));
    let ticks = written::ticks(triples);
    // A scrape may come in several requests: it is one tick all the same.
    let is_new = |time_ms| stream.last_tick_ms.is_none_or(|last_ms| last_ms < time_ms);
    let new = ticks.iter().filter(|tick| is_new(tick.time_ms)).count();
    let seqs = Seqs { first: stream.acked_seq + 1, last: stream.acked_seq + ticks.len() as u64 };
    let row = head::NewRow {
        seqs,
        span: (first.time_ms, last.time_ms),
        ticks: new as u64,
        samples: samples.len() as u64,
        received_ms,
        body: &written::encode(&ticks),
    };
    row.insert(connection, stream)?;
    stream.acked_seq = seqs.last;
    stream.last_tick_ms = stream.last_tick_ms.max(Some(last.time_ms));
    stream.save(connection, received_ms)
}
