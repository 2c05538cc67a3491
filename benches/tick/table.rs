//! What a host pays for a tick, with real sleeps between ticks, in one table.
//!
//! Medians of CPU time, of the thread that collects and of node_exporter's process; the floor's is that of
//! a bare `pread` of the same files. Other work on the machine makes all of them dearer, not one of them.

use std::{thread, time::Duration};

use agent_core::Roots;
use nix::time::{ClockId, clock_gettime};
use wire::tick::TickEncoder;

use crate::{
    Filled, build, build_one, calls,
    exporter::{self, Exporter, is_shared},
    floor::Floor,
    tick, warm,
};

const ROUNDS: usize = 20;
/// Before each measurement: long enough for other programs to fill the caches.
const SLEEP: Duration = Duration::from_millis(50);
/// One line of it; what there is no measure for is absent.
struct Row {
    series: usize,
    files: usize,
    floor: Duration,
    floor_calls: usize,
    collect: Duration,
    calls: Option<f64>,
    allocations: u64,
    exporter: Option<Duration>,
}

/// Measures and prints the default set, then each collector that the host has something for.
pub(crate) fn print(roots: &Roots) {
    println!(
        "CPU µs a tick, system calls, allocations: medians of {ROUNDS} ticks, {SLEEP:?} apart\n"
    );
    println!(
        "| collector | series | files | floor µs | calls | collect µs | of floor | calls | allocations | node_exporter µs |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let defaults = exporter::defaults();
    print_row("the default set", measure("", || build(roots), &defaults, roots));
    for line in collectors::REGISTRY {
        let shared: &[&str] = if is_shared(line.name) { &[line.name] } else { &[] };
        let make = || vec![build_one(line.name, roots)];
        print_row(line.name, measure(line.name, make, shared, roots));
    }
}

/// `None` if the host has nothing for them.
fn measure(
    name: &str,
    make: impl FnOnce() -> Vec<Filled>,
    shared: &[&str],
    roots: &Roots,
) -> Option<Row> {
    let (mut collectors, mut encoder) = (Vec::new(), TickEncoder::new());
    let mut floor = Floor::of(roots, || collectors = warm(make(), &mut encoder));
    if collectors.is_empty() {
        return None;
    }
    let exporter = (!shared.is_empty()).then(|| Exporter::start(roots, shared)).flatten();
    let (mut series, mut floor_calls) = (0, 0);
    let (mut floors, mut collects, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        thread::sleep(SLEEP);
        floors.push(cpu(|| floor_calls = floor.read()));
        thread::sleep(SLEEP);
        collects.push(cpu(|| series = tick(&mut collectors, &mut encoder)));
        if let Some(exporter) = &exporter {
            thread::sleep(SLEEP);
            let before = exporter.cpu();
            let _ = exporter.scrape();
            scrapes.push(exporter.cpu().saturating_sub(before));
        }
    }
    let counted = allocation_counter::measure(|| _ = tick(&mut collectors, &mut encoder));
    Some(Row {
        series,
        files: floor.len(),
        floor: median(floors).unwrap_or_default(),
        floor_calls,
        collect: median(collects).unwrap_or_default(),
        calls: calls::count(name, roots),
        allocations: counted.count_total,
        exporter: median(scrapes),
    })
}

/// CPU time of this thread.
fn cpu(run: impl FnOnce()) -> Duration {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    let before = now();
    run();
    Duration::from(now() - before)
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn print_row(name: &str, row: Option<Row>) {
    let Some(row) = row else { return };
    let Row { series, files, floor_calls, allocations, .. } = &row;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let has_floor = *files > 0;
    let (floor, collect) = (micros(row.floor), micros(row.collect));
    let floor_text = if has_floor { format!("{floor:.0}") } else { "–".to_owned() };
    let ratio = if has_floor { format!("{:.2}", collect / floor) } else { "–".to_owned() };
    let calls = row.calls.map_or("–".to_owned(), |calls| format!("{calls:.1}"));
    let exporter = row.exporter.map_or("–".to_owned(), |time| format!("{:.0}", micros(time)));
    println!(
        "| {name} | {series} | {files} | {floor_text} | {floor_calls} | {collect:.0} | {ratio} | {calls} | {allocations} | {exporter} |"
    );
}
