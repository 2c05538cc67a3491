//! The scheduler: `/proc/schedstat`, a line a CPU. A kernel built without it has no such file.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "schedstat",
    summary: "Time that processes ran and waited on each CPU, and how often they were switched in.",
    reads: &["/proc/schedstat"],
    default_enabled: true,
    options: &[],
    build,
};

const RUNNING: Metric<'_> = Metric::counter(
    "node_schedstat_running_seconds_total",
    "Number of seconds CPU spent running a process.",
);
const WAITING: Metric<'_> = Metric::counter(
    "node_schedstat_waiting_seconds_total",
    "Number of seconds spent by processing waiting for this CPU.",
);
const TIMESLICES: Metric<'_> =
    Metric::counter("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.");

const NANOSECONDS_PER_SECOND: f64 = 1e9;
/// Columns before ours.
const SKIPPED: usize = 6;

struct Schedstat {
    file: KeptFile,
}

/// One CPU's line.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    cpu: &'a str,
    running_ns: u64,
    waiting_ns: u64,
    timeslices: u64,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Schedstat { file: KeptFile::new(context.roots.proc("schedstat")) }))
}

impl Collector for Schedstat {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let schedstat = self.file.text()?;
        for line in parse(schedstat.content) {
            let line = line.map_err(|error| schedstat.malformed(&error))?;
            let labels = [("cpu", line.cpu)];
            out.push(&RUNNING, &labels, line.running_ns as f64 / NANOSECONDS_PER_SECOND);
            out.push(&WAITING, &labels, line.waiting_ns as f64 / NANOSECONDS_PER_SECOND);
            out.push(&TIMESLICES, &labels, line.timeslices as f64);
        }
        Ok(())
    }
}

/// The lines `cpu<n>`; others are of scheduling domains.
fn parse(text: &str) -> impl Iterator<Item = Result<Line<'_>, ParseError>> {
    let lines = numbered(text).filter_map(|(index, line)| Some((index, line.strip_prefix("cpu")?)));
    lines.map(|(index, line)| {
        let mut words = Words::new(index, line);
        let cpu = words.word("cpu")?;
        for _ in 0..SKIPPED {
            words.next();
        }
        Ok(Line {
            cpu,
            running_ns: words.number("running time")?,
            waiting_ns: words.number("waiting time")?,
            timeslices: words.number("timeslices")?,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const SCHEDSTAT: &str = "\
version 15
timestamp 15819019232
cpu0 498494191 0 3533438552 2553969831 3853684107 2465731542 2045936778163039 343796328169361 4767485306
domain0 00000000,00000003 212499247 210112015
cpu1 518377256 0 4155211005 2778589869 10466382 2867629021 1904686152592476 364107263788241 5145567945
";

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&[Line<'_>], &str>| {
            let got: Result<Vec<Line<'_>>, ParseError> = parse(text).collect();
            let expected = expected.map_err(str::to_owned);
            assert_eq!(got.as_deref().map_err(ToString::to_string), expected);
        };
        let line = |cpu, running_ns, waiting_ns, timeslices| Line {
            cpu,
            running_ns,
            waiting_ns,
            timeslices,
        };
        check(
            SCHEDSTAT,
            Ok(&[
                line("0", 2_045_936_778_163_039, 343_796_328_169_361, 4_767_485_306),
                line("1", 1_904_686_152_592_476, 364_107_263_788_241, 5_145_567_945),
            ]),
        );
        check("version 15\n", Ok(&[]));
        check("cpu0 1 2 3", Err("line 1, running time: missing"));
        check(
            "\ncpu0 1 2 3 4 5 6 7 8 x",
            Err("line 2, timeslices: \"x\" is not a number, or too large"),
        );
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(SCHEDSTAT)) {
            let _ = parse(&text).count();
        }
    }
}
