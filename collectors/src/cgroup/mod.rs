//! Control groups: CPU, memory, I/O, threads and pressure of each slice, service, scope and container,
//! from `/sys/fs/cgroup`, versions 1 and 2, without asking a container's runtime.
//!
//! node_exporter has none of it; names are cAdvisor's, and so is the label `id`, the group's path. A
//! group whose name ends in a container's id also has that as `container_id`. A group counts what the
//! groups below it use too, so what lies deeper than `max_depth` isn't lost, only not told apart.
//!
//! Bounded: groups are taken level by level, by name, up to `max_cgroups`; how many that leaves out is a
//! metric and is said. A group that goes while it is read is left out of that tick. What a group's
//! controllers don't count has no series.

mod files;
mod sources;
mod tree;

use std::path::PathBuf;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};

use self::{
    files::{Devices, Group, Reader},
    sources::{V1, V2},
    tree::Found,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "cgroup",
    summary: "CPU, memory, I/O, threads and pressure of systemd's units and of containers.",
    reads: &["/sys/fs/cgroup"],
    // some twenty series a group: on a small host twice as many as everything else
    default_enabled: false,
    options: &[
        OptionSpec {
            key: "max_cgroups",
            default: "200",
            doc: "Groups that are measured at most, those nearer to the root first; holdfast_cgroups_left_out counts the others.",
        },
        OptionSpec {
            key: "max_depth",
            default: "4",
            doc: "How deep below the root groups are told apart; what is deeper counts in the group above it.",
        },
    ],
    build,
};

const MEASURED: Metric<'_> =
    Metric::gauge("holdfast_cgroups_measured", "Control groups that have series.");
const LEFT_OUT: Metric<'_> = Metric::gauge(
    "holdfast_cgroups_left_out",
    "Control groups without series, because there are more than max_cgroups.",
);
/// More could not be in one tick with everything else.
const CGROUPS_MAX: usize = 2_000;
const DEPTH_MAX: usize = 16;

struct Cgroup {
    root: PathBuf,
    max_cgroups: usize,
    max_depth: usize,
    groups: Vec<Group>,
    reader: Reader,
    devices: Devices,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Cgroup {
        root: context.roots.sys("fs/cgroup"),
        max_cgroups: bounded(context, "max_cgroups", CGROUPS_MAX)?,
        max_depth: bounded(context, "max_depth", DEPTH_MAX)?,
        groups: Vec::new(),
        reader: Reader::default(),
        devices: Devices::new(context.roots.sys("dev/block")),
    }))
}

fn bounded(context: &Context<'_>, key: &'static str, max: usize) -> Result<usize, BuildError> {
    let value = context.option(key);
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| BuildError {
        collector: context.registration.name,
        key,
        reason: format!("'{value}' is no whole number from 1 to {max}"),
    })
}

impl Collector for Cgroup {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        // only the root of version 2 has this one; where both are mounted, version 1 has the controllers
        let is_v2 = self.root.join("cgroup.controllers").exists();
        let sources = if is_v2 { V2 } else { V1 };
        let found = tree::walk(&self.root, is_v2, self.max_depth, self.max_cgroups)?;
        self.meet(&found, is_v2);
        for group in &mut self.groups {
            group.collect(sources, &mut self.reader, &mut self.devices, out)?;
        }
        out.push(&MEASURED, &[], found.ids.len() as f64);
        out.push(&LEFT_OUT, &[], found.left_out as f64);
        if found.left_out > 0 {
            // without the numbers, which change all the time
            out.remark(&format!(
                "there are more control groups than max_cgroups, which is {}",
                self.max_cgroups
            ));
        }
        Ok(())
    }
}

