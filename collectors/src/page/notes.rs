//! What the registry doesn't say of a collector: which rights it needs, and where it differs from
//! node_exporter's of the same name. One without a line here needs none, and differs in nothing known.

/// Of one collector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) collector: &'static str,
    /// What of it needs more than an ordinary user's rights.
    pub(super) needs: Option<&'static str>,
    /// How its metrics differ from node_exporter 1.5.0's.
    pub(super) differences: &'static [&'static str],
}

/// The note on a collector.
pub(super) fn of(collector: &str) -> Option<&'static Note> {
    NOTES.iter().find(|note| note.collector == collector)
}

const RPC_DIFFERENCE: &str = "what the kernel doesn't count (an NFS version it was built without, operations that came later) has \
     no series; there it has zeros.";

const NOTES: &[Note] = &[
    Note {
        collector: "bcache",
        needs: None,
        differences: &["what a kernel doesn't have is left out; there it is 0."],
    },
    Note {
        collector: "btrfs",
        needs: None,
        differences: &[
            "what only an `ioctl` tells is left out: `node_btrfs_device_unused_bytes`, \
             `node_btrfs_device_errors_total` and the label `btrfs_dev_uuid`; it needs unsafe code. Errors are \
             `holdfast_btrfs_device_errors_total`, by number of the device, from Linux 5.14 on.",
            "`raid1c3` and `raid1c4` have their ratio; there it is 0.",
        ],
    },
    Note {
        collector: "cpu",
        needs: None,
        differences: &[
            "`/proc/cpuinfo` is read when CPUs come or go, not every tick: to read it interrupts every CPU.",
            "a CPU that is offline has no series; there it has zeros if its number lies below \
             another's, which rates take for a reset. Later versions do as we do.",
        ],
    },
    Note {
        collector: "diskstats",
        needs: None,
        differences: &[
            "times are the kernel's milliseconds divided by 1000, not multiplied by 0.001: they differ \
             in the last bit.",
        ],
    },
    Note {
        collector: "dmi",
        needs: Some(
            "serial numbers and `product_uuid` are for root alone; their labels are left out.",
        ),
        differences: &[],
    },
    Note {
        collector: "fibrechannel",
        needs: None,
        differences: &[
            "a counter that a port hasn't is left out; there it is 0.",
            "texts are whole; there they end after 128 bytes.",
        ],
    },
    Note {
        collector: "filesystem",
        needs: Some(
            "a mount below a directory that only others may enter shows \
             `node_filesystem_device_error` 1.",
        ),
        differences: &[
            "sizes are in units of `f_frsize`, as df shows them; there in units of `f_bsize`, which for \
             some FUSE file systems is many times as much.",
            "a mount without a device keeps an empty `device`; there the fields move up by one.",
            "Debian's package also leaves out `/run`, `/mnt` and `/media`; the defaults here are the \
             project's own.",
        ],
    },
    Note {
        collector: "hwmon",
        needs: None,
        differences: &[
            "two chips on one device have one name: of their sensors of the same number the first one's counts; \
             there such a machine can't be scraped.",
        ],
    },
    Note {
        collector: "infiniband",
        needs: None,
        differences: &[
            "a state or rate that can't be read is left out; there the whole collector fails.",
        ],
    },
    Note {
        collector: "interrupts",
        needs: None,
        differences: &[
            "`cpu` is the CPU's number as the kernel writes it; there it is the number of the \
             column, which is another where a CPU is offline.",
            "at most 20 000 series, and options to choose from them: those of later versions.",
        ],
    },
    Note {
        collector: "ipvs",
        needs: None,
        differences: &[
            "services of SCTP are services too; there their backends count for the one above.",
        ],
    },
    Note {
        collector: "ksmd",
        needs: None,
        differences: &[
            "a file that the kernel doesn't have is left out; there the whole collector fails \
             without NUMA.",
        ],
    },
    Note {
        collector: "logind",
        needs: None,
        differences: &[
            "what a session is (its type and class) is asked when it comes, and of eight others a tick.",
            "at most 64 seats and 2 000 sessions; a logind that doesn't run isn't started.",
        ],
    },
    Note {
        collector: "mdadm",
        needs: None,
        differences: &["`node_md_degraded` and `node_md_raid_disks` are of later versions."],
    },
    Note {
        collector: "netdev",
        needs: None,
        differences: &["no `node_network_receive_nohandler_total`: it isn't in `/proc/net/dev`."],
    },
    Note { collector: "nfs", needs: None, differences: &[RPC_DIFFERENCE] },
    Note {
        collector: "nfsd",
        needs: None,
        differences: &[
            RPC_DIFFERENCE,
            "lines that came after Linux 6.5 are passed over; there they are an error.",
        ],
    },
    Note {
        collector: "powersupplyclass",
        needs: None,
        differences: &[
            "an attribute that can't be read just now is left out; there the whole collector \
             fails.",
        ],
    },
    Note {
        collector: "processes",
        needs: Some(
            "a `/proc` mounted with `hidepid` shows the agent's own processes only; what can't be \
             read is said in the log.",
        ),
        differences: &[
            "every state has a series, with 0 when nothing is in it; there series come and go.",
        ],
    },
    Note {
        collector: "rapl",
        needs: Some("since Linux 5.10 the energy is for root alone to read; others get nothing."),
        differences: &[
            "a zone that doesn't count energy is left out; there the whole collector fails.",
        ],
    },
    Note {
        collector: "slabinfo",
        needs: Some("`/proc/slabinfo` is for root alone to read; others get nothing."),
        differences: &[],
    },
    Note {
        collector: "softirqs",
        needs: None,
        differences: &[
            "came to node_exporter with 1.6; a type that the kernel adds is there as well.",
        ],
    },
    Note {
        collector: "softnet",
        needs: None,
        differences: &[
            "`cpu` is the CPU's number as the kernel writes it; there it is the number of the line, \
             which is another where a CPU is offline.",
        ],
    },
    Note {
        collector: "systemd",
        needs: None,
        differences: &[
            "the type of a service, and the file system of a mount, is asked when the unit is new or its state \
             changed, and of eight others a tick: after `systemctl daemon-reload` a new type shows \
             within minutes. There all are asked in every scrape.",
            "at most 4 000 units have series, the first by name; what is left out is said in the log, and \
             `node_systemd_units` counts all. A list of units beyond 16 MiB, which is some 50 000, is an error.",
            "`node_systemd_virtualization_info` came with 1.10.",
        ],
    },
    Note {
        collector: "tapestats",
        needs: None,
        differences: &["an attribute that a drive hasn't is left out; there it is 0."],
    },
    Note {
        collector: "tcpstat",
        needs: None,
        differences: &[
            "`tx_queued_bytes` is what waits to be sent; there it also holds how many connections may wait at \
             listening sockets.",
            "where netlink is refused, `/proc/net/tcp` and `tcp6` are read and a remark in the log says why; the \
             values are the same, and cost several times as much. There the collector fails.",
            "every state has a series, with 0 when nothing is in it; there series come and go.",
        ],
    },
    Note {
        collector: "textfile",
        needs: None,
        differences: &[
            "what is left out is said in the log with file and line, and a series or metric left out also \
             makes `node_textfile_scrape_error` 1.",
            "a series that another collector has too is left out, said in the log, and counted by \
             `holdfast_collector_series_left_out`; what that collector has stands. There the whole scrape fails. \
             What the agent has of itself (`node_scrape_collector_…`, `holdfast_agent_…`, `holdfast_collector_…`) \
             is left out always.",
            "of a metric with several help texts the first one is taken; there the others' series are left \
             out.",
            "labels without a value are left out; there a series has every label that another of its metric \
             has, empty where it has none. To Prometheus both are the same.",
            "histograms and summaries are series like others: `# TYPE` stands for `…_bucket`, `…_sum` and \
             `…_count` each.",
            "spaces at the end of a line are passed over; there the file is refused.",
        ],
    },
    Note {
        collector: "timex",
        needs: None,
        differences: &[
            "the C library makes `clock_adjtime(2)` of the call. A filter of system calls that refuses it makes \
             the collector unavailable, although no clock is set: systemd's `ProtectClock=yes`, older \
             container runtimes.",
        ],
    },
    Note {
        collector: "watchdog",
        needs: None,
        differences: &["names are those of node_exporter 1.8, the first that has it."],
    },
    Note {
        collector: "xfs",
        needs: None,
        differences: &["a line that a kernel doesn't have is left out; there its numbers are 0."],
    },
    Note {
        collector: "zfs",
        needs: None,
        differences: &[
            "the name of a data set is whole where it has spaces; there it ends at the first.",
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn notes_are_on_collectors_there_are() {
        assert!(NOTES.is_sorted_by(|a, b| a.collector < b.collector));
        for note in NOTES {
            assert!(find(note.collector).is_some(), "{} is none", note.collector);
            let sentences = note.differences.iter().chain(&note.needs);
            assert!(sentences.into_iter().all(|text| text.ends_with('.')), "{}", note.collector);
        }
    }
}
