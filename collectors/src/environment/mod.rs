//! What kind of host this is: a physical machine, a virtual one, or a container; on which hypervisor,
//! in which runtime.
//!
//! The approach is that of systemd-detect-virt(1), and so are the names (`kvm`, `vmware`, `docker`,
//! `systemd-nspawn`), as far as files tell that an ordinary user may read: [`hypervisor`] and
//! [`container`] say which. Like every collector this looks below [`Roots`]: an agent in a container
//! that has the host's `/proc`, `/sys` and `/` mounted sees the host. Nothing here fails: what can't be
//! read tells nothing.
//!
//! What can't be right in such a place is off by default: [`unfit`]. OpenTelemetry and node_exporter have
//! no name for this, so the metric is ours.

mod container;
mod hypervisor;
mod unfit;

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use agent_core::{
    CollectError, Collector, Metric, Registration, Roots, Samples,
    collector::{BuildError, Context},
};

pub(crate) use unfit::UNFIT;

pub(crate) const REGISTRATION: Registration = Registration {
    name: "environment",
    summary: "Whether the host is a physical machine, a virtual one or a container, and whose.",
    reads: &[
        "/proc/cpuinfo",
        "/sys/class/dmi/id",
        "/sys/hypervisor",
        "/sys/devices/system/clocksource",
        "/proc/1/cgroup",
        "/proc/1/mounts",
        "/run/systemd/container",
    ],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> = Metric::gauge(
    "holdfast_host_environment_info",
    "What the host is: physical, vm or container; with the hypervisor and the container's runtime, as systemd-detect-virt names them.",
);
/// What is read of a file: the first CPU of `/proc/cpuinfo`, the mount of `/`.
const HEAD_BYTES_MAX: u64 = 16 << 10;

/// What kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// A machine of its own.
    Physical,
    /// A virtual machine.
    Vm,
    /// A container, on whatever machine.
    Container,
}

impl HostKind {
    /// As the metric has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Vm => "vm",
            Self::Container => "container",
        }
    }
}

/// Where the host runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The hypervisor below, as systemd-detect-virt names it; `vm-other` if nobody knows which.
    pub hypervisor: Option<&'static str>,
    /// The container's runtime; `container-other` if nobody knows which.
    pub container: Option<String>,
}

impl Environment {
    /// What the files below `roots` tell.
    #[must_use]
    pub fn detect(roots: &Roots) -> Self {
        Self { hypervisor: hypervisor::detect(roots), container: container::detect(roots) }
    }

    /// The innermost: a container in a virtual machine is a container.
    #[must_use]
    pub const fn kind(&self) -> HostKind {
        match (&self.container, self.hypervisor) {
            (Some(_), _) => HostKind::Container,
            (None, Some(_)) => HostKind::Vm,
            (None, None) => HostKind::Physical,
        }
    }

    /// Why that collector can't be right here, if it can't: it is off then unless it is switched on.
    #[must_use]
    pub fn objection(&self, collector: &str) -> Option<&'static str> {
        let kind = self.kind();
        let fits =
            |unfit: &&unfit::Unfit| unfit.kind == kind && unfit.collectors.contains(&collector);
        UNFIT.iter().find(fits).map(|unfit| unfit.why)
    }
}

/// `a container (docker) on a virtual machine (kvm)`.
impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.container, self.hypervisor) {
            (None, None) => f.write_str("a physical machine"),
            (None, Some(hypervisor)) => write!(f, "a virtual machine ({hypervisor})"),
            (Some(runtime), None) => write!(f, "a container ({runtime})"),
            (Some(runtime), Some(hypervisor)) => {
                write!(f, "a container ({runtime}) on a virtual machine ({hypervisor})")
            }
        }
    }
}

struct EnvironmentCollector(Environment);

/// It doesn't change while the agent runs.
fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(EnvironmentCollector(Environment::detect(context.roots))))
}

impl Collector for EnvironmentCollector {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self(environment) = self;
        let kind = ("kind", environment.kind().as_str());
        let runtime = |runtime| ("container", runtime);
        let below = |hypervisor| ("hypervisor", hypervisor);
        match (environment.container.as_deref(), environment.hypervisor) {
            (None, None) => out.push(&INFO, &[kind], 1.0),
            (None, Some(one)) => out.push(&INFO, &[below(one), kind], 1.0),
            (Some(one), None) => out.push(&INFO, &[runtime(one), kind], 1.0),
            (Some(one), Some(other)) => {
                out.push(&INFO, &[runtime(one), below(other), kind], 1.0);
            }
        }
        Ok(())
    }
}

/// How a file begins, without the space around it; nothing if it can't be read.
fn head(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(HEAD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Whether there is such a file.
fn exists(path: PathBuf) -> bool {
    path.try_exists().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Files below `proc`, `sys` and `root`, and what they tell.
    pub(super) fn detect(files: &[(&str, &str)]) -> Environment {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let below = |name: &str| directory.path().join(name);
        let (procfs, sysfs, rootfs) = (below("proc"), below("sys"), below("root"));
        Environment::detect(&Roots { procfs, sysfs, rootfs })
    }

    #[test]
    fn the_innermost_counts() {
        let check = |files: &[(&str, &str)], kind: HostKind, shown: &str| {
            let environment = detect(files);
            assert_eq!((environment.kind(), &*environment.to_string()), (kind, shown), "{files:?}");
        };
        let flags = ("proc/cpuinfo", "flags\t: fpu hypervisor\n");
        let docker = ("root/.dockerenv", "");
        check(&[], HostKind::Physical, "a physical machine");
        check(&[flags], HostKind::Vm, "a virtual machine (vm-other)");
        check(&[docker], HostKind::Container, "a container (docker)");
        let both = "a container (docker) on a virtual machine (vm-other)";
        check(&[flags, docker], HostKind::Container, both);
    }

    #[test]
    fn what_cannot_be_right_has_a_reason() {
        let check = |files: &[(&str, &str)], collector: &str, objects: bool| {
            let objection = detect(files).objection(collector);
            assert_eq!(objection.is_some(), objects, "{files:?} {collector}");
        };
        let flags = ("proc/cpuinfo", "flags\t: fpu hypervisor\n");
        let docker = ("root/.dockerenv", "");
        check(&[], "edac", false);
        check(&[flags], "edac", true);
        check(&[flags], "thermal_zone", false);
        check(&[docker], "thermal_zone", true);
        check(&[flags, docker], "thermal_zone", true);
        check(&[flags, docker], "cpu", false);
    }

    #[test]
    fn long_files_are_read_in_part() {
        let long = "x".repeat(1 << 20);
        assert_eq!(detect(&[("proc/cpuinfo", &long)]), Environment::default());
    }
}
