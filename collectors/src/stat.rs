//! What `/proc/stat` says of the whole system: boot time, switches, forks, interrupts, processes.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "stat",
    summary: "Boot time, context switches, forks, interrupts, and processes running and blocked.",
    reads: &["/proc/stat"],
    default_enabled: true,
    options: &[],
    build,
};

/// The key of a line of `/proc/stat`, and what its first number means.
const LINES: [(&str, Metric<'_>); 6] = [
    ("intr", Metric::counter("node_intr_total", "Total number of interrupts serviced.")),
    ("ctxt", Metric::counter("node_context_switches_total", "Total number of context switches.")),
    ("btime", Metric::gauge("node_boot_time_seconds", "Node boot time, in unixtime.")),
    ("processes", Metric::counter("node_forks_total", "Total number of forks.")),
    (
        "procs_running",
        Metric::gauge("node_procs_running", "Number of processes in runnable state."),
    ),
    (
        "procs_blocked",
        Metric::gauge(
            "node_procs_blocked",
            "Number of processes blocked waiting for I/O to complete.",
        ),
    ),
];

struct Stat {
    file: KeptFile,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Stat { file: KeptFile::new(context.roots.proc("stat")) }))
}

impl Collector for Stat {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let stat = self.file.text()?;
        let values = parse(stat.content).map_err(|error| stat.malformed(&error))?;
        for ((_, metric), value) in LINES.iter().zip(values) {
            out.push(metric, &[], value as f64);
        }
        Ok(())
    }
}

/// The values of [`LINES`], in their order; each has to be there.
fn parse(text: &str) -> Result<[u64; LINES.len()], ParseError> {
    let mut values = [None; LINES.len()];
    let mut last = 0;
    for (index, line) in numbered(text) {
        last = index;
        // the interrupts of one line can be thousands of numbers: only the key's first is read
        let mut words = Words::new(index, line);
        let Some(key) = words.next() else { continue };
        if let Some(place) = LINES.iter().position(|(known, _)| *known == key) {
            values[place] = Some(words.number(LINES[place].0)?);
        }
    }
    let mut all = [0; LINES.len()];
    for ((value, found), (key, _)) in all.iter_mut().zip(values).zip(LINES) {
        *value = found.ok_or_else(|| ParseError::new(last, key, "no such line before the end"))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const STAT: &str = "\
cpu  61214 0 9169 286996 1353 0 62 55 0 0
cpu0 30176 0 3937 145231 96 0 10 21 0 0
intr 421195 0 7 0
ctxt 491315
btime 1795250943
processes 14721
procs_running 1
procs_blocked 2
softirq 255431 0 39921 4
";

    #[test]
    fn lines_are_read_or_the_one_that_is_wrong_is_named() {
        let check = |text: &str, expected: Result<[u64; 6], &str>| {
            assert_eq!(parse(text).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        };
        check(STAT, Ok([421_195, 491_315, 1_795_250_943, 14_721, 1, 2]));
        let cut = &STAT[..STAT.find("procs_blocked").unwrap()];
        check(cut, Err("line 7, procs_blocked: no such line before the end"));
        check("", Err("line 0, intr: no such line before the end"));
        check("intr", Err("line 1, intr: missing"));
        check("\nctxt -1", Err("line 2, ctxt: \"-1\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(STAT)) {
            let _ = parse(&text);
        }
    }
}
