//! Registers series: each gets an id when a schema that names it first comes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use wire::EncodedSchema;

use super::{
    change::Change,
    state::{AgentState, SchemaState, text},
};
use crate::store::rows::{canonical, kind_number};

/// What a series is found by: a hash of its name and labels.
type Key = [u8; 16];

/// A series as a schema names it.
struct Named {
    key: Key,
    name: String,
    labels: String,
    kind: i16,
    help: String,
}

/// Registers schemas, and of their series those that the agent didn't have, up to `most` together.
pub(crate) async fn register(
    transaction: &Change<'_>,
    agent: &mut AgentState,
    schemas: &[&Arc<EncodedSchema>],
    most: u64,
    now_ms: i64,
) -> Result<(), tokio_postgres::Error> {
    if schemas.is_empty() {
        return Ok(());
    }
    let named: Vec<Vec<Named>> = schemas.iter().map(|schema| named(schema)).collect();
    let mut ids = known(transaction, agent.row, named.iter().flatten()).await?;
    let (mut new, mut seen) = (Vec::new(), HashSet::new());
    let room = usize::try_from(most.saturating_sub(agent.series)).unwrap_or(usize::MAX);
    for one in named.iter().flatten() {
        if new.len() < room && !ids.contains_key(&one.key) && seen.insert(one.key) {
            new.push(one);
        }
    }
    ids.extend(insert(transaction, agent.row, &new).await?);
    agent.series += new.len() as u64;
    agent.is_changed = true;
    for (schema, named) in schemas.iter().zip(&named) {
        let mut seen = HashSet::new();
        let series = named.iter().map(|one| match ids.get(&one.key) {
            Some(id) if seen.insert(*id) => *id,
            _ => 0,
        });
        let series: Vec<i64> = series.collect();
        let insert = "INSERT INTO schemas (agent, id, series, used_ms) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (agent, id) DO UPDATE SET series = $3, used_ms = $4";
        let id = schema.id.0.as_slice();
        transaction.execute(insert, &[&agent.row, &id, &series, &now_ms]).await?;
        let state = SchemaState { series: series.into(), used_ms: now_ms };
        agent.schemas.insert(schema.id, state);
    }
    Ok(())
}

fn named(schema: &EncodedSchema) -> Vec<Named> {
    let series = schema.schema.iter().map(|(family, labels)| {
        let labels = canonical(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut hash = Sha256::new_with_prefix(family.name.as_bytes());
        hash.update([0]);
        hash.update(labels.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        // Small numbers.
        let kind = kind_number(family.kind) as i16;
        Named { key, name: text(&family.name), labels, kind, help: text(&family.help) }
    });
    series.collect()
}

async fn known(
    transaction: &Change<'_>,
    agent: i64,
    named: impl Iterator<Item = &Named>,
) -> Result<HashMap<Key, i64>, tokio_postgres::Error> {
    let keys: Vec<&[u8]> = named.map(|one| one.key.as_slice()).collect();
    let find = "SELECT key, id FROM series WHERE agent = $1 AND key = ANY($2)";
    ids(&transaction.query(find, &[&agent, &keys]).await?)
}

async fn insert(
    transaction: &Change<'_>,
    agent: i64,
    new: &[&Named],
) -> Result<HashMap<Key, i64>, tokio_postgres::Error> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<&[u8]> = new.iter().map(|one| one.key.as_slice()).collect();
    let names: Vec<&str> = new.iter().map(|one| one.name.as_str()).collect();
    let labels: Vec<&str> = new.iter().map(|one| one.labels.as_str()).collect();
    let kinds: Vec<i16> = new.iter().map(|one| one.kind).collect();
    let helps: Vec<&str> = new.iter().map(|one| one.help.as_str()).collect();
    let insert = "INSERT INTO series (agent, key, name, labels, kind, help) SELECT $1, * FROM \
                  unnest($2::bytea[], $3::text[], $4::text[], $5::smallint[], $6::text[]) \
                  RETURNING key, id";
    ids(&transaction.query(insert, &[&agent, &keys, &names, &labels, &kinds, &helps]).await?)
}

fn ids(rows: &[tokio_postgres::Row]) -> Result<HashMap<Key, i64>, tokio_postgres::Error> {
    let id = |row: &tokio_postgres::Row| {
        let mut key = [0; 16];
        let found: &[u8] = row.try_get(0)?;
        let length = found.len().min(key.len());
        key[..length].copy_from_slice(&found[..length]);
        Ok((key, row.try_get(1)?))
    };
    rows.iter().map(id).collect()
}
