//! Btrfs file systems: `/sys/fs/btrfs`.
//!
//! Of node_exporter's this leaves out what only an `ioctl` on a mount point tells, for which there is no
//! safe wrapper: `node_btrfs_device_unused_bytes`, `node_btrfs_device_errors_total`, and the label
//! `btrfs_dev_uuid` of `node_btrfs_device_size_bytes`; node_exporter without the right to open the mount
//! point leaves out the same. The errors are in `/sys` too since Linux 5.14, by number of the device
//! instead of its name: they are `holdfast_btrfs_device_errors_total`.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Attribute, Field, Fields, Page, Text},
    devices::Devices,
    parse::{ParseError, Words, numbered},
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "btrfs",
    summary: "Space of Btrfs file systems by kind and layout, and errors of their devices.",
    reads: &["/sys/fs/btrfs"],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> = Metric::gauge("node_btrfs_info", "Filesystem information");
const RATIO: Metric<'_> =
    Metric::gauge("node_btrfs_allocation_ratio", "Data allocation ratio for a layout/data type");
const ERRORS: Metric<'_> = Metric::counter(
    "holdfast_btrfs_device_errors_total",
    "Errors reported for the device, by its number in the filesystem",
);
static GLOBAL: [Field; 1] = [Field::new(
    "allocation/global_rsv_size",
    Metric::gauge("node_btrfs_global_rsv_size_bytes", "Size of global reserve."),
)];
static GROUP: [Field; 1] = [Field::new(
    "bytes_reserved",
    Metric::gauge("node_btrfs_reserved_bytes", "Amount of space reserved for a data type"),
)];
static LAYOUT: [Field; 2] = [
    Field::new(
        "used_bytes",
        Metric::gauge("node_btrfs_used_bytes", "Amount of used space by a layout/data type"),
    ),
    Field::new(
        "total_bytes",
        Metric::gauge("node_btrfs_size_bytes", "Amount of space allocated for a layout/data type"),
    ),
];
static DEVICE: [Field; 1] = [Field {
    attribute: "size",
    metric: Metric::gauge(
        "node_btrfs_device_size_bytes",
        "Size of a device that is part of the filesystem.",
    ),
    divisor: SECTORS_PER_BYTE,
}];
const SECTORS_PER_BYTE: f64 = 1.0 / 512.0;
const GROUPS: [&str; 3] = ["data", "metadata", "system"];

struct Btrfs {
    filesystems: Devices<Filesystem>,
    page: Page,
}

struct Filesystem {
    directory: String,
    uuid: Text,
    label: Text,
    global: Fields,
    groups: [Group; GROUPS.len()],
    devices: Devices<(String, Fields)>,
    errors: Devices<(String, Attribute)>,
}

/// What space is for.
struct Group {
    fields: Fields,
    layouts: Devices<(String, Fields)>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let filesystems = Devices::new(context.roots.sys("fs/btrfs"));
    Ok(Box::new(Btrfs { filesystems, page: Page::default() }))
}

impl Collector for Btrfs {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { filesystems, page } = self;
        // the others are `features` and the like
        let current = filesystems
            .current(|name, path| name.contains('-').then(|| Filesystem::discover(name, path)))?;
        for filesystem in current {
            filesystem.push(page, out);
        }
        Ok(())
    }
}

impl Filesystem {
    fn discover(name: &str, path: &Path) -> Self {
        Self {
            directory: name.to_owned(),
            uuid: Text::new(path.join("metadata_uuid")),
            label: Text::new(path.join("label")),
            global: Fields::of(path, &GLOBAL),
            groups: GROUPS.map(|group| {
                let path = path.join("allocation").join(group);
                Group { fields: Fields::of(&path, &GROUP), layouts: Devices::new(path) }
            }),
            devices: Devices::new(path.join("devices")),
            errors: Devices::new(path.join("devinfo")),
        }
    }

    fn push(&mut self, page: &mut Page, out: &mut Samples) {
        let Self { directory, uuid, label, global, groups, devices, errors } = self;
        uuid.refresh(page);
        label.refresh(page);
        // kernels before 5.0 don't tell it
        let uuid = if uuid.value().is_empty() { directory } else { uuid.value() };
        out.push(&INFO, &[("label", label.value()), ("uuid", uuid)], 1.0);
        global.push(&[("uuid", uuid)], page, out);
        let devices = devices
            .current_or_none(|name, path| Some((name.to_owned(), Fields::of(path, &DEVICE))));
        let device_count = devices.len();
        for (device, fields) in devices {
            fields.push(&[("device", device), ("uuid", uuid)], page, out);
        }
        for (group, name) in groups.iter_mut().zip(GROUPS) {
            group.push((name, uuid, device_count), page, out);
        }
        let errors = errors.current_or_none(|name, path| {
            let path = path.join("error_stats");
            path.is_file().then(|| (name.to_owned(), Attribute::new(path)))
        });
        for (device, attribute) in errors {
            push_errors(attribute, (device, uuid), page, out);
        }
    }
}

