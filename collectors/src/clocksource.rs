//! Which hardware the kernel takes its time from: `/sys/devices/system/clocksource`.
//!
//! A kernel that finds its clock unstable changes to a slower one: worth a series. A machine whose
//! `/sys` has no such directory has none.

use std::{fs, path::Path};

use agent_core::{CollectError, Metric, Roots, Samples};

use crate::reader::KeptFile;

const AVAILABLE: Metric<'_> = Metric::gauge(
    "node_time_clocksource_available_info",
    "Available clocksources read from '/sys/devices/system/clocksource'.",
);
const CURRENT: Metric<'_> = Metric::gauge(
    "node_time_clocksource_current_info",
    "Current clocksource read from '/sys/devices/system/clocksource'.",
);

/// The clock sources of a machine; the kernel has had one device of them ever since.
#[derive(Debug)]
pub(crate) struct Clocksources {
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    /// Its place among the devices, which is its label.
    index: String,
    available: KeptFile,
    current: KeptFile,
}

impl Clocksources {
    /// Looks for those that can be read.
    pub(crate) fn scan(roots: &Roots) -> Self {
        let directory = roots.sys("devices/system/clocksource");
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|p| is_one(p)).collect();
        paths.sort();
        let readable =
            |device: &mut Device| device.available.text().is_ok() && device.current.text().is_ok();
        let devices = paths.iter().enumerate().map(|(index, path)| Device {
            index: index.to_string(),
            available: KeptFile::new(path.join("available_clocksource")),
            current: KeptFile::new(path.join("current_clocksource")),
        });
        let mut devices: Vec<_> = devices.collect();
        devices.retain_mut(readable);
        Self { devices }
    }

    /// Adds the samples of this tick.
    pub(crate) fn push(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        for Device { index, available, current } in &mut self.devices {
            for name in available.text()?.content.split_ascii_whitespace() {
                out.push(&AVAILABLE, &[("clocksource", name), ("device", index)], 1.0);
            }
            let name = current.text()?.content.trim_ascii();
            out.push(&CURRENT, &[("clocksource", name), ("device", index)], 1.0);
        }
        Ok(())
    }
}

/// `clocksource0` and so on.
fn is_one(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let rest = name.and_then(|name| name.strip_prefix("clocksource"));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_devices_are_told_and_a_change_too() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        let device = |name: &str| dir.path().join("devices/system/clocksource").join(name);
        for name in ["clocksource0", "clocksource1", "power"] {
            fs::create_dir_all(device(name)).unwrap();
        }
        let [available, current] = ["available_clocksource", "current_clocksource"]
            .map(|file| device("clocksource0").join(file));
        fs::write(available, "tsc hpet \n").unwrap();
        fs::write(&current, "tsc\n").unwrap();
        let mut sources = Clocksources::scan(&roots);
        let mut check = |expected: &[&str]| {
            let mut out = Samples::new("time");
            sources.push(&mut out).unwrap();
            let (schema, _) = out.finish();
            let names = schema.schema.series.iter().map(|series| series.labels[0].1.as_str());
            assert_eq!(names.collect::<Vec<_>>(), expected);
        };
        check(&["tsc", "hpet", "tsc"]);
        fs::write(&current, "hpet\n").unwrap();
        check(&["tsc", "hpet", "hpet"]);
    }

    #[test]
    fn a_machine_without_sys_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        assert!(Clocksources::scan(&roots).devices.is_empty());
    }
}
