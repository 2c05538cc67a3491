//! Stores one request: its records, what they say is missing, and how far the stream has come, all
//! in the transaction it is given.

use rusqlite::Connection;
use wire::StreamId;

use super::{
    catalog::{AgentState, StreamState},
    database::database,
    head, ledger, registry, schemas,
    sums::Comparison,
    writer::Writing,
};
use crate::store::{
    IngestError, Ingested,
    admission::{again, begins, contradiction, jump, named, samples, span, time_of, told},
    holes::Seqs,
    incoming::{Incoming, Plan, Record, What, plan},
};

/// Bytes of one stream that may wait to be sealed.
pub(crate) const HEAD_BYTES_MAX: u64 = 64 << 20;

/// Stores what is new in a request.
///
/// # Errors
/// [`IngestError`]; the caller rolls back what was written and what the catalog remembers.
pub(crate) fn apply(
    writing: &mut Writing<'_>,
    incoming: &Incoming,
    series_max: u64,
) -> Result<Ingested, IngestError> {
    let connection = writing.connection;
    let is_fresh = writing.catalog.is_fresh(incoming.header.agent_id, incoming.after);
    let agent = writing.catalog.known(connection, incoming.header.agent_id);
    let plan = match agent.map_err(database("read agent"))? {
        Some(agent) if agent.target.is_some() => {
            let reason = "this identity is that of a target of remote write".to_owned();
            return Err(IngestError::Conflict { seq: 0, reason });
        }
        Some(agent) => {
            admit(connection, agent, incoming, is_fresh)?;
            plan_for(connection, agent, incoming)?
        }
        None => {
            writing.after.tally.agents += 1;
            plan(incoming, None, |_| None)?
        }
    };
    store(writing, incoming, &plan, series_max)
        .map_err(|source| database("store request")(source).into())
}

/// Lets in what the stream's own writer sends: what is there already has to be what is sent again.
///
/// Anything else is another log under the stream's name: it was set back, or copied and gone on with
/// elsewhere. While another process is there, it is refused. Else it goes on, and what the stream has
/// held is set aside: each log's records stay in a stream that has all of them, once. One that comes
/// back goes on with its own.
fn admit(
    connection: &Connection,
    agent: &mut AgentState,
    incoming: &Incoming,
    is_fresh: bool,
) -> Result<(), IngestError> {
    let stream_id = incoming.header.stream_id;
    let Some(stream) = agent.streams.get(&stream_id) else { return Ok(()) };
    let compared = compare(connection, stream, incoming).map_err(database("compare records"))?;
    let found = contradiction(stream.acked_seq, compared, incoming, is_fresh)?;
    let jump = jump(stream.acked_seq, incoming);
    if found.is_none() && jump.is_none() {
        return Ok(());
    }
    let own = own_aside(connection, agent, incoming).map_err(database("compare streams"))?;
    // Without another log to go on with, it is a hole.
    let Some((seq, reason)) = found.or(jump.filter(|_| own.is_some())) else { return Ok(()) };
    if !(incoming.is_alone && is_fresh) {
        return Err(IngestError::Conflict { seq, reason });
    }
    let changed = change_streams(connection, agent, incoming, own, seq);
    let aside = changed.map_err(database("set stream aside"))?;
    tracing::warn!(
        host = incoming.header.hostname, agent = %incoming.header.agent_id, stream = %stream_id,
        aside = aside.map(tracing::field::display), again = own.is_some(), reason,
        "another log goes on under this agent's identity: it was set back, or another host has used \
         it; both are kept, what was stored before as a stream of its own"
    );
    Ok(())
}

/// Sets the stream aside for the one that the sender has written before, or for a new one from that
/// number on: what comes before it in this request is the same in both.
fn change_streams(
    connection: &Connection,
    agent: &mut AgentState,
    incoming: &Incoming,
    own: Option<StreamId>,
    seq: u64,
) -> rusqlite::Result<Option<StreamId>> {
    let stream_id = incoming.header.stream_id;
    let aside = agent.set_aside(connection, stream_id)?;
    match own {
        Some(own) => agent.take_up(connection, own, stream_id)?,
        None => {
            agent.stream(connection, stream_id, begins(seq, incoming), incoming.received_ms)?;
        }
    }
    Ok(aside)
}

/// Of what was set aside of the stream, that which the request goes on with.
fn own_aside(
    connection: &Connection,
    agent: &AgentState,
    incoming: &Incoming,
) -> rusqlite::Result<Option<StreamId>> {
    let first = incoming.records.first().map_or(0, |record| record.seq);
    let mut behind = None;
    for (name, stream) in agent.aside(incoming.header.stream_id) {
        match compare(connection, stream, incoming)? {
            Comparison::Same => return Ok(Some(name)),
            Comparison::Nothing if first == stream.acked_seq + 1 => behind = Some(name),
            _ => {}
        }
    }
    Ok(behind)
}

fn compare(
    connection: &Connection,
    stream: &StreamState,
    incoming: &Incoming,
) -> rusqlite::Result<Comparison> {
    stream.sums.compare(connection, stream.row, &again(stream.acked_seq, incoming))
}

fn plan_for(
    connection: &Connection,
    agent: &mut AgentState,
    incoming: &Incoming,
) -> Result<Plan, IngestError> {
    let stream = agent.streams.get(&incoming.header.stream_id);
    if stream.is_some_and(|stream| stream.head.bytes > HEAD_BYTES_MAX) {
        return Err(IngestError::Busy("this agent's earlier records are still being sealed"));
    }
    let acked_seq = stream.map(|stream| stream.acked_seq);
    let plan = plan(incoming, acked_seq, |id| agent.schemas.get(&id).map(|schema| schema.count))?;
    let (more, named) = (plan.register.len(), named(&incoming.records).collect());
    let room = schemas::make_room(connection, agent, more, &named, incoming.received_ms)
        .map_err(database("forget old schemas"))?;
    match room {
        true => Ok(plan),
        false => Err(IngestError::Busy("this agent's many schemas are still being sealed")),
    }
}