impl Group {
    fn push(
        &mut self,
        (name, uuid, devices): (&str, &str, usize),
        page: &mut Page,
        out: &mut Samples,
    ) {
        self.fields.push(&[("block_group_type", name), ("uuid", uuid)], page, out);
        let layouts = self.layouts.current_or_none(|name, path| {
            path.is_dir().then(|| (name.to_owned(), Fields::of(path, &LAYOUT)))
        });
        for (mode, fields) in layouts {
            let labels = [("block_group_type", name), ("mode", &**mode), ("uuid", uuid)];
            fields.push(&labels, page, out);
            if let Some(ratio) = ratio(mode, devices) {
                out.push(&RATIO, &labels, ratio);
            }
        }
    }
}

/// How many bytes of disk a byte takes; `None` for a layout that isn't known.
fn ratio(layout: &str, devices: usize) -> Option<f64> {
    let devices = devices as f64;
    let with_parity = |parity: f64| (devices > parity).then(|| devices / (devices - parity));
    match layout {
        "single" | "raid0" => Some(1.0),
        "dup" | "raid1" | "raid10" => Some(2.0),
        "raid1c3" => Some(3.0),
        "raid1c4" => Some(4.0),
        "raid5" => with_parity(1.0),
        "raid6" => with_parity(2.0),
        _ => None,
    }
}

fn push_errors(
    attribute: &mut Attribute,
    (device, uuid): (&str, &str),
    page: &mut Page,
    out: &mut Samples,
) {
    let Ok(text) = attribute.read(page) else { return };
    let parsed = errors(text, |kind, count| {
        out.push(&ERRORS, &[("devid", device), ("type", kind), ("uuid", uuid)], count as f64);
    });
    if let Err(error) = parsed {
        out.remark(&format!("{}: {error}", attribute.path().display()));
    }
}

/// Lines such as `write_errs 0`. The kernel writes `invalid` until it has read what the disk has of it.
fn errors(text: &str, mut each: impl FnMut(&str, u64)) -> Result<(), ParseError> {
    if text == "invalid" {
        return Ok(());
    }
    for (line, text) in numbered(text) {
        let mut words = Words::new(line, text);
        let name = words.word("kind")?;
        let kind = name.strip_suffix("_errs");
        let kind = kind.ok_or_else(|| ParseError::new(line, "kind", "not a number of errors"))?;
        each(kind, words.number("errors")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const STATS: &str =
        "write_errs 3\nread_errs 0\nflush_errs 0\ncorruption_errs 12\ngeneration_errs 1\n";

    #[test]
    fn layouts_have_a_ratio() {
        let check = |layout: &str, devices: usize, expected: Option<f64>| {
            assert_eq!(ratio(layout, devices), expected, "{layout} {devices}");
        };
        check("single", 1, Some(1.0));
        check("raid10", 4, Some(2.0));
        check("raid1c4", 4, Some(4.0));
        check("raid5", 3, Some(1.5));
        check("raid6", 4, Some(2.0));
        check("raid5", 1, None);
        check("raid6", 0, None);
        check("raid7", 3, None);
    }

    #[test]
    fn errors_are_read_or_the_line_is_named() {
        let check = |text: &str, expected: &str| {
            let mut counts = Vec::new();
            let read = errors(text, |kind, count| counts.push(format!("{kind} {count}")));
            let got = read.map_or_else(|error| error.to_string(), |()| counts.join(", "));
            assert_eq!(got, expected, "{text}");
        };
        check(STATS, "write 3, read 0, flush 0, corruption 12, generation 1");
        check("invalid", "");
        check("", "");
        check("write_errs", "line 1, errors: missing");
        check("write_errs 0\nread_errs x", "line 2, errors: \"x\" is not a number, or too large");
        check("writes 0", "line 1, kind: not a number of errors");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in kernel_text(STATS)) {
            let _ = errors(&text, |_, _| {});
        }
    }
}
