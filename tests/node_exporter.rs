//! `holdfast-agent once` beside `prometheus-node-exporter` 1.5.0 on the same host.
//!
//! The exporter runs on loopback with our collectors and our options. We run `once`, scrape it, and
//! run `once` again: a value of the exporter has to lie between our two, give or take what [`SLACK`]
//! says. Series that only one side has are listed with the reason. A second run has both read the
//! committed trees of other machines.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

#[path = "system_bus/peer.rs"]
mod peer;

use std::{
    collections::BTreeMap,
    io::{self, Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent_core::{Roots, collector::OptionSpec};

const PROGRAM: &str = "prometheus-node-exporter";
const VERSION: &str = "version 1.5.0";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// A mount or an interface may come or go in between: look again before complaining.
const ATTEMPTS: usize = 3;

/// Series that only the exporter has, by how they begin or, from `{` on, by what they contain.
const THEIRS_ONLY: &[(&str, &str)] = &[
    (
        "node_network_receive_nohandler_total",
        "not in /proc/net/dev; the exporter asks netlink, we would need an open file an interface",
    ),
    ("node_exporter_", "what it was built from"),
    ("process_", "what it uses itself: ours are holdfast_agent_…"),
    ("go_", "its runtime"),
    ("promhttp_", "its HTTP server"),
    ("node_cpu_seconds_total{cpu=\"5\"", OFFLINE),
    ("node_cpu_guest_seconds_total{cpu=\"5\"", OFFLINE),
    ("{device=\"/srv/empty\",fstype=\"rw\",mountpoint=\"tmpfs\"}", NAMELESS),
    ("backup_bytes_total{set=\"mail\",target=\"\"}", EMPTY),
    ("node_processes_state{", STATE),
    ("node_processes_threads_state{", STATE),
    ("node_tcp_connection_states{", STATE),
    ("{dataset=\"backup/my\",", SPACED),
];
/// Series that only we have, told in the same way.
const OURS_ONLY: &[(&str, &str)] = &[
    ("{device=\"\",fstype=\"tmpfs\"", NAMELESS),
    ("holdfast_", "what the agent says of itself"),
    ("node_systemd_virtualization_info", "later versions have it"),
    ("node_md_degraded", "later versions have it"),
    ("node_md_raid_disks", "later versions have it"),
    ("backup_bytes_total{set=\"mail\"}", EMPTY),
    ("node_processes_state{", STATE),
    ("node_processes_threads_state{", STATE),
    ("node_tcp_connection_states{", STATE),
    ("{dataset=\"backup/my files\",", SPACED),
];

const STATE: &str = "we have a series of every state, the exporter of those that something is in";
const OFFLINE: &str = "zeros for CPU 5 of the large server, which is offline; later versions don't";
const SPACED: &str = "the exporter ends the name of a data set at its first space";
const EMPTY: &str = "a label without a value is none to Prometheus, and so we leave it out";
const NAMELESS: &str = "the exporter takes the next field for an empty device, and so on";

/// By the beginning of a name: how far off a value may be, and why. Anything else has to lie between
/// our values before and after, but for the last bits of a product.
const SLACK: &[(&str, f64, &str)] = &[
    ("node_scrape_collector_duration_seconds", 60.0, "each takes as long as it takes"),
    ("node_scrape_collector_success{collector=\"cpufreq\"}", 1.0, NONE_HERE),
    ("node_scrape_collector_success{collector=\"edac\"}", 1.0, NONE_HERE),
    ("node_scrape_collector_success{collector=\"thermal_zone\"}", 1.0, NONE_HERE),
    ("node_scrape_collector_success{collector=\"hwmon\"}", 1.0, NONE_HERE),
    ("node_scrape_collector_success{collector=\"powersupplyclass\"}", 1.0, NONE_HERE),
    ("node_cpu_", 0.05, "the kernel estimates the time of idle CPUs anew at each read"),
    ("node_memory_", GIB, "other programs allocate and free"),
    ("node_scrape_collector_success{collector=\"meminfo_numa\"}", 1.0, NONE_HERE),
    ("node_buddyinfo_blocks", 1_000_000.0, "other programs allocate and free"),
    ("node_slabinfo_", 1_000_000.0, "other programs allocate and free"),
    ("node_processes_", 1_000.0, "processes come and go"),
    ("node_cgroups_cgroups", 1_000.0, "groups come and go"),
    ("node_tcp_connection_states{state=\"tx_queued_bytes\"}", GIB, LISTENING),
    ("node_tcp_connection_states", 100_000.0, "connections come and go"),
    ("node_filesystem_avail_bytes", GIB, "other programs write and delete"),
    ("node_filesystem_free_bytes", GIB, "other programs write and delete"),
    ("node_filesystem_files_free", 100_000.0, "other programs write and delete"),
    ("node_procs_", 1_000.0, "processes come and go"),
    ("node_filefd_allocated", 10_000.0, "processes come and go"),
    ("node_netstat_Tcp_CurrEstab", 10_000.0, "connections come and go"),
    ("node_sockstat_", 100_000_000.0, "sockets come and go"),
    ("node_disk_io_now", 10_000.0, "as it is this moment"),
    ("node_timex_offset_seconds", 0.01, STEERED),
    ("node_timex_pps_jitter_seconds", 0.01, STEERED),
    ("node_load", 10.0, "computed anew every five seconds"),
    ("node_scrape_collector_success{collector=\"btrfs\"}", 1.0, NONE_HERE),
    ("node_btrfs_allocation_ratio{block_group_type=\"metadata\",mode=\"raid1c3\"", 3.0, THREE),
    ("node_btrfs_allocation_ratio{block_group_type=\"system\",mode=\"raid1c3\"", 3.0, THREE),
    ("node_scrape_collector_success{collector=\"bcache\"}", 1.0, NONE_HERE),
    ("node_scrape_collector_success{collector=\"xfs\"}", 1.0, NONE_HERE),
];
const STEERED: &str = "a daemon or a pulse may move it up and down in between";
const THREE: &str = "the exporter doesn't know this layout and says 0; later versions do";
const LISTENING: &str = "the exporter adds how long the queues of listening sockets may grow";
const NONE_HERE: &str = "a machine that has none of it: the exporter calls that no success for most collectors, not these";
const GIB: f64 = 1_073_741_824.0;
/// The exporter multiplies by 0.001 where we divide by 1000.
const LAST_BITS: f64 = 1e-12;

/// Collectors whose options came to the exporter after this version.
const LATER_OPTIONS: [&str; 1] = ["interrupts"];
/// Options that only we have.
const OUR_OPTIONS: [&str; 1] = ["bus_address"];

/// Families that both have with another type or help, and why.
const FAMILIES: &[(&str, &str)] =
    &[("megacli_patrol_seconds", "summaries are series like others here, their quantiles gauges")];

/// One side's answer: kinds and help by family, values by series as Prometheus writes them.
#[derive(Debug, Default)]
struct Answer {
    families: BTreeMap<String, (String, String)>,
    values: BTreeMap<String, f64>,
}

#[test]
fn this_host_reads_the_same() {
    let names = collectors::REGISTRY.iter().map(|line| line.name);
    let shared = names.filter(|name| collectors::node_exporter_default(name).is_some());
    let all: Vec<_> = shared.collect();
    check(&Setup { roots: Roots::default(), names: &all, ..Setup::default() });
}

#[test]
fn units_and_sessions_read_the_same() {
    let Some(bus) = peer::PrivateBus::start() else { return };
    let on = || "true".to_owned();
    let options = [
        ("systemd", "enable_task_metrics", on()),
        ("systemd", "enable_restarts_metrics", on()),
        ("systemd", "enable_start_time_metrics", on()),
        ("systemd", "unit_exclude", r".+\.(device|scope)".to_owned()),
    ];
    let names = ["logind", "systemd"];
    check(&Setup { names: &names, options: &options, bus: bus.address(), ..Setup::default() });
}

#[test]
fn other_machines_read_the_same() {
    // the others ask the running system, on their side if not on ours; softnet and interrupts: the exporter
    // numbers lines and columns, which is wrong where a CPU is offline
    let names = [
        "arp",
        "bcache",
        "bonding",
        "btrfs",
        "buddyinfo",
        "cgroups",
        "conntrack",
        "cpu",
        "cpufreq",
        "diskstats",
        "dmi",
        "edac",
        "entropy",
        "fibrechannel",
        "filefd",
        "filesystem",
        "hwmon",
        "infiniband",
        "ipvs",
        "ksmd",
        "loadavg",
        "mdadm",
        "meminfo",
        "meminfo_numa",
        "netclass",
        "netdev",
        "netstat",
        "nfs",
        "nfsd",
        "nvme",
        "powersupplyclass",
        "pressure",
        "processes",
        "rapl",
        "schedstat",
        "slabinfo",
        "sockstat",
        "stat",
        "tapestats",
        "textfile",
        "thermal_zone",
        "udp_queues",
        "vmstat",
        "xfs",
        "zfs",
    ];
    for tree in ["vm", "large"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("collectors/fixtures").join(tree);
        let below = |name: &str| path.join(name);
        let roots = Roots { procfs: below("proc"), sysfs: below("sys"), rootfs: below("root") };
        let udev = roots.root("/run/udev/data");
        let flags = [
            format!("--path.procfs={}", roots.procfs.display()),
            format!("--path.sysfs={}", roots.sysfs.display()),
            format!("--path.rootfs={}", roots.rootfs.display()),
            format!("--path.udev.data={}", udev.display()),
            "--no-collector.netdev.netlink".to_owned(),
        ];
        let textfile = path.join("textfile").display().to_string();
        let options = [
            ("bcache", "priority_stats", "true".to_owned()),
            ("textfile", "directory", textfile),
            ("cpu", "info", (tree == "large").to_string()),
            ("cpu", "info_flags_include", "^(aes|avx.*)$".repeat(usize::from(tree == "large"))),
            ("cpu", "info_bugs_include", "^spectre".repeat(usize::from(tree == "large"))),
        ];
        check(&Setup { roots, names: &names, options: &options, flags: &flags, bus: "" });
    }
}

/// What both sides read, and how.
#[derive(Default)]
struct Setup<'a> {
    roots: Roots,
    names: &'a [&'a str],
    /// Options that differ from their defaults: collector, key, value.
    options: &'a [(&'a str, &'a str, String)],
    /// What only the exporter needs to be told.
    flags: &'a [String],
    /// Address of the system bus, if it isn't this host's.
    bus: &'a str,
}

