//! Sealing: records become columns.
//!
//! When a stream's head has enough ticks, the sealer reads them, packs them into blocks, reads the
//! blocks back, and hands them to the writer, which puts them in and takes the head's rows out in
//! one transaction: every sample is in exactly one place at any moment.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, OptionalExtension as _, params};
use wire::{AgentId, SchemaId};

use super::{
    catalog::{StreamState, unsigned},
    columns::{BlockBuilder, Malformed, block::TICKS_MAX},
    database::database,
    head::{self, HeadReader, HeadTick, Members},
    ledger::Seqs,
    pages,
    registry::{place_of, schema_series},
    sealed::{self, Damaged, Sealed, SealedBlock},
    stats::Counters,
    writer::{NotQueued, Writer},
};
use crate::store::StoreError;

/// Ticks after which a stream is due: fewer make columns larger, more are slow to read. Each stream
/// waits a little longer than its neighbour, so that a fleet that was started at once isn't sealed at
/// once.
pub(crate) const TICKS: u64 = 480;
const TICKS_SPREAD: u64 = 120;
/// Bytes after which a stream is due.
pub(crate) const BYTES: u64 = 2 << 20;
/// Ticks and bytes sealed in one transaction; a single larger row is still sealed alone.
const ONCE_TICKS: u64 = 4 * TICKS_MAX as u64;
const ONCE_BYTES: u64 = 4 << 20;
/// Samples held in columns before they are packed.
const SEGMENT_SAMPLES_MAX: usize = 2_000_000;
/// Two ticks in a row whose times lie further apart than this are put in two blocks: in one, they would
/// make it overlap all that lies between, and readers hold what overlaps in memory. Longer than any
/// interval.
const JUMP_MS: u64 = 60 * 60 * 1_000;
/// How often that is done in one seal: a clock that never stands still would make a block of each tick.
const JUMPS_MAX: usize = 16;
/// What a seal weighs in the writer's group, in samples.
const WEIGHT: usize = 10_000;

/// Whether a stream has enough in its head.
pub(crate) fn is_due(stream: &StreamState) -> bool {
    let spread = stream.row.unsigned_abs() * 7 % TICKS_SPREAD;
    stream.head.ticks >= TICKS + spread || stream.head.bytes >= BYTES
}

/// Streams that are due, each once.
#[derive(Debug, Default)]
pub(crate) struct SealQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    due: BTreeSet<i64>,
    /// Whether one that was taken out is being sealed.
    sealing: bool,
    closed: bool,
}

impl SealQueue {
    /// Adds streams by their rows.
    pub(crate) fn add(&self, streams: Vec<i64>) {
        if streams.is_empty() {
            return;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).due.extend(streams);
        self.changed.notify_one();
    }

    /// Lets the sealer end when it is next free.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    /// Streams that are due or being sealed.
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.due.len() as u64 + u64::from(state.sealing)
    }

    /// The next stream, when the one before is done with; waits for one, and gives `None` once closed.
    fn next(&self) -> Option<i64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sealing = false;
        let waiting = |state: &mut QueueState| state.due.is_empty() && !state.closed;
        let mut state =
            self.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        state.sealing = true;
        state.due.pop_first()
    }
}

/// Seals on a thread of its own.
pub(crate) struct Sealer {
    reader: Connection,
    heads: HeadReader,
    writer: Writer,
    counters: Arc<Counters>,
    queue: Arc<SealQueue>,
}

/// A row of the head, without its body.
struct HeadRow {
    id: i64,
    seqs: Seqs,
    span: (i64, i64),
    ticks: u64,
    samples: u64,
    bytes: u64,
}

impl HeadRow {
    fn damaged(&self, detail: String) -> Damaged {
        Damaged { id: self.id, seqs: self.seqs, span: self.span, samples: self.samples, detail }
    }
}

