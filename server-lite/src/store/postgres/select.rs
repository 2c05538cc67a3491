//! Which agents, series and gaps there are.

use std::collections::HashMap;

use promql::METRIC_NAME;
use tokio_postgres::{Client, Row};
use uuid::Uuid;
use wire::{AgentId, Family, StreamId};

use super::{
    connect::database,
    state::{text, uuid_of},
};
use crate::store::{
    Agent, GapEntry, GapFilter, Host, LedgerReason, Seen, Selector, Series, SeriesId, StoreError,
    StreamState, rows::kind_of,
};

/// Every agent, by name of host.
pub(crate) async fn agents(client: &Client) -> Result<Vec<Agent>, StoreError> {
    senders(client, false).await
}

/// Every agent, or every target of remote write, by name of host.
pub(crate) async fn senders(client: &Client, targets: bool) -> Result<Vec<Agent>, StoreError> {
    let mut streams = HashMap::<i64, Vec<StreamState>>::new();
    // One statement: what another hub commits meanwhile is in all of it or in nothing.
    let rows = client
        .query(
            "SELECT a.id, a.uuid, a.hostname, a.version, a.first_seen_ms, a.last_seen_ms, a.series, \
             s.uuid, s.acked_seq, s.last_tick_ms FROM agents a LEFT JOIN streams s ON s.agent = a.id \
             WHERE (a.job IS NOT NULL) = $1 ORDER BY a.hostname COLLATE \"C\", a.uuid, s.last_write_ms, s.id",
            &[&targets],
        )
        .await
        .map_err(database("read agents"))?;
    let mut agents = Vec::<(i64, Agent)>::new();
    for row in &rows {
        let id = row.get(0);
        if let Some(stream_id) = row.get::<_, Option<Uuid>>(7) {
            let stream = StreamState {
                stream_id: StreamId::from_bytes(stream_id.into_bytes()),
                acked_seq: unsigned(row, 8),
                last_tick_ms: row.get(9),
            };
            streams.entry(id).or_default().push(stream);
        }
        if agents.last().is_none_or(|last| last.0 != id) {
            agents.push((id, agent(row)));
        }
    }
    let agents = agents.into_iter().map(|(id, agent)| {
        let streams = streams.remove(&id).unwrap_or_default();
        Agent { streams, ..agent }
    });
    Ok(agents.collect())
}

fn agent(row: &Row) -> Agent {
    Agent {
        agent_id: agent_id(row, 1),
        hostname: row.get(2),
        version: row.get(3),
        first_seen_ms: row.get(4),
        last_seen_ms: row.get(5),
        series: unsigned(row, 6),
        streams: Vec::new(),
    }
}

fn agent_id(row: &Row, at: usize) -> AgentId {
    AgentId::from_bytes(row.get::<_, Uuid>(at).into_bytes())
}

fn unsigned(row: &Row, at: usize) -> u64 {
    row.get::<_, i64>(at).cast_unsigned()
}

/// A host as statements take it: a name, or an identity.
fn host(host: Option<&Host>) -> (Option<String>, Option<Uuid>) {
    match host {
        None => (None, None),
        Some(Host::Name(name)) => (Some(text(name)), None),
        Some(Host::Agent(id)) => (None, Some(uuid_of(id.as_bytes()))),
    }
}

/// The series that fit, by host, agent, metric and labels. Looked for by name and host where these are
/// said exactly; all the rest is compared.
pub(crate) async fn series(
    client: &Client,
    selector: &Selector,
) -> Result<Vec<Series>, StoreError> {
    let (hostname, uuid) = host(selector.host.as_ref());
    let metric = selector.equal(METRIC_NAME).map(text);
    let mut conditions = Vec::new();
    let mut values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = Vec::new();
    let mut add = |column: &str, value| {
        values.push(value);
        conditions.push(format!("{column} = ${}", values.len()));
    };
    if let Some(name) = &hostname {
        add("a.hostname", name);
    }
    if let Some(uuid) = &uuid {
        add("a.uuid", uuid);
    }
    if let Some(metric) = &metric {
        add("s.name", metric);
    }
    let conditions =
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    let select = format!(
        "SELECT s.id, a.uuid, a.hostname, s.name, s.kind, s.labels, a.job IS NOT NULL FROM agents a \
         JOIN series s ON s.agent = a.id WHERE {conditions} \
         ORDER BY a.hostname COLLATE \"C\", a.uuid, s.name COLLATE \"C\", s.labels COLLATE \"C\""
    );
    let rows = client.query(&select, &values).await.map_err(database("read series"))?;
    let mut found = Vec::new();
    let most = selector.limit.unwrap_or(usize::MAX);
    for row in &rows {
        if found.len() >= most {
            break;
        }
        let labels = serde_json::from_str(row.get(5)).map_err(|error| StoreError::Database {
            operation: "read labels",
            source: error.into(),
        })?;
        let series = Series {
            id: SeriesId(row.get(0)),
            agent_id: agent_id(row, 1),
            hostname: row.get(2),
            metric: row.get(3),
            kind: kind_of(row.get::<_, i16>(4).into()),
            labels,
            is_written: row.get(6),
        };
        if selector.fits(&series) {
            found.push(series);
        }
    }
    Ok(found)
}

