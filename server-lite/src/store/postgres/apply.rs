//! What one request changes: decided on what is remembered of its agent, whose row is locked. Little is
//! written here; most of it is gathered in a [`Batch`], which [`super::flush`] writes for a whole group.

use std::sync::Arc;

use wire::{StreamId, request::Body};

use super::{
    change::Change,
    ledger, schemas,
    series::register,
    state::{AgentState, StreamState, text},
};
use crate::store::{
    IngestBatch, IngestError, Ingested,
    admission::{again, begins, contradiction, jump, named, samples, span, time_of, told},
    holes::holes,
    incoming::{Incoming, Plan, Record, What, plan},
    sums::{Comparison, Known},
};

/// A request with its values; it may be applied more than once, if a transaction has to be begun again.
#[derive(Debug)]
pub(crate) struct Requested {
    /// What it brings.
    pub(crate) incoming: Incoming,
    /// The values of each record; a gap has none.
    values: Vec<Arc<Vec<f64>>>,
}

impl From<IngestBatch> for Requested {
    fn from(batch: IngestBatch) -> Self {
        let values = batch.request.records.iter().map(|record| match &record.body {
            Body::Metrics(tick) => Arc::new(tick.values.clone()),
            Body::Gap(_) => Arc::default(),
        });
        Self { values: values.collect(), incoming: batch.into() }
    }
}

/// What a group of requests brings, to be written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Ticks, in the order in which they were sent.
    pub(crate) ticks: Vec<TickRow>,
    /// Checksums that leave their stream's row: stream, first number, when, and they.
    pub(crate) sums: Vec<(i64, i64, i64, Vec<u8>)>,
    /// Samples not stored.
    pub(crate) refused: u64,
    /// Samples.
    pub(crate) samples: u64,
    /// Series registered.
    pub(crate) series: u64,
    /// Targets that are new.
    pub(crate) targets: u64,
}

/// A tick and its samples.
#[derive(Debug)]
pub(crate) struct TickRow {
    /// Row of its stream.
    pub(crate) stream: i64,
    /// Its number there.
    pub(crate) seq: u64,
    /// Unix milliseconds.
    pub(crate) at: i64,
    /// Whether its time is far from when it came.
    pub(crate) is_stray: bool,
    /// The series of its schemas, in order.
    pub(crate) series: Vec<Arc<[i64]>>,
    /// A value for each.
    pub(crate) values: Arc<Vec<f64>>,
}

/// Why a request isn't stored.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It alone is refused; nothing of it was written.
    Refused(IngestError),
    /// The transaction has failed.
    Database(tokio_postgres::Error),
}

impl From<IngestError> for Failed {
    fn from(error: IngestError) -> Self {
        Self::Refused(error)
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// What a request is applied with.
pub(crate) struct Applying<'a> {
    /// The group's transaction.
    pub(crate) transaction: &'a Change<'a>,
    /// The request.
    pub(crate) requested: &'a Requested,
    /// Whether it was sent after all that is stored of its agent.
    pub(crate) is_fresh: bool,
    /// Series stored of one agent.
    pub(crate) series_max: u64,
}

impl Applying<'_> {
    /// Applies it. What `agent` is after an error is to be thrown away.
    pub(crate) async fn apply(
        &self,
        agent: &mut AgentState,
        batch: &mut Batch,
    ) -> Result<Ingested, Failed> {
        let incoming = &self.requested.incoming;
        self.admit(agent).await?;
        let plan = self.plan(agent).await?;
        self.rename(agent);
        let before = agent.series;
        let new: Vec<_> = plan.register.iter().filter_map(|id| incoming.sent(*id)).collect();
        let (most, now_ms) = (self.series_max, incoming.received_ms);
        register(self.transaction, agent, &new, most, now_ms).await?;
        let taken = &incoming.records[plan.duplicates..plan.duplicates + plan.take];
        schemas::note_used(self.transaction, agent, named(taken), incoming.received_ms).await?;
        let schemas = named(taken).filter_map(|id| agent.schemas.get(&id));
        let refused = schemas.map(super::state::SchemaState::refused).sum();
        if !taken.is_empty() {
            self.take(agent, &plan, refused, batch).await?;
        }
        batch.series += agent.series - before;
        batch.refused += refused;
        batch.samples += samples(taken);
        let stream = agent.streams.get(&incoming.header.stream_id);
        Ok(Ingested {
            acked_seq: told(stream.map_or(0, |stream| stream.acked_seq), incoming),
            need_schemas: plan.missing.iter().copied().collect(),
            records: taken.len() as u64,
            samples: samples(taken),
            duplicates: plan.duplicates as u64,
        })
    }

