//! Pressure stall information: `/proc/pressure/{cpu,io,memory}`.
//!
//! A kernel built without it has no such files; one where it is switched off (`psi=0`) has files that
//! answer "operation not supported". Either way there is none on this machine.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, number, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "pressure",
    summary: "Time that processes waited for CPU, memory and I/O.",
    reads: &["/proc/pressure"],
    default_enabled: true,
    options: &[],
    build,
};

const CPU_WAITING: Metric<'_> = Metric::counter(
    "node_pressure_cpu_waiting_seconds_total",
    "Total time in seconds that processes have waited for CPU time",
);
const IO_WAITING: Metric<'_> = Metric::counter(
    "node_pressure_io_waiting_seconds_total",
    "Total time in seconds that processes have waited due to IO congestion",
);
const IO_STALLED: Metric<'_> = Metric::counter(
    "node_pressure_io_stalled_seconds_total",
    "Total time in seconds no process could make progress due to IO congestion",
);
const MEMORY_WAITING: Metric<'_> = Metric::counter(
    "node_pressure_memory_waiting_seconds_total",
    "Total time in seconds that processes have waited for memory",
);
const MEMORY_STALLED: Metric<'_> = Metric::counter(
    "node_pressure_memory_stalled_seconds_total",
    "Total time in seconds no process could make progress due to memory congestion",
);

/// A resource's file, what its line `some` means, and `full`. For the CPU, `full` says nothing about
/// the whole system.
const RESOURCES: [(&str, Metric<'_>, Option<Metric<'_>>); 3] = [
    ("cpu", CPU_WAITING, None),
    ("io", IO_WAITING, Some(IO_STALLED)),
    ("memory", MEMORY_WAITING, Some(MEMORY_STALLED)),
];

const MICROSECONDS_PER_SECOND: f64 = 1e6;

struct Pressure {
    files: [KeptFile; RESOURCES.len()],
}

/// Microseconds since the start of the system.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    some: Option<u64>,
    full: Option<u64>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |(resource, _, _)| KeptFile::new(context.roots.proc("pressure").join(resource));
    Ok(Box::new(Pressure { files: RESOURCES.map(file) }))
}

impl Collector for Pressure {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        for ((_, some, full), file) in RESOURCES.iter().zip(&mut self.files) {
            let pressure = file.text()?;
            let totals = parse(pressure.content).map_err(|error| pressure.malformed(&error))?;
            let mut push = |metric: &Metric<'_>, total: Option<u64>, field: &'static str| {
                let total = total.ok_or_else(|| {
                    pressure.malformed(&ParseError::new(1, field, "no such line before the end"))
                })?;
                out.push(metric, &[], total as f64 / MICROSECONDS_PER_SECOND);
                Ok(())
            };
            push(some, totals.some, "some")?;
            if let Some(full) = full {
                push(full, totals.full, "full")?;
            }
        }
        Ok(())
    }
}

/// The totals of `some … total=n` and `full … total=n`; lines of other names are passed over.
fn parse(text: &str) -> Result<Totals, ParseError> {
    let mut totals = Totals::default();
    for (index, line) in numbered(text) {
        if let Some(line) = line.strip_prefix("some ") {
            totals.some = Some(parse_total(index, line)?);
        } else if let Some(line) = line.strip_prefix("full ") {
            totals.full = Some(parse_total(index, line)?);
        }
    }
    Ok(totals)
}

fn parse_total(index: usize, line: &str) -> Result<u64, ParseError> {
    let total = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="));
    number(index, "total", total.ok_or_else(|| ParseError::new(index, "total", "missing"))?)
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const IO: &str = "\
some avg10=0.02 avg60=0.05 avg300=0.23 total=12697539
full avg10=0.02 avg60=0.05 avg300=0.23 total=12205824
";

    #[test]
    fn totals_are_read_or_the_line_is_named() {
        let check = |text: &str, expected: Result<(Option<u64>, Option<u64>), &str>| {
            let got = parse(text).map(|totals| (totals.some, totals.full));
            assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        };
        check(IO, Ok((Some(12_697_539), Some(12_205_824))));
        check("some total=1\nmost total=x\n", Ok((Some(1), None)));
        check("", Ok((None, None)));
        check("some avg10=0.02", Err("line 1, total: missing"));
        check("\nfull total=", Err("line 2, total: \"\" is not a number, or too large"));
    }

    #[test]
    fn switched_off_is_unavailable() {
        const EOPNOTSUPP: i32 = 95;
        let error = io::Error::from_raw_os_error(EOPNOTSUPP);
        let error = CollectError::from_io(Path::new("/proc/pressure/cpu"), &error);
        assert!(matches!(error, CollectError::Unavailable { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(IO)) {
            let _ = parse(&text);
        }
    }
}