fn store(
    writing: &mut Writing<'_>,
    incoming: &Incoming,
    plan: &Plan,
    series_max: u64,
) -> rusqlite::Result<Ingested> {
    let Writing { connection, catalog, after } = writing;
    if plan.take > 0 {
        catalog.note_came(incoming.header.agent_id, incoming.number);
    }
    let agent = catalog.agent(connection, &incoming.header, incoming.received_ms)?;
    let series_before = agent.series;
    for schema in plan.register.iter().filter_map(|id| incoming.sent(*id)) {
        registry::register(connection, agent, schema, series_max, incoming.received_ms)?;
    }
    let taken = &incoming.records[plan.duplicates..plan.duplicates + plan.take];
    schemas::note_used(connection, agent, named(taken), incoming.received_ms)?;
    let refused = refused_samples(agent, taken);
    if !taken.is_empty() {
        after.due.extend(take(connection, agent, incoming, taken, refused)?);
    }
    after.tally.series += agent.series - series_before;
    after.tally.samples += samples(taken);
    after.tally.refused_samples += refused;
    Ok(Ingested {
        acked_seq: told(acked(agent, incoming), incoming),
        need_schemas: plan.missing.iter().copied().collect(),
        records: taken.len() as u64,
        samples: samples(taken),
        duplicates: plan.duplicates as u64,
    })
}

fn acked(agent: &AgentState, incoming: &Incoming) -> u64 {
    agent.streams.get(&incoming.header.stream_id).map_or(0, |stream| stream.acked_seq)
}

fn refused_samples(agent: &AgentState, records: &[Record]) -> u64 {
    named(records).filter_map(|id| agent.schemas.get(&id)).map(|schema| schema.refused).sum()
}

/// Stores records that are new and whose schemas are known. Returns the stream's row if it is now
/// due to be sealed.
fn take(
    connection: &Connection,
    agent: &mut AgentState,
    incoming: &Incoming,
    taken: &[Record],
    refused_samples: u64,
) -> rusqlite::Result<Option<i64>> {
    let (stream_id, received_ms) = (incoming.header.stream_id, incoming.received_ms);
    let expected = agent.streams.get(&stream_id).map(|stream| stream.acked_seq + 1);
    let stream = agent.stream(connection, stream_id, 0, received_ms)?;
    record_gaps(connection, stream, taken, received_ms)?;
    record_holes(connection, stream, taken, expected, incoming)?;
    if let Some(span) = span(taken) {
        if refused_samples > 0 {
            ledger::record_series_limit(
                connection,
                stream.row,
                span,
                refused_samples,
                received_ms,
            )?;
        }
        insert_head(connection, stream, incoming, taken, span)?;
    }
    stream.acked_seq = taken.last().map_or(stream.acked_seq, |last| last.seq);
    let known = taken.iter().map(|record| (record.seq, record.sum));
    stream.sums.extend(connection, stream.row, known, received_ms)?;
    stream.save(connection, received_ms)?;
    Ok(super::seal::is_due(stream).then_some(stream.row))
}

fn record_gaps(
    connection: &Connection,
    stream: &StreamState,
    taken: &[Record],
    received_ms: i64,
) -> rusqlite::Result<()> {
    taken.iter().try_for_each(|record| match &record.what {
        What::Gap(gap) => ledger::record_gap(connection, stream.row, record.seq, gap, received_ms),
        What::Tick { .. } => Ok(()),
    })
}

fn record_holes(
    connection: &Connection,
    stream: &StreamState,
    taken: &[Record],
    expected: Option<u64>,
    incoming: &Incoming,
) -> rusqlite::Result<()> {
    let seqs: Vec<u64> = taken.iter().map(|record| record.seq).collect();
    for (hole, index) in ledger::holes(expected, &seqs) {
        let after = time_of(&taken[index]);
        let before = taken[..index].last().map(time_of).or(stream.last_tick_ms).unwrap_or(after);
        let span = (before, after);
        let left = ledger::record_hole(connection, stream.row, hole, span, incoming.received_ms)?;
        for seqs in left {
            tracing::warn!(
                host = incoming.header.hostname, agent = %incoming.header.agent_id,
                stream = %incoming.header.stream_id, first_seq = seqs.first, last_seq = seqs.last,
                "records are missing and no gap record has explained it yet"
            );
        }
    }
    Ok(())
}

fn insert_head(
    connection: &Connection,
    stream: &mut StreamState,
    incoming: &Incoming,
    taken: &[Record],
    span: (i64, i64),
) -> rusqlite::Result<()> {
    let ticks = taken.iter().filter(|record| matches!(record.what, What::Tick { .. })).count();
    let seq = |record: Option<&Record>| record.map_or(0, |record| record.seq);
    let row = head::NewRow {
        seqs: Seqs { first: seq(taken.first()), last: seq(taken.last()) },
        span,
        ticks: ticks as u64,
        samples: samples(taken),
        received_ms: incoming.received_ms,
        body: &incoming.body,
    };
    row.insert(connection, stream)?;
    stream.last_tick_ms = taken.iter().rev().find_map(|record| match record.what {
        What::Tick { time_ms, .. } => Some(time_ms),
        What::Gap(_) => None,
    });
    Ok(())
}
