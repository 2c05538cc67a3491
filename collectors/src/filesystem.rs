//! File systems: the mounts of process 1, and statvfs(3) of each.
//!
//! Sizes are in units of `f_frsize`, as df shows them. node_exporter takes `f_bsize`, which is the
//! same but for some FUSE file systems, where it shows many times their size.
//!
//! The defaults are those of node_exporter itself. Debian's package also leaves out `/run`, `/mnt` and
//! `/media`; a disk that is mounted there fills up as well.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use agent_core::{
    CollectError, Collector, Metric, Registration, Roots, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use nix::sys::statvfs::{Statvfs, statvfs};
use regex_lite::Regex;

use crate::{
    filter::regex,
    mounts::{self, Mount},
    parse::ParseError,
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "filesystem",
    summary: "Size, free space and inodes of mounted file systems.",
    reads: &["/proc/1/mounts", "/proc/self/mounts", "statvfs(3)"],
    default_enabled: true,
    options: &[
        OptionSpec {
            key: "mount_points_exclude",
            default: "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|\
                      var/lib/containers/storage/.+)($|/)",
            doc: "Regular expression of mount points to leave out.",
        },
        OptionSpec {
            key: "fs_types_exclude",
            default: "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|\
                      hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|\
                      securityfs|selinuxfs|squashfs|sysfs|tracefs)$",
            doc: "Regular expression of file system types to leave out.",
        },
    ],
    build,
};

const DEVICE_ERROR: Metric<'_> = Metric::gauge(
    "node_filesystem_device_error",
    "Whether an error occurred while getting statistics for the given device.",
);
const SIZE: Metric<'_> = Metric::gauge("node_filesystem_size_bytes", "Filesystem size in bytes.");
const FREE: Metric<'_> =
    Metric::gauge("node_filesystem_free_bytes", "Filesystem free space in bytes.");
const AVAIL: Metric<'_> = Metric::gauge(
    "node_filesystem_avail_bytes",
    "Filesystem space available to non-root users in bytes.",
);
const FILES: Metric<'_> = Metric::gauge("node_filesystem_files", "Filesystem total file nodes.");
const FILES_FREE: Metric<'_> =
    Metric::gauge("node_filesystem_files_free", "Filesystem total free file nodes.");
const READONLY: Metric<'_> =
    Metric::gauge("node_filesystem_readonly", "Filesystem read-only status.");

struct FilesystemCollector {
    file: KeptFile,
    selection: Selection,
    /// The mounts as they were read last, and what came of them: they seldom change.
    last: Vec<u8>,
    filesystems: Vec<Filesystem>,
}

/// Which mounts count, and how they are reached.
struct Selection {
    roots: Roots,
    mount_points_exclude: Option<Regex>,
    fs_types_exclude: Option<Regex>,
}

/// A file system to ask every tick.
#[derive(Debug, PartialEq, Eq)]
struct Filesystem {
    device: String,
    fs_type: String,
    /// As the host sees it.
    mount_point: String,
    /// As it is reached from here.
    path: PathBuf,
    readonly: bool,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    // process 1 has the host's mounts where we have our own; it may be hidden from us
    let files = ["1/mounts", "self/mounts"].map(|file| context.roots.proc(file));
    Ok(Box::new(FilesystemCollector {
        file: KeptFile::first_of(files.into()),
        selection: Selection {
            roots: context.roots.clone(),
            mount_points_exclude: regex(context, "mount_points_exclude")?,
            fs_types_exclude: regex(context, "fs_types_exclude")?,
        },
        last: Vec::new(),
        filesystems: Vec::new(),
    }))
}

impl Collector for FilesystemCollector {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let table = self.file.bytes()?;
        if table.content.is_empty() {
            return Err(table.malformed(&ParseError::new(1, "device", "missing")));
        }
        if table.content != self.last {
            let mounts = mounts::parse(table.content).map_err(|error| table.malformed(&error))?;
            self.filesystems = self.selection.filesystems(mounts);
            self.last.clear();
            self.last.extend_from_slice(table.content);
        }
        for filesystem in &self.filesystems {
            push(out, filesystem, statvfs(&filesystem.path).ok().as_ref());
        }
        Ok(())
    }
}

