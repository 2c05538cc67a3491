//! A host as node_exporter shows it: names and labels are its, so that dashboards' questions fit. Eight
//! CPUs, six file systems, four disks, six network devices.

use std::sync::Arc;

use wire::{EncodedSchema, Family, MetricKind, Schema, Series};

use super::Move;

const CPUS: u32 = 8;
const MODES: [&str; 8] = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
const MOUNTS: [[&str; 3]; 6] = [
    ["/dev/vda1", "ext4", "/"],
    ["/dev/vda15", "vfat", "/boot/efi"],
    ["/dev/vdb", "xfs", "/var/lib/data"],
    ["/dev/vdc", "xfs", "/var/log"],
    ["tmpfs", "tmpfs", "/run"],
    ["tmpfs", "tmpfs", "/run/lock"],
];
const DISKS: [&str; 4] = ["vda", "vdb", "vdc", "vdd"];
const NETWORK: [&str; 6] = ["lo", "eth0", "eth1", "docker0", "veth1a2b3c4", "veth5d6e7f8"];
const GIB: f64 = 1_073_741_824.0;

const MEMORY: [&str; 24] = [
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "Active_anon",
    "Inactive_anon",
    "Active_file",
    "Inactive_file",
    "SwapFree",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "KReclaimable",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "Committed_AS",
];
const DISK_COUNTS: [&str; 8] = [
    "reads_completed",
    "reads_merged",
    "read_bytes",
    "writes_completed",
    "writes_merged",
    "written_bytes",
    "discards_completed",
    "flush_requests",
];
const DISK_SECONDS: [&str; 4] =
    ["read_time_seconds", "write_time_seconds", "io_time_seconds", "io_time_weighted_seconds"];
const NETWORK_COUNTS: [&str; 4] = ["bytes", "packets", "errs", "drop"];
const NETWORK_STILL: [&str; 4] = ["compressed", "fifo", "frame", "multicast"];
const NETWORK_CLASS: [&str; 8] = [
    "address_assign_type",
    "carrier",
    "flags",
    "iface_id",
    "mtu_bytes",
    "protocol_type",
    "speed_bytes",
    "up",
];
const VMSTAT: [&str; 7] =
    ["oom_kill", "pgfault", "pgmajfault", "pgpgin", "pgpgout", "pswpin", "pswpout"];
const NETSTAT: [&str; 40] = [
    "Icmp6_InErrors",
    "Icmp6_InMsgs",
    "Icmp6_OutMsgs",
    "Icmp_InErrors",
    "Icmp_InMsgs",
    "Icmp_OutMsgs",
    "Ip6_InOctets",
    "Ip6_OutOctets",
    "IpExt_InOctets",
    "IpExt_OutOctets",
    "Ip_Forwarding",
    "TcpExt_ListenDrops",
    "TcpExt_ListenOverflows",
    "TcpExt_SyncookiesFailed",
    "TcpExt_SyncookiesRecv",
    "TcpExt_SyncookiesSent",
    "TcpExt_TCPOFOQueue",
    "TcpExt_TCPRcvQDrop",
    "TcpExt_TCPSynRetrans",
    "TcpExt_TCPTimeouts",
    "Tcp_ActiveOpens",
    "Tcp_CurrEstab",
    "Tcp_InErrs",
    "Tcp_InSegs",
    "Tcp_OutRsts",
    "Tcp_OutSegs",
    "Tcp_PassiveOpens",
    "Tcp_RetransSegs",
    "Udp6_InDatagrams",
    "Udp6_InErrors",
    "Udp6_NoPorts",
    "Udp6_OutDatagrams",
    "Udp6_RcvbufErrors",
    "Udp6_SndbufErrors",
    "UdpLite_InErrors",
    "Udp_InDatagrams",
    "Udp_InErrors",
    "Udp_NoPorts",
    "Udp_OutDatagrams",
    "Udp_RcvbufErrors",
];
const PRESSURE: [&str; 5] =
    ["cpu_waiting", "io_stalled", "io_waiting", "memory_stalled", "memory_waiting"];

/// Its schemas, one a collector, and how their series move.
pub(super) fn host() -> (Vec<Arc<EncodedSchema>>, Vec<Move>) {
    let all = [
        cpu(),
        memory(),
        filesystem(),
        diskstats(),
        netdev(),
        netclass(),
        loadavg(),
        unlabelled("vmstat", "node_vmstat_", "", &VMSTAT, Move::Count),
        unlabelled("netstat", "node_netstat_", "", &NETSTAT, Move::Count),
        unlabelled("pressure", "node_pressure_", "_seconds_total", &PRESSURE, Move::Thousandths),
    ];
    let (mut schemas, mut moves) = (Vec::new(), Vec::new());
    for one in all {
        schemas.push(EncodedSchema::new(one.schema));
        moves.extend(one.moves);
    }
    (schemas, moves)
}

