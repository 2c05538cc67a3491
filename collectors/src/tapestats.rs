//! Tape drives: `/sys/class/scsi_tape/st*/stats`.
//!
//! A drive has several names (`st0`, `nst0`, `st0a`, …); the plain one counts. What the attributes mean:
//! the kernel's Documentation/ABI/testing/sysfs-class-scsi_tape.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use regex_lite::Regex;

use crate::{
    attribute::{Field, Fields, Page},
    devices::Devices,
    filter::regex,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "tapestats",
    summary: "Bytes, requests and times of tape drives.",
    reads: &["/sys/class/scsi_tape"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "ignored_devices",
        default: "^$",
        doc: "Regular expression of tape drives to leave out.",
    }],
    build,
};

const NANOSECONDS: f64 = 1e9;

static NUMBERS: [Field; 10] = [
    Field::new(
        "stats/in_flight",
        Metric::gauge(
            "node_tape_io_now",
            "The number of I/Os currently outstanding to this device.",
        ),
    ),
    Field {
        attribute: "stats/io_ns",
        metric: Metric::counter(
            "node_tape_io_time_seconds_total",
            "The amount of time spent waiting for all I/O to complete (including read and write). This includes tape movement commands such as seeking between file or set marks and implicit tape movement such as when rewind on close tape devices are used.",
        ),
        divisor: NANOSECONDS,
    },
    Field::new(
        "stats/other_cnt",
        Metric::counter(
            "node_tape_io_others_total",
            "The number of I/Os issued to the tape drive other than read or write commands. The time taken to complete these commands uses the following calculation io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
        ),
    ),
    Field::new(
        "stats/read_byte_cnt",
        Metric::counter(
            "node_tape_read_bytes_total",
            "The number of bytes read from the tape drive.",
        ),
    ),
    Field::new(
        "stats/read_cnt",
        Metric::counter(
            "node_tape_reads_completed_total",
            "The number of read requests issued to the tape drive.",
        ),
    ),
    Field {
        attribute: "stats/read_ns",
        metric: Metric::counter(
            "node_tape_read_time_seconds_total",
            "The amount of time spent waiting for read requests to complete.",
        ),
        divisor: NANOSECONDS,
    },
    Field::new(
        "stats/resid_cnt",
        Metric::counter(
            "node_tape_residual_total",
            "The number of times during a read or write we found the residual amount to be non-zero. This should mean that a program is issuing a read larger thean the block size on tape. For write not all data made it to tape.",
        ),
    ),
    Field::new(
        "stats/write_byte_cnt",
        Metric::counter(
            "node_tape_written_bytes_total",
            "The number of bytes written to the tape drive.",
        ),
    ),
    Field::new(
        "stats/write_cnt",
        Metric::counter(
            "node_tape_writes_completed_total",
            "The number of write requests issued to the tape drive.",
        ),
    ),
    Field {
        attribute: "stats/write_ns",
        metric: Metric::counter(
            "node_tape_write_time_seconds_total",
            "The amount of time spent waiting for write requests to complete.",
        ),
        divisor: NANOSECONDS,
    },
];

struct Tapestats {
    drives: Devices<(String, Fields)>,
    ignored: Option<Regex>,
    page: Page,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Tapestats {
        drives: Devices::new(context.roots.sys("class/scsi_tape")),
        ignored: regex(context, "ignored_devices")?,
        page: Page::default(),
    }))
}

impl Collector for Tapestats {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { drives, ignored, page } = self;
        let drives = drives.current(|name, path| {
            let is_ignored = ignored.as_ref().is_some_and(|regex| regex.is_match(name));
            (is_drive(name) && !is_ignored).then(|| (name.to_owned(), Fields::of(path, &NUMBERS)))
        })?;
        for (device, numbers) in drives {
            numbers.push(&[("device", device)], page, out);
        }
        Ok(())
    }
}

fn is_drive(name: &str) -> bool {
    let number = name.strip_prefix("st").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_drive;

    #[test]
    fn a_drive_counts_once() {
        let check = |name: &str, expected: bool| assert_eq!(is_drive(name), expected, "{name}");
        check("st0", true);
        check("st12", true);
        check("st", false);
        check("nst0", false);
        check("st0a", false);
        check("st0m", false);
    }
}
