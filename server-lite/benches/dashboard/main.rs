//! What dashboards ask, answered by the hub, by Prometheus and by VictoriaMetrics that have the same samples.
//!
//! ```text
//! cargo bench -p server-lite --bench dashboard -- [hosts [minutes [times asked]]]
//! ```
//! Made-up hosts with node_exporter's series ([`xtask::workload`]) send a scrape each 15 s, ending now, to
//! each store as it likes to be sent to. The answers to each question ([`questions`]) are compared
//! ([`answers`]) before any is timed. Then all stores are asked in turn, over connections that stay open;
//! median time of an answer, and CPU time that its process took for it.

#![expect(clippy::panic, reason = "what goes wrong ends the bench")]

mod answers;
mod questions;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use answers::Answer;
use questions::Asked;
use xtask::{
    fleet::{Asker, Kind, Load, Sender, Store},
    programs::{Binaries, millis, unix_now},
    workload::Host,
};

const INTERVAL_MS: i64 = 15_000;
const CONNECTIONS: usize = 4;
/// Answers that make up one measurement of CPU time.
const BATCH: usize = 5;

fn main() {
    let arguments: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let number = |index, default| arguments.get(index).copied().unwrap_or(default);
    let (hosts, minutes, batches) = (number(0, 50), number(1, 240), number(2, 20).div_ceil(5));
    let ticks = i64::from(minutes) * 60_000 / INTERVAL_MS;
    let now_ms = millis(unix_now());
    let end_ms = now_ms - now_ms.rem_euclid(60_000);
    let start_ms = end_ms - ticks * INTERVAL_MS;
    let host = |number| Host::node(number, INTERVAL_MS).starting_at(start_ms);
    let fleet: Vec<Host> = (1..=hosts).map(host).collect();
    let series = fleet.first().map_or(0, Host::series);
    println!("{hosts} hosts of {series} series, {ticks} scrapes every 15 s");

    let directory = tempfile::tempdir().expect("temporary directory");
    let kinds = Kind::installed();
    let kinds = kinds.iter().filter(|kind| **kind != Kind::Embedded(Sender::RemoteWrite));
    let mut stores: Vec<(Kind, Store)> = kinds
        .map(|kind| (kind.clone(), filled(kind, directory.path(), &fleet, ticks.unsigned_abs())))
        .collect();
    let asked = questions::all(end_ms);
    let askers: Vec<Asker> = stores.iter().map(|(_, store)| store.asker()).collect();
    for one in &asked {
        compare(one, &stores, &askers);
    }
    let names: Vec<String> = stores.iter().map(|(kind, _)| kind.to_string()).collect();
    println!("\n| question | {} | of the faster |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len() + 1));
    for one in &asked {
        println!("{}", row(one, &mut stores, &askers, batches as usize));
    }
}

fn filled(kind: &Kind, directory: &Path, fleet: &[Host], ticks: u64) -> Store {
    let begun = Instant::now();
    // The agent isn't asked for.
    let hub = Path::new(env!("CARGO_BIN_EXE_holdfast-hub")).to_owned();
    let binaries = Binaries { agent: hub.clone(), hub };
    let directory = directory.join(kind.to_string());
    std::fs::create_dir_all(&directory).expect("directory");
    let mut store = Store::start(kind, &binaries, &directory).expect("started");
    let load = Load::new(fleet.to_vec(), ticks, kind.protocol()).expect("requests");
    let connections = store.connections(CONNECTIONS).expect("connections");
    load.send(&connections).expect("sent");
    store.settle().expect("settled");
    let resident = store.usage().expect("usage").resident_max_bytes / 1e6;
    println!("{kind}: filled in {:.0?}, {resident:.0} MB at most", begun.elapsed());
    store
}

/// Ends the bench when answers differ by more than the way of reckoning explains.
fn compare(asked: &Asked, stores: &[(Kind, Store)], askers: &[Asker]) {
    let answers: Vec<Answer> = askers
        .iter()
        .map(|asker| Answer::of(&asker.ask(&asked.question).expect("an answer").1))
        .collect();
    for ((kind, _), answer) in stores.iter().zip(&answers).skip(1) {
        if let Err(why) = answers[0].is_like(answer, questions::tolerance(kind, asked)) {
            panic!("{}: {kind} answers otherwise: {why}", asked.name);
        }
    }
}

/// A line of the table.
fn row(asked: &Asked, stores: &mut [(Kind, Store)], askers: &[Asker], batches: usize) -> String {
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); askers.len()];
    let mut cpu = vec![Duration::ZERO; askers.len()];
    for _ in 0..batches {
        for (at, asker) in askers.iter().enumerate() {
            let before = stores[at].1.usage().expect("usage").cpu;
            took[at].extend((0..BATCH).map(|_| asker.ask(&asked.question).expect("an answer").0));
            cpu[at] += stores[at].1.usage().expect("usage").cpu - before;
        }
    }
    let median = |all: &mut Vec<Duration>| {
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64() * 1e3
    };
    let took: Vec<f64> = took.iter_mut().map(median).collect();
    let asked_times = (batches * BATCH) as f64;
    let cells: Vec<String> = took
        .iter()
        .zip(&cpu)
        .map(|(took, cpu)| {
            format!("{took:.2} ms (CPU {:.2})", cpu.as_secs_f64() * 1e3 / asked_times)
        })
        .collect();
    let faster = took.iter().skip(1).copied().fold(f64::INFINITY, f64::min);
    format!("| {} | {} | {:.2} |", asked.name, cells.join(" | "), took[0] / faster)
}