    /// Lets in what the stream's own writer sends, as the embedded store does: what is there already has
    /// to be what is sent again, else it is another log under the stream's name.
    async fn admit(&self, agent: &mut AgentState) -> Result<(), Failed> {
        let incoming = &self.requested.incoming;
        let stream_id = incoming.header.stream_id;
        let Some(stream) = agent.streams.get(&stream_id) else { return Ok(()) };
        let compared = self.compare(stream).await?;
        let found = contradiction(stream.acked_seq, compared, incoming, self.is_fresh)?;
        let jump = jump(stream.acked_seq, incoming);
        if found.is_none() && jump.is_none() {
            return Ok(());
        }
        let own = self.own_aside(agent).await?;
        // Without another log to go on with, it is a hole.
        let Some((seq, reason)) = found.or(jump.filter(|_| own.is_some())) else { return Ok(()) };
        if !(incoming.is_alone && self.is_fresh) {
            return Err(IngestError::Conflict { seq, reason }.into());
        }
        let aside = agent.set_aside(stream_id);
        match own {
            Some(own) => agent.take_up(own, stream_id),
            None => {
                let row = new_stream(self.transaction).await?;
                agent.insert_stream(stream_id, row, begins(seq, incoming));
            }
        }
        tracing::warn!(
            host = incoming.header.hostname, agent = %incoming.header.agent_id, stream = %stream_id,
            aside = aside.map(tracing::field::display), again = own.is_some(), reason,
            "another log goes on under this agent's identity: it was set back, or another host has \
             used it; both are kept, what was stored before as a stream of its own"
        );
        Ok(())
    }

    /// Of what was set aside of the stream, that which the request goes on with.
    async fn own_aside(&self, agent: &AgentState) -> Result<Option<StreamId>, Failed> {
        let incoming = &self.requested.incoming;
        let first = incoming.records.first().map_or(0, |record| record.seq);
        let mut behind = None;
        for (name, stream) in agent.aside(incoming.header.stream_id) {
            match self.compare(stream).await? {
                Comparison::Same => return Ok(Some(name)),
                Comparison::Nothing if first == stream.acked_seq + 1 => behind = Some(name),
                _ => {}
            }
        }
        Ok(behind)
    }

    async fn compare(&self, stream: &StreamState) -> Result<Comparison, Failed> {
        let again = again(stream.acked_seq, &self.requested.incoming);
        Ok(super::sums::compare(self.transaction, stream, &again).await?)
    }

    async fn plan(&self, agent: &mut AgentState) -> Result<Plan, Failed> {
        let incoming = &self.requested.incoming;
        let acked = agent.streams.get(&incoming.header.stream_id).map(|stream| stream.acked_seq);
        let known = |id| agent.schemas.get(&id).map(|schema| schema.series.len() as u64);
        let plan = plan(incoming, acked, known)?;
        let (more, named) = (plan.register.len(), named(&incoming.records).collect());
        let now_ms = incoming.received_ms;
        match schemas::make_room(self.transaction, agent, more, &named, now_ms).await? {
            true => Ok(plan),
            false => Err(IngestError::Busy("this agent has sent very many schemas lately").into()),
        }
    }

    fn rename(&self, agent: &mut AgentState) {
        let header = &self.requested.incoming.header;
        let (hostname, version) = (text(&header.hostname), text(&header.agent_version));
        agent.is_changed |= hostname != agent.hostname || version != agent.version;
        (agent.hostname, agent.version) = (hostname, version);
    }

