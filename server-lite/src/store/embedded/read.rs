//! Reads samples: blocks and head together, in order of time, no sample twice.
//!
//! What is to be read is sorted by its earliest time and read in clusters: a cluster holds all that
//! overlaps in time, mostly one block of each group or some rows of the head. So memory holds one
//! cluster, and the clusters follow each other in time. It all happens in one read transaction: what
//! is sealed meanwhile is seen in one place or the other, never in both.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::mpsc;
use wire::SchemaId;

use super::{
    catalog::unsigned,
    columns::{Block, Malformed},
    database::database,
    head::{self, HeadReader, HeadTick},
    head_cache::{HeadCache, Key},
    ledger::Seqs,
    registry::{place_of, schema_series},
    stats::Counters,
};
use crate::store::{Chunk, ReadRequest, SeriesId, StoreError};

/// Neighbours that don't overlap are read together up to so many: chunks grow, calls get fewer.
const CLUSTER_MIN: usize = 32;

const LOOK: &str = "look for samples";

/// Where chunks go; the reading ends when nobody takes them any more.
pub(crate) type Sink = mpsc::Sender<Result<Chunk, StoreError>>;

/// Reads what is asked for and sends it.
pub(crate) fn read(
    connection: &mut Connection,
    counters: &Counters,
    cache: &HeadCache,
    request: &ReadRequest,
    sink: &Sink,
) -> Result<(), StoreError> {
    let transaction = connection.transaction().map_err(database("begin reading"))?;
    let agents = by_agent(&transaction, &request.series).map_err(database("read series"))?;
    let mut reading = Reading::new(&transaction, counters, cache)?;
    let span = (request.from_ms, request.to_ms);
    for (agent, wanted) in agents {
        let sources = reading.sources(agent, &wanted, span).map_err(database(LOOK))?;
        let goes_on = reading.samples(agent, &wanted, span, sources, |series, times, values| {
            sink.blocking_send(Ok(Chunk { series, times, values })).is_ok()
        })?;
        if !goes_on {
            return Ok(());
        }
    }
    reading.finish()
}

/// The series wanted of one agent: place in the request by id.
pub(crate) type Wanted = HashMap<i64, usize>;

/// The series of a request, by their agents; without those that there aren't.
pub(crate) fn by_agent(
    connection: &Connection,
    series: &[SeriesId],
) -> rusqlite::Result<BTreeMap<i64, Wanted>> {
    let mut agents = BTreeMap::<i64, Wanted>::new();
    let mut agent_of = connection.prepare_cached("SELECT agent FROM series WHERE id = ?1")?;
    for (place, series) in series.iter().enumerate() {
        let agent: Option<i64> = agent_of.query_row([series.0], |row| row.get(0)).optional()?;
        if let Some(agent) = agent {
            agents.entry(agent).or_default().entry(series.0).or_insert(place);
        }
    }
    Ok(agents)
}

/// Something that holds samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    place: Place,
    /// Earliest and latest time.
    span: (i64, i64),
    /// Stream and first sequence number: the order in which samples were sent.
    order: (i64, u64),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Block { id: i64, group: i64 },
    Head { id: i64, seqs: Seqs },
}

impl Source {
    /// Which block it is, if it is one.
    pub(crate) const fn block_id(&self) -> Option<i64> {
        match self.place {
            Place::Block { id, .. } => Some(id),
            Place::Head { .. } => None,
        }
    }

    /// Earliest and latest time in it.
    pub(crate) const fn span(&self) -> (i64, i64) {
        self.span
    }
}

/// Samples of one series from one source.
#[derive(Debug, Default)]
struct Part {
    order: (i64, u64),
    times: Vec<i64>,
    values: Vec<f64>,
}

type Parts = BTreeMap<usize, Vec<Part>>;

/// For each schema met: where its series of interest stand, and how many series it has.
type Positions = HashMap<SchemaId, (Vec<(usize, usize)>, usize)>;

/// The ticks of a row of the head.
type Ticks = Arc<[HeadTick]>;

/// Reads in one transaction.
pub(crate) struct Reading<'a> {
    connection: &'a Connection,
    counters: &'a Counters,
    cache: &'a HeadCache,
    heads: HeadReader,
    /// What first didn't read back, to be said at the end, and the places of all series it concerns.
    damaged: Option<(String, String)>,
    unread: BTreeSet<usize>,
}

