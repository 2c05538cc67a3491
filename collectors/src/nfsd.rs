//! What this host does as a server of NFS: `/proc/net/rpc/nfsd`. Without the kernel's module there is no
//! such file.

use agent_core::{
    Collector, Metric, Registration,
    collector::{BuildError, Context},
};

use crate::rpc::{Column, Columns, Line, Statistics, V2, V3};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "nfsd",
    summary: "Calls, bytes, packets, errors and threads of the NFS server.",
    reads: &["/proc/net/rpc/nfsd"],
    default_enabled: true,
    options: &[],
    build,
};

const REQUESTS: Metric<'_> = Metric::counter(
    "node_nfsd_requests_total",
    "Total number NFSd Requests by method and protocol.",
);
const REPLY_HITS: Metric<'_> = Metric::counter(
    "node_nfsd_reply_cache_hits_total",
    "Total number of NFSd Reply Cache hits (client lost server response).",
);
const REPLY_MISSES: Metric<'_> = Metric::counter(
    "node_nfsd_reply_cache_misses_total",
    "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
);
const REPLY_NOCACHE: Metric<'_> = Metric::counter(
    "node_nfsd_reply_cache_nocache_total",
    "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
);
const STALE: Metric<'_> = Metric::counter(
    "node_nfsd_file_handles_stale_total",
    "Total number of NFSd stale file handles",
);
const READ: Metric<'_> =
    Metric::counter("node_nfsd_disk_bytes_read_total", "Total NFSd bytes read.");
const WRITTEN: Metric<'_> =
    Metric::counter("node_nfsd_disk_bytes_written_total", "Total NFSd bytes written.");
const THREADS: Metric<'_> = Metric::gauge(
    "node_nfsd_server_threads",
    "Total number of NFSd kernel threads that are running.",
);
const CACHE_SIZE: Metric<'_> = Metric::gauge(
    "node_nfsd_read_ahead_cache_size_blocks",
    "How large the read ahead cache is in blocks.",
);
const CACHE_NOT_FOUND: Metric<'_> = Metric::counter(
    "node_nfsd_read_ahead_cache_not_found_total",
    "Total number of NFSd read ahead cache not found.",
);
const PACKETS: Metric<'_> = Metric::counter(
    "node_nfsd_packets_total",
    "Total NFSd network packets (sent+received) by protocol type.",
);
const CONNECTIONS: Metric<'_> =
    Metric::counter("node_nfsd_connections_total", "Total number of NFSd TCP connections.");
const RPC_ERRORS: Metric<'_> =
    Metric::counter("node_nfsd_rpc_errors_total", "Total number of NFSd RPC errors by error type.");
const RPCS: Metric<'_> =
    Metric::counter("node_nfsd_server_rpcs_total", "Total number of NFSd RPCs.");

