//! What a tick costs: of all default collectors and of each, on this host or on a large made-up one, beside
//! their floor in the same run: a bare `pread` of the same files with kept descriptors and no parsing; and
//! beside node_exporter's scrape, where it is installed.
//!
//! - `cargo bench --bench tick -- table`: what a host pays, with real sleeps between ticks: CPU time, system
//!   calls and allocations, in one table. `-- table big` on a host with 256 CPUs and 10 000 processes.
//! - `cargo bench --bench tick`: time in a tight loop, by criterion. That keeps caches warm and flatters all
//!   but the exporter by about four.
//!
//! Which files are the same is seen, not listed: the floor reads what the collector keeps open after two
//! ticks. What it opens anew in every tick (processes, `statvfs`) has no floor here. System calls are
//! counted by strace(1), where it is installed.

mod calls;
mod exporter;
mod floor;
mod table;

use std::{env, hint::black_box, process::ExitCode, time::Duration};

use agent_core::{Collector, Roots, Samples};
use criterion::Criterion;
use wire::tick::TickEncoder;
use xtask::big_host::{BigHost, LARGE};

use self::{
    exporter::{Exporter, is_shared},
    floor::Floor,
};

/// Ticks after which a steady host is known.
const WARM_UP_TICKS: u32 = 3;

type Filled = (Box<dyn Collector>, Samples);

fn main() -> ExitCode {
    if calls::is_child() {
        return ExitCode::SUCCESS;
    }
    let is_told = |word: &str| env::args().any(|argument| argument == word);
    if is_told("table") {
        let big = is_told("big").then(|| BigHost::write(&LARGE).expect("it can be written"));
        table::print(&big.as_ref().map_or_else(Roots::default, roots_of));
        return ExitCode::SUCCESS;
    }
    let short = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    let mut criterion = short.configure_from_args();
    whole_tick(&mut criterion);
    each_collector(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn roots_of(host: &BigHost) -> Roots {
    Roots { procfs: host.procfs(), sysfs: host.sysfs(), rootfs: host.rootfs() }
}

fn build(roots: &Roots) -> Vec<Filled> {
    let built = collectors::build_defaults(roots).expect("default options are good");
    built.into_iter().map(|(name, collector)| (collector, Samples::new(name))).collect()
}

fn build_one(name: &str, roots: &Roots) -> Filled {
    let line = collectors::find(name).expect("it is in the registry");
    let built = collectors::build(line, roots, &Default::default());
    (built.expect("default options are good"), Samples::new(name))
}

fn collect((collector, samples): &mut Filled) -> bool {
    samples.clear();
    black_box(collector.collect(samples)).is_ok()
}

/// Those that the host has something for, after some ticks: what is new is looked at twice, and the agent
/// lets the others rest.
fn warm(mut collectors: Vec<Filled>, encoder: &mut TickEncoder) -> Vec<Filled> {
    (0..WARM_UP_TICKS).for_each(|_| _ = tick(&mut collectors, encoder));
    collectors.retain_mut(collect);
    collectors
}

/// One tick of them, as the agent encodes it; says how many series it has.
fn tick(collectors: &mut [Filled], encoder: &mut TickEncoder) -> usize {
    for one in collectors {
        if collect(one) {
            let (schema, values) = one.1.finish();
            encoder.push(schema.id, values);
        }
    }
    let series = encoder.len();
    black_box(encoder.finish(0));
    series
}

fn whole_tick(criterion: &mut Criterion) {
    let roots = Roots::default();
    let (mut collectors, mut encoder) = (Vec::new(), TickEncoder::new());
    let mut files = Floor::of(&roots, || collectors = warm(build(&roots), &mut encoder));
    let floor = format!("tick/floor: bare pread of {} files", files.len());
    criterion.bench_function(&floor, |bencher| bencher.iter(|| files.read()));
    criterion.bench_function("tick/collect", |bencher| {
        bencher.iter(|| collectors.iter_mut().for_each(|one| _ = collect(one)));
    });
    criterion.bench_function("tick/collect and encode", |bencher| {
        bencher.iter(|| tick(&mut collectors, &mut encoder));
    });
    if let Some(exporter) = Exporter::start(&roots, &exporter::defaults()) {
        exporter.bench(criterion, "tick/node_exporter, its CPU time");
    }
}

/// Every collector that this host has something for.
fn each_collector(criterion: &mut Criterion) {
    let roots = Roots::default();
    for line in collectors::REGISTRY {
        let mut one = build_one(line.name, &roots);
        let mut has_any = false;
        let mut files = Floor::of(&roots, || has_any = (0..2).all(|_| collect(&mut one)));
        if !has_any {
            continue;
        }
        let name = |what: &str| format!("{}/{what}", line.name);
        if files.len() > 0 {
            let floor = name(&format!("floor: bare pread of {} files", files.len()));
            criterion.bench_function(&floor, |bencher| bencher.iter(|| files.read()));
        }
        criterion.bench_function(&name("collect"), |bencher| bencher.iter(|| collect(&mut one)));
        if is_shared(line.name)
            && let Some(exporter) = Exporter::start(&roots, &[line.name])
        {
            exporter.bench(criterion, &name("node_exporter, its CPU time"));
        }
    }
}