impl Selection {
    /// The mounts that count, each device, mount point and type once.
    fn filesystems(&self, mounts: Vec<Mount>) -> Vec<Filesystem> {
        let matches =
            |regex: &Option<Regex>, text: &str| regex.as_ref().is_some_and(|r| r.is_match(text));
        let mut seen = HashSet::new();
        let all = mounts.into_iter().map(|mount| self.filesystem(mount));
        let counting = all.filter(|filesystem| {
            !matches(&self.mount_points_exclude, &filesystem.mount_point)
                && !matches(&self.fs_types_exclude, &filesystem.fs_type)
        });
        let mut once = |f: &Filesystem| {
            seen.insert((f.device.clone(), f.mount_point.clone(), f.fs_type.clone()))
        };
        counting.filter(|filesystem| once(filesystem)).collect()
    }

    fn filesystem(&self, mount: Mount) -> Filesystem {
        let point = below(&self.roots.rootfs, &mount.point);
        Filesystem {
            device: mount.device,
            fs_type: mount.fs_type,
            mount_point: point.to_string_lossy().into_owned(),
            path: self.roots.root(&point),
            readonly: mount.readonly,
        }
    }
}

/// A mount point as the host sees it: mounts read from inside a container that has the host's at
/// `/host` begin with that.
fn below(rootfs: &Path, point: &Path) -> PathBuf {
    point.strip_prefix(rootfs).map_or(point.to_owned(), |rest| Path::new("/").join(rest))
}

