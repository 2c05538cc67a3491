//! What a hub has stored, as it lies there and as its ledger tells: material for the [`judge`].
//!
//! [`judge`]: mod@crate::judge

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};

use crate::programs::Hub;

/// A series that every tick has exactly one sample of.
const WITNESS_METRIC: &str = "node_time_seconds";
/// Gaps asked for at once: what a hub answers at most.
const GAPS_MAX: usize = 10_000;

/// A tick in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct StoredTick {
    /// Number of its record.
    pub seq: u64,
    /// Its Unix milliseconds.
    pub time_ms: i64,
}

/// What `holdfast-hub audit --json` says of every series of a host.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Audit {
    /// Its name.
    pub host: String,
    /// Its streams.
    pub streams: Vec<StreamAudit>,
    /// Samples stored.
    pub samples: usize,
    /// Samples of a series at a time at which it has another one already.
    pub duplicates: usize,
    /// Samples behind one that was sent later.
    pub out_of_order: usize,
    /// Rows that no longer read back.
    pub damaged: usize,
}

/// What the audit says of a stream.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StreamAudit {
    /// Its name.
    pub stream_id: String,
    /// Highest number acknowledged.
    pub acked_seq: u64,
}

/// An entry of the hub's gap ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ToldGap {
    /// Of which host.
    pub host: String,
    /// Why.
    pub reason: String,
    /// Unix milliseconds of the first thing missing.
    pub from_ms: i64,
    /// Unix milliseconds of the last thing missing.
    pub to_ms: i64,
    /// Records missing.
    pub records: u64,
}

/// Every sample looked at, host by host; beside a running hub too.
///
/// # Errors
/// When the store can't be read.
pub fn audit(hub: &Hub) -> Result<Vec<Audit>> {
    #[derive(Deserialize)]
    struct Hosts {
        hosts: Vec<Audit>,
    }
    let text = offline(hub, &["audit", "--json"])?;
    Ok(parse::<Hosts>(&text)?.hosts)
}

/// Ticks in the store by host, each in the order of storage.
///
/// # Errors
/// When the store can't be read.
pub fn ticks(hub: &Hub) -> Result<BTreeMap<String, Vec<StoredTick>>> {
    #[derive(Deserialize)]
    struct Line {
        host: String,
        #[serde(flatten)]
        tick: StoredTick,
    }
    let mut hosts = BTreeMap::<String, Vec<StoredTick>>::new();
    for line in offline(hub, &["samples", "--metric", WITNESS_METRIC])?.lines() {
        let Line { host, tick } = parse(line)?;
        hosts.entry(host).or_default().push(tick);
    }
    Ok(hosts)
}

/// The gap ledger of the last day; of a running hub.
///
/// # Errors
/// When the hub doesn't answer, or has more than it tells at once.
pub fn gaps(hub: &Hub) -> Result<Vec<ToldGap>> {
    #[derive(Deserialize)]
    struct Ledger {
        gaps: Vec<ToldGap>,
        truncated: bool,
    }
    let ledger: Ledger =
        serde_json::from_value(hub.get(&format!("/api/v1/gaps?limit={GAPS_MAX}"))?)?;
    if ledger.truncated {
        bail!("the ledger has more than {GAPS_MAX} gaps");
    }
    Ok(ledger.gaps)
}

fn offline(hub: &Hub, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(hub.binary());
    command.args(arguments).arg("--data-dir").arg(hub.data_dir());
    let output = command.output().context("run holdfast-hub")?;
    if !output.status.success() {
        bail!("holdfast-hub {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).with_context(|| format!("holdfast-hub said {text:?}"))
}
