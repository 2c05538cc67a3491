//! A day without the hub: what lies on the disk, and how it drains.
//!
//! ```text
//! cargo build --release -p server-lite --bins
//! cargo bench --bench outage -- [hours [series]]
//! ```
//! Ticks of a made-up host ([`xtask::workload`]), one every 10 s by a simulated clock, go into a real log.
//! Then the real agent is started on it and drains into the real hub, over loopback. The floor of the
//! disk is the bytes of the records themselves, as a bare append-only file has them.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, thread, time::Duration};

use agent_core::wal::{NewRecord, SledWal, Wal, WalOptions};
use wire::{Kind, envelope};
use xtask::{
    programs::{Agent, Binaries, Hub, unix_now, wait_for},
    workload::Host,
};

const INTERVAL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (hours, series) = (number(&numbers, 0, 24), number(&numbers, 1, 349));
    let directory = tempfile::tempdir().expect("temporary directory");
    let agent_dir = directory.path().join("agent");
    fs::create_dir(&agent_dir).expect("creates");
    let log = agent_dir.join("wal");

    let ticks = hours * 3_600 / INTERVAL.as_secs();
    let bare = fill(&log, ticks, series);
    let samples = (ticks * series) as f64;
    println!("{ticks} ticks of {series} series, the hub away for {hours} h");
    println!("records as they are     {:>10.2} bytes a sample", bare as f64 / samples);
    println!("log on disk             {:>10.2} bytes a sample", disk_bytes(&log) as f64 / samples);
    println!("log on disk             {:>10.2} MB", disk_bytes(&log) as f64 / 1e6);
    println!("memory of the writer    {:>10.2} MB at most", peak_bytes("self") / 1e6);

    drain(directory.path(), &log, ticks, samples);
}

fn number(numbers: &[u64], index: usize, default: u64) -> u64 {
    numbers.get(index).copied().unwrap_or(default)
}

/// A log of so many ticks, the last of them a moment ago; bytes of the records alone.
fn fill(log: &Path, ticks: u64, series: u64) -> u64 {
    let interval_ms = INTERVAL.as_millis() as i64;
    let start_ms = unix_now().as_millis() as i64 - (ticks as i64 + 1) * interval_ms;
    let mut host = Host::new(1, series as usize, interval_ms).starting_at(start_ms);
    let mut wal = SledWal::open(log, WalOptions::default()).expect("opens");
    wal.register("hub").expect("registers");
    let mut bytes = 0;
    for _ in 0..ticks {
        let payload = host.tick();
        bytes += (payload.len() + envelope::HEADER_BYTES) as u64;
        let record = NewRecord {
            kind: Kind::Metrics,
            time_ms: host.time_ms(),
            samples: series,
            payload: &payload,
            schemas: host.schemas(),
        };
        wal.append(&record).expect("appends");
    }
    assert_eq!(wal.stats().dropped_records, 0, "the bound is too small for this outage");
    bytes
}

fn drain(directory: &Path, log: &Path, ticks: u64, samples: f64) {
    let binary = Path::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    let release = binary.parent().expect("has a directory");
    let binaries = Binaries::below(release).expect("the hub is built");
    let mut hub = Hub::start(&binaries, directory, "outage").expect("hub starts");
    let begun = std::time::Instant::now();
    let mut agent = Agent::start(&binaries, directory, INTERVAL, &hub).expect("agent starts");
    let acked = || hub.get("/api/v1/hosts").ok()?["hosts"][0]["acked_seq"].as_u64();
    wait_for(PATIENCE, || Ok(acked().filter(|acked| *acked >= ticks))).expect("drains");
    let took = begun.elapsed();
    let pid = agent.program().map_or(0, |program| program.pid());
    println!("drained in              {:>10.2} s, from the agent's start", took.as_secs_f64());
    println!("                        {:>10.0} records/s", ticks as f64 / took.as_secs_f64());
    println!("                        {:>10.0} samples/s", samples / took.as_secs_f64());
    println!("memory of the agent     {:>10.2} MB at most", peak_bytes(&pid.to_string()) / 1e6);
    // What is given back is given back with the next tick.
    thread::sleep(2 * INTERVAL);
    println!("log on disk, drained    {:>10.2} MB", disk_bytes(log) as f64 / 1e6);
    agent.stop().expect("agent stops");
    hub.stop().expect("hub stops");
}

/// Blocks that a file or everything below a directory takes on disk, in bytes.
fn disk_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    metadata.blocks() * 512 + entries.map(|entry| disk_bytes(&entry.path())).sum::<u64>()
}

/// Peak resident memory of a process, as `/proc/<pid>/status` has it.
fn peak_bytes(pid: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse().ok());
    kilobytes.unwrap_or(f64::NAN) * 1024.0
}
