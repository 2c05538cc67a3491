//! Stores one request: its records, what they say is missing, and how far the stream has come, all
//! in the transaction it is given.

use rusqlite::{Connection, params};
use wire::SchemaId;

use super::{
    catalog::{AgentState, StreamState},
    database::database,
    head,
    incoming::{Incoming, Plan, Record, What, plan},
    ledger, registry, schemas,
    sums::Comparison,
    writer::Writing,
};
use crate::store::{IngestError, Ingested};

/// Bytes of one stream that may wait to be sealed.
const HEAD_BYTES_MAX: u64 = 64 << 20;

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
    let agent = writing.catalog.known(connection, incoming.header.agent_id);
    let plan = match agent.map_err(database("read agent"))? {
        Some(agent) => {
            admit(connection, agent, incoming)?;
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
fn admit(
    connection: &Connection,
    agent: &mut AgentState,
    incoming: &Incoming,
) -> Result<(), IngestError> {
    let Some(stream) = agent.streams.get(&incoming.header.stream_id) else { return Ok(()) };
    let Some((seq, reason)) = contradiction(stream, incoming)? else { return Ok(()) };
    let latest_ms = latest_tick_ms(connection, agent).map_err(database("read latest tick"))?;
    let is_later = incoming.first_tick_ms().zip(latest_ms).is_some_and(|(new, old)| new > old);
    if !(incoming.is_alone && incoming.is_fresh && is_later) {
        return Err(IngestError::Conflict { seq, reason });
    }
    let aside = agent.set_aside(connection, incoming.header.stream_id);
    let aside = aside.map_err(database("set stream aside"))?;
    tracing::warn!(
        host = incoming.header.hostname, agent = %incoming.header.agent_id,
        stream = %incoming.header.stream_id, aside = aside.map(tracing::field::display), reason,
        "an agent's log was set back, what it had sent before is kept as a stream of its own"
    );
    Ok(())
}

/// The time of the latest tick of an agent that is stored. Not that of the last one: a clock may have
/// been set back, and then what comes late on the way looks like something new.
fn latest_tick_ms(connection: &Connection, agent: &AgentState) -> rusqlite::Result<Option<i64>> {
    let sealed: Option<i64> = connection
        .prepare_cached(
            "SELECT max((SELECT max(max_ms) FROM blocks INDEXED BY blocks_by_time \
             WHERE grp = g.id)) FROM groups g WHERE g.agent = ?1",
        )?
        .query_row([agent.row], |row| row.get(0))?;
    let mut latest_ms = sealed;
    for stream in agent.streams.values() {
        let (first, last) = head::row_ids(stream.row);
        let unsealed: Option<i64> = connection
            .prepare_cached("SELECT max(max_ms) FROM head WHERE id BETWEEN ?1 AND ?2")?
            .query_row([first, last], |row| row.get(0))?;
        latest_ms = latest_ms.max(unsealed);
    }
    Ok(latest_ms)
}

/// Why a request can't come from who wrote what is stored: the number at fault, and in words.
fn contradiction(
    stream: &StreamState,
    incoming: &Incoming,
) -> Result<Option<(u64, String)>, IngestError> {
    let acked = stream.acked_seq;
    let again = incoming.records.iter().take_while(|record| record.seq <= acked);
    let compared = stream.sums.compare(again.map(|record| (record.seq, record.sum)));
    let short = incoming.header.last_seq.filter(|last| *last < acked);
    match (compared, short) {
        (Comparison::Differs(seq), _) => {
            let reason = format!("record {seq} is stored already, with other content");
            Ok(Some((seq, reason)))
        }
        // A retry, or late on the way, from when its log was shorter. Or the log was set back: what it
        // sends next will be different.
        (Comparison::Same, _) => Ok(None),
        (_, Some(_)) if !incoming.is_fresh => Err(IngestError::Busy(
            "its log has grown since this was sent, or is another one, ask again",
        )),
        (_, Some(last)) => {
            let reason = format!("records up to {acked} are stored, but its log ends with {last}");
            Ok(Some((last + 1, reason)))
        }
        // Who crashed and has started again sends them again; so does another that is behind.
        (Comparison::Unknown, None) if !incoming.is_alone => Err(IngestError::Busy(
            "another process of this agent was heard of moments ago, and may have sent these records",
        )),
        (Comparison::Unknown | Comparison::Nothing, None) => Ok(None),
    }
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

/// What is acknowledged to the sender: a log that ends before what is stored was set back, or this is
/// late; of what its records don't show it isn't told.
fn told(acked_seq: u64, incoming: &Incoming) -> u64 {
    let is_short = incoming.header.last_seq.is_some_and(|last| last < acked_seq);
    let shown = incoming.records.last().map_or(0, |record| record.seq);
    if is_short { shown.min(acked_seq) } else { acked_seq }
}

fn named(records: &[Record]) -> impl Iterator<Item = SchemaId> {
    records
        .iter()
        .flat_map(|record| match &record.what {
            What::Tick { schemas, .. } => schemas.as_slice(),
            What::Gap(_) => &[],
        })
        .copied()
}

fn samples(records: &[Record]) -> u64 {
    records
        .iter()
        .map(|record| match record.what {
            What::Tick { values, .. } => values,
            What::Gap(_) => 0,
        })
        .sum()
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
    taken.iter().for_each(|record| stream.sums.push(record.seq, record.sum));
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

fn time_of(record: &Record) -> i64 {
    match &record.what {
        What::Tick { time_ms, .. } => *time_ms,
        What::Gap(gap) => gap.to_ms,
    }
}

/// Earliest and latest time of the ticks.
fn span(records: &[Record]) -> Option<(i64, i64)> {
    let times = || {
        records.iter().filter_map(|record| match record.what {
            What::Tick { time_ms, .. } => Some(time_ms),
            What::Gap(_) => None,
        })
    };
    Some((times().min()?, times().max()?))
}

fn insert_head(
    connection: &Connection,
    stream: &mut StreamState,
    incoming: &Incoming,
    taken: &[Record],
    (min_ms, max_ms): (i64, i64),
) -> rusqlite::Result<()> {
    let ticks = taken.iter().filter(|record| matches!(record.what, What::Tick { .. })).count();
    let seq = |record: Option<&Record>| record.map_or(0, |record| record.seq).cast_signed();
    let samples = samples(taken);
    connection
        .prepare_cached(
            "INSERT INTO head (id, first_seq, last_seq, min_ms, max_ms, ticks, samples, \
             received_ms, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            head::row_id(stream.row, stream.head_next),
            seq(taken.first()),
            seq(taken.last()),
            min_ms,
            max_ms,
            ticks,
            samples.cast_signed(),
            incoming.received_ms,
            incoming.body.as_ref()
        ])?;
    stream.head_next += 1;
    stream.head.ticks += ticks as u64;
    stream.head.samples += samples;
    stream.head.bytes += incoming.body.len() as u64;
    stream.head.since_ms.get_or_insert(incoming.received_ms);
    stream.last_tick_ms = taken.iter().rev().find_map(|record| match record.what {
        What::Tick { time_ms, .. } => Some(time_ms),
        What::Gap(_) => None,
    });
    Ok(())
}