const LINES: [Line; 10] = [
    Line {
        key: "rc",
        columns: Columns::Metrics(&[
            Some(Column(REPLY_HITS, None)),
            Some(Column(REPLY_MISSES, None)),
            Some(Column(REPLY_NOCACHE, None)),
        ]),
    },
    Line { key: "fh", columns: Columns::Metrics(&[Some(Column(STALE, None))]) },
    Line {
        key: "io",
        columns: Columns::Metrics(&[Some(Column(READ, None)), Some(Column(WRITTEN, None))]),
    },
    // what follows are shares of time, which kernels since 2.6.30 leave at zero
    Line { key: "th", columns: Columns::Metrics(&[Some(Column(THREADS, None))]) },
    // gone since Linux 5.4
    Line {
        key: "ra",
        columns: Columns::Metrics(&[
            Some(Column(CACHE_SIZE, None)),
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            Some(Column(CACHE_NOT_FOUND, None)),
        ]),
    },
    Line {
        key: "net",
        columns: Columns::Metrics(&[
            None,
            Some(Column(PACKETS, Some(("proto", "udp")))),
            Some(Column(PACKETS, Some(("proto", "tcp")))),
            Some(Column(CONNECTIONS, None)),
        ]),
    },
    Line {
        key: "rpc",
        columns: Columns::Metrics(&[
            Some(Column(RPCS, None)),
            None,
            Some(Column(RPC_ERRORS, Some(("error", "fmt")))),
            Some(Column(RPC_ERRORS, Some(("error", "auth")))),
            Some(Column(RPC_ERRORS, Some(("error", "cInt")))),
        ]),
    },
    Line { key: "proc2", columns: Columns::Procedures { proto: "2", methods: &V2_BUT_NULL } },
    Line { key: "proc3", columns: Columns::Procedures { proto: "3", methods: &V3_BUT_NULL } },
    Line { key: "proc4ops", columns: Columns::Procedures { proto: "4", methods: &V4_OPERATIONS } },
];
/// As node_exporter does: it has no series for calls of the server that do nothing.
const V2_BUT_NULL: [&str; V2.len()] = but_first(V2);
const V3_BUT_NULL: [&str; V3.len()] = but_first(V3);
/// Operations of NFS 4, in the order of the protocol's numbers; later versions have more, which
/// node_exporter leaves out as well.
const V4_OPERATIONS: [&str; 38] = [
    "",
    "",
    "",
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "Verify",
    "Write",
    "RelLockOwner",
];

const fn but_first<const N: usize>(mut names: [&'static str; N]) -> [&'static str; N] {
    names[0] = "";
    names
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = context.roots.proc("net/rpc/nfsd");
    Ok(Box::new(Statistics::new(file, &LINES, &REQUESTS)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{rpc::tests::read, testing::kernel_text};

    const NFSD: &str = "\
rc 0 6 41220
fh 3 0 0 0 0
io 881664 72864
th 8 0 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000
ra 32 0 1 2 3 4 5 6 7 8 9 10
net 41230 2 41228 6
rpc 41226 9 1 3 5
proc2 18 0 0 1272 0 5738 8138 0 0 7768 0 5073 0 6321 0 0 2754 0 0
proc3 22 0 0 0 0 0 0 7054 4562 0 0 0 0 3801 0 7946 0 0 216 0 2 1 0
proc4 2 2 9120
proc4ops 41 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117 118 119 120 121 122 123 124 125 126 127 128 129 130 131 132 133 134 135 136 137 138 0 0
";

    #[test]
    fn each_line_has_its_metrics() {
        let series = read(NFSD, &LINES, &REQUESTS).unwrap();
        let exported = [&V2_BUT_NULL[..], &V3_BUT_NULL, &V4_OPERATIONS].concat();
        let procedures = exported.iter().filter(|name| !name.is_empty()).count();
        assert_eq!(series.len(), 3 + 1 + 2 + 1 + 2 + 3 + 4 + procedures);
        for (name, value) in [
            ("d_reply_cache_nocache_total{}", 41220.0),
            ("d_read_ahead_cache_not_found_total{}", 10.0),
            ("d_server_threads{}", 8.0),
            ("d_rpc_errors_total{error=cInt}", 5.0),
            ("d_requests_total{method=ReadDirPlus,proto=3}", 216.0),
            ("d_requests_total{method=Access,proto=4}", 103.0),
            ("d_requests_total{method=Write,proto=4}", 136.0),
        ] {
            assert!(series.contains(&(name.to_owned(), value)), "{name} {series:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            assert_eq!(read(text, &LINES, &REQUESTS), Err(expected.to_owned()), "{text:?}");
        };
        check("th\n", "line 1, node_nfsd_server_threads: missing");
        check("ra 32 0 0 0\n", "line 1, a count: missing");
        check(
            "io 1 -2\n",
            "line 1, node_nfsd_disk_bytes_written_total: \"-2\" is not a number, or too large",
        );
        check("proc4ops 3 1 2\n", "line 1, calls of a procedure: missing");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(NFSD)) {
            let _ = read(&text, &LINES, &REQUESTS);
        }
    }
}
