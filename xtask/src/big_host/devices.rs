//! Mounts, interfaces, disks, sensors and sockets.

use std::{fs, io};

use super::{Size, Tree, lines};

pub(super) fn write(tree: &Tree<'_>, size: &Size) -> io::Result<()> {
    mounts(tree, size.mounts)?;
    interfaces(tree, size.interfaces)?;
    disks(tree, size.disks)?;
    sensors(tree, size.sensors)?;
    sockets(tree, size.sockets)
}

fn mounts(tree: &Tree<'_>, count: usize) -> io::Result<()> {
    for mount in 0..count {
        fs::create_dir_all(tree.0.join(format!("root/mnt/volume{mount}")))?;
    }
    let line = |mount| format!("/dev/vg1/lv{mount} /mnt/volume{mount} ext4 rw,relatime 0 0\n");
    tree.append("proc/1/mounts", &lines(count, line))
}

fn interfaces(tree: &Tree<'_>, count: usize) -> io::Result<()> {
    let traffic = |interface| {
        format!(
            " port{interface}: {} 53 1 2 3 4 5 6 36411 53 1 2 3 4 5 6\n",
            1_000_000_007 + interface
        )
    };
    tree.append("proc/net/dev", &lines(count, traffic))?;
    let neighbour = |interface| {
        let address = format!("198.51.100.{}", interface % 250);
        format!("{address:<16} 0x1 0x2 02:00:00:00:00:01 * port{interface}\n")
    };
    tree.append("proc/net/arp", &lines(count, neighbour))?;
    (0..count).try_for_each(|interface| {
        let numbers = [
            "addr_assign_type",
            "carrier",
            "carrier_changes",
            "carrier_up_count",
            "carrier_down_count",
            "dev_id",
            "dormant",
            "flags",
            "ifindex",
            "iflink",
            "link_mode",
            "mtu",
            "name_assign_type",
            "netdev_group",
            "speed",
            "tx_queue_len",
            "type",
        ];
        let numbers = numbers.iter().map(|name| (*name, format!("{interface}\n")));
        let texts = [
            ("address", format!("02:00:00:00:{:02x}:{:02x}\n", interface / 256, interface % 256)),
            ("broadcast", "ff:ff:ff:ff:ff:ff\n".to_owned()),
            ("duplex", "full\n".to_owned()),
            ("ifalias", "\n".to_owned()),
            ("operstate", "up\n".to_owned()),
        ];
        let attributes: Vec<_> = numbers.chain(texts).collect();
        tree.attributes(&format!("sys/class/net/port{interface}"), &attributes)
    })
}

/// Device mapper's, of which there are more than there are letters.
fn disks(tree: &Tree<'_>, count: usize) -> io::Result<()> {
    const FIRST_MINOR: usize = 5_000;
    let counts = |disk| {
        let (minor, reads) = (FIRST_MINOR + disk, 25_354_637 + disk);
        format!(
            " 253 {minor} dm-{minor} {reads} 3 1003346126 18 28444756 11 505697032 63 3 965 82 0 0 0 0 4711 8\n"
        )
    };
    tree.append("proc/diskstats", &lines(count, counts))?;
    (0..count).try_for_each(|disk| {
        let minor = FIRST_MINOR + disk;
        let known = format!(
            "E:DM_NAME=vg1-lv{disk}\nE:DM_VG_NAME=vg1\nE:DM_LV_NAME=lv{disk}\n\
             E:ID_FS_TYPE=ext4\nE:ID_FS_USAGE=filesystem\nE:ID_FS_VERSION=1.0\n"
        );
        tree.file(&format!("root/run/udev/data/b253:{minor}"), &known)
    })
}

fn sensors(tree: &Tree<'_>, count: usize) -> io::Result<()> {
    let mut attributes = vec![("name".to_owned(), "manycores\n".to_owned())];
    for sensor in 1..=count {
        attributes.push((format!("temp{sensor}_input"), format!("{}\n", 41_000 + sensor)));
        attributes.push((format!("temp{sensor}_label"), format!("Core {sensor}\n")));
        attributes.push((format!("temp{sensor}_max"), "84000\n".to_owned()));
    }
    let attributes: Vec<_> =
        attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    tree.attributes("sys/class/hwmon/hwmon100", &attributes)
}

fn sockets(tree: &Tree<'_>, count: usize) -> io::Result<()> {
    let socket = |state: &'static str| {
        move |socket: usize| {
            let queues = "00000010:000001F0 00:00000000 00000000     0        0";
            format!("{socket:>5}: 0100007F:0143 00000000:0000 {state} {queues} {socket} 2 0 0\n")
        }
    };
    tree.append("proc/net/udp", &lines(count, socket("07")))?;
    tree.append("proc/net/tcp", &lines(count, socket("01")))
}
