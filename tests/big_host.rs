//! A host with 256 CPUs, 10 000 processes, 1 000 mounts and 200 interfaces: every bound holds, what a bound
//! leaves out is counted and told, and a tick allocates no more than on a small host.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Output},
};

use agent_core::{Collector, Roots, Samples};
use wire::tick::TickEncoder;
use xtask::big_host::{BigHost, LARGE, SMALL};

/// Ticks after which a steady host is known: devices that are new are looked at twice.
const WARM_UP_TICKS: usize = 3;
/// Allocations of a tick of one collector, whatever the host has: some have an error for a file that this
/// kernel doesn't have (IPv6), or for a device that has gone.
const ALLOCATIONS_MAX: u64 = 4;
/// Here each group is looked for anew in each tick, or another program is asked. Off by default.
const ALLOCATE_MORE: [&str; 3] = ["cgroup", "logind", "systemd"];
/// Of a tick of the default set, encoded: the record, and what names its schemas.
const TICK_ALLOCATIONS_MAX: u64 = 48;
/// Files that may be open at a time: what a service has unless it asks for more.
const OPEN_FILES: usize = 1_024;

/// Allocations and series of a tick.
type Count = (u64, usize);

fn roots(host: &BigHost) -> Roots {
    Roots { procfs: host.procfs(), sysfs: host.sysfs(), rootfs: host.rootfs() }
}

/// Of each collector that has something to say.
fn count_each(host: &BigHost) -> BTreeMap<&'static str, Count> {
    let mut counts = BTreeMap::new();
    for (name, mut collector) in collectors::build_all(&roots(host)).unwrap() {
        let mut samples = Samples::new(name);
        let mut tick = || collect(collector.as_mut(), &mut samples);
        if (0..WARM_UP_TICKS).all(|_| tick().is_some()) {
            let mut series = None;
            let counted = allocation_counter::measure(|| series = tick());
            counts.insert(name, (counted.count_total, series.unwrap()));
        }
    }
    counts
}

/// Of the default set in one tick.
fn count_tick(host: &BigHost) -> Count {
    let built = collectors::build_defaults(&roots(host)).unwrap().into_iter();
    let mut built: Vec<_> =
        built.map(|(name, collector)| (collector, Samples::new(name))).collect();
    let mut encoder = TickEncoder::new();
    let mut series = 0;
    let mut tick = || {
        for (collector, samples) in &mut built {
            if collect(collector.as_mut(), samples).is_some() {
                let (schema, values) = samples.finish();
                encoder.push(schema.id, values);
            }
        }
        series = encoder.len();
        std::hint::black_box(encoder.finish(0));
    };
    (0..WARM_UP_TICKS).for_each(|_| tick());
    let counted = allocation_counter::measure(tick);
    (counted.count_total, series)
}

fn collect(collector: &mut dyn Collector, samples: &mut Samples) -> Option<usize> {
    samples.clear();
    collector.collect(samples).ok()?;
    Some(samples.finish().1.len())
}

#[test]
fn a_tick_allocates_nothing_for_a_series() {
    let (small, large) = (BigHost::write(&SMALL).unwrap(), BigHost::write(&LARGE).unwrap());
    let (small_each, large_each) = (count_each(&small), count_each(&large));
    let more: usize = large_each.values().map(|(_, series)| series).sum();
    assert!(more > 40_000, "{more} series");
    for (name, (allocations, series)) in large_each {
        let (few, fewer_series) = small_each[name];
        println!(
            "{name:<20} {few:>4} for {fewer_series:>6} series {allocations:>4} for {series:>6}"
        );
        if !ALLOCATE_MORE.contains(&name) {
            assert!(allocations <= ALLOCATIONS_MAX, "{name}: {allocations} for {series} series");
        }
    }
    let ((few, fewer_series), (allocations, series)) = (count_tick(&small), count_tick(&large));
    println!("a tick: {few} for {fewer_series} series, {allocations} for {series}");
    assert!(few <= TICK_ALLOCATIONS_MAX && allocations <= TICK_ALLOCATIONS_MAX);
}

/// What `holdfast-agent once` says of such a host, with all collectors.
fn once(host: &BigHost) -> Output {
    let mut command = Command::new("sh");
    let limited = format!("ulimit -n {OPEN_FILES}; exec \"$0\" \"$@\"");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_holdfast-agent"), "once"]);
    command.args(["--all-collectors", "--format", "prometheus"]);
    let root = |flag: &str, path: PathBuf| [flag.to_owned(), path.display().to_string()];
    command.args(root("--procfs", host.procfs()));
    command.args(root("--sysfs", host.sysfs()));
    command.args(root("--rootfs", host.rootfs()));
    command.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap()
}

#[test]
fn what_is_beyond_a_bound_is_counted_and_told() {
    let host = BigHost::write(&LARGE).unwrap();
    let output = once(&host);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (page, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}");

    // everything that has no bound of its own
    let check = |begin: &str, expected: usize| {
        let count = page.lines().filter(|line| line.starts_with(begin)).count();
        assert_eq!(count, expected, "{begin}\n{told}");
    };
    check("node_cpu_seconds_total{", LARGE.cpus * 8);
    check("node_softirqs_functions_total{", LARGE.cpus * 9);
    check("node_filesystem_size_bytes{device=\"/dev/vg1/", LARGE.mounts);
    check("node_network_up{device=\"port", LARGE.interfaces);
    check("node_network_receive_bytes_total{device=\"port", LARGE.interfaces);
    check("node_disk_reads_completed_total{device=\"dm-5", LARGE.disks);
    check("node_hwmon_temp_max_celsius{chip=\"manycores\"", LARGE.sensors);
    let value = |name: &str| -> usize {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}\n{told}")).parse().unwrap()
    };
    assert!(value("node_processes_pids") >= LARGE.processes);
    assert!(!told.contains("Too many open files"), "{told}");

    // and what has one
    check("node_interrupts_total{", 20_000);
    let left_out = (LARGE.interrupts + 1) * LARGE.cpus - 20_000;
    assert!(told.contains(&format!("interrupts: goes without a part: {left_out} of")), "{told}");
    assert_eq!(value("holdfast_cgroups_measured"), 200);
    assert!(value("holdfast_cgroups_left_out") >= LARGE.cgroups - 200);
    assert!(told.contains("more control groups than max_cgroups, which is 200"), "{told}");
}