impl Cgroup {
    /// Makes the groups those that were found, and keeps what is open of the ones that stay.
    fn meet(&mut self, found: &Found, is_v2: bool) {
        let same = |(group, id): (&Group, &String)| group.id() == id;
        if self.groups.len() == found.ids.len() && self.groups.iter().zip(&found.ids).all(same) {
            return;
        }
        let mut before = std::mem::take(&mut self.groups);
        for id in &found.ids {
            let known = before.iter().position(|group| group.id() == id);
            self.groups.push(match known {
                Some(index) => before.swap_remove(index),
                None => Group::new(&self.root, id, if is_v2 { V2 } else { V1 }),
            });
        }
        for mut gone in before {
            self.reader.close(&mut gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use agent_core::Roots;

    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(version: u8) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            if version == 2 {
                host.write("cgroup.controllers", "cpu io memory pids\n");
            }
            host
        }

        fn write(&self, path: &str, content: &str) {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn root(&self) -> PathBuf {
            self.0.path().join("fs/cgroup")
        }

        fn collector(&self, options: &[(&str, &str)]) -> Box<dyn Collector> {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let options: BTreeMap<_, _> = options.iter().map(own).collect();
            let roots = Roots { sysfs: self.0.path().into(), ..Roots::default() };
            crate::build(&REGISTRATION, &roots, &options).unwrap()
        }
    }

    fn lines(collector: &mut dyn Collector) -> Result<Vec<String>, String> {
        let mut samples = Samples::new("cgroup");
        collector.collect(&mut samples).map_err(|error| error.to_string())?;
        let (schema, values) = samples.finish();
        let mut lines = Vec::new();
        for ((family, labels), value) in schema.schema.iter().zip(values) {
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.push(format!("{} {} {value}", family.name, labels.join(" ")));
        }
        Ok(lines)
    }

    #[test]
    fn groups_come_and_go_and_are_bounded() {
        let host = Host::new(2);
        for name in ["b.service", "a.service", "a.service/inner", "c.slice/x/y/z/deep"] {
            host.write(&format!("{name}/pids.current"), "3\n");
        }
        let check = |collector: &mut dyn Collector, expected: &[&str], left_out: &str| {
            let lines = lines(collector).unwrap();
            let id = |line: &String| Some(line.split_once("container_threads id=")?.1.to_owned());
            let ids: Vec<_> = lines.iter().filter_map(id).collect();
            assert_eq!(ids, expected);
            assert_eq!(lines.last().unwrap(), &format!("holdfast_cgroups_left_out  {left_out}"));
        };
        let mut collector = host.collector(&[("max_depth", "2")]);
        let all = ["/a.service 3", "/b.service 3", "/a.service/inner 3"];
        check(collector.as_mut(), &all, "0");
        fs::remove_dir_all(host.root().join("a.service")).unwrap();
        host.write("d.service/pids.current", "4\n");
        check(collector.as_mut(), &["/b.service 3", "/d.service 4"], "0");
        check(host.collector(&[("max_cgroups", "1")]).as_mut(), &["/b.service 3"], "5");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let host = Host::new(2);
        let check = |file: &str, content: &str, expected: &str| {
            host.write(&format!("a/{file}"), content);
            let error = lines(host.collector(&[]).as_mut()).unwrap_err();
            let error = error.replace(&host.root().display().to_string(), "ROOT");
            assert_eq!(error, expected);
            fs::remove_file(host.root().join("a").join(file)).unwrap();
        };
        check(
            "cpu.stat",
            "usage_usec x\n",
            "ROOT/a/cpu.stat: line 1, value: \"x\" is not a number, or too large",
        );
        check("memory.current", "\n", "ROOT/a/memory.current: line 1, value: missing");
        check(
            "io.stat",
            "8:0 rbytes\n",
            "ROOT/a/io.stat: line 1, rbytes: not a name, = and a number",
        );
        check("cpu.pressure", "some avg10=0\n", "ROOT/a/cpu.pressure: line 1, total: missing");
        let none = Path::new("/nonexistent");
        let roots = Roots { sysfs: none.into(), ..Roots::default() };
        let mut collector = crate::build(&REGISTRATION, &roots, &BTreeMap::new()).unwrap();
        assert!(lines(collector.as_mut()).unwrap_err().starts_with("unavailable: "));
    }

    #[test]
    fn bounds_that_are_none_are_refused() {
        for (key, value, max) in [("max_cgroups", "0", "2000"), ("max_depth", "99", "16")] {
            let options = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let error = crate::build(&REGISTRATION, &Roots::default(), &options).err().unwrap();
            let expected =
                format!("collectors.cgroup.{key}: '{value}' is no whole number from 1 to {max}");
            assert_eq!(error.to_string(), expected);
        }
    }
}
