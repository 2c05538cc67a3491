//! One tick of all default collectors on this host, beside its floor in the same run: a bare `pread`
//! of the same kernel files with kept descriptors and no parsing.
//!
//! A tight loop keeps caches warm and flatters both by about four; for what a host pays with real
//! sleeps between ticks, see `cargo xtask footprint`.

use std::{fs::File, hint::black_box, os::unix::fs::FileExt as _};

use agent_core::{Collector, Roots, Samples};
use criterion::{Criterion, criterion_group, criterion_main};
use wire::tick::TickEncoder;

/// What the default collectors read on every tick.
const FILES: &[&str] = &[
    "/proc/stat",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/diskstats",
    "/proc/net/dev",
    "/proc/self/mountinfo",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
];

fn floor(criterion: &mut Criterion) {
    let files: Vec<File> = FILES.iter().filter_map(|path| File::open(path).ok()).collect();
    let mut buffer = vec![0; 1 << 20];
    criterion.bench_function("tick/floor: bare pread", |bencher| {
        bencher.iter(|| read_all(&files, &mut buffer));
    });
}

fn read_all(files: &[File], buffer: &mut [u8]) -> usize {
    let mut total = 0;
    for file in files {
        let mut offset = 0;
        while let Ok(read @ 1..) = file.read_at(buffer, offset) {
            offset += read as u64;
        }
        total += black_box(offset as usize);
    }
    total
}

type Filled = (Box<dyn Collector>, Samples);

fn build() -> Vec<Filled> {
    let built = collectors::build_defaults(&Roots::default()).expect("default options are good");
    built.into_iter().map(|(name, collector)| (collector, Samples::new(name))).collect()
}

fn collect_all(collectors: &mut [Filled]) {
    for (collector, samples) in collectors {
        samples.clear();
        let _ = black_box(collector.collect(samples));
    }
}

fn collect(criterion: &mut Criterion) {
    let mut collectors = build();
    criterion.bench_function("tick/collect", |bencher| {
        bencher.iter(|| collect_all(&mut collectors));
    });
}

fn collect_and_encode(criterion: &mut Criterion) {
    let mut collectors = build();
    let mut encoder = TickEncoder::new();
    criterion.bench_function("tick/collect and encode", |bencher| {
        bencher.iter(|| {
            collect_all(&mut collectors);
            for (_, samples) in &mut collectors {
                let (schema, values) = samples.finish();
                encoder.push(schema.id, values);
            }
            black_box(encoder.finish(0))
        });
    });
}

criterion_group!(benches, floor, collect, collect_and_encode);
criterion_main!(benches);
