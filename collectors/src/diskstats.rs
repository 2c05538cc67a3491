//! Block devices: `/proc/diskstats`, and what udev knows of them.
//!
//! Times are divided by 1000 (node_exporter multiplies by 0.001), so that they are the decimals that
//! the kernel counted; the difference is in the last bit.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};

use crate::{
    filter::DeviceFilter,
    parse::{ParseError, Words, number, numbered},
    reader::KeptFile,
    udev::{Properties, Udev},
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "diskstats",
    summary: "Reads, writes, discards and flushes of block devices, and what they are.",
    reads: &["/proc/diskstats", "/run/udev/data"],
    default_enabled: true,
    options: &[
        OptionSpec {
            key: "device_exclude",
            default: r"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
            doc: "Regular expression of devices to leave out.",
        },
        OptionSpec {
            key: "device_include",
            default: "",
            doc: "Regular expression of the only devices to take, instead of device_exclude.",
        },
    ],
    build,
};

const INFO: Metric<'_> = Metric::gauge("node_disk_info", "Info of /sys/block/<block_device>.");
const FILESYSTEM_INFO: Metric<'_> =
    Metric::gauge("node_disk_filesystem_info", "Info about disk filesystem.");
const DEVICE_MAPPER_INFO: Metric<'_> =
    Metric::gauge("node_disk_device_mapper_info", "Info about disk device mapper.");
const ATA_WRITE_CACHE: Metric<'_> =
    Metric::gauge("node_disk_ata_write_cache", "ATA disk has a write cache.");
const ATA_WRITE_CACHE_ENABLED: Metric<'_> =
    Metric::gauge("node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled.");
const ATA_ROTATION_RATE: Metric<'_> = Metric::gauge(
    "node_disk_ata_rotation_rate_rpm",
    "ATA disk rotation rate in RPMs (0 for SSDs).",
);

/// What the kernel counts in.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Pieces,
    /// Of 512 bytes, whatever the device's own are.
    Sectors,
    Milliseconds,
}

impl Unit {
    fn value(self, count: u64) -> f64 {
        match self {
            Self::Pieces => count as f64,
            Self::Sectors => count as f64 * 512.0,
            Self::Milliseconds => count as f64 / 1000.0,
        }
    }
}

/// The columns after the device's name, in order: the kernel's `Documentation/admin-guide/iostats.rst`.
/// Kernels before 4.18 end after eleven, before 5.5 after fifteen.
const COLUMNS: [(Metric<'_>, Unit); 17] = [
    counter(
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
        Unit::Pieces,
    ),
    counter("node_disk_reads_merged_total", "The total number of reads merged.", Unit::Pieces),
    counter(
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
        Unit::Sectors,
    ),
    counter(
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
        Unit::Milliseconds,
    ),
    counter(
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
        Unit::Pieces,
    ),
    counter("node_disk_writes_merged_total", "The number of writes merged.", Unit::Pieces),
    counter(
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
        Unit::Sectors,
    ),
    counter(
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        Unit::Milliseconds,
    ),
    (Metric::gauge("node_disk_io_now", "The number of I/Os currently in progress."), Unit::Pieces),
    counter(
        "node_disk_io_time_seconds_total",
        "Total seconds spent doing I/Os.",
        Unit::Milliseconds,
    ),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "The weighted # of seconds spent doing I/Os.",
        Unit::Milliseconds,
    ),
    counter(
        "node_disk_discards_completed_total",
        "The total number of discards completed successfully.",
        Unit::Pieces,
    ),
    counter(
        "node_disk_discards_merged_total",
        "The total number of discards merged.",
        Unit::Pieces,
    ),
    counter(
        "node_disk_discarded_sectors_total",
        "The total number of sectors discarded successfully.",
        Unit::Pieces,
    ),
    counter(
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
        Unit::Milliseconds,
    ),
    counter(
        "node_disk_flush_requests_total",
        "The total number of flush requests completed successfully",
        Unit::Pieces,
    ),
    counter(
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        Unit::Milliseconds,
    ),
];
/// What every kernel since 2.6 has for a disk.
const COLUMNS_MIN: usize = 11;

const fn counter(name: &'static str, help: &'static str, unit: Unit) -> (Metric<'static>, Unit) {
    (Metric::counter(name, help), unit)
}

struct Diskstats {
    file: KeptFile,
    filter: DeviceFilter,
    udev: Udev,
}

/// One device's line.
#[derive(Debug, PartialEq, Eq)]
struct Disk<'a> {
    major: &'a str,
    minor: &'a str,
    /// Major and minor number.
    numbers: (u64, u64),
    device: &'a str,
    counts: [u64; COLUMNS.len()],
    /// How many of `counts` this kernel has.
    columns: usize,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Diskstats {
        file: KeptFile::new(context.roots.proc("diskstats")),
        filter: DeviceFilter::from_options(context)?,
        udev: Udev::new(context.roots),
    }))
}

impl Collector for Diskstats {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let diskstats = self.file.text()?;
        for disk in parse(diskstats.content) {
            let disk = disk.map_err(|error| diskstats.malformed(&error))?;
            if self.filter.takes(disk.device) {
                push(out, &disk, self.udev.properties(disk.numbers.0, disk.numbers.1));
            }
        }
        self.udev.forget_others();
        Ok(())
    }
}

