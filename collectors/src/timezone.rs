//! The system's time zone: `/etc/localtime`, a file in the format of tzfile(5).
//!
//! Links are followed below the root: in a container, `/etc/localtime` of the host mostly links to
//! an absolute path of the host. Where there is no such file, or none that can be read, the system's
//! programs take UTC, and so do we. The file is looked at again every minute. The environment
//! variable `TZ` is our own, not the system's: it is not heeded.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use agent_core::Roots;
use tz::TimeZone;

const LOCALTIME: &str = "/etc/localtime";
/// As many as the kernel follows before it says ELOOP.
const LINKS_MAX: usize = 40;
const SECONDS_PER_CHECK: i64 = 60;

/// The system's time zone, kept until its file is another one.
#[derive(Debug)]
pub(crate) struct SystemZone {
    roots: Roots,
    zone: TimeZone,
    version: Option<Version>,
    checked: Option<i64>,
}

/// Which file was read: device, inode, time of its last change in seconds and nanoseconds.
type Version = (u64, u64, i64, i64);

/// A zone at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset<'a> {
    /// East of Greenwich.
    pub(crate) seconds: i32,
    /// Its abbreviation at that time: `CET`, `CEST`.
    pub(crate) name: &'a str,
}

impl SystemZone {
    /// Of the host below these roots.
    pub(crate) fn new(roots: &Roots) -> Self {
        Self { roots: roots.clone(), zone: TimeZone::utc(), version: None, checked: None }
    }

    /// The zone's offset at a time, in Unix seconds.
    pub(crate) fn at(&mut self, unix_seconds: i64) -> Offset<'_> {
        let check = unix_seconds.div_euclid(SECONDS_PER_CHECK);
        if self.checked != Some(check) {
            self.refresh();
            self.checked = Some(check);
        }
        match self.zone.find_local_time_type(unix_seconds) {
            Ok(local) if !local.time_zone_designation().is_empty() => {
                Offset { seconds: local.ut_offset(), name: local.time_zone_designation() }
            }
            _ => Offset { seconds: 0, name: "UTC" },
        }
    }

    fn refresh(&mut self) {
        let path = resolve(&self.roots, Path::new(LOCALTIME));
        let now = fs::metadata(&path).ok().map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec()));
        if now != self.version {
            let bytes = fs::read(&path).unwrap_or_default();
            self.zone = TimeZone::from_tz_data(&bytes).unwrap_or_else(|_| TimeZone::utc());
            self.version = now;
        }
    }
}

/// A path of the host with its last links followed, as it is reached from here.
fn resolve(roots: &Roots, absolute: &Path) -> PathBuf {
    let mut path = absolute.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(roots.root(&path)) else { break };
        path = normal(&path.parent().unwrap_or(Path::new("/")).join(target));
    }
    roots.root(path)
}

/// Without `..`, which can't lead above the root.
fn normal(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => _ = plain.pop(),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const BERLIN: &[u8] = include_bytes!("../fixtures/zones/Berlin");
    const KOLKATA: &[u8] = include_bytes!("../fixtures/zones/Kolkata");

    fn host() -> (tempfile::TempDir, SystemZone) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["etc", "usr/share/zoneinfo"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("usr/share/zoneinfo/Berlin"), BERLIN).unwrap();
        fs::write(dir.path().join("usr/share/zoneinfo/Kolkata"), KOLKATA).unwrap();
        let roots = Roots { rootfs: dir.path().into(), ..Roots::default() };
        let zone = SystemZone::new(&roots);
        (dir, zone)
    }

    #[test]
    fn offsets_follow_the_seasons() {
        let (dir, mut zone) = host();
        fs::write(dir.path().join("etc/localtime"), BERLIN).unwrap();
        let mut check = |unix_seconds, seconds, name| {
            assert_eq!(zone.at(unix_seconds), Offset { seconds, name });
        };
        check(1_700_000_000, 3600, "CET");
        check(1_690_000_000, 7200, "CEST");
        // beyond the table: by the rule at the end of the file
        check(4_087_000_000, 7200, "CEST");
        check(4_100_000_000, 3600, "CET");
    }

    #[test]
    fn links_stay_below_the_root() {
        let check = |target: &str, expected: &str| {
            let (dir, mut zone) = host();
            symlink(target, dir.path().join("etc/localtime")).unwrap();
            assert_eq!(zone.at(1_700_000_000).name, expected, "{target}");
        };
        check("/usr/share/zoneinfo/Berlin", "CET");
        check("../usr/share/zoneinfo/Kolkata", "IST");
        check("../../../../usr/share/zoneinfo/Kolkata", "IST");
        check("/usr/share/zoneinfo/None", "UTC");
        check("localtime", "UTC");
    }

    #[test]
    fn a_change_is_seen_within_a_minute() {
        let (dir, mut zone) = host();
        let link = dir.path().join("etc/localtime");
        assert_eq!(zone.at(1_700_000_000).name, "UTC");
        symlink("../usr/share/zoneinfo/Berlin", &link).unwrap();
        assert_eq!(zone.at(1_700_000_060).name, "CET");
        fs::remove_file(&link).unwrap();
        symlink("../usr/share/zoneinfo/Kolkata", &link).unwrap();
        assert_eq!(zone.at(1_700_000_120).name, "IST");
        fs::remove_file(&link).unwrap();
        fs::write(&link, "not a zone").unwrap();
        assert_eq!(zone.at(1_700_000_180).name, "UTC");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_zone(mut bytes in Just(BERLIN.to_vec()), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), time in any::<i64>()) {
            for (index, byte) in edits {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("etc")).unwrap();
            fs::write(dir.path().join("etc/localtime"), bytes).unwrap();
            let roots = Roots { rootfs: dir.path().into(), ..Roots::default() };
            prop_assert!(!SystemZone::new(&roots).at(time).name.is_empty());
        }
    }
}
