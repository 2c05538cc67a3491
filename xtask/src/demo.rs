//! `cargo xtask demo`: the main job on this host, as people meet it first.
//!
//! Builds in release, starts a hub with the embedded store on a free loopback port and an agent
//! beside it at one tick a second, and shows what the hub knows, until Ctrl-C. With `--outage`, the
//! [`drill`] on the same release binaries.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    chore::{cargo, run, target_dir},
    drill::{self, Plan},
    programs::{Agent, Binaries, Hub},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// What rates are taken over.
const WINDOW: &str = "10s";
/// Lines of one picture of the table.
const PICTURE_LINES: usize = 8;

/// Shows the live table until Ctrl-C.
///
/// # Errors
/// When the binaries don't build, start or stop.
pub fn live() -> Result<ExitCode> {
    let binaries = build_release()?;
    let directory = tempfile::tempdir()?;
    let interrupted = on_interrupt()?;
    let mut hub = Hub::start(&binaries, directory.path(), "demo")?;
    let mut agent = Agent::start(&binaries, directory.path(), INTERVAL, &hub)?;
    print_urls(&hub);
    let shown = show_until(&interrupted, &hub, &mut agent);
    println!("\nstopping");
    agent.stop()?;
    hub.stop()?;
    shown.map(|()| ExitCode::SUCCESS)
}

/// Runs the drill and prints its report; the exit code says whether the promise was kept.
///
/// # Errors
/// When the binaries don't build, start, stop or drain.
pub fn outage(outage: Duration) -> Result<ExitCode> {
    let binaries = build_release()?;
    let directory = tempfile::tempdir()?;
    let plan = Plan { outage, interval: INTERVAL };
    let report = drill::run(&binaries, directory.path(), &plan, |step| println!("· {step}"))?;
    println!("\n{report}\n");
    if report.is_clean() {
        println!("nothing lost, nothing doubled, nothing out of order");
        return Ok(ExitCode::SUCCESS);
    }
    println!("the promise is broken");
    Ok(ExitCode::FAILURE)
}

/// Builds both binaries as they are shipped: each by itself, since one command would give the agent what the
/// hub asks of crates that both use.
///
/// # Errors
/// When the build fails.
pub fn build_release() -> Result<Binaries> {
    for package in ["holdfast", "server-lite"] {
        run(&mut cargo(&["build", "--release", "--package", package, "--bins"]))?;
    }
    Binaries::below(&target_dir().join("release"))
}

fn on_interrupt() -> Result<Receiver<()>> {
    let (tell, told) = channel();
    ctrlc::set_handler(move || {
        let _ = tell.send(());
    })
    .context("listen for Ctrl-C")?;
    Ok(told)
}

fn print_urls(hub: &Hub) {
    let url = hub.url();
    println!("\nhub      {url}");
    println!("hosts    {url}/api/v1/hosts");
    println!("buckets  {url}/api/v1/buckets?metric=node_load1&from=-5m&step=10s&agg=avg");
    println!("metrics  {url}/metrics");
    println!("token    AGENT_TOKEN=demo (the two API calls want it, as a JWT)");
    println!("Ctrl-C stops both.\n");
}

fn show_until(interrupted: &Receiver<()>, hub: &Hub, agent: &mut Agent) -> Result<()> {
    let mut first = true;
    loop {
        match interrupted.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(()),
        }
        agent.check_running()?;
        let picture = match picture(hub) {
            Ok(picture) => picture,
            Err(error) => format!("waiting for the hub: {error:#}\n"),
        };
        draw(&picture, first)?;
        first = false;
    }
}

/// On a terminal each picture takes the place of the one before.
fn draw(picture: &str, first: bool) -> Result<()> {
    let mut out = stdout().lock();
    if out.is_terminal() && !first {
        write!(out, "\x1b[{PICTURE_LINES}A\x1b[J")?;
    }
    let missing = PICTURE_LINES.saturating_sub(picture.lines().count());
    write!(out, "{picture}{}", "\n".repeat(missing))?;
    out.flush()?;
    Ok(())
}

fn picture(hub: &Hub) -> Result<String> {
    let hosts = hub.get("/api/v1/hosts")?;
    let host = &hosts["hosts"][0];
    let (last, acked) = (host["log"]["last_seq"].as_u64(), host["acked_seq"].as_u64());
    let seq = |seq: Option<u64>| seq.map_or_else(|| "–".to_owned(), |seq| seq.to_string());
    let depth = last.zip(acked).map_or(0, |(last, acked)| last.saturating_sub(acked));
    let rows = [
        ("host", host["host"].as_str().unwrap_or("–").to_owned()),
        ("cpu", cpu(hub)?),
        ("memory", memory(hub)?),
        ("load", load(hub)?),
        ("disk", traffic(hub, ["node_disk_read_bytes_total", "node_disk_written_bytes_total"])?),
        (
            "network",
            traffic(
                hub,
                ["node_network_receive_bytes_total", "node_network_transmit_bytes_total"],
            )?,
        ),
        ("log depth", format!("{depth} records wait for the hub")),
        ("acknowledged", format!("seq {}", seq(acked))),
    ];
    Ok(rows.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect())
}

fn cpu(hub: &Hub) -> Result<String> {
    let idle = newest(hub, "node_cpu_seconds_total", "mode=idle", "rate")?;
    let busy = 1.0 - mean(&idle);
    Ok(if idle.is_empty() {
        "–".into()
    } else {
        format!("{:.1} % of {}", busy * 100.0, idle.len())
    })
}

fn memory(hub: &Hub) -> Result<String> {
    let total: f64 = newest(hub, "node_memory_MemTotal_bytes", "", "last")?.iter().sum();
    let free: f64 = newest(hub, "node_memory_MemAvailable_bytes", "", "last")?.iter().sum();
    Ok(format!("{} of {} used", bytes(total - free), bytes(total)))
}

fn load(hub: &Hub) -> Result<String> {
    let names = ["node_load1", "node_load5", "node_load15"];
    let loads = names.map(|name| newest(hub, name, "", "last").map(|values| mean(&values)));
    let [one, five, fifteen] = loads;
    Ok(format!("{:.2} {:.2} {:.2}", one?, five?, fifteen?))
}

fn traffic(hub: &Hub, [read, written]: [&str; 2]) -> Result<String> {
    let sum = |metric| newest(hub, metric, "", "rate").map(|values| values.iter().sum::<f64>());
    Ok(format!("{}/s in, {}/s out", bytes(sum(read)?), bytes(sum(written)?)))
}

/// The newest value of every matching series.
fn newest(hub: &Hub, metric: &str, labels: &str, agg: &str) -> Result<Vec<f64>> {
    let path = format!(
        "/api/v1/buckets?metric={metric}&labels={labels}&from=-{WINDOW}&step={WINDOW}&agg={agg}"
    );
    let answer = hub.get(&path)?;
    let series = answer["series"].as_array().map_or(&[][..], Vec::as_slice);
    let last = |series: &Value| series["points"].as_array()?.last()?[1].as_f64();
    Ok(series.iter().filter_map(last).collect())
}

#[expect(clippy::cast_precision_loss, reason = "a handful of series")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / (values.len() as f64).max(1.0)
}

fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes;
    let mut unit = 0;
    while scaled.abs() >= 1024.0 && unit < UNITS.len() - 1 {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        let check = |value, expected: &str| assert_eq!(bytes(value), expected);
        check(0.0, "0.0 B");
        check(1536.0, "1.5 KiB");
        check(3.0 * 1024.0 * 1024.0 * 1024.0, "3.0 GiB");
    }
}