    /// Takes records that are new and whose schemas are known.
    async fn take(
        &self,
        agent: &mut AgentState,
        plan: &Plan,
        refused: u64,
        batch: &mut Batch,
    ) -> Result<(), Failed> {
        let incoming = &self.requested.incoming;
        let (stream_id, received_ms) = (incoming.header.stream_id, incoming.received_ms);
        let expected = agent.streams.get(&stream_id).map(|stream| stream.acked_seq + 1);
        if expected.is_none() {
            let row = new_stream(self.transaction).await?;
            agent.insert_stream(stream_id, row, 0);
        }
        let taken = &incoming.records[plan.duplicates..plan.duplicates + plan.take];
        let Some(stream) = agent.streams.get(&stream_id) else { return Ok(()) };
        self.record_missing(stream, taken, expected, refused).await?;
        let values = &self.requested.values[plan.duplicates..];
        for (record, values) in taken.iter().zip(values) {
            if let What::Tick { time_ms, schemas, .. } = &record.what {
                let series = schemas.iter().filter_map(|id| agent.schemas.get(id));
                batch.ticks.push(TickRow {
                    stream: stream.row,
                    seq: record.seq,
                    at: *time_ms,
                    is_stray: super::days::is_stray(*time_ms, received_ms),
                    series: series.map(|schema| Arc::clone(&schema.series)).collect(),
                    values: Arc::clone(values),
                });
            }
        }
        if let Some(stream) = agent.streams.get_mut(&stream_id) {
            advance(stream, taken, received_ms, batch);
            agent.touched.insert(stream.row);
        }
        agent.is_changed = true;
        Ok(())
    }

    async fn record_missing(
        &self,
        stream: &StreamState,
        taken: &[Record],
        expected: Option<u64>,
        refused: u64,
    ) -> Result<(), Failed> {
        let incoming = &self.requested.incoming;
        let ledger = ledger::Ledger {
            transaction: self.transaction,
            stream: stream.row,
            received_ms: incoming.received_ms,
        };
        for record in taken {
            if let What::Gap(gap) = &record.what {
                ledger.record_gap(record.seq, gap).await?;
            }
        }
        let seqs: Vec<u64> = taken.iter().map(|record| record.seq).collect();
        for (hole, index) in holes(expected, &seqs) {
            let after = time_of(&taken[index]);
            let before =
                taken[..index].last().map(time_of).or(stream.last_tick_ms).unwrap_or(after);
            for seqs in ledger.record_hole(hole, (before, after)).await? {
                tracing::warn!(
                    host = incoming.header.hostname, agent = %incoming.header.agent_id,
                    stream = %incoming.header.stream_id, first_seq = seqs.first,
                    last_seq = seqs.last,
                    "records are missing and no gap record has explained it yet"
                );
            }
        }
        if let Some(span) = span(taken).filter(|_| refused > 0) {
            ledger.record_series_limit(span, refused).await?;
        }
        Ok(())
    }
}

/// Notes how far a stream has come.
fn advance(stream: &mut StreamState, taken: &[Record], received_ms: i64, batch: &mut Batch) {
    stream.acked_seq = taken.last().map_or(stream.acked_seq, |last| last.seq);
    stream.last_write_ms = received_ms;
    let last_tick = taken.iter().rev().find_map(|record| match record.what {
        What::Tick { time_ms, .. } => Some(time_ms),
        What::Gap(_) => None,
    });
    stream.last_tick_ms = last_tick.or(stream.last_tick_ms);
    for record in taken {
        let known: Known = (record.seq, record.sum);
        if let Some((first, part)) = stream.sums.push(known) {
            batch.sums.push((stream.row, first.cast_signed(), received_ms, part));
        }
    }
}

/// A row for a new stream: its number alone, it is written later.
async fn new_stream(transaction: &Change<'_>) -> Result<i64, tokio_postgres::Error> {
    let next = "SELECT nextval(pg_get_serial_sequence('streams', 'id'))";
    Ok(transaction.query_one(next, &[]).await?.get(0))
}