impl Sealer {
    /// Starts the sealer; it ends when the queue is closed.
    pub(crate) fn start(
        reader: Connection,
        writer: Writer,
        counters: Arc<Counters>,
        queue: Arc<SealQueue>,
    ) -> std::io::Result<JoinHandle<()>> {
        let heads = HeadReader::new()?;
        let mut sealer = Self { reader, heads, writer, counters, queue };
        thread::Builder::new().name("store-sealer".into()).spawn(move || sealer.run())
    }

    fn run(&mut self) {
        while let Some(stream) = self.queue.next() {
            // A panic must not end sealing for every other stream.
            let sealed = catch_unwind(AssertUnwindSafe(|| self.seal(stream)));
            let sealed = sealed.unwrap_or_else(|_| {
                let what = "records to be sealed".to_owned();
                let (detail, series) = ("sealing them panicked".to_owned(), vec![]);
                Err(StoreError::Damaged { what, detail, series })
            });
            match sealed {
                Ok(true) => self.queue.add(vec![stream]),
                Ok(false) => {}
                // The stream's next request makes it due again.
                Err(error) => {
                    self.counters.seal_failures.add(1);
                    tracing::error!(
                        stream,
                        error = &error as &dyn std::error::Error,
                        "sealing failed, the records stay as they came"
                    );
                }
            }
        }
    }

    /// Seals the oldest part of a stream's head; whether more is left.
    fn seal(&mut self, stream: i64) -> Result<bool, StoreError> {
        let read = database("read head");
        let Some((agent, agent_id)) = agent_of(&self.reader, stream).map_err(read)? else {
            return Ok(false);
        };
        let rows = head_rows(&self.reader, stream).map_err(database("read head"))?;
        let all = rows.len();
        let rows = some_of(rows);
        let more = rows.len() < all;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(false) };
        let mut packing = Packing::new(agent, stream, rows.iter().map(|row| row.ticks).sum());
        let mut damaged = Vec::new();
        for row in &rows {
            match self.ticks_of(&mut packing, row)? {
                Ok(ticks) => packing.add(ticks)?,
                Err(Malformed(detail)) => damaged.push(row.damaged(detail)),
            }
        }
        let sealed = Sealed {
            agent_id,
            stream,
            ids: (first.id, last.id),
            rows: rows.len(),
            ticks: rows.iter().map(|row| row.ticks).sum(),
            samples: rows.iter().map(|row| row.samples).sum(),
            bytes: rows.iter().map(|row| row.bytes).sum(),
            blocks: packing.finish(first.seqs.first)?,
            damaged,
        };
        self.commit(sealed)?;
        Ok(more)
    }

    /// All ticks of a row or none: a row that turns out damaged in its middle is kept whole.
    fn ticks_of(
        &mut self,
        packing: &mut Packing,
        row: &HeadRow,
    ) -> Result<Result<Vec<(u64, HeadTick)>, Malformed>, StoreError> {
        let body: Vec<u8> = self
            .reader
            .prepare_cached("SELECT body FROM head WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([row.id], |row| row.get(0)))
            .map_err(database("read head"))?;
        let mut ticks = Vec::new();
        let read = self.heads.ticks(&body, row.seqs, |seq, tick| {
            ticks.push((seq, tick));
            Ok(())
        });
        packing.learn(&self.reader, &ticks).map_err(database("read schema"))?;
        Ok(read.and_then(|()| packing.check(&ticks)).map(|()| ticks))
    }

    fn commit(&self, sealed: Sealed) -> Result<(), StoreError> {
        let samples = sealed.samples;
        let change =
            move |writing: &mut super::writer::Writing<'_>| sealed::commit(writing, &sealed);
        // Ingest has filled the queue: sealing can wait for the stream's next request.
        let answer = self.writer.queue(WEIGHT, change).map_err(|refused| match refused {
            NotQueued::Closed => StoreError::Closed,
            NotQueued::Full => StoreError::Database {
                operation: "queue sealed blocks",
                source: "too many changes wait to be written".into(),
            },
        })?;
        answer.blocking_recv().unwrap_or(Err(StoreError::Closed))?;
        tracing::debug!(samples, "sealed");
        Ok(())
    }
}

