//! `holdfast-agent once`: one tick to standard output, with no log and no sink.
//!
//! In Prometheus's format it is the page that node_exporter would serve, without a port.

use std::{
    io::{BufWriter, Write as _, stdout},
    sync::Arc,
};

use agent_core::{
    Samples,
    clock::{Clock as _, SystemClock},
    config::Config,
    doubles::Doubles,
    runner::Runner,
    telemetry::{self, Telemetry},
};
use anyhow::Result;
use sinks::render::{Block, Content, Format, Heading};
use wire::EncodedSchema;

use crate::assemble::{self, Choice};

type Collected = (Arc<EncodedSchema>, Vec<f64>);

/// Collects and prints.
///
/// # Errors
/// When a collector can't be built, or standard output refuses. A collector that fails is told on
/// standard error and by `node_scrape_collector_success`.
pub(crate) fn run(config: &Config, format: Format) -> Result<()> {
    for sentence in Choice::of(config).unfit_in_words() {
        eprintln!("{sentence}");
    }
    let mut runner = Runner::new(assemble::collectors(config)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let time_ms = SystemClock.now_ms();
    runtime.block_on(runner.run(time_ms, config.collector_deadline()))?;

    let telemetry = Telemetry::default();
    let mut collected = Vec::new();
    let mut reports: Vec<_> = runner.reports().collect();
    Doubles::default().settle(&mut reports);
    for report in reports {
        telemetry.record(report.name, report.outcome, report.duration);
        if report.gives_way {
            telemetry.left_out(report.name, report.left_out);
        }
        match report.samples {
            Some(samples) => {
                let remarks = samples.remarks();
                if !remarks.is_empty() {
                    eprintln!("{}: goes without a part: {remarks}", report.name);
                }
                collected.push(owned(samples));
            }
            None => eprintln!("{}: {}", report.name, report.outcome),
        }
    }
    let mut own = Samples::new(telemetry::COLLECTOR);
    telemetry.collect_collectors(&mut own);
    collected.push(owned(&mut own));

    let blocks = collected.iter().map(block).collect();
    let hostname = assemble::hostname(config);
    let heading = Heading { time_ms, host: Some(&hostname), ..Heading::default() };
    let mut out = BufWriter::new(stdout().lock());
    format.write(&mut out, &heading, &Content::Tick(blocks))?;
    Ok(out.flush()?)
}

fn owned(samples: &mut Samples) -> Collected {
    let (schema, values) = samples.finish();
    (Arc::clone(schema), values.to_vec())
}

fn block((schema, values): &Collected) -> Block<'_> {
    Block { schema: &schema.schema, values }
}
