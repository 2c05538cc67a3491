//! Which schemas of an agent are kept: those in use, and some more.
//!
//! A schema that is forgotten costs nothing but a round trip: the agent sends it again when it is
//! used again. One that unsealed records name must stay.

use std::collections::HashSet;

use rusqlite::{Connection, params};
use wire::SchemaId;

use super::catalog::AgentState;

/// Schemas of one agent that are kept although nothing uses them.
const KEPT: usize = 256;
/// Schemas of one agent at once.
const MAX: usize = 4_096;
/// `used_ms` is written when it is off by this.
pub(crate) const USED_STEP_MS: i64 = 60 * 60 * 1_000;

/// Makes room for so many more schemas; whether there is enough. The request's own, `named`, stay.
pub(crate) fn make_room(
    connection: &Connection,
    agent: &mut AgentState,
    more: usize,
    named: &HashSet<SchemaId>,
    now_ms: i64,
) -> rusqlite::Result<bool> {
    if more > 0 && agent.schemas.len() + more > KEPT {
        let unused = unused_since(agent, now_ms);
        for id in oldest_unused(agent, named, unused, agent.schemas.len() + more - KEPT) {
            connection
                .prepare_cached("DELETE FROM schemas WHERE agent = ?1 AND id = ?2")?
                .execute(params![agent.row, id.0.as_slice()])?;
            agent.schemas.remove(&id);
        }
    }
    Ok(agent.schemas.len() + more <= MAX)
}

/// Schemas used before this are in no unsealed record.
pub(crate) fn unused_since(agent: &AgentState, now_ms: i64) -> i64 {
    let heads = agent.streams.values().filter_map(|stream| stream.head.since_ms);
    heads.min().unwrap_or(now_ms).min(now_ms).saturating_sub(2 * USED_STEP_MS)
}

fn oldest_unused(
    agent: &AgentState,
    named: &HashSet<SchemaId>,
    before_ms: i64,
    most: usize,
) -> Vec<SchemaId> {
    let unused = agent.schemas.iter().filter(|(_, schema)| schema.used_ms < before_ms);
    let unused = unused.filter(|(id, _)| !named.contains(id));
    let mut unused: Vec<_> = unused.map(|(id, schema)| (schema.used_ms, *id)).collect();
    unused.sort_unstable();
    unused.into_iter().take(most).map(|(_, id)| id).collect()
}

/// Notes that schemas are used, if it wasn't noted within the hour.
pub(crate) fn note_used(
    connection: &Connection,
    agent: &mut AgentState,
    named: impl Iterator<Item = SchemaId>,
    now_ms: i64,
) -> rusqlite::Result<()> {
    for id in named {
        let Some(schema) = agent.schemas.get_mut(&id) else { continue };
        if schema.used_ms > now_ms.saturating_sub(USED_STEP_MS) {
            continue;
        }
        schema.used_ms = now_ms;
        connection
            .prepare_cached("UPDATE schemas SET used_ms = ?3 WHERE agent = ?1 AND id = ?2")?
            .execute(params![agent.row, id.0.as_slice(), now_ms])?;
    }
    Ok(())
}
