//! Where the kernel is read: one injectable root each for `/proc`, `/sys` and `/`.

use std::path::{Path, PathBuf};

/// Roots of everything that collectors read. Tests point them at fixtures, containers at
/// `/host/proc` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Stands for `/proc`.
    pub procfs: PathBuf,
    /// Stands for `/sys`.
    pub sysfs: PathBuf,
    /// Stands for `/`: prefixed to mount points before `statvfs`.
    pub rootfs: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { procfs: "/proc".into(), sysfs: "/sys".into(), rootfs: "/".into() }
    }
}

impl Roots {
    /// A path below `/proc`.
    #[must_use]
    pub fn proc(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.procfs.join(relative)
    }

    /// A path below `/sys`.
    #[must_use]
    pub fn sys(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.sysfs.join(relative)
    }

    /// An absolute path of the host as it is reached from here.
    #[must_use]
    pub fn root(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.rootfs.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }
}

#[cfg(test)]
mod tests {
    use super::Roots;

    #[test]
    fn absolute_paths_stay_below_the_root() {
        let roots = Roots { rootfs: "/host".into(), ..Roots::default() };
        assert_eq!(roots.root("/var/log").to_str(), Some("/host/var/log"));
        assert_eq!(roots.proc("stat").to_str(), Some("/proc/stat"));
    }
}