fn check(setup: &Setup<'_>) {
    let Some(exporter) = Exporter::start(setup) else { return };
    let mut differences = Vec::new();
    for _ in 0..ATTEMPTS {
        let before = once(setup);
        let theirs = parse(&exporter.scrape());
        let after = once(setup);
        assert!(theirs.values.len() > 100, "the exporter has hardly a series");
        differences = compare(&before, &theirs, &after);
        if differences.is_empty() {
            println!("{} series are the same", after.values.len());
            return;
        }
    }
    panic!("{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn differences_are_found() {
    let answer = |text: &str| parse(text);
    let ours = "# HELP node_intr_total I.\n# TYPE node_intr_total counter\nnode_intr_total 5\n";
    let check = |theirs: &str, expected: &[&str]| {
        assert_eq!(compare(&answer(ours), &answer(theirs), &answer(ours)), expected);
    };
    check(ours, &[]);
    check(&format!("{ours}go_threads 8\n"), &[]);
    check(&format!("{ours}node_new 8\n"), &["only theirs: node_new"]);
    check("", &["only ours: node_intr_total"]);
    check(&ours.replace(" 5", " 6"), &["node_intr_total: 6 is not within 5..5"]);
    check(
        &ours.replace("counter", "gauge"),
        &["node_intr_total: (\"gauge\", \"I.\") is not (\"counter\", \"I.\")"],
    );
}

fn compare(before: &Answer, theirs: &Answer, after: &Answer) -> Vec<String> {
    let mut differences = Vec::new();
    let known = |list: &[(&str, &str)], series: &str| {
        let fits = |(part, _): &(&str, _)| {
            series.starts_with(part) || part.starts_with('{') && series.contains(part)
        };
        list.iter().any(fits)
    };
    for (series, &value) in &theirs.values {
        match (before.values.get(series), after.values.get(series)) {
            (Some(&before), Some(&after)) => {
                differences.extend(outside(series, value, before, after));
            }
            _ if known(THEIRS_ONLY, series) => {}
            _ => differences.push(format!("only theirs: {series}")),
        }
    }
    for series in after.values.keys().filter(|series| !theirs.values.contains_key(*series)) {
        if !known(OURS_ONLY, series) {
            differences.push(format!("only ours: {series}"));
        }
    }
    for (family, ours) in &after.families {
        let differs = |theirs: &&_| *theirs != ours && !known(FAMILIES, family);
        if let Some(theirs) = theirs.families.get(family).filter(differs) {
            differences.push(format!("{family}: {theirs:?} is not {ours:?}"));
        }
    }
    differences
}

fn outside(series: &str, value: f64, before: f64, after: f64) -> Option<String> {
    let slack = SLACK.iter().find(|(prefix, _, _)| series.starts_with(prefix));
    let slack = slack.map_or(0.0, |(_, slack, _)| *slack) + value.abs() * LAST_BITS;
    let (low, high) = (before.min(after) - slack, before.max(after) + slack);
    (value < low || value > high)
        .then(|| format!("{series}: {value} is not within {before}..{after}"))
}

/// What the real binary prints, with these collectors and no others.
fn once(Setup { roots, names, options, bus, .. }: &Setup<'_>) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    command.arg("once").env_clear();
    command.arg("--procfs").arg(&roots.procfs);
    command.arg("--sysfs").arg(&roots.sysfs);
    command.arg("--rootfs").arg(&roots.rootfs);
    for line in collectors::REGISTRY {
        let variable = format!("HOLDFAST_COLLECTORS_{}_ENABLED", line.name.to_uppercase());
        command.env(variable, names.contains(&line.name).to_string());
    }
    for (collector, key, value) in *options {
        let variable = format!("HOLDFAST_COLLECTORS_{collector}_{key}").to_uppercase();
        command.env(variable, value);
    }
    command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8(output.stdout).unwrap())
}

