//! One tick of all default collectors on this host, and one of each, beside their floor in the same run:
//! a bare `pread` of the same files with kept descriptors and no parsing; and beside node_exporter's
//! scrape, where it is installed.
//!
//! Which files are the same is seen, not listed: the floor reads what the collector keeps open after two
//! ticks. What it opens anew in every tick (directories, `statvfs`) has no floor here.
//!
//! A tight loop keeps caches warm and flatters all but the exporter by about four; for what a host pays
//! with real sleeps between ticks, see `cargo xtask footprint`. The exporter's figure is CPU time of its
//! process for a scrape of that collector alone, HTTP included: it is made to be asked so.
//!
//! System calls a tick are counted by strace(1), where it is installed, and printed as a table before
//! the rest; only that with `cargo bench --bench tick -- calls`.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    hint::black_box,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent_core::{Collector, Roots, Samples};
use criterion::Criterion;
use wire::tick::TickEncoder;

/// Tells this program to run so many ticks of a collector and end, for strace to count: `cpu 101`.
const CHILD: &str = "HOLDFAST_BENCH_CHILD";
/// Ticks that strace counts calls over.
const COUNTED_TICKS: u32 = 100;
const EXPORTER: &str = "prometheus-node-exporter";

type Filled = (Box<dyn Collector>, Samples);