/// Ticks on their way into blocks.
struct Packing {
    agent: i64,
    stream: i64,
    segment_ticks: u64,
    ticks: u64,
    samples: usize,
    last_ms: Option<i64>,
    jumps: usize,
    schemas: HashMap<SchemaId, Vec<i64>>,
    /// What came by remote write, by time: it is packed in that order, however it came, and what requests
    /// have split of one time is together again.
    written: BTreeMap<i64, Vec<(i64, f64)>>,
    groups: BTreeMap<i64, BlockBuilder>,
    blocks: Vec<SealedBlock>,
}

impl Packing {
    /// Blocks of about the same length, none longer than allowed.
    fn new(agent: i64, stream: i64, ticks: u64) -> Self {
        Self {
            agent,
            stream,
            segment_ticks: segment_ticks(ticks),
            ticks: 0,
            samples: 0,
            last_ms: None,
            jumps: 0,
            schemas: HashMap::new(),
            written: BTreeMap::new(),
            groups: BTreeMap::new(),
            blocks: Vec::new(),
        }
    }

    /// Looks up the ticks' schemas.
    fn learn(&mut self, reader: &Connection, ticks: &[(u64, HeadTick)]) -> rusqlite::Result<()> {
        for id in ticks.iter().flat_map(|(_, tick)| tick.schemas()) {
            if !self.schemas.contains_key(id)
                && let Some(series) = schema_series(reader, self.agent, *id)?
            {
                self.schemas.insert(*id, series);
            }
        }
        Ok(())
    }

    /// Whether the ticks' values fit their schemas.
    fn check(&self, ticks: &[(u64, HeadTick)]) -> Result<(), Malformed> {
        for (_, tick) in ticks {
            let mut expected = tick.ids().len();
            for id in tick.schemas() {
                let series = self.schemas.get(id);
                let unknown = || Malformed(format!("schema {id} is not known any more"));
                expected += series.ok_or_else(unknown)?.len();
            }
            if tick.values.len() != expected {
                let found = tick.values.len();
                return Err(Malformed(format!("{found} values for {expected} series")));
            }
        }
        Ok(())
    }

    fn add(&mut self, ticks: Vec<(u64, HeadTick)>) -> Result<(), StoreError> {
        ticks.into_iter().try_for_each(|(seq, tick)| match &tick.series {
            Members::Schemas(schemas) => self.add_tick(seq, schemas, &tick),
            Members::Ids(ids) => {
                let samples = ids.iter().copied().zip(tick.values);
                self.written.entry(tick.time_ms).or_default().extend(samples);
                Ok(())
            }
        })
    }

    fn add_tick(
        &mut self,
        seq: u64,
        schemas: &[SchemaId],
        tick: &HeadTick,
    ) -> Result<(), StoreError> {
        self.begin_tick(tick.time_ms, tick.values.len())?;
        let series = schemas.iter().filter_map(|id| self.schemas.get(id)).flatten();
        for (series, value) in series.zip(&tick.values).filter(|(series, _)| **series != 0) {
            let (group, slot) = place_of(*series);
            self.groups.entry(group).or_default().push(seq, tick.time_ms, slot, *value);
        }
        Ok(())
    }

    /// Packs what came by remote write, under numbers from `seq` on: there are no more times than numbers
    /// that its ticks had.
    fn add_written(&mut self, seq: u64) -> Result<(), StoreError> {
        let written = std::mem::take(&mut self.written);
        if !written.is_empty() {
            self.segment_ticks = segment_ticks(written.len() as u64);
        }
        for (seq, (time_ms, samples)) in (seq..).zip(written) {
            self.begin_tick(time_ms, samples.len())?;
            for (series, value) in samples {
                let (group, slot) = place_of(series);
                self.groups.entry(group).or_default().push(seq, time_ms, slot, value);
            }
        }
        Ok(())
    }

