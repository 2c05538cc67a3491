//! Every collector there is. A new one is a file of its own and a line here.

use agent_core::Registration;

/// Every collector there is, in the order in which a tick lists them.
pub static REGISTRY: &[Registration] = &[
    crate::arp::REGISTRATION,
    crate::bcache::REGISTRATION,
    crate::bonding::REGISTRATION,
    crate::btrfs::REGISTRATION,
    crate::buddyinfo::REGISTRATION,
    crate::cgroup::REGISTRATION,
    crate::cgroups::REGISTRATION,
    crate::conntrack::REGISTRATION,
    crate::cpu::REGISTRATION,
    crate::cpufreq::REGISTRATION,
    crate::diskstats::REGISTRATION,
    crate::dmi::REGISTRATION,
    crate::edac::REGISTRATION,
    crate::entropy::REGISTRATION,
    crate::environment::REGISTRATION,
    crate::fibrechannel::REGISTRATION,
    crate::filefd::REGISTRATION,
    crate::filesystem::REGISTRATION,
    crate::hwmon::REGISTRATION,
    crate::infiniband::REGISTRATION,
    crate::interrupts::REGISTRATION,
    crate::ipvs::REGISTRATION,
    crate::ksmd::REGISTRATION,
    crate::loadavg::REGISTRATION,
    crate::logind::REGISTRATION,
    crate::mdadm::REGISTRATION,
    crate::meminfo::REGISTRATION,
    crate::meminfo_numa::REGISTRATION,
    crate::netclass::REGISTRATION,
    crate::netdev::REGISTRATION,
    crate::netstat::REGISTRATION,
    crate::nfs::REGISTRATION,
    crate::nfsd::REGISTRATION,
    crate::nvme::REGISTRATION,
    crate::os::REGISTRATION,
    crate::powersupplyclass::REGISTRATION,
    crate::pressure::REGISTRATION,
    crate::processes::REGISTRATION,
    crate::rapl::REGISTRATION,
    crate::schedstat::REGISTRATION,
    crate::selinux::REGISTRATION,
    crate::slabinfo::REGISTRATION,
    crate::sockstat::REGISTRATION,
    crate::softirqs::REGISTRATION,
    crate::softnet::REGISTRATION,
    crate::stat::REGISTRATION,
    crate::systemd::REGISTRATION,
    crate::tapestats::REGISTRATION,
    crate::tcpstat::REGISTRATION,
    crate::textfile::REGISTRATION,
    crate::thermal_zone::REGISTRATION,
    crate::time::REGISTRATION,
    crate::timex::REGISTRATION,
    crate::udp_queues::REGISTRATION,
    crate::uname::REGISTRATION,
    crate::vmstat::REGISTRATION,
    crate::watchdog::REGISTRATION,
    crate::xfs::REGISTRATION,
    crate::zfs::REGISTRATION,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use agent_core::Roots;

    use super::REGISTRY;
    use crate::{build, build_all, build_defaults, find};

    #[test]
    fn names_are_sorted_and_defaults_build() {
        assert!(REGISTRY.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(build_all(&Roots::default()).unwrap().len(), REGISTRY.len());
        let defaults = REGISTRY.iter().filter(|line| line.default_enabled).count();
        assert_eq!(build_defaults(&Roots::default()).unwrap().len(), defaults);
        assert!(find("cpu").is_some() && find("cpus").is_none());
    }

    #[test]
    fn every_line_is_documented() {
        for line in REGISTRY {
            assert!(line.summary.ends_with('.') && !line.reads.is_empty(), "{}", line.name);
            assert!(line.options.iter().all(|o| o.doc.ends_with('.')), "{}", line.name);
        }
    }

    #[test]
    fn options_that_cannot_be_used_say_what_would_be_right() {
        let check = |name: &str, options: &[(&str, &str)], expected: &str| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let options: BTreeMap<_, _> = options.iter().map(own).collect();
            match build(find(name).unwrap(), &Roots::default(), &options) {
                Ok(_) => assert_eq!(expected, "", "{name} {options:?}"),
                Err(error) => assert_eq!(error.to_string(), expected),
            }
        };
        check("netdev", &[("device_include", "^eth")], "");
        check("diskstats", &[("device_include", "^sd")], "");
        check("diskstats", &[("device_include", "^sd"), ("device_exclude", "")], "");
        check(
            "netdev",
            &[("device_include", "^eth"), ("device_exclude", "^lo$")],
            "collectors.netdev.device_include: device_exclude is set too: give only one of them",
        );
        check(
            "diskstats",
            &[("device_exclude", "sd[a-z")],
            "collectors.diskstats.device_exclude: 'sd[a-z' is not a regular expression \
             (found unclosed character class): write one such as \
             '^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$'",
        );
        check(
            "netdev",
            &[("device_exclude", "eth)")],
            "collectors.netdev.device_exclude: 'eth)' is not a regular expression \
             (found closing ')' without matching '('): write one such as '^(lo|veth.*)$'",
        );
        check(
            "filesystem",
            &[("mount_points_exclude", "^/(dev|proc")],
            "collectors.filesystem.mount_points_exclude: '^/(dev|proc' is not a regular \
             expression (found open group without closing ')'): write one such as \
             '^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|\
             var/lib/containers/storage/.+)($|/)'",
        );
    }
}
