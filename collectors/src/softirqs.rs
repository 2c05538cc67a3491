//! Softirqs of each CPU: `/proc/softirqs`. node_exporter has it since 1.6, off by default; `stat` has
//! their sums.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::ParseError,
    per_cpu::{Cpus, rows},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "softirqs",
    summary: "Softirqs of each CPU, by type.",
    reads: &["/proc/softirqs"],
    default_enabled: false,
    options: &[],
    build,
};

const SOFTIRQS: Metric<'_> =
    Metric::counter("node_softirqs_functions_total", "Softirq counts per CPU.");

struct Softirqs {
    file: KeptFile,
    cpus: Cpus,
    counts: Vec<u64>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = KeptFile::new(context.roots.proc("softirqs"));
    Ok(Box::new(Softirqs { file, cpus: Cpus::default(), counts: Vec::new() }))
}

impl Collector for Softirqs {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let softirqs = self.file.text()?;
        parse(softirqs.content, &mut self.cpus, &mut self.counts, |cpu, kind, count| {
            out.push(&SOFTIRQS, &[("cpu", cpu), ("type", kind)], count as f64);
        })
        .map_err(|error| softirqs.malformed(&error))
    }
}

/// Every count, with its CPU and type.
fn parse(
    text: &str,
    cpus: &mut Cpus,
    counts: &mut Vec<u64>,
    mut push: impl FnMut(&str, &str, u64),
) -> Result<(), ParseError> {
    cpus.read(text)?;
    rows(text, cpus.labels.len(), counts, |row| {
        if row.counts.len() < cpus.labels.len() {
            return Err(ParseError::new(row.line, "count", "missing for a CPU"));
        }
        for (cpu, count) in cpus.labels.iter().zip(row.counts) {
            push(cpu, row.name, *count);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const SOFTIRQS: &str = "                    CPU0       CPU1
          HI:          4          0
      NET_RX:      81220        905
";

    fn read(text: &str) -> Result<String, String> {
        let mut found = Vec::new();
        let push = |cpu: &str, kind: &str, count| found.push(format!("{kind}{cpu} {count}"));
        parse(text, &mut Cpus::default(), &mut Vec::new(), push).map_err(|e| e.to_string())?;
        Ok(found.join(", "))
    }

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(read(text), expected.map(str::to_owned).map_err(str::to_owned), "{text:?}");
        };
        check(SOFTIRQS, Ok("HI0 4, HI1 0, NET_RX0 81220, NET_RX1 905"));
        check("CPU0\n", Ok(""));
        check("CPU0 CPU1\nHI: 4\n", Err("line 2, count: missing for a CPU"));
        check("HI: 4\n", Err("line 1, heading: not the names of CPUs: CPU0 CPU1 and so on"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(SOFTIRQS)) {
            let _ = read(&text);
        }
    }
}