/// What the metrics of all series say of themselves, by name.
pub(crate) async fn families(client: &Client) -> Result<Vec<Family>, StoreError> {
    let select =
        "SELECT DISTINCT name COLLATE \"C\", kind, help COLLATE \"C\" FROM series ORDER BY 1, 2, 3";
    let rows = client.query(select, &[]).await.map_err(database("read what metrics there are"))?;
    let family = |row: &Row| Family {
        name: row.get(0),
        kind: kind_of(row.get::<_, i16>(1).into()),
        help: row.get(2),
    };
    Ok(rows.iter().map(family).collect())
}

/// The gaps that fit, oldest first. One that tells of a clock that was set back ends before it begins.
pub(crate) async fn gaps(client: &Client, filter: &GapFilter) -> Result<Vec<GapEntry>, StoreError> {
    let (hostname, uuid) = host(filter.host.as_ref());
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let rows = client
        .query(
            "SELECT a.hostname, a.uuid, s.uuid, g.reason, g.from_ms, g.to_ms, g.first_seq, \
             g.last_seq, g.records, g.samples, g.detail, g.received_ms \
             FROM gaps g JOIN streams s ON s.id = g.stream JOIN agents a ON a.id = s.agent \
             WHERE greatest(g.from_ms, g.to_ms) >= $1 AND least(g.from_ms, g.to_ms) < $2 \
             AND ($3::text IS NULL OR a.hostname = $3) AND ($4::uuid IS NULL OR a.uuid = $4) \
             ORDER BY g.from_ms, g.id LIMIT $5",
            &[&filter.from_ms, &filter.to_ms, &hostname, &uuid, &limit],
        )
        .await
        .map_err(database("read gaps"))?;
    rows.iter().map(gap).collect()
}

fn gap(row: &Row) -> Result<GapEntry, StoreError> {
    let reason: &str = row.get(3);
    let unknown = || StoreError::Database {
        operation: "read gaps",
        source: format!("reason {reason:?} is none that this hub knows").into(),
    };
    Ok(GapEntry {
        host: row.get(0),
        agent_id: agent_id(row, 1),
        stream_id: StreamId::from_bytes(row.get::<_, Uuid>(2).into_bytes()),
        reason: LedgerReason::parse(reason).ok_or_else(unknown)?,
        from_ms: row.get(4),
        to_ms: row.get(5),
        first_seq: unsigned(row, 6),
        last_seq: unsigned(row, 7),
        records: unsigned(row, 8),
        samples: unsigned(row, 9),
        detail: row.get(10),
        received_ms: row.get(11),
    })
}

/// Notes who was seen; in the order in which others lock agents too.
pub(crate) async fn note_seen(client: &Client, seen: &[Seen]) -> Result<(), StoreError> {
    let uuids: Vec<Uuid> = seen.iter().map(|one| uuid_of(one.agent_id.as_bytes())).collect();
    let times: Vec<i64> = seen.iter().map(|one| one.at_ms).collect();
    let update = "WITH n AS (SELECT uuid, max(at) AS at FROM unnest($1::uuid[], $2::bigint[]) \
        AS n (uuid, at) GROUP BY uuid), locked AS MATERIALIZED (SELECT a.id, n.at FROM agents a \
        JOIN n ON n.uuid = a.uuid WHERE a.last_seen_ms < n.at ORDER BY a.uuid FOR NO KEY UPDATE OF a) \
        UPDATE agents a SET last_seen_ms = greatest(a.last_seen_ms, l.at) FROM locked l \
        WHERE a.id = l.id";
    let noted = client.execute(update, &[&uuids, &times]).await;
    noted.map(|_| ()).map_err(database("note who was seen"))
}
