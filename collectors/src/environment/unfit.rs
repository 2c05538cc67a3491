//! What can't be right where, and why: these collectors are off by default there.
//!
//! Sparingly: what a host lacks costs nothing, and who measures a container from inside gets what
//! node_exporter would show. Off is only what tells of something else than this host, under its name.

use super::HostKind;

/// Collectors that can't be right on a kind of host.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub(crate) kind: HostKind,
    pub(crate) collectors: &'static [&'static str],
    /// A clause that goes on from "off there, because".
    pub(crate) why: &'static str,
}

pub(crate) const UNFIT: &[Unfit] = &[
    Unfit {
        kind: HostKind::Container,
        collectors: &[
            "cpufreq",
            "dmi",
            "edac",
            "fibrechannel",
            "hwmon",
            "infiniband",
            "nvme",
            "powersupplyclass",
            "rapl",
            "tapestats",
            "thermal_zone",
            "watchdog",
        ],
        why: "a container sees its machine's /sys: it would tell of hardware that isn't its own, and so would every other one on that machine",
    },
    Unfit {
        kind: HostKind::Container,
        collectors: &["bcache", "mdadm"],
        why: "a container sees its machine's arrays and caches: one broken disk would be told by every container on that machine",
    },
    Unfit {
        kind: HostKind::Vm,
        collectors: &["edac"],
        why: "an emulated memory controller counts no errors, whatever the memory below does: zeros would be taken for health",
    },
    Unfit {
        kind: HostKind::Vm,
        collectors: &["rapl"],
        why: "energy counters of a CPU are zero in a virtual machine, or count what its neighbours use too",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{find, node_exporter_default};

    #[test]
    fn names_are_known_and_reasons_there() {
        for unfit in UNFIT {
            for name in unfit.collectors {
                assert!(find(name).is_some() || node_exporter_default(name).is_some(), "{name}");
            }
            assert!(!unfit.why.is_empty() && !unfit.why.ends_with('.'), "{unfit:?}");
        }
    }
}