fn main() -> ExitCode {
    if let Ok(order) = env::var(CHILD) {
        run_ticks(&order);
        return ExitCode::SUCCESS;
    }
    if !env::args().any(|argument| argument == "--test") {
        print_calls();
    }
    if env::args().any(|argument| argument == "calls") {
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

fn build() -> Vec<Filled> {
    let built = collectors::build_defaults(&Roots::default()).expect("default options are good");
    built.into_iter().map(|(name, collector)| (collector, Samples::new(name))).collect()
}

fn build_one(name: &str) -> Filled {
    let line = collectors::find(name).expect("it is in the registry");
    let built = collectors::build(line, &Roots::default(), &Default::default());
    (built.expect("default options are good"), Samples::new(name))
}

fn collect((collector, samples): &mut Filled) -> bool {
    samples.clear();
    black_box(collector.collect(samples)).is_ok()
}

/// The files that are read every tick, each with a buffer for as much as it holds: for a larger one the
/// kernel has to make more room, which for `/proc/sys` costs more than the file.
struct Floor(Vec<(File, Vec<u8>)>);

impl Floor {
    /// What is open after `run` that wasn't before.
    fn of(run: impl FnOnce()) -> Self {
        let open = || -> BTreeSet<(PathBuf, PathBuf)> {
            let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            let target = |path: PathBuf| Some((path.clone(), fs::read_link(path).ok()?));
            entries.filter_map(|entry| target(entry.path())).collect()
        };
        let before = open();
        run();
        let after = open();
        let new = after.difference(&before).map(|(_, file)| file).filter(|file| file.is_file());
        let with_buffer = |path: &PathBuf| {
            let length = fs::read(path).map_or(0, |content| content.len());
            Some((File::open(path).ok()?, vec![0; (length + 1).next_multiple_of(4 << 10)]))
        };
        Self(new.filter_map(with_buffer).collect())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&mut self) {
        for (file, buffer) in &mut self.0 {
            let mut offset = 0;
            while let Ok(read @ 1..) = file.read_at(buffer, offset) {
                offset += read as u64;
            }
            black_box(buffer);
        }
    }
}

fn whole_tick(criterion: &mut Criterion) {
    let mut collectors = build();
    let mut files =
        Floor::of(|| (0..2).for_each(|_| collectors.iter_mut().for_each(|one| _ = collect(one))));
    let floor = format!("tick/floor: bare pread of {} files", files.len());
    criterion.bench_function(&floor, |bencher| bencher.iter(|| files.read()));
    criterion.bench_function("tick/collect", |bencher| {
        bencher.iter(|| collectors.iter_mut().for_each(|one| _ = collect(one)));
    });
    let mut encoder = TickEncoder::new();
    criterion.bench_function("tick/collect and encode", |bencher| {
        bencher.iter(|| {
            collectors.iter_mut().for_each(|one| _ = collect(one));
            for (_, samples) in &mut collectors {
                let (schema, values) = samples.finish();
                encoder.push(schema.id, values);
            }
            black_box(encoder.finish(0))
        });
    });
    if let Some(exporter) = Exporter::start() {
        let names = collectors::REGISTRY.iter().filter(|line| line.default_enabled);
        let names: Vec<_> = names.map(|line| line.name).filter(|name| is_shared(name)).collect();
        exporter.bench(criterion, "tick/node_exporter, its CPU time", &names);
    }
}

/// Every collector that this host has something for.
fn each_collector(criterion: &mut Criterion) {
    let exporter = Exporter::start();
    for line in collectors::REGISTRY {
        let mut one = build_one(line.name);
        let mut has_any = false;
        let mut files = Floor::of(|| has_any = (0..2).all(|_| collect(&mut one)));
        if !has_any {
            continue;
        }
        let name = |what: &str| format!("{}/{what}", line.name);
        if files.len() > 0 {
            let floor = name(&format!("floor: bare pread of {} files", files.len()));
            criterion.bench_function(&floor, |bencher| bencher.iter(|| files.read()));
        }
        criterion.bench_function(&name("collect"), |bencher| bencher.iter(|| collect(&mut one)));
        if let Some(exporter) = exporter.as_ref().filter(|_| is_shared(line.name)) {
            exporter.bench(criterion, &name("node_exporter, its CPU time"), &[line.name]);
        }
    }
}

fn is_shared(name: &str) -> bool {
    collectors::node_exporter_default(name).is_some()
}

fn run_ticks(order: &str) {
    let (name, ticks) = order.split_once(' ').expect("a name and a number");
    let mut one = build_one(name);
    for _ in 0..ticks.parse().expect("a number of ticks") {
        collect(&mut one);
        one.1.finish();
    }
}

/// System calls a tick, of every collector that is on by default or has something to say.
fn print_calls() {
    println!("{:<20} {:>8} {:>12}", "collector", "series", "calls a tick");
    for line in collectors::REGISTRY {
        let mut one = build_one(line.name);
        if !collect(&mut one) {
            continue;
        }
        let counted = |ticks: u32| calls(line.name, ticks);
        let (Some(few), Some(many)) = (counted(1), counted(1 + COUNTED_TICKS)) else {
            println!("SKIPPED: strace is not here, or may not look (apt-get install strace)");
            return;
        };
        let each = (many - few) / f64::from(COUNTED_TICKS);
        println!("{:<20} {:>8} {each:>12.1}", line.name, one.1.len());
    }
}

/// System calls of a process that runs so many ticks.
fn calls(name: &str, ticks: u32) -> Option<f64> {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls"]).arg(env::current_exe().ok()?);
    let output = command.env(CHILD, format!("{name} {ticks}")).output().ok()?;
    let counts = String::from_utf8_lossy(&output.stderr).into_owned();
    let total = counts.lines().find_map(|line| line.strip_suffix("total"))?;
    total.trim().parse().ok()
}

/// node_exporter, running until it is dropped.
struct Exporter {
    child: Child,
    address: SocketAddr,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Exporter {
    fn start() -> Option<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?;
        let mut command = Command::new(EXPORTER);
        command.arg(format!("--web.listen-address={address}"));
        for line in collectors::REGISTRY.iter().filter(|line| is_shared(line.name)) {
            command.arg(format!("--collector.{}", line.name));
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            println!("SKIPPED: {EXPORTER} is not here (apt-get install {EXPORTER})");
            return None;
        };
        let exporter = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if exporter.scrape(&["time"]).is_ok() {
                return Some(exporter);
            }
            thread::sleep(Duration::from_millis(10));
        }
        println!("SKIPPED: {EXPORTER} does not answer");
        None
    }

    fn scrape(&self, names: &[&str]) -> io::Result<usize> {
        let wanted: Vec<String> = names.iter().map(|name| format!("collect[]={name}")).collect();
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET /metrics?{} HTTP/1.0\r\n\r\n", wanted.join("&"))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)
    }

    /// CPU time of all its threads, as the scheduler accounts it.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of_task = |path: PathBuf| -> Option<u64> {
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            text.split_ascii_whitespace().next()?.parse().ok()
        };
        let tasks = tasks.into_iter().flatten().flatten();
        Duration::from_nanos(tasks.filter_map(|task| of_task(task.path())).sum())
    }

    fn bench(&self, criterion: &mut Criterion, name: &str, names: &[&str]) {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let before = self.cpu();
                (0..times).for_each(|_| _ = black_box(self.scrape(names)));
                self.cpu().saturating_sub(before)
            });
        });
    }
}
