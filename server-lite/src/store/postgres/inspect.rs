//! The store as it lies there: every sample in the order of its tick, nothing merged, nothing left out.
//! For drills and audits, beside running hubs or without one.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
};

use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, Row};
use uuid::Uuid;
use wire::{GapReason, StreamId};

use super::{
    address,
    connect::{Purpose, database, get, pool},
    select,
    state::uuid_of,
    unusable,
};
use crate::store::{
    Agent, Host, Selector, Series, StoreError,
    embedded::inspect::{Audit, Jumps, Place, Seen, Stored, audit_stream},
};

/// Every sample of some series, with the record that it came in.
const SELECT: &str = "SELECT s.series, r.uuid, t.seq, s.at, s.value FROM (\
    SELECT series, at, value, tick FROM samples WHERE series = ANY($1) UNION ALL \
    SELECT series, at, value, tick FROM stray_samples WHERE series = ANY($1)) s \
    LEFT JOIN (SELECT id, stream, seq FROM ticks UNION ALL SELECT id, stream, seq FROM stray_ticks) t \
    ON t.id = s.tick LEFT JOIN streams r ON r.id = t.stream ORDER BY s.series, s.tick";

/// Gives every stored sample of the series that fit, series by series.
///
/// # Errors
/// [`StoreError`] when the store can't be read, or `each` fails.
pub async fn samples(
    url: &str,
    selector: &Selector,
    mut each: impl FnMut(&Series, &Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let pool = pool(&address::read(url).map_err(unusable)?, Purpose::Keep, 1)?;
    let client = get(&pool).await?;
    for series in select::series(&client, selector).await? {
        walk(&client, &[series.id.0], |_, stored| each(&series, stored)).await?;
    }
    Ok(())
}

async fn walk(
    client: &Client,
    series: &[i64],
    mut each: impl FnMut(i64, &Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&series];
    let rows = client.query_raw(SELECT, values).await.map_err(database("read samples"))?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(database("read samples"))? {
        each(row.get(0), &stored(&row)?)?;
    }
    Ok(())
}

fn stored(row: &Row) -> Result<Stored, StoreError> {
    let (stream, seq): (Option<Uuid>, Option<i64>) = (row.get(1), row.get(2));
    let (Some(stream), Some(seq)) = (stream, seq) else {
        return Err(StoreError::Damaged {
            what: format!("sample of series {} at {}", row.get::<_, i64>(0), row.get::<_, i64>(3)),
            detail: "its tick is not there".into(),
            series: vec![],
        });
    };
    Ok(Stored {
        stream_id: StreamId::from_bytes(stream.into_bytes()),
        seq: seq.cast_unsigned(),
        time_ms: row.get(3),
        value: row.get(4),
        place: Place::Table,
    })
}

/// Looks at every sample of every agent, and then of every target of remote write.
///
/// # Errors
/// [`StoreError`] when the store can't be read.
pub async fn audit(url: &str) -> Result<Vec<Audit>, StoreError> {
    let pool = pool(&address::read(url).map_err(unusable)?, Purpose::Keep, 1)?;
    let client = get(&pool).await?;
    let mut audits = Vec::new();
    for targets in [false, true] {
        for agent in select::senders(&client, targets).await? {
            audits.push(audit_agent(&client, &agent).await?);
        }
    }
    Ok(audits)
}

async fn audit_agent(client: &Client, agent: &Agent) -> Result<Audit, StoreError> {
    let mut audit = Audit {
        host: agent.hostname.clone(),
        agent_id: agent.agent_id.to_string(),
        ..Audit::default()
    };
    let selector = Selector { host: Some(Host::Agent(agent.agent_id)), ..Selector::default() };
    let series = select::series(client, &selector).await?;
    let uuid = uuid_of(agent.agent_id.as_bytes());
    let jumps = jumps(client, uuid).await.map_err(database("read clock jumps"))?;
    let mut ticks = BTreeMap::<StreamId, BTreeMap<u64, i64>>::new();
    let mut seen = HashMap::<i64, Seen>::new();
    for one in &series {
        walk(client, &[one.id.0], |series, stored| {
            ticks.entry(stored.stream_id).or_default().insert(stored.seq, stored.time_ms);
            seen.entry(series).or_default().look(stored, &jumps, &mut audit);
            Ok(())
        })
        .await?;
    }
    audit.series = seen.len() as u64;
    audit.ticks = ticks.values().map(|ticks| ticks.len() as u64).sum();
    audit.streams = agent.streams.iter().map(|stream| audit_stream(stream, &ticks)).collect();
    let ledger = "SELECT count(*), coalesce(sum(records) FILTER (WHERE reason = 'unexplained'), 0)::bigint \
        FROM gaps WHERE stream IN (SELECT s.id FROM streams s JOIN agents a ON a.id = s.agent \
        WHERE a.uuid = $1)";
    let row = client.query_one(ledger, &[&uuid]).await.map_err(database("read gaps"))?;
    let count = |at| row.get::<_, i64>(at).cast_unsigned();
    (audit.gaps, audit.unexplained_records) = (count(0), count(1));
    Ok(audit)
}

async fn jumps(client: &Client, agent: Uuid) -> Result<Jumps, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT s.uuid, g.seq FROM gaps g JOIN streams s ON s.id = g.stream \
             JOIN agents a ON a.id = s.agent \
             WHERE a.uuid = $1 AND g.reason = $2 AND g.seq IS NOT NULL ORDER BY g.seq",
            &[&agent, &GapReason::ClockJump.as_str()],
        )
        .await?;
    let mut jumps = Jumps::new();
    for row in rows {
        let stream = StreamId::from_bytes(row.get::<_, Uuid>(0).into_bytes());
        jumps.entry(stream).or_default().push(row.get::<_, i64>(1).cast_unsigned());
    }
    Ok(jumps)
}
