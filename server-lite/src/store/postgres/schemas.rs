//! Which schemas of an agent are kept: those in use, and some more. One that is forgotten costs nothing but
//! a round trip: the agent sends it again when it is used again.

use std::collections::{BTreeSet, HashSet};

use wire::SchemaId;

use super::{change::Change, state::AgentState};

/// Schemas of one agent that are kept although nothing uses them.
const KEPT: usize = 256;
/// Schemas of one agent at once.
const MAX: usize = 4_096;
/// `used_ms` is written when it is off by this.
const USED_STEP_MS: i64 = 60 * 60 * 1_000;

/// Makes room for so many more schemas; whether there is enough. The request's own, `named`, stay.
pub(crate) async fn make_room(
    transaction: &Change<'_>,
    agent: &mut AgentState,
    more: usize,
    named: &HashSet<SchemaId>,
    now_ms: i64,
) -> Result<bool, tokio_postgres::Error> {
    if more > 0 && agent.schemas.len() + more > KEPT {
        let gone = oldest_unused(agent, named, now_ms, agent.schemas.len() + more - KEPT);
        let ids: Vec<&[u8]> = gone.iter().map(|id| id.0.as_slice()).collect();
        let delete = "DELETE FROM schemas WHERE agent = $1 AND id = ANY($2)";
        transaction.execute(delete, &[&agent.row, &ids]).await?;
        agent.is_changed |= !gone.is_empty();
        for id in gone {
            agent.schemas.remove(&id);
        }
    }
    Ok(agent.schemas.len() + more <= MAX)
}

fn oldest_unused(
    agent: &AgentState,
    named: &HashSet<SchemaId>,
    now_ms: i64,
    most: usize,
) -> Vec<SchemaId> {
    let before_ms = now_ms.saturating_sub(2 * USED_STEP_MS);
    let unused = agent.schemas.iter().filter(|(_, schema)| schema.used_ms < before_ms);
    let unused = unused.filter(|(id, _)| !named.contains(id));
    let mut unused: Vec<_> = unused.map(|(id, schema)| (schema.used_ms, *id)).collect();
    unused.sort_unstable();
    unused.into_iter().take(most).map(|(_, id)| id).collect()
}

/// Notes that schemas are used, if it wasn't noted within the hour.
pub(crate) async fn note_used(
    transaction: &Change<'_>,
    agent: &mut AgentState,
    named: impl Iterator<Item = SchemaId>,
    now_ms: i64,
) -> Result<(), tokio_postgres::Error> {
    let mut due = BTreeSet::new();
    for id in named {
        let Some(schema) = agent.schemas.get_mut(&id) else { continue };
        if schema.used_ms <= now_ms.saturating_sub(USED_STEP_MS) {
            schema.used_ms = now_ms;
            due.insert(id);
        }
    }
    if due.is_empty() {
        return Ok(());
    }
    let ids: Vec<&[u8]> = due.iter().map(|id| id.0.as_slice()).collect();
    agent.is_changed = true;
    let update = "UPDATE schemas SET used_ms = $3 WHERE agent = $1 AND id = ANY($2)";
    transaction.execute(update, &[&agent.row, &ids, &now_ms]).await.map(|_| ())
}