fn push(out: &mut Samples, disk: &Disk<'_>, udev: &Properties) {
    let device = disk.device;
    let info = [
        ("device", device),
        ("major", disk.major),
        ("minor", disk.minor),
        ("model", &udev.model),
        ("path", &udev.path),
        ("revision", &udev.revision),
        ("serial", &udev.serial),
        ("wwn", &udev.wwn),
    ];
    out.push(&INFO, &info, 1.0);
    for ((metric, unit), count) in COLUMNS.iter().zip(disk.counts).take(disk.columns) {
        out.push(metric, &[("device", device)], unit.value(count));
    }
    push_filesystem(out, device, udev);
    push_device_mapper(out, device, udev);
    push_ata(out, device, udev);
}

fn push_filesystem(out: &mut Samples, device: &str, udev: &Properties) {
    if udev.fs_type.is_empty() {
        return;
    }
    let labels = [
        ("device", device),
        ("type", &udev.fs_type),
        ("usage", &udev.fs_usage),
        ("uuid", &udev.fs_uuid),
        ("version", &udev.fs_version),
    ];
    out.push(&FILESYSTEM_INFO, &labels, 1.0);
}

fn push_device_mapper(out: &mut Samples, device: &str, udev: &Properties) {
    if udev.dm_name.is_empty() {
        return;
    }
    let labels = [
        ("device", device),
        ("lv_layer", &udev.dm_lv_layer),
        ("lv_name", &udev.dm_lv_name),
        ("name", &udev.dm_name),
        ("uuid", &udev.dm_uuid),
        ("vg_name", &udev.dm_vg_name),
    ];
    out.push(&DEVICE_MAPPER_INFO, &labels, 1.0);
}

/// A value that is absent or no number is left out, as node_exporter does.
fn push_ata(out: &mut Samples, device: &str, udev: &Properties) {
    if udev.ata.is_empty() {
        return;
    }
    let values = [
        (ATA_WRITE_CACHE, &udev.ata_write_cache),
        (ATA_WRITE_CACHE_ENABLED, &udev.ata_write_cache_enabled),
        (ATA_ROTATION_RATE, &udev.ata_rotation_rate_rpm),
    ];
    for (metric, value) in &values {
        if let Ok(value) = value.parse() {
            out.push(metric, &[("device", device)], value);
        }
    }
}

fn parse(text: &str) -> impl Iterator<Item = Result<Disk<'_>, ParseError>> {
    numbered(text).map(|(index, line)| parse_line(index, line))
}

fn parse_line(index: usize, line: &str) -> Result<Disk<'_>, ParseError> {
    let mut words = Words::new(index, line);
    let (major, minor) = (words.word("major")?, words.word("minor")?);
    let numbers = (number(index, "major", major)?, number(index, "minor", minor)?);
    let device = words.word("device")?;
    let (mut counts, mut columns) = ([0; COLUMNS.len()], 0);
    for (count, (metric, _)) in counts.iter_mut().zip(&COLUMNS) {
        let Some(value) = words.maybe_number(metric.name)? else { break };
        *count = value;
        columns += 1;
    }
    if columns < COLUMNS_MIN {
        return Err(ParseError::new(index, COLUMNS[columns].0.name, "missing"));
    }
    Ok(Disk { major, minor, numbers, device, counts, columns })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const DISKSTATS: &str = "\
   8       0 sda 1 2 3 4 5 6 7 8 9 10 11
 259       0 nvme0n1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
 254      16 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18
";

    fn read(text: &str) -> Result<Vec<(String, usize)>, String> {
        let disk = |disk: Result<Disk<'_>, ParseError>| {
            disk.map(|d| (format!("{}:{} {}", d.major, d.minor, d.device), d.columns))
        };
        parse(text).map(disk).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_read_or_the_field_is_named() {
        let check = |text: &str, expected: Result<&[(&str, usize)], &str>| {
            let own = |(disk, columns): &(&str, usize)| ((*disk).to_owned(), *columns);
            let expected = expected.map(|disks| disks.iter().map(own).collect::<Vec<_>>());
            assert_eq!(read(text), expected.map_err(str::to_owned), "{text:?}");
        };
        check(DISKSTATS, Ok(&[("8:0 sda", 11), ("259:0 nvme0n1", 15), ("254:16 vda", 17)]));
        check("", Ok(&[]));
        check("8 0", Err("line 1, device: missing"));
        check("8 x sda 1", Err("line 1, minor: \"x\" is not a number, or too large"));
        check(
            "8 0 sda 1 2 3 4 5 6 7 8 9 10",
            Err("line 1, node_disk_io_time_weighted_seconds_total: missing"),
        );
        check(
            "8 0 sda 1 2 -3",
            Err("line 1, node_disk_read_bytes_total: \"-3\" is not a number, or too large"),
        );
    }

    #[test]
    fn units_are_seconds_and_bytes() {
        let check = |unit: Unit, count, expected: f64| assert_eq!(unit.value(count), expected);
        check(Unit::Pieces, 49_053, 49_053.0);
        check(Unit::Sectors, 3, 1536.0);
        check(Unit::Milliseconds, 49_053, 49.053);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(DISKSTATS)) {
            let _ = read(&text);
        }
    }
}