impl<'a> Reading<'a> {
    /// Nothing read yet.
    pub(crate) fn new(
        connection: &'a Connection,
        counters: &'a Counters,
        cache: &'a HeadCache,
    ) -> Result<Self, StoreError> {
        let heads = HeadReader::new().map_err(|error| StoreError::Database {
            operation: "start decompressing",
            source: error.into(),
        })?;
        Ok(Self { connection, counters, cache, heads, damaged: None, unread: BTreeSet::new() })
    }

    /// Says what didn't read back.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        let Some((what, detail)) = self.damaged else { return Ok(()) };
        let series = self.unread.into_iter().collect();
        Err(StoreError::Damaged { what, detail, series })
    }

    /// Gives the samples of one agent's series within a span, chunk by chunk; `false` when nobody takes
    /// them any more.
    pub(crate) fn samples(
        &mut self,
        agent: i64,
        wanted: &Wanted,
        (from_ms, to_ms): (i64, i64),
        mut sources: Vec<Source>,
        mut each: impl FnMut(usize, Vec<i64>, Vec<f64>) -> bool,
    ) -> Result<bool, StoreError> {
        sources.sort_by_key(|source| source.span.0);
        let mut positions = Positions::new();
        for cluster in clusters(&sources) {
            let mut parts = Parts::new();
            for source in cluster {
                let read = match source.place {
                    Place::Block { id, group } => self.block(id, group, source, wanted, &mut parts),
                    Place::Head { id, seqs } => {
                        self.head(agent, id, seqs, source, wanted, &mut positions, &mut parts)
                    }
                };
                if let Err(Malformed(detail)) = read.map_err(database("read samples"))? {
                    self.damaged(source, wanted, detail);
                }
            }
            for (series, parts) in parts {
                let (times, values) = merge(parts, from_ms, to_ms);
                if !times.is_empty() && !each(series, times, values) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn damaged(&mut self, source: &Source, wanted: &Wanted, detail: String) {
        let group = match source.place {
            Place::Block { group, .. } => Some(group),
            Place::Head { .. } => None,
        };
        let what = format!("{:?}", source.place);
        tracing::error!(?source, detail, "stored samples no longer read, left out");
        self.lacks(group, wanted, what, detail);
    }

    /// Notes that of the series wanted those of a group, or all, lack something.
    pub(crate) fn lacks(
        &mut self,
        group: Option<i64>,
        wanted: &Wanted,
        what: String,
        detail: String,
    ) {
        self.counters.damaged.add(1);
        let is_in = |series: i64| group.is_none_or(|group| place_of(series).0 == group);
        let unread = wanted.iter().filter(|(series, _)| is_in(**series)).map(|(_, place)| *place);
        self.unread.extend(unread);
        self.damaged.get_or_insert((what, detail));
    }

    /// Whether anything didn't read back.
    pub(crate) const fn is_damaged(&self) -> bool {
        self.damaged.is_some()
    }

    /// All that holds samples of an agent's series within a span.
    pub(crate) fn sources(
        &self,
        agent: i64,
        wanted: &Wanted,
        span: (i64, i64),
    ) -> rusqlite::Result<Vec<Source>> {
        let mut groups: Vec<i64> = wanted.keys().map(|series| place_of(*series).0).collect();
        groups.sort_unstable();
        groups.dedup();
        let mut sources = Vec::new();
        for group in groups {
            self.block_sources(group, span, &mut sources)?;
        }
        self.head_sources(agent, span, &mut sources)?;
        Ok(sources)
    }

    /// The blocks of a group that hold samples within a span.
    pub(crate) fn block_sources(
        &self,
        group: i64,
        (from_ms, to_ms): (i64, i64),
        sources: &mut Vec<Source>,
    ) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, min_ms, max_ms, stream, first_seq FROM blocks INDEXED BY blocks_by_time \
             WHERE grp = ?1 AND max_ms >= ?2 AND min_ms <= ?3",
        )?;
        let span = params![group, from_ms, to_ms];
        let found = statement.query_map(span, |row| {
            Ok(Source {
                place: Place::Block { id: row.get(0)?, group },
                span: (row.get(1)?, row.get(2)?),
                order: (row.get(3)?, unsigned(row, 4)?),
            })
        })?;
        found.into_iter().try_for_each(|source| source.map(|source| sources.push(source)))
    }

    /// The rows of an agent's head that hold samples within a span.
    pub(crate) fn head_sources(
        &self,
        agent: i64,
        (from_ms, to_ms): (i64, i64),
        sources: &mut Vec<Source>,
    ) -> rusqlite::Result<()> {
        let streams: Vec<i64> = self
            .connection
            .prepare_cached("SELECT id FROM streams WHERE agent = ?1 AND head_samples > 0")?
            .query_map([agent], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut statement = self.connection.prepare_cached(
            "SELECT id, first_seq, last_seq, min_ms, max_ms FROM head \
             WHERE id BETWEEN ?1 AND ?2 AND max_ms >= ?3 AND min_ms <= ?4",
        )?;
        for stream in streams {
            let (first, last) = head::row_ids(stream);
            let span = params![first, last, from_ms, to_ms];
            let found = statement.query_map(span, |row| {
                let seqs = Seqs { first: unsigned(row, 1)?, last: unsigned(row, 2)? };
                Ok(Source {
                    place: Place::Head { id: row.get(0)?, seqs },
                    span: (row.get(3)?, row.get(4)?),
                    order: (stream, seqs.first),
                })
            })?;
            found.into_iter().try_for_each(|source| source.map(|source| sources.push(source)))?;
        }
        Ok(())
    }

    fn block(
        &self,
        id: i64,
        group: i64,
        source: &Source,
        wanted: &Wanted,
        parts: &mut Parts,
    ) -> rusqlite::Result<Result<(), Malformed>> {
        let mut statement =
            self.connection.prepare_cached("SELECT data FROM blocks WHERE id = ?1")?;
        statement.query_row([id], |row| {
            let bytes = row.get_ref(0)?.as_blob()?;
            Ok(read_block(bytes, group, source.order, wanted, parts))
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one call; a struct would only rename them")]
    fn head(
        &mut self,
        agent: i64,
        id: i64,
        seqs: Seqs,
        source: &Source,
        wanted: &Wanted,
        positions: &mut Positions,
        parts: &mut Parts,
    ) -> rusqlite::Result<Result<(), Malformed>> {
        let (ticks, read) = self.ticks(id, seqs, source.span)?;
        for tick in ticks.iter() {
            learn(self.connection, agent, tick, wanted, positions)?;
            pick_named(tick, wanted, source.order, parts);
            if let Err(error) = pick(tick, positions, source.order, parts) {
                return Ok(Err(error));
            }
        }
        Ok(read)
    }

    /// The ticks of a row of the head; of one that doesn't read back, those before, and why.
    fn ticks(
        &mut self,
        id: i64,
        seqs: Seqs,
        span: (i64, i64),
    ) -> rusqlite::Result<(Ticks, Result<(), Malformed>)> {
        let key = Key::new(id, seqs, span);
        if let Some(known) = self.cache.get(&key) {
            return Ok((known, Ok(())));
        }
        let mut ticks = Vec::new();
        let heads = &mut self.heads;
        let mut statement =
            self.connection.prepare_cached("SELECT body FROM head WHERE id = ?1")?;
        let read = statement.query_row([id], |row| {
            Ok(heads.ticks(row.get_ref(0)?.as_blob()?, seqs, |_, tick| {
                ticks.push(tick);
                Ok(())
            }))
        })?;
        let ticks = Ticks::from(ticks);
        if read.is_ok() {
            self.cache.put(key, &ticks);
        }
        Ok((ticks, read))
    }
}

/// Groups of sources: what overlaps in time is together.
fn clusters(sources: &[Source]) -> Vec<&[Source]> {
    let (mut clusters, mut start, mut end_ms) = (Vec::new(), 0, i64::MIN);
    for (index, source) in sources.iter().enumerate() {
        if source.span.0 > end_ms && index - start >= CLUSTER_MIN {
            clusters.push(&sources[start..index]);
            start = index;
        }
        end_ms = end_ms.max(source.span.1);
    }
    clusters.push(&sources[start..]);
    clusters
}

fn read_block(
    bytes: &[u8],
    group: i64,
    order: (i64, u64),
    wanted: &Wanted,
    parts: &mut Parts,
) -> Result<(), Malformed> {
    let block = Block::open(bytes)?;
    for (series, place) in wanted {
        let (of, slot) = place_of(*series);
        if of == group
            && let Some(column) = block.column(slot)?
        {
            let times = column.ticks.iter().map(|tick| block.times[*tick]).collect();
            parts.entry(*place).or_default().push(Part { order, times, values: column.values });
        }
    }
    Ok(())
}

/// Finds out where the wanted series stand in the tick's schemas.
fn learn(
    connection: &Connection,
    agent: i64,
    tick: &HeadTick,
    wanted: &Wanted,
    positions: &mut Positions,
) -> rusqlite::Result<()> {
    for id in tick.schemas() {
        if !positions.contains_key(id)
            && let Some(series) = schema_series(connection, agent, *id)?
        {
            let found = series.iter().enumerate();
            let found = found.filter_map(|(at, series)| Some((at, *wanted.get(series)?)));
            positions.insert(*id, (found.collect(), series.len()));
        }
    }
    Ok(())
}

fn pick(
    tick: &HeadTick,
    positions: &Positions,
    order: (i64, u64),
    parts: &mut Parts,
) -> Result<(), Malformed> {
    let mut start = 0;
    for id in tick.schemas() {
        let Some((found, series)) = positions.get(id) else {
            return Err(Malformed(format!("schema {id} is not known any more")));
        };
        for (at, place) in found {
            let Some(value) = tick.values.get(start + at) else {
                return Err(Malformed(format!("{} values are too few", tick.values.len())));
            };
            add(parts, *place, order, (tick.time_ms, *value));
        }
        start += series;
    }
    Ok(())
}

/// Takes what is wanted of a tick that names its series.
fn pick_named(tick: &HeadTick, wanted: &Wanted, order: (i64, u64), parts: &mut Parts) {
    if tick.ids().is_empty() {
        return;
    }
    for (series, place) in wanted {
        let value = tick.ids().binary_search(series).ok().and_then(|at| tick.values.get(at));
        if let Some(value) = value {
            add(parts, *place, order, (tick.time_ms, *value));
        }
    }
}

/// Adds a sample to a series' part from that source.
fn add(parts: &mut Parts, place: usize, order: (i64, u64), (time_ms, value): (i64, f64)) {
    let parts = parts.entry(place).or_default();
    match parts.last_mut() {
        Some(part) if part.order == order => {
            part.times.push(time_ms);
            part.values.push(value);
        }
        _ => parts.push(Part { order, times: vec![time_ms], values: vec![value] }),
    }
}

/// Samples of one series in order of time, within bounds; of several at one time the one sent last.
fn merge(mut parts: Vec<Part>, from_ms: i64, to_ms: i64) -> (Vec<i64>, Vec<f64>) {
    parts.sort_by_key(|part| part.order);
    let mut samples: Vec<(i64, f64)> =
        parts.into_iter().flat_map(|part| part.times.into_iter().zip(part.values)).collect();
    if !samples.is_sorted_by(|a, b| a.0 < b.0) {
        // Stable: what was sent later stays behind, and the latest of each time is kept.
        samples.sort_by_key(|(time, _)| *time);
        samples.reverse();
        samples.dedup_by_key(|(time, _)| *time);
        samples.reverse();
    }
    samples.into_iter().filter(|(time, _)| (from_ms..=to_ms).contains(time)).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_samples_at_one_time_the_one_sent_last_counts() {
        let part = |order, samples: &[(i64, f64)]| {
            let (times, values) = samples.iter().copied().unzip();
            Part { order, times, values }
        };
        let parts = vec![
            part((2, 1), &[(3, 3.2), (2, 2.2)]),
            part((1, 5), &[(4, 4.1), (2, 2.1), (9, 9.1)]),
            part((1, 1), &[(1, 1.0), (2, 2.0), (3, 3.0)]),
        ];
        let (times, values) = merge(parts, 2, 4);
        assert_eq!((times, values), (vec![2, 3, 4], vec![2.2, 3.2, 4.1]));
    }

    #[test]
    fn what_overlaps_is_read_together() {
        let source = |from, to| Source {
            place: Place::Block { id: 0, group: 0 },
            span: (from, to),
            order: (0, 0),
        };
        let check = |spans: &[(i64, i64)], sizes: &[usize]| {
            let sources: Vec<_> = spans.iter().map(|(from, to)| source(*from, *to)).collect();
            let found: Vec<usize> = clusters(&sources).iter().map(|c| c.len()).collect();
            assert_eq!(found, sizes);
        };
        check(&[], &[0]);
        let apart: Vec<(i64, i64)> = (0..70).map(|n| (n * 10, n * 10 + 9)).collect();
        check(&apart, &[32, 32, 6]);
        let touching: Vec<(i64, i64)> = (0..70).map(|n| (n * 10, n * 10 + 10)).collect();
        check(&touching, &[70]);
        let mut bridged = apart;
        bridged[0].1 = 350;
        check(&bridged, &[36, 32, 2]);
    }
}
