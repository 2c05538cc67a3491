//! What `/sys/devices/system/cpu` says of cores and packages: throttle counts and isolation.
//!
//! Which cores there are is looked up again only when the CPUs of `/proc/stat` change; counts are
//! read every tick, and not from kept descriptors: a large host has hundreds of cores. A count that
//! is absent or can't be read is left out, as node_exporter does: few machines have them, and none
//! should lose its CPU times over them.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use agent_core::{CollectError, Metric, Roots, Samples};

use crate::parse::{ParseError, number};

const CORE_THROTTLES: Metric<'_> = Metric::counter(
    "node_cpu_core_throttles_total",
    "Number of times this CPU core has been throttled.",
);
const PACKAGE_THROTTLES: Metric<'_> = Metric::counter(
    "node_cpu_package_throttles_total",
    "Number of times this CPU package has been throttled.",
);
const ISOLATED: Metric<'_> = Metric::gauge(
    "node_cpu_isolated",
    "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
);

/// CPUs beyond this are not believed: the kernel's own bound is 8192.
const CPUS_MAX: u64 = 65_536;

/// The cores and packages that count throttling, and the CPUs that are isolated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    packages: Vec<Package>,
    cores: Vec<Core>,
    isolated: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Package {
    package: String,
    count: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
struct Core {
    package: String,
    core: String,
    count: PathBuf,
}

impl Topology {
    /// Looks for them. A machine without `/sys` has none.
    pub(crate) fn scan(roots: &Roots) -> Result<Self, CollectError> {
        let directory = roots.sys("devices/system/cpu");
        let mut topology = Self { isolated: isolated(&directory)?, ..Self::default() };
        for cpu in cpu_directories(&directory) {
            topology.add(&cpu);
        }
        Ok(topology)
    }

    /// The counts of a core and a package are the same for each of their CPUs: the first one counts.
    fn add(&mut self, cpu: &Path) {
        let id = |file: &str| read_number(&cpu.join("topology").join(file)).map(|n| n.to_string());
        let (Some(package), Some(core)) = (id("physical_package_id"), id("core_id")) else {
            return;
        };
        let count = |file: &str| {
            let path = cpu.join("thermal_throttle").join(file);
            read_number(&path).map(|_| path)
        };
        if !self.packages.iter().any(|known| known.package == package)
            && let Some(count) = count("package_throttle_count")
        {
            self.packages.push(Package { package: package.clone(), count });
        }
        if !self.cores.iter().any(|known| known.package == package && known.core == core)
            && let Some(count) = count("core_throttle_count")
        {
            self.cores.push(Core { package, core, count });
        }
    }

    /// Adds the samples of this tick.
    pub(crate) fn push(&self, out: &mut Samples) {
        for cpu in &self.isolated {
            out.push(&ISOLATED, &[("cpu", cpu)], 1.0);
        }
        for Package { package, count } in &self.packages {
            if let Some(count) = read_number(count) {
                out.push(&PACKAGE_THROTTLES, &[("package", package)], count as f64);
            }
        }
        for Core { package, core, count } in &self.cores {
            if let Some(count) = read_number(count) {
                out.push(&CORE_THROTTLES, &[("core", core), ("package", package)], count as f64);
            }
        }
    }
}

/// `cpu0`, `cpu1`, `cpu10`, …: in the order of their names, as node_exporter takes them.
fn cpu_directories(directory: &Path) -> Vec<PathBuf> {
    let is_cpu = |name: &str| {
        name.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_cpu));
    let mut paths: Vec<_> = names.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn isolated(directory: &Path) -> Result<Vec<String>, CollectError> {
    let path = directory.join("isolated");
    match fs::read_to_string(&path) {
        Ok(text) => parse_cpu_list(&text)
            .map_err(|error| CollectError::failed(path.display().to_string(), error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CollectError::from_io(&path, &error)),
    }
}

/// The kernel's list of CPUs: `2-3,7`, empty if there are none.
fn parse_cpu_list(text: &str) -> Result<Vec<String>, ParseError> {
    let mut cpus = Vec::new();
    for range in text.trim_ascii_end().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) =
            (number(1, "first CPU of a range", first)?, number(1, "last CPU of a range", last)?);
        if last > CPUS_MAX {
            return Err(ParseError::new(1, "last CPU of a range", format!("{last} is too large")));
        }
        cpus.extend((first..=last).map(|cpu| cpu.to_string()));
        if cpus.len() as u64 > CPUS_MAX {
            return Err(ParseError::new(1, "CPUs", format!("more than {CPUS_MAX}")));
        }
    }
    Ok(cpus)
}

/// A file with one number in it.
fn read_number(path: &Path) -> Option<u64> {
    // room for the longest number, its newline and a sign that there is more
    let mut buffer = [0; 24];
    let length = File::open(path).and_then(|mut file| file.read(&mut buffer)).ok()?;
    let text = std::str::from_utf8(&buffer[..length]).ok()?;
    number(1, "count", text.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    #[test]
    fn cpu_lists_are_read_or_the_range_is_named() {
        let check = |text: &str, expected: Result<&[&str], &str>| {
            let got = parse_cpu_list(text).map_err(|error| error.to_string());
            let expected = expected.map(|cpus| cpus.iter().map(|&cpu| cpu.to_owned()).collect());
            assert_eq!(got, expected.map_err(str::to_owned), "{text:?}");
        };
        check("", Ok(&[]));
        check("\n", Ok(&[]));
        check("5\n", Ok(&["5"]));
        check("2-4,7\n", Ok(&["2", "3", "4", "7"]));
        check("4-2\n", Ok(&[]));
        let wrong = "is not a number, or too large";
        check("1-", Err(&format!("line 1, last CPU of a range: \"\" {wrong}")));
        check("1-2-3", Err(&format!("line 1, last CPU of a range: \"2-3\" {wrong}")));
        check("0-4000000000", Err("line 1, last CPU of a range: 4000000000 is too large"));
        check("0-65536,0-9", Err("line 1, CPUs: more than 65536"));
    }

    #[test]
    fn a_machine_without_sys_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { sysfs: dir.path().to_owned(), ..Roots::default() };
        assert_eq!(Topology::scan(&roots).unwrap(), Topology::default());
    }

    #[test]
    fn counts_that_cannot_be_read_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let check = |content: &str, expected: Option<u64>| {
            let path = dir.path().join("count");
            fs::write(&path, content).unwrap();
            assert_eq!(read_number(&path), expected, "{content:?}");
        };
        check("12\n", Some(12));
        check("18446744073709551615\n", Some(u64::MAX));
        check("-1\n", None);
        check("", None);
        check("123456789012345678901234567890", None);
        assert_eq!(read_number(&dir.path().join("none")), None);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text("0,2-3,5-7,64-127\n")) {
            let _ = parse_cpu_list(&text);
        }
    }
}