/// Without an answer, only the error is a sample.
fn push(out: &mut Samples, filesystem: &Filesystem, answer: Option<&Statvfs>) {
    let labels = [
        ("device", filesystem.device.as_str()),
        ("fstype", &filesystem.fs_type),
        ("mountpoint", &filesystem.mount_point),
    ];
    let mut push = |metric: &Metric<'_>, value: f64| out.push(metric, &labels, value);
    push(&DEVICE_ERROR, f64::from(u8::from(answer.is_none())));
    let Some(answer) = answer else { return };
    let unit = answer.fragment_size() as f64;
    push(&SIZE, answer.blocks() as f64 * unit);
    push(&FREE, answer.blocks_free() as f64 * unit);
    push(&AVAIL, answer.blocks_available() as f64 * unit);
    push(&FILES, answer.files() as f64);
    push(&FILES_FREE, answer.files_free() as f64);
    push(&READONLY, f64::from(u8::from(filesystem.readonly)));
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;

    fn selection(rootfs: &str) -> Selection {
        let roots = Roots { rootfs: rootfs.into(), ..Roots::default() };
        let options = BTreeMap::new();
        let context = Context { roots: &roots, options: &options, registration: &REGISTRATION };
        let [points, types] = ["mount_points_exclude", "fs_types_exclude"]
            .map(|key| regex(&context, key).expect("the default is a regular expression"));
        Selection { roots, mount_points_exclude: points, fs_types_exclude: types }
    }

    #[test]
    fn mount_points_are_the_hosts_and_paths_are_ours() {
        let check = |rootfs: &str, point: &str, mount_point: &str, path: &str| {
            let mount = Mount {
                device: "d".into(),
                point: point.into(),
                fs_type: "ext4".into(),
                readonly: false,
            };
            let filesystem = selection(rootfs).filesystem(mount);
            assert_eq!(filesystem.mount_point, mount_point);
            assert_eq!(filesystem.path, Path::new(path));
        };
        check("/", "/", "/", "/");
        check("/", "/home", "/home", "/home");
        check("/host", "/home", "/home", "/host/home");
        check("/host", "/host/home", "/home", "/host/home");
        check("/host", "/host", "/", "/host");
        check("/host", "/hostile", "/hostile", "/host/hostile");
    }

    #[test]
    fn defaults_leave_out_what_is_no_disk() {
        let check = |point: &str, fs_type: &str, counts: bool| {
            let mount = Mount {
                device: "d".into(),
                point: point.into(),
                fs_type: fs_type.into(),
                readonly: false,
            };
            let found = selection("/").filesystems(vec![mount]);
            assert_eq!(!found.is_empty(), counts, "{point} {fs_type}");
        };
        check("/", "ext4", true);
        check("/mnt/disk", "xfs", true);
        check("/run", "tmpfs", true);
        check("/run/credentials/x.service", "ramfs", false);
        check("/dev", "ext4", false);
        check("/device", "ext4", true);
        check("/dev/shm", "tmpfs", false);
        check("/var/lib/docker/overlay2/x", "ext4", false);
        check("/var/lib/docker", "ext4", true);
        check("/", "overlay", false);
        check("/x", "cgroup2", false);
        check("/x", "fuse.overlay", true);
    }

    #[test]
    fn the_same_mount_twice_counts_once() {
        let mount = |device: &str| Mount {
            device: device.into(),
            point: "/x".into(),
            fs_type: "tmpfs".into(),
            readonly: false,
        };
        let found = selection("/").filesystems(vec![mount("a"), mount("b"), mount("a")]);
        assert_eq!(found.iter().map(|f| f.device.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_statvfs_says_is_told_and_what_it_cannot_say_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (rootfs, procfs) = (dir.path().join("root"), dir.path().join("proc"));
        fs::create_dir_all(rootfs.join("a b")).unwrap();
        fs::create_dir_all(procfs.join("1")).unwrap();
        let mounts = "/dev/sda1 /a\\040b ext4 ro 0 0\nd /none xfs rw 0 0\n";
        fs::write(procfs.join("1/mounts"), mounts).unwrap();
        let roots = Roots { procfs, rootfs: rootfs.clone(), ..Roots::default() };
        let mut collector = crate::build(&REGISTRATION, &roots, &BTreeMap::new()).unwrap();
        let mut out = Samples::new("filesystem");
        collector.collect(&mut out).unwrap();
        let (schema, values) = out.finish();
        let series: Vec<_> = schema
            .schema
            .iter()
            .map(|(family, labels)| (family.name.as_str(), labels[2].1.as_str()))
            .collect();
        let names = [DEVICE_ERROR, SIZE, FREE, AVAIL, FILES, FILES_FREE, READONLY].map(|m| m.name);
        assert_eq!(series[..7], names.map(|name| (name, "/a b")));
        assert_eq!(series[7..], [(DEVICE_ERROR.name, "/none")]);
        let expected = statvfs(&rootfs).unwrap();
        assert_eq!(values[1], (expected.blocks() * expected.fragment_size()) as f64);
        assert_eq!((values[0], values[6], values[7]), (0.0, 1.0, 1.0));
    }

    #[test]
    fn mounts_that_change_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("self")).unwrap();
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let mut collector = crate::build(&REGISTRATION, &roots, &BTreeMap::new()).unwrap();
        let mut check = |mounts: &str, expected: Result<usize, &str>| {
            fs::write(dir.path().join("self/mounts"), mounts).unwrap();
            let mut out = Samples::new("filesystem");
            let got = collector.collect(&mut out).map(|()| out.len()).map_err(|e| e.to_string());
            let shown = dir.path().join("self/mounts").display().to_string();
            let got = got.map_err(|error| error.replace(&shown, "MOUNTS"));
            assert_eq!(got, expected.map_err(str::to_owned));
        };
        check("d / ext4 rw 0 0\n", Ok(7));
        check("d / ext4 rw 0 0\n", Ok(7));
        check("d / ext4 rw 0 0\nd /none xfs rw 0 0\n", Ok(8));
        check("d / ext4", Err("MOUNTS: line 1, mount options: missing"));
        check("", Err("MOUNTS: line 1, device: missing"));
        check("d / ext4 rw 0 0\n", Ok(7));
    }
}
