//! Frequencies of CPUs: `/sys/devices/system/cpu/cpu*/cpufreq`.

use std::path::PathBuf;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::sysfs::{self, Attributes};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "cpufreq",
    summary: "Frequencies of CPUs: now, and between which bounds.",
    reads: &["/sys/devices/system/cpu"],
    default_enabled: true,
    options: &[],
    build,
};

/// Attributes in kilohertz.
const FREQUENCIES: [(&str, Metric<'_>); 6] = [
    (
        "cpuinfo_cur_freq",
        Metric::gauge("node_cpu_frequency_hertz", "Current cpu thread frequency in hertz."),
    ),
    (
        "cpuinfo_min_freq",
        Metric::gauge("node_cpu_frequency_min_hertz", "Minimum cpu thread frequency in hertz."),
    ),
    (
        "cpuinfo_max_freq",
        Metric::gauge("node_cpu_frequency_max_hertz", "Maximum cpu thread frequency in hertz."),
    ),
    (
        "scaling_cur_freq",
        Metric::gauge(
            "node_cpu_scaling_frequency_hertz",
            "Current scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_min_freq",
        Metric::gauge(
            "node_cpu_scaling_frequency_min_hertz",
            "Minimum scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_max_freq",
        Metric::gauge(
            "node_cpu_scaling_frequency_max_hertz",
            "Maximum scaled CPU thread frequency in hertz.",
        ),
    ),
];
const HERTZ_PER_KILOHERTZ: f64 = 1_000.0;

struct Cpufreq {
    directory: PathBuf,
    attributes: Attributes,
    /// What is left of the CPUs once it is known which have frequencies: a virtual machine has none.
    cpus: Option<Vec<(String, PathBuf)>>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let directory = context.roots.sys("devices/system/cpu");
    Ok(Box::new(Cpufreq { directory, attributes: Attributes::default(), cpus: None }))
}

impl Collector for Cpufreq {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        if self.cpus.is_none() {
            self.cpus = Some(cpus(&self.directory)?);
        }
        let cpus = self.cpus.as_deref().unwrap_or_default();
        if cpus.is_empty() {
            return Err(CollectError::unavailable("no CPU has a frequency that can be read"));
        }
        for (cpu, path) in cpus {
            for (attribute, metric) in &FREQUENCIES {
                if let Some(kilohertz) = self.attributes.number(path, attribute) {
                    out.push(metric, &[("cpu", cpu)], kilohertz * HERTZ_PER_KILOHERTZ);
                }
            }
        }
        if out.is_empty() {
            // They were taken offline, or the driver changed: look again next time.
            self.cpus = None;
        }
        Ok(())
    }
}

fn cpus(directory: &std::path::Path) -> Result<Vec<(String, PathBuf)>, CollectError> {
    let entries = sysfs::entries(directory, "cpu")?.into_iter();
    let mut cpus: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let number = entry.name.strip_prefix("cpu")?.parse().ok()?;
            let path = entry.path.join("cpufreq");
            path.is_dir().then_some((number, path))
        })
        .collect();
    cpus.sort_unstable();
    Ok(cpus.into_iter().map(|(number, path)| (number.to_string(), path)).collect())
}
