//! What the agent reads of a Linux host: one collector a file.
//!
//! Metric names, labels and meaning are node_exporter 1.5.0's, so existing dashboards and alert
//! rules work unchanged; where we differ, the module says so and why. A collector is a pure parser
//! over the kernel's text beside the thin part that reads it, and one line of the [`REGISTRY`].
//!
//! Every read goes through [`Roots`], so tests point it at `fixtures/` and containers at the host's
//! `/proc`. Files that are read every tick stay open, and on a steady host a tick allocates nothing
//! for each series: see `reader`.

use std::collections::BTreeMap;

use agent_core::{
    Collector, Registration, Roots,
    collector::{BuildError, Context},
};

mod arp;
mod attribute;
mod bcache;
mod bcache_text;
mod bonding;
mod btrfs;
mod buddyinfo;
mod cgroup;
mod cgroups;
mod clocksource;
mod conntrack;
mod cpu;
mod cpu_info;
mod cpu_topology;
mod cpufreq;
mod dbus;
mod devices;
mod directory;
mod diskstats;
mod dmi;
mod edac;
mod entropy;
mod environment;
mod exposition;
mod fibrechannel;
mod filefd;
mod filesystem;
mod filter;
mod glob;
mod hwmon;
mod hwmon_names;
mod infiniband;
mod interrupts;
mod ipvs;
mod ksmd;
mod kstat;
mod labels;
mod loadavg;
mod logind;
mod mdadm;
mod mdstat;
mod meminfo;
mod meminfo_numa;
mod mounts;
mod names;
mod netclass;
mod netdev;
mod netstat;
mod nfs;
mod nfsd;
mod nvme;
mod options;
mod os;
mod page;
mod parse;
mod per_cpu;
mod powersupplyclass;
mod pressure;
mod processes;
mod rapl;
mod reader;
mod registry;
mod rotation;
mod rpc;
mod schedstat;
mod selinux;
mod slabinfo;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
mod states;
mod sysfs;
mod systemd;
mod tapestats;
mod tcpstat;
#[cfg(test)]
mod testing;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod timezone;
mod udev;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;
mod xfs;
mod zfs;

pub use environment::{Environment, HostKind};
pub use page::{node_exporter_default, page};
pub use registry::REGISTRY;

/// The collector of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Registration> {
    REGISTRY.iter().find(|registration| registration.name == name)
}

/// Builds one collector with its options; those that are absent have their defaults.
///
/// # Errors
/// [`BuildError`] names the option that can't be used, and what would be right.
pub fn build(
    registration: &Registration,
    roots: &Roots,
    options: &BTreeMap<String, String>,
) -> Result<Box<dyn Collector>, BuildError> {
    (registration.build)(&Context { roots, options, registration })
}

/// A collector and its name.
pub type Built = (&'static str, Box<dyn Collector>);

/// Builds every collector that runs by default, with default options.
///
/// # Errors
/// As [`build`].
pub fn build_defaults(roots: &Roots) -> Result<Vec<Built>, BuildError> {
    build_those(roots, |registration| registration.default_enabled)
}

/// Builds every collector there is, also those that are off by default, with default options.
///
/// # Errors
/// As [`build`].
pub fn build_all(roots: &Roots) -> Result<Vec<Built>, BuildError> {
    build_those(roots, |_| true)
}

fn build_those(
    roots: &Roots,
    wanted: impl Fn(&Registration) -> bool,
) -> Result<Vec<Built>, BuildError> {
    let options = BTreeMap::new();
    let lines = REGISTRY.iter().filter(|line| wanted(line));
    lines.map(|line| Ok((line.name, build(line, roots, &options)?))).collect()
}
