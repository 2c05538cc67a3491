//! Which runtime's container this is, by the traces that runtimes leave.
//!
//! In this order: kernels of containers that are machines to their users (WSL, OpenVZ); what the
//! container's own init wrote (`/run/systemd/container`), or its manager left to it
//! (`/run/host/container-manager`, `/proc/1/environ` where that may be read); the control group of
//! process 1, unless a namespace hides it; the file system below `/`; the files `/run/.containerenv`
//! and `/.dockerenv`.
//!
//! Those last ones prove little, for an image that becomes a machine's disk brings them along: where
//! process 2 is the kernel's `kthreadd`, `/proc` is the whole machine's, and they don't count.

use agent_core::Roots;

use super::{exists, head};

/// Parts of control groups, and the runtime that names them so.
const GROUPS: [(&str, &str); 8] = [
    ("cri-containerd", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-", "podman"),
    ("docker", "docker"),
    ("containerd", "containerd"),
    ("kubepods", "kubernetes"),
    ("lxc.payload", "lxc"),
    ("/lxc/", "lxc"),
];
/// Where runtimes keep the layers of images.
const LAYERS: [(&str, &str); 3] =
    [("/docker/", "docker"), ("/containerd/", "containerd"), ("/containers/storage/", OTHER)];
const OTHER: &str = "container-other";
/// Longest name of a runtime that is taken as it stands.
const NAME_BYTES_MAX: usize = 32;

/// The runtime, if this is a container.
pub(super) fn detect(roots: &Roots) -> Option<String> {
    let kernel = head(roots.proc("sys/kernel/osrelease")).unwrap_or_default();
    if kernel.contains("Microsoft") || kernel.contains("WSL") {
        return Some("wsl".to_owned());
    }
    if exists(roots.proc("vz")) && !exists(roots.proc("bc")) {
        return Some("openvz".to_owned());
    }
    of_manager(roots)
        .or_else(|| of_group(roots).or_else(|| of_layers(roots)).map(str::to_owned))
        .or_else(|| of_files(roots).map(str::to_owned))
}

/// What the container's manager told it.
fn of_manager(roots: &Roots) -> Option<String> {
    let files = ["/run/systemd/container", "/run/host/container-manager"];
    let environ = || {
        let variables = head(roots.proc("1/environ"))?;
        let mut variables = variables.split('\0');
        variables.find_map(|one| one.strip_prefix("container=").map(str::to_owned))
    };
    let told = files.iter().find_map(|file| head(roots.root(file))).or_else(environ)?;
    (!told.is_empty()).then(|| if is_name(&told) { told } else { OTHER.to_owned() })
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= NAME_BYTES_MAX && text.bytes().all(plain)
}

fn of_group(roots: &Roots) -> Option<&'static str> {
    let groups = head(roots.proc("1/cgroup"))?;
    GROUPS.iter().find(|(part, _)| groups.contains(part)).map(|(_, runtime)| *runtime)
}

/// The layers that `/` is put together from.
fn of_layers(roots: &Roots) -> Option<&'static str> {
    let mounts = head(roots.proc("1/mounts"))?;
    let options = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        (point == "/" && kind == "overlay").then_some(options)
    })?;
    LAYERS.iter().find(|(part, _)| options.contains(part)).map(|(_, runtime)| *runtime)
}

fn of_files(roots: &Roots) -> Option<&'static str> {
    if head(roots.proc("2/comm")).as_deref() == Some("kthreadd") {
        return None;
    }
    let files = [("/run/.containerenv", "podman"), ("/.dockerenv", "docker")];
    let file = files.iter().find(|(file, _)| exists(roots.root(file)));
    file.map(|(_, runtime)| *runtime)
}

#[cfg(test)]
mod tests {
    use super::super::tests::detect;

    #[test]
    fn runtimes_are_told_apart() {
        let check = |files: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(detect(files).container.as_deref(), expected, "{files:?}");
        };
        fn group(text: &str) -> (&str, &str) {
            ("proc/1/cgroup", text)
        }
        fn mounts(text: &str) -> (&str, &str) {
            ("proc/1/mounts", text)
        }
        check(&[], None);
        check(&[group("0::/init.scope\n"), mounts("/dev/sda1 / ext4 rw 0 0\n")], None);
        check(&[("root/run/systemd/container", "systemd-nspawn\n")], Some("systemd-nspawn"));
        check(&[("root/run/systemd/container", "odd name\n")], Some("container-other"));
        check(&[("root/run/systemd/container", "\n")], None);
        check(&[("root/run/host/container-manager", "lxc\n")], Some("lxc"));
        check(&[("proc/1/environ", "A=1\0container=oci\0")], Some("oci"));
        check(&[("proc/1/environ", "A=1\0")], None);
        check(&[group("12:pids:/docker/0123456789ab\n0::/system.slice\n")], Some("docker"));
        check(&[group("4:memory:/lxc/web\n")], Some("lxc"));
        check(&[group("0::/machine.slice/libpod-0123.scope/container\n")], Some("podman"));
        let pod = "/kubepods.slice/kubepods-pod1.slice";
        check(&[group(&format!("0::{pod}/cri-containerd-01.scope\n"))], Some("containerd"));
        check(&[group(&format!("0::{pod}/crio-01.scope\n"))], Some("cri-o"));
        check(&[group("3:cpu:/kubepods/besteffort/pod1/0123\n")], Some("kubernetes"));
        let layers = |directory: &str| {
            format!("overlay / overlay rw,relatime,lowerdir={directory}/1/fs,workdir=/w 0 0\n")
        };
        check(&[mounts(&layers("/var/lib/docker/overlay2"))], Some("docker"));
        check(&[mounts(&layers("/var/lib/containerd/snapshots"))], Some("containerd"));
        check(&[mounts(&layers("/var/lib/containers/storage/overlay"))], Some("container-other"));
        // an installer's own layers
        check(&[mounts(&layers("/cow"))], None);
        check(&[("root/.dockerenv", "")], Some("docker"));
        check(&[("root/run/.containerenv", "engine=\"podman-5\"")], Some("podman"));
        // a machine's disk that was once an image
        check(&[("root/.dockerenv", ""), ("proc/2/comm", "kthreadd\n")], None);
        check(&[("root/.dockerenv", ""), ("proc/2/comm", "nginx\n")], Some("docker"));
        let kernel = |text| ("proc/sys/kernel/osrelease", text);
        check(&[kernel("5.15.90.1-microsoft-standard-WSL2\n")], Some("wsl"));
        check(&[kernel("6.1.0-18-amd64\n")], None);
        check(&[("proc/vz/veinfo", "")], Some("openvz"));
        check(&[("proc/vz/veinfo", ""), ("proc/bc/0", "")], None);
    }
}
