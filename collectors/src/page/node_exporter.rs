//! Which collectors node_exporter 1.5.0 has on Linux, and which of them we leave out.

use crate::find as find_ours;

/// A collector of node_exporter 1.5.0 on Linux.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Whether it is on without being named, as the project ships it (Debian also switches `systemd` on).
    pub(super) default_enabled: bool,
}

const ON: &[&str] = &[
    "arp",
    "bcache",
    "bonding",
    "btrfs",
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
    "loadavg",
    "mdadm",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "nfs",
    "nfsd",
    "nvme",
    "os",
    "powersupplyclass",
    "pressure",
    "rapl",
    "schedstat",
    "selinux",
    "sockstat",
    "softnet",
    "stat",
    "tapestats",
    "textfile",
    "thermal_zone",
    "time",
    "timex",
    "udp_queues",
    "uname",
    "vmstat",
    "xfs",
    "zfs",
];
const OFF: &[&str] = &[
    "buddyinfo",
    "cgroups",
    "drbd",
    "drm",
    "ethtool",
    "interrupts",
    "ksmd",
    "lnstat",
    "logind",
    "meminfo_numa",
    "mountstats",
    "network_route",
    "ntp",
    "perf",
    "processes",
    "qdisc",
    "runit",
    "slabinfo",
    "supervisord",
    "sysctl",
    "systemd",
    "tcpstat",
    "wifi",
    "zoneinfo",
];

/// What isn't worth having, or can't be done: each with its reason. They are off by default in
/// node_exporter too.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    (
        "drbd",
        "DRBD 9 no longer says in `/proc/drbd` how its resources are; what is left there is DRBD 8.",
    ),
    (
        "drm",
        "Knows AMD's graphics cards only; a server's graphics cards are watched by their makers' own \
         exporters.",
    ),
    (
        "ethtool",
        "Asks drivers by `ioctl`, which needs unsafe code; names are each driver's own, hundreds a card. \
         What drivers have in common is in `netdev` and `netclass`.",
    ),
    ("lnstat", "What of `/proc/net/stat` tells of trouble is in `conntrack`, `arp` and `netstat`."),
    (
        "mountstats",
        "Hundreds of series for every NFS mount; how much NFS does and repeats is in `nfs`.",
    ),
    (
        "network_route",
        "Routes change seldom and make a series each: they are an inventory, not a measurement.",
    ),
    ("ntp", "Deprecated by node_exporter itself: it asks a server over the network."),
    ("perf", "Hardware counters need `CAP_PERFMON` and unsafe code, and cost what they measure."),
    (
        "qdisc",
        "Queues are told over netlink alone, a message a queue, which no other collector needs. What they \
         drop shows in the retransmissions of `netstat`.",
    ),
    ("runit", "Deprecated by node_exporter itself."),
    ("supervisord", "Deprecated by node_exporter itself; it asks another program over its port."),
    (
        "sysctl",
        "Any file below `/proc/sys` as a number, under no name that anybody else knows. A script and \
         `textfile` do the same.",
    ),
    (
        "wifi",
        "Servers have none; the rate and errors of the interface are in `netdev` and `netclass`.",
    ),
    (
        "zoneinfo",
        "Some sixty series for every memory zone; what tells of trouble is in `vmstat`, `meminfo` and \
         `pressure`.",
    ),
];

/// node_exporter's collector of that name.
pub(super) fn find(name: &str) -> Option<Peer> {
    all().find(|peer| peer.name == name)
}

/// What node_exporter has, and we have not and don't leave out.
pub(super) fn to_come() -> impl Iterator<Item = &'static str> {
    let left_out = |name: &str| LEFT_OUT.iter().any(|(one, _)| *one == name);
    all().map(|peer| peer.name).filter(move |name| find_ours(name).is_none() && !left_out(name))
}

fn all() -> impl Iterator<Item = Peer> {
    let peers = |names: &'static [&'static str], default_enabled| {
        names.iter().map(move |name| Peer { name, default_enabled })
    };
    peers(ON, true).chain(peers(OFF, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_theirs_and_not_ours() {
        assert!(LEFT_OUT.is_sorted_by(|a, b| a.0 < b.0));
        for (name, why) in LEFT_OUT {
            let theirs = find(name).unwrap_or_else(|| panic!("{name} isn't theirs"));
            assert!(!theirs.default_enabled, "{name} is on there");
            assert!(find_ours(name).is_none(), "{name} is there now: take it out of LEFT_OUT");
            assert!(why.ends_with('.'), "{name}: {why}");
        }
    }

    #[test]
    fn lists_are_sorted_and_each_name_is_in_one() {
        for list in [ON, OFF] {
            assert!(list.is_sorted_by(|a, b| a < b));
        }
        assert!(ON.iter().all(|name| !OFF.contains(name)));
    }
}
