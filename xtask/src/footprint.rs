//! `cargo xtask footprint`: what a host pays for the agent.
//!
//! Release binaries, this host's real data, the real log (synced) and a hub over loopback; the agent
//! sleeps between ticks as it does on any host, because a tight loop flatters by four.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    chore::target_dir,
    demo::build_release,
    programs::{Agent, Binaries, Hub, Usage, wait_for},
};

/// How long the first ticks may take: the log is made, schemas are exchanged.
const SETTLE_TICKS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures for so long and prints what it found.
///
/// # Errors
/// When the binaries don't build or run.
pub fn run(measured_for: Duration, interval: Duration) -> Result<ExitCode> {
    let binaries = build_release()?;
    print_sizes(&binaries)?;
    let directory = tempfile::tempdir()?;
    let mut hub = Hub::start(&binaries, directory.path(), "footprint")?;
    let mut agent = Agent::start(&binaries, directory.path(), interval, &hub)?;
    let ticks = |agent: &Agent| agent.witness().len();
    wait_for(PATIENCE, || Ok((ticks(&agent) >= SETTLE_TICKS).then_some(())))?;

    let pid = agent.program().context("the agent runs")?.pid();
    let (ticks_before, before) = (ticks(&agent), Usage::of(pid)?);
    println!("measuring for {measured_for:?} at one tick every {interval:?} …");
    thread::sleep(measured_for);
    agent.check_running()?;
    let (ticks_after, after) = (ticks(&agent), Usage::of(pid)?);
    let series = series(&hub)?;
    agent.stop()?;
    hub.stop()?;

    let ticks = count(ticks_after - ticks_before);
    let cpu_ms = (after.cpu - before.cpu).as_secs_f64() * 1e3 / ticks;
    println!("ticks               {ticks:>10}");
    println!("series              {series:>10}");
    println!("CPU a tick          {cpu_ms:>10.3} ms");
    println!("CPU a series        {:>10.2} µs", cpu_ms * 1e3 / series);
    println!("wake-ups a tick     {:>10.1}", (after.switches - before.switches) / ticks);
    println!("PSS                 {:>10.1} MB", after.pss_bytes / 1e6);
    println!("threads             {:>10}", after.threads);
    Ok(ExitCode::SUCCESS)
}

fn print_sizes(binaries: &Binaries) -> Result<()> {
    for path in [&binaries.agent, &binaries.hub] {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name:<20}{:>10.2} MB", stripped_bytes(path)? / 1e6);
    }
    Ok(())
}

/// Size after `strip`, of a copy; of the file itself where there is no `strip` (the release profile
/// strips).
fn stripped_bytes(path: &Path) -> Result<f64> {
    let copy = target_dir().join("stripped");
    let stripped = Command::new("strip").arg("-o").arg(&copy).arg(path).status();
    let measured = if stripped.is_ok_and(|status| status.success()) { &copy } else { path };
    Ok(float(fs::metadata(measured)?.len()))
}

/// Series of one tick: samples of the hub's newest, over its ticks.
fn series(hub: &Hub) -> Result<f64> {
    let hosts = hub.get("/api/v1/hosts")?;
    hosts["hosts"][0]["series"].as_f64().context("the hub doesn't say how many series the host has")
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(n: u64) -> f64 {
    n as f64
}