/// Prometheus's text format, as far as the exporter uses it.
fn parse(text: &str) -> Answer {
    let mut answer = Answer::default();
    for line in text.lines() {
        if let Some((family, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            answer.families.entry(family.to_owned()).or_default().1 = help.to_owned();
        } else if let Some((family, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            answer.families.entry(family.to_owned()).or_default().0 = kind.to_owned();
        } else if let Some((series, value)) = line.rsplit_once(' ') {
            answer.values.insert(sorted(series), value.parse().unwrap());
        }
    }
    answer
}

/// With the labels in order: `le` and `quantile` stand last in the format.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.to_owned() };
    let labels = labels.trim_end_matches("\"}");
    let mut labels: Vec<_> = labels.split("\",").collect();
    labels.sort_unstable();
    format!("{name}{{{}\"}}", labels.join("\","))
}

/// The exporter, running until it is dropped.
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
    fn start(setup: &Setup<'_>) -> Option<Self> {
        let version = match Command::new(PROGRAM).arg("--version").output() {
            Ok(output) => [output.stdout, output.stderr].concat(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skipped(&format!("is not installed (apt-get install {PROGRAM})"));
                return None;
            }
            Err(error) => panic!("{PROGRAM} --version: {error}"),
        };
        let version = String::from_utf8_lossy(&version).into_owned();
        if !version.contains(VERSION) {
            skipped(&format!("is not {VERSION} but {version}"));
            return None;
        }
        // it takes no port 0, so another program can be faster: try again then
        (0..ATTEMPTS).find_map(|_| Self::start_on(free_address(), setup)).or_else(|| {
            panic!("{PROGRAM} did not start on any of {ATTEMPTS} free ports");
        })
    }

    fn start_on(address: SocketAddr, setup: &Setup<'_>) -> Option<Self> {
        let mut command = Command::new(PROGRAM);
        command
            .arg(format!("--web.listen-address={address}"))
            .args(own_flags(setup))
            .args(setup.flags);
        if !setup.bus.is_empty() {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", setup.bus);
        }
        // ours is the system's zone
        command.env_remove("TZ").stdout(Stdio::null()).stderr(Stdio::null());
        let mut exporter = Self { child: command.spawn().unwrap(), address };
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if exporter.child.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(address).is_ok() {
                return Some(exporter);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 OK"), "{head}");
        body.to_owned()
    }
}

/// Past the test runner, which shows what is printed only when a test fails.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {PROGRAM} {why}");
}

fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// These collectors and no others, with our options: Debian's package has defaults of its own.
fn own_flags(Setup { names, options, .. }: &Setup<'_>) -> Vec<String> {
    let mut flags = vec!["--collector.disable-defaults".to_owned()];
    for line in collectors::REGISTRY.iter().filter(|line| names.contains(&line.name)) {
        flags.push(format!("--collector.{}", line.name));
        let theirs = |option: &&OptionSpec| {
            !LATER_OPTIONS.contains(&line.name) && !OUR_OPTIONS.contains(&option.key)
        };
        for option in line.options.iter().filter(theirs) {
            let given =
                options.iter().find(|(name, key, _)| (*name, *key) == (line.name, option.key));
            let value = given.map_or(option.default, |(_, _, value)| value);
            let key = option.key.replace('_', "-");
            let flag = match (line.name, &*key) {
                ("bcache", "priority-stats") => "collector.bcache.priorityStats".to_owned(),
                ("cpu", key) => format!("collector.cpu.{}", key.replacen("info-", "info.", 1)),
                ("powersupplyclass", key) => format!("collector.powersupply.{key}"),
                (name, key) => format!("collector.{name}.{key}"),
            };
            flags.push(match value {
                "true" => format!("--{flag}"),
                "false" => format!("--no-{flag}"),
                value => format!("--{flag}={value}"),
            });
        }
    }
    flags
}
