//! Registers series: each gets an id when a schema that names it first comes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use wire::{EncodedSchema, MetricKind};

use super::{
    change::{Change, Values},
    state::{AgentState, SchemaState, text},
};
use crate::store::rows::{canonical, kind_number};

/// What a series is found by: a hash of its name and labels.
pub(crate) type Key = [u8; 16];

/// A series as its sender names it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// What it is found by.
    pub(crate) key: Key,
    name: String,
    labels: String,
    /// What its values mean, and what they count.
    pub(crate) kind: i16,
    pub(crate) help: String,
}

impl Named {
    /// Of a metric, with these labels.
    pub(crate) fn new<'a>(
        metric: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        kind: MetricKind,
        help: &str,
    ) -> Self {
        let labels = canonical(labels);
        let mut hash = Sha256::new_with_prefix(metric.as_bytes());
        hash.update([0]);
        hash.update(labels.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self { key, name: text(metric), labels, kind: small(kind), help: text(help) }
    }
}

/// A kind as a column has it.
pub(crate) const fn small(kind: MetricKind) -> i16 {
    // Small numbers.
    kind_number(kind) as i16
}

/// A series that is there, of some agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Its row.
    pub(crate) id: i64,
    /// What its values mean.
    pub(crate) kind: i16,
    /// Its samples had gone, and it isn't counted.
    pub(crate) is_old: bool,
}

/// Series by their agents' rows and their keys.
pub(crate) type AllFound = HashMap<(i64, Key), Found>;

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
    let all: Vec<(i64, &Named)> = named.iter().flatten().map(|one| (agent.row, one)).collect();
    let mut found = find(transaction, &all).await?;
    let (mut new, mut young, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    let room = usize::try_from(most.saturating_sub(agent.series)).unwrap_or(usize::MAX);
    for (row, one) in all {
        let there = found.get(&(row, one.key));
        if there.is_some_and(|there| !there.is_old) || !seen.insert(one.key) {
            continue;
        }
        match there.map(|there| there.id) {
            _ if new.len() + young.len() >= room => drop(found.remove(&(row, one.key))),
            Some(id) => young.push(id),
            None => new.push((row, one)),
        }
    }
    found.extend(insert(transaction, &new).await?);
    rejuvenate(transaction, &young).await?;
    agent.series += (new.len() + young.len()) as u64;
    agent.is_changed = true;
    for (schema, named) in schemas.iter().zip(&named) {
        let mut seen = HashSet::new();
        let series = named.iter().map(|one| match found.get(&(agent.row, one.key)) {
            Some(Found { id, .. }) if seen.insert(*id) => *id,
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
        let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Named::new(&family.name, labels, family.kind, &family.help)
    });
    series.collect()
}

/// Those that are there, of some agents' rows.
pub(crate) async fn find(
    transaction: &Change<'_>,
    named: &[(i64, &Named)],
) -> Result<AllFound, tokio_postgres::Error> {
    if named.is_empty() {
        return Ok(HashMap::new());
    }
    let agents: Vec<i64> = named.iter().map(|(agent, _)| *agent).collect();
    let keys: Vec<&[u8]> = named.iter().map(|(_, one)| one.key.as_slice()).collect();
    let find = "SELECT s.agent, s.key, s.id, s.kind, s.is_old FROM unnest($1::bigint[], $2::bytea[]) \
                AS n (agent, key) JOIN series s ON s.agent = n.agent AND s.key = n.key";
    all_found(&transaction.query(find, &[&agents, &keys]).await?)
}

/// Series whose samples had gone are counted again.
pub(crate) async fn rejuvenate(
    transaction: &Change<'_>,
    series: &[i64],
) -> Result<(), tokio_postgres::Error> {
    if series.is_empty() {
        return Ok(());
    }
    let young = "UPDATE series SET is_old = false WHERE id = ANY($1)";
    transaction.execute(young, &[&series]).await.map(|_| ())
}

/// Adds series that aren't there; none may be named twice.
pub(crate) async fn insert(
    transaction: &Change<'_>,
    new: &[(i64, &Named)],
) -> Result<AllFound, tokio_postgres::Error> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let agents: Vec<i64> = new.iter().map(|(agent, _)| *agent).collect();
    let keys: Vec<&[u8]> = new.iter().map(|(_, one)| one.key.as_slice()).collect();
    let names: Vec<&str> = new.iter().map(|(_, one)| one.name.as_str()).collect();
    let labels: Vec<&str> = new.iter().map(|(_, one)| one.labels.as_str()).collect();
    let kinds: Vec<i16> = new.iter().map(|(_, one)| one.kind).collect();
    let helps: Vec<&str> = new.iter().map(|(_, one)| one.help.as_str()).collect();
    let insert = "INSERT INTO series (agent, key, name, labels, kind, help) SELECT * FROM \
                  unnest($1::bigint[], $2::bytea[], $3::text[], $4::text[], $5::smallint[], \
                  $6::text[]) RETURNING agent, key, id, kind, is_old";
    let values: Values<'_> = &[&agents, &keys, &names, &labels, &kinds, &helps];
    all_found(&transaction.query(insert, values).await?)
}

fn all_found(rows: &[tokio_postgres::Row]) -> Result<AllFound, tokio_postgres::Error> {
    let found = |row: &tokio_postgres::Row| {
        let mut key = [0; 16];
        let bytes: &[u8] = row.try_get(1)?;
        let length = bytes.len().min(key.len());
        key[..length].copy_from_slice(&bytes[..length]);
        let found = Found { id: row.try_get(2)?, kind: row.try_get(3)?, is_old: row.try_get(4)? };
        Ok(((row.try_get(0)?, key), found))
    };
    rows.iter().map(found).collect()
}