    fn begin_tick(&mut self, time_ms: i64, samples: usize) -> Result<(), StoreError> {
        let is_full = self.ticks >= self.segment_ticks || self.samples >= SEGMENT_SAMPLES_MAX;
        if self.jumps(time_ms) || is_full {
            self.close_segment()?;
        }
        self.ticks += 1;
        self.samples += samples;
        Ok(())
    }

    /// Whether the clock has jumped before this tick, and the tick is to begin a block for it.
    fn jumps(&mut self, time_ms: i64) -> bool {
        let before = self.last_ms.replace(time_ms);
        let is_far = before.is_some_and(|before| before.abs_diff(time_ms) > JUMP_MS);
        let is_split = is_far && self.jumps < JUMPS_MAX;
        self.jumps += usize::from(is_split);
        is_split
    }

    fn close_segment(&mut self) -> Result<(), StoreError> {
        for (group, builder) in std::mem::take(&mut self.groups) {
            let (Some(span), Some((first_seq, _))) = (builder.span(), builder.seqs()) else {
                continue;
            };
            let damaged = |Malformed(detail)| StoreError::Damaged {
                what: format!("block of group {group}"),
                detail,
                series: vec![],
            };
            let data = builder.finish().map_err(damaged)?;
            let (stream, samples) = (self.stream, builder.samples());
            self.blocks.push(SealedBlock {
                group,
                stream,
                first_seq,
                span,
                days: pages::days_of(builder.times()),
                samples,
                slots: builder.slots(),
                data,
            });
        }
        (self.ticks, self.samples) = (0, 0);
        Ok(())
    }

    fn finish(mut self, seq: u64) -> Result<Vec<SealedBlock>, StoreError> {
        self.add_written(seq)?;
        self.close_segment()?;
        Ok(self.blocks)
    }
}

/// Ticks of one block, when there are so many.
fn segment_ticks(ticks: u64) -> u64 {
    let segments = ticks.div_ceil(TICKS_MAX as u64).max(1);
    ticks.div_ceil(segments)
}

fn agent_of(reader: &Connection, stream: i64) -> rusqlite::Result<Option<(i64, AgentId)>> {
    reader
        .prepare_cached(
            "SELECT a.id, a.uuid FROM streams s JOIN agents a ON a.id = s.agent WHERE s.id = ?1",
        )?
        .query_row([stream], |row| Ok((row.get(0)?, AgentId::from_bytes(row.get(1)?))))
        .optional()
}

fn head_rows(reader: &Connection, stream: i64) -> rusqlite::Result<Vec<HeadRow>> {
    let (first, last) = head::row_ids(stream);
    reader
        .prepare_cached(
            "SELECT id, first_seq, last_seq, min_ms, max_ms, ticks, samples, length(body) \
             FROM head WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
        )?
        .query_map(params![first, last], |row| {
            Ok(HeadRow {
                id: row.get(0)?,
                seqs: Seqs { first: unsigned(row, 1)?, last: unsigned(row, 2)? },
                span: (row.get(3)?, row.get(4)?),
                ticks: unsigned(row, 5)?,
                samples: unsigned(row, 6)?,
                bytes: unsigned(row, 7)?,
            })
        })?
        .collect()
}

/// As many of the oldest rows as are sealed at once.
fn some_of(mut rows: Vec<HeadRow>) -> Vec<HeadRow> {
    let (mut ticks, mut bytes) = (0, 0);
    let fitting = rows.iter().take_while(|row| {
        ticks += row.ticks;
        bytes += row.bytes;
        ticks <= ONCE_TICKS && bytes <= ONCE_BYTES
    });
    let count = fitting.count().max(1);
    rows.truncate(count);
    rows
}