/// One collector's series.
struct Collector {
    schema: Schema,
    moves: Vec<Move>,
}

impl Collector {
    fn new(name: &str) -> Self {
        let schema = Schema { collector: name.to_owned(), ..Schema::default() };
        Self { schema, moves: Vec::new() }
    }

    /// Adds a family with a series for each of some sets of labels, ascending by name.
    fn add(&mut self, name: String, of: Move, labels: impl IntoIterator<Item = Pairs>) {
        let is_counter = matches!(of, Move::Count | Move::Hundredths | Move::Thousandths);
        let kind = if is_counter { MetricKind::Counter } else { MetricKind::Gauge };
        let family = u32::try_from(self.schema.families.len()).unwrap_or(u32::MAX);
        self.schema.families.push(Family { name, kind, help: "As long as help is.".to_owned() });
        for labels in labels {
            self.schema.series.push(Series { family, labels });
            self.moves.push(of);
        }
    }
}

/// Labels of one series.
type Pairs = Vec<(String, String)>;

fn pairs<const N: usize>(labels: [(&str, &str); N]) -> Pairs {
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn cpu() -> Collector {
    let mut cpu = Collector::new("cpu");
    let of = |modes: &[&str]| -> Vec<Pairs> {
        let of_cpu =
            |n: u32| modes.iter().map(move |mode| pairs([("cpu", &n.to_string()), ("mode", mode)]));
        (0..CPUS).flat_map(of_cpu).collect()
    };
    cpu.add("node_cpu_guest_seconds_total".to_owned(), Move::Still, of(&["nice", "user"]));
    cpu.add("node_cpu_seconds_total".to_owned(), Move::Hundredths, of(&MODES));
    cpu
}

fn memory() -> Collector {
    let mut memory = Collector::new("meminfo");
    let name = |of: &str| format!("node_memory_{of}_bytes");
    memory.add(name("MemTotal"), Move::Fixed(16.0 * GIB), [vec![]]);
    memory.add(name("SwapTotal"), Move::Fixed(2.0 * GIB), [vec![]]);
    MEMORY.iter().for_each(|of| memory.add(name(of), Move::Pages, [vec![]]));
    memory
}

fn filesystem() -> Collector {
    let mut all = Collector::new("filesystem");
    let mounts = || {
        MOUNTS.map(|[device, kind, mount]| {
            pairs([("device", device), ("fstype", kind), ("mountpoint", mount)])
        })
    };
    for (name, of) in [
        ("avail_bytes", Move::Pages),
        ("device_error", Move::Fixed(0.0)),
        ("files", Move::Fixed(6_553_600.0)),
        ("files_free", Move::Pages),
        ("free_bytes", Move::Pages),
        ("readonly", Move::Fixed(0.0)),
        ("size_bytes", Move::Fixed(100.0 * GIB)),
    ] {
        all.add(format!("node_filesystem_{name}"), of, mounts());
    }
    all
}

fn devices(names: &[&str]) -> Vec<Pairs> {
    names.iter().map(|device| pairs([("device", device)])).collect()
}

fn diskstats() -> Collector {
    let mut all = Collector::new("diskstats");
    for name in DISK_COUNTS {
        all.add(format!("node_disk_{name}_total"), Move::Count, devices(&DISKS));
    }
    for name in DISK_SECONDS {
        all.add(format!("node_disk_{name}_total"), Move::Thousandths, devices(&DISKS));
    }
    all.add("node_disk_io_now".to_owned(), Move::Still, devices(&DISKS));
    all
}

fn netdev() -> Collector {
    let mut all = Collector::new("netdev");
    for way in ["receive", "transmit"] {
        for name in NETWORK_COUNTS {
            all.add(format!("node_network_{way}_{name}_total"), Move::Count, devices(&NETWORK));
        }
        for name in NETWORK_STILL {
            all.add(format!("node_network_{way}_{name}_total"), Move::Still, devices(&NETWORK));
        }
    }
    all
}

fn netclass() -> Collector {
    let mut all = Collector::new("netclass");
    for name in NETWORK_CLASS {
        all.add(format!("node_network_{name}"), Move::Still, devices(&NETWORK));
    }
    all
}

fn loadavg() -> Collector {
    unlabelled("loadavg", "node_load", "", &["1", "5", "15"], Move::Load)
}

fn unlabelled(name: &str, before: &str, after: &str, middles: &[&str], of: Move) -> Collector {
    let mut all = Collector::new(name);
    middles.iter().for_each(|middle| all.add(format!("{before}{middle}{after}"), of, [vec![]]));
    all
}
