//! What this host does as a client of NFS: `/proc/net/rpc/nfs`. Without the kernel's module there is no
//! such file.

use agent_core::{
    Collector, Metric, Registration,
    collector::{BuildError, Context},
};

use crate::rpc::{Column, Columns, Line, Statistics, V2, V3};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "nfs",
    summary: "Packets, calls and repeats of the NFS client.",
    reads: &["/proc/net/rpc/nfs"],
    default_enabled: true,
    options: &[],
    build,
};

const REQUESTS: Metric<'_> =
    Metric::counter("node_nfs_requests_total", "Number of NFS procedures invoked.");
/// The help is node_exporter's, who says NFSd of the client too.
const PACKETS: Metric<'_> = Metric::counter(
    "node_nfs_packets_total",
    "Total NFSd network packets (sent+received) by protocol type.",
);
const CONNECTIONS: Metric<'_> =
    Metric::counter("node_nfs_connections_total", "Total number of NFSd TCP connections.");
const RPCS: Metric<'_> = Metric::counter("node_nfs_rpcs_total", "Total number of RPCs performed.");
const RETRANSMISSIONS: Metric<'_> =
    Metric::counter("node_nfs_rpc_retransmissions_total", "Number of RPC transmissions performed.");
const REFRESHES: Metric<'_> = Metric::counter(
    "node_nfs_rpc_authentication_refreshes_total",
    "Number of RPC authentication refreshes performed.",
);

const LINES: [Line; 5] = [
    Line {
        key: "net",
        columns: Columns::Metrics(&[
            None,
            Some(Column(PACKETS, Some(("protocol", "udp")))),
            Some(Column(PACKETS, Some(("protocol", "tcp")))),
            Some(Column(CONNECTIONS, None)),
        ]),
    },
    Line {
        key: "rpc",
        columns: Columns::Metrics(&[
            Some(Column(RPCS, None)),
            Some(Column(RETRANSMISSIONS, None)),
            Some(Column(REFRESHES, None)),
        ]),
    },
    Line { key: "proc2", columns: Columns::Procedures { proto: "2", methods: &V2 } },
    Line { key: "proc3", columns: Columns::Procedures { proto: "3", methods: &V3 } },
    Line { key: "proc4", columns: Columns::Procedures { proto: "4", methods: &V4 } },
];
/// Operations of NFS 4 as the Linux client numbers them; which ones there are depends on its age.
const V4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "LayoutGet",
    "GetDeviceInfo",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = context.roots.proc("net/rpc/nfs");
    Ok(Box::new(Statistics::new(file, &LINES, &REQUESTS)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{rpc::tests::read, testing::kernel_text};

    const NFS: &str = "\
net 40 2 16 9
rpc 73011 12 73020
proc2 18 0 6469 0 0 5992 951 0 0 0 0 0 0 1014 0 0 0 99 2
proc3 22 0 0 5055 0 0 1597 1029 977 0 0 0 0 0 2946 0 4920 0 0 0 0 0 39
proc4 61 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61
";

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&[(&str, f64)], &str>| {
            let got = read(text, &LINES, &REQUESTS);
            let own = |series: &[(&str, f64)]| {
                series.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Vec<_>>()
            };
            assert_eq!(got, expected.map(own).map_err(str::to_owned), "{text:?}");
        };
        check("", Ok(&[]));
        check("later 5 six\n", Ok(&[]));
        check(
            "net 40 2 16 9\n",
            Ok(&[
                ("_packets_total{protocol=udp}", 2.0),
                ("_packets_total{protocol=tcp}", 16.0),
                ("_connections_total{}", 9.0),
            ]),
        );
        check(
            "proc4 2 7 8\n",
            Ok(&[
                ("_requests_total{method=Null,proto=4}", 7.0),
                ("_requests_total{method=Read,proto=4}", 8.0),
            ]),
        );
        check("net 40 2 16\n", Err("line 1, node_nfs_connections_total: missing"));
        check(
            "rpc 1 x 3\n",
            Err("line 1, node_nfs_rpc_retransmissions_total: \"x\" is not a number, or too large"),
        );
        check("proc3 2 1\n", Err("line 1, calls of a procedure: missing"));
        check("proc3\n", Err("line 1, number of procedures: missing"));
        check("rpc 1 2 3\n\n", Err("line 2, key: missing"));
    }

    #[test]
    fn each_procedure_has_its_calls() {
        let series = read(NFS, &LINES, &REQUESTS).unwrap();
        assert_eq!(series.len(), 6 + V2.len() + V3.len() + V4.len());
        for (name, value) in [
            ("_requests_total{method=FsStat,proto=2}", 2.0),
            ("_requests_total{method=Commit,proto=3}", 39.0),
            ("_requests_total{method=Clone,proto=4}", 59.0),
        ] {
            assert!(series.contains(&(name.to_owned(), value)), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(NFS)) {
            let _ = read(&text, &LINES, &REQUESTS);
        }
    }
}
