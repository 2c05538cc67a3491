//! The scan of all processes, with 500 more than there are, beside its floor in the same run: the same files
//! opened, read once and closed, with no parsing.

use std::{
    fs::{self, File},
    hint::black_box,
    io::Read as _,
    process::{Child, Command},
};

use agent_core::{Roots, Samples};
use criterion::{Criterion, criterion_group, criterion_main};

const PROCESSES: usize = 500;
const STAT_BYTES_MAX: usize = 2 << 10;

/// Processes that sleep until they are dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start() -> Self {
        let start = |_| Command::new("sleep").arg("3600").spawn().expect("sleep(1) can be run");
        Self((0..PROCESSES).map(start).collect())
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Opens, reads and closes `stat` of each process, and of each thread of those that have several.
fn read_all(buffer: &mut [u8]) -> usize {
    let mut total = 0;
    for pid in numbers("/proc") {
        let read = read_stat(&format!("/proc/{pid}/stat"), buffer);
        total += read;
        if threads(&buffer[..read]) > 1 {
            let tasks = format!("/proc/{pid}/task");
            for thread in numbers(&tasks).into_iter().filter(|thread| *thread != pid) {
                total += read_stat(&format!("{tasks}/{thread}/stat"), buffer);
            }
        }
    }
    total
}

fn numbers(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn read_stat(path: &str, buffer: &mut [u8]) -> usize {
    File::open(path).and_then(|mut file| file.read(buffer)).unwrap_or(0)
}

/// The eighteenth word behind the name.
fn threads(stat: &[u8]) -> usize {
    let name_end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let mut words = stat[name_end..].split(|byte| *byte == b' ').skip(18);
    let word = words.next().and_then(|word| std::str::from_utf8(word).ok());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn scan(criterion: &mut Criterion) {
    let _sleepers = Sleepers::start();
    let mut group = criterion.benchmark_group("processes");
    let mut buffer = vec![0; STAT_BYTES_MAX];
    group.bench_function("floor: open, read, close", |bencher| {
        bencher.iter(|| black_box(read_all(&mut buffer)));
    });
    let line = collectors::find("processes").expect("it is in the registry");
    let mut collector =
        collectors::build(line, &Roots::default(), &Default::default()).expect("it has no options");
    let mut samples = Samples::new(line.name);
    group.bench_function("collect", |bencher| {
        bencher.iter(|| {
            samples.clear();
            let _ = black_box(collector.collect(&mut samples));
        });
    });
}

criterion_group!(benches, scan);
criterion_main!(benches);
