//! `holdfast-hub samples` and `audit`: the store as it lies there, for drills.

use std::io::{self, BufWriter, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;
use server_lite::{
    Config,
    store::{
        Host, Labels, Selector, Series, StoreError,
        embedded::inspect::{self, Audit, Place, Stored},
        postgres,
    },
};

use crate::serve;

/// A stored sample as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    host: &'a str,
    labels: &'a Labels,
    stream: String,
    seq: u64,
    time_ms: i64,
    /// What JSON has no number for is a string.
    value: serde_json::Value,
    r#where: Place,
}

#[derive(Serialize)]
struct Audits {
    hosts: Vec<Audit>,
}

/// Prints every stored sample of a metric.
///
/// # Errors
/// When the store can't be read, or nobody reads what is printed.
pub(crate) fn samples(
    config: &Config,
    host: Option<&str>,
    metric: &str,
    labels: &[String],
) -> Result<()> {
    let labels = labels.iter().map(|pair| {
        let (name, value) = pair
            .split_once('=')
            .with_context(|| format!("--labels: found {pair:?}, expected NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    let labels = labels.collect::<Result<_>>()?;
    let selector = Selector::metric(metric).labelled(&labels).on(host.map(Host::parse));
    let mut out = BufWriter::new(io::stdout().lock());
    let each = |series: &Series, stored: &Stored| {
        let line = Line {
            host: &series.hostname,
            labels: &series.labels,
            stream: stored.stream_id.to_string(),
            seq: stored.seq,
            time_ms: stored.time_ms,
            value: number(stored.value),
            r#where: stored.place,
        };
        let text = serde_json::to_string(&line).map_err(io::Error::from);
        let printed = text.and_then(|text| writeln!(out, "{text}"));
        printed.map_err(|source| StoreError::Io {
            operation: "print to",
            path: "stdout".into(),
            source,
        })
    };
    match config.database.url() {
        None => inspect::samples(&config.data_dir, &selector, each)?,
        Some(url) => {
            serve::runtime()?.block_on(postgres::inspect::samples(url, &selector, each))?;
        }
    }
    Ok(out.flush()?)
}

fn number(value: f64) -> serde_json::Value {
    serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Into::into)
}

/// Prints what an audit finds.
///
/// # Errors
/// When the store can't be read, or nobody reads what is printed.
pub(crate) fn audit(config: &Config, json: bool) -> Result<()> {
    let hosts = match config.database.url() {
        None => inspect::audit(&config.data_dir)?,
        Some(url) => serve::runtime()?.block_on(postgres::inspect::audit(url))?,
    };
    let mut out = io::stdout().lock();
    if json {
        let text = serde_json::to_string_pretty(&Audits { hosts })?;
        return Ok(writeln!(out, "{text}")?);
    }
    for audit in hosts {
        writeln!(out, "{} ({})", audit.host, audit.agent_id)?;
        writeln!(
            out,
            "  {} ticks, {} samples of {} series: {} duplicates ({} records doubled), {} out of \
             order, {} with a time before the last, {} rows damaged",
            audit.ticks,
            audit.samples,
            audit.series,
            audit.duplicates,
            audit.doubled,
            audit.out_of_order,
            audit.time_backwards,
            audit.damaged
        )?;
        let (gaps, unexplained) = (audit.gaps, audit.unexplained_records);
        writeln!(out, "  {gaps} gaps told, {unexplained} records missing that no gap explains")?;
        for stream in audit.streams {
            let (first, last) = stream.seqs.unwrap_or_default();
            writeln!(
                out,
                "  stream {}: {} ticks, records {first} to {last}, acknowledged up to {}",
                stream.stream_id, stream.ticks, stream.acked_seq
            )?;
        }
    }
    Ok(())
}
