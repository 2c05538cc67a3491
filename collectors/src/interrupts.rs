//! Interrupts of each CPU: `/proc/interrupts`.
//!
//! Large machines have hundreds of CPUs and of interrupts: the options leave some out, and what is beyond
//! [`SERIES_MAX`] is left out and told. The options are those of later versions of node_exporter.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use regex_lite::Regex;

use crate::{
    filter::regex,
    options::switch,
    parse::ParseError,
    per_cpu::{Cpus, Row, rows},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "interrupts",
    summary: "Interrupts of each CPU and device.",
    reads: &["/proc/interrupts"],
    default_enabled: false,
    options: &[
        OptionSpec {
            key: "name_include",
            default: "",
            doc: "Regular expression of the only interrupts to take, such as 26 or NMI.",
        },
        OptionSpec {
            key: "name_exclude",
            default: "",
            doc: "Regular expression of interrupts to leave out.",
        },
        OptionSpec {
            key: "include_zeros",
            default: "true",
            doc: "Whether to take interrupts that a CPU never had; large hosts have mostly those.",
        },
    ],
    build,
};

const INTERRUPTS: Metric<'_> = Metric::counter("node_interrupts_total", "Interrupt details.");
/// A host with 256 CPUs and as many interrupts for each of three cards would have ten times as many.
const SERIES_MAX: usize = 20_000;

struct Interrupts {
    file: KeptFile,
    cpus: Cpus,
    counts: Vec<u64>,
    options: Options,
    /// What is known of the line at each place.
    known: Vec<Known>,
}

struct Options {
    include: Option<Regex>,
    exclude: Option<Regex>,
    include_zeros: bool,
}

/// A line's labels, made once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    name: String,
    /// As the kernel writes it.
    rest: String,
    /// `None` when it is left out.
    labels: Option<Labels>,
}

#[derive(Debug, PartialEq, Eq)]
struct Labels {
    info: String,
    devices: String,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Interrupts {
        file: KeptFile::new(context.roots.proc("interrupts")),
        cpus: Cpus::default(),
        counts: Vec::new(),
        options: Options {
            include: regex(context, "name_include")?,
            exclude: regex(context, "name_exclude")?,
            include_zeros: switch(context, "include_zeros")?,
        },
        known: Vec::new(),
    }))
}

impl Collector for Interrupts {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { file, cpus, counts, options, known } = self;
        let text = file.text()?;
        let (mut place, mut left_out) = (0, 0);
        cpus.read(text.content)
            .and_then(|()| {
                rows(text.content, cpus.labels.len(), counts, |row| {
                    let labels = options.note(known, place, row, cpus.labels.len())?;
                    place += 1;
                    let Some(labels) = labels else { return Ok(()) };
                    for (cpu, count) in cpus.labels.iter().zip(row.counts) {
                        if *count == 0 && !options.include_zeros {
                            continue;
                        }
                        if out.len() >= SERIES_MAX {
                            left_out += 1;
                            continue;
                        }
                        push(out, cpu, row.name, labels, *count);
                    }
                    Ok(())
                })
            })
            .map_err(|error| text.malformed(&error))?;
        if left_out > 0 {
            out.remark(&format!(
                "{left_out} of {} series, for there are more than {SERIES_MAX}: set include_zeros \
                 or name_exclude",
                out.len() + left_out
            ));
        }
        Ok(())
    }
}

fn push(out: &mut Samples, cpu: &str, name: &str, labels: &Labels, count: u64) {
    let labels =
        [("cpu", cpu), ("devices", &labels.devices), ("info", &labels.info), ("type", name)];
    out.push(&INTERRUPTS, &labels, count as f64);
}

impl Options {
    /// The labels of the row at `place`, if it counts.
    fn note<'a>(
        &self,
        known: &'a mut Vec<Known>,
        place: usize,
        row: &Row<'_>,
        cpus: usize,
    ) -> Result<Option<&'a Labels>, ParseError> {
        let same = |known: &Known| known.name == row.name && known.rest == row.rest;
        if !known.get(place).is_some_and(same) {
            known.truncate(place);
            let takes = self.include.as_ref().is_none_or(|regex| regex.is_match(row.name))
                && !self.exclude.as_ref().is_some_and(|regex| regex.is_match(row.name));
            let labels = labels(row).filter(|_| takes);
            let (name, rest) = (row.name.to_owned(), row.rest.to_owned());
            known.push(Known { name, rest, labels });
        }
        let labels = known[place].labels.as_ref();
        if labels.is_some() && (row.counts.len() < cpus || row.rest.is_empty()) {
            return Err(ParseError::new(row.line, "counts and controller", "cut off"));
        }
        Ok(labels)
    }
}

/// A numbered interrupt is of a controller, then of devices; others are explained. Those without an
/// explanation (`ERR`, `MIS`) have one count for all CPUs, and node_exporter leaves them out as well.
fn labels(row: &Row<'_>) -> Option<Labels> {
    let mut words = row.rest.split_ascii_whitespace();
    if is_numbered(row.name) {
        let info = words.next().unwrap_or_default().to_owned();
        return Some(Labels { info, devices: words.collect::<Vec<_>>().join(" ") });
    }
    let info = words.collect::<Vec<_>>().join(" ");
    (!info.is_empty()).then(|| Labels { info, devices: String::new() })
}

fn is_numbered(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const INTERRUPTS: &str = "           CPU0       CPU2
  8:          1          0   IO-APIC   8-edge      rtc0
 27:         12   40000000  PCI-MSI 512000-edge      ahci[0000:00:1f.2], eth0
NMI:          3          0   Non-maskable  interrupts
ERR:          0
MIS:          0
";

    fn read(options: &Options, text: &str) -> Result<Vec<String>, String> {
        let (mut cpus, mut counts, mut known) = (Cpus::default(), Vec::new(), Vec::new());
        let mut found = Vec::new();
        for _ in 0..2 {
            found.clear();
            let mut place = 0;
            cpus.read(text)
                .and_then(|()| {
                    rows(text, cpus.labels.len(), &mut counts, |row| {
                        if let Some(labels) = options.note(&mut known, place, row, 2)? {
                            let Labels { info, devices } = labels;
                            found.push(format!("{} {info}|{devices} {:?}", row.name, row.counts));
                        }
                        place += 1;
                        Ok(())
                    })
                })
                .map_err(|error| error.to_string())?;
        }
        Ok(found)
    }

    fn options(include: &str, exclude: &str) -> Options {
        let regex = |text: &str| (!text.is_empty()).then(|| Regex::new(text).unwrap());
        Options { include: regex(include), exclude: regex(exclude), include_zeros: true }
    }

    #[test]
    fn lines_have_their_labels_or_the_place_is_named() {
        let check = |options: &Options, text: &str, expected: Result<&[&str], &str>| {
            let expected = expected.map(|rows| rows.iter().map(|&row| row.to_owned()).collect());
            assert_eq!(read(options, text), expected.map_err(str::to_owned), "{text:?}");
        };
        let all = [
            "8 IO-APIC|8-edge rtc0 [1, 0]",
            "27 PCI-MSI|512000-edge ahci[0000:00:1f.2], eth0 [12, 40000000]",
            "NMI Non-maskable interrupts| [3, 0]",
        ];
        check(&options("", ""), INTERRUPTS, Ok(&all));
        check(&options("^[0-9]", ""), INTERRUPTS, Ok(&all[..2]));
        check(&options("", "^8$|NMI"), INTERRUPTS, Ok(&all[1..2]));
        check(&options("", ""), "CPU0 CPU1\n", Ok(&[]));
        check(
            &options("", ""),
            "CPU0 CPU1\n8: 1 x\n",
            Err("line 2, count: \"x\" is not a number, or too large"),
        );
        check(
            &options("", ""),
            "CPU0 CPU1\n8: 1 2\n",
            Err("line 2, counts and controller: cut off"),
        );
        check(&options("", ""), "CPU0 CPU1\n8: 1", Err("line 2, counts and controller: cut off"));
        check(&options("", ""), "", Err("line 1, heading: missing"));
    }

    #[test]
    fn many_series_are_bounded_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("interrupts");
        let cpus: String = (0..500).map(|cpu| format!(" CPU{cpu}")).collect();
        let counts = |count: u64| format!(" {count}").repeat(499);
        let lines: String =
            (0..100).map(|irq| format!("{irq}: 7{} PCI-MSI eth{irq}\n", counts(0))).collect();
        std::fs::write(&path, format!("{cpus}\n{lines}")).unwrap();
        let check = |include_zeros: bool, series: usize, remark: &str| {
            let mut interrupts = Interrupts {
                file: KeptFile::new(path.clone()),
                cpus: Cpus::default(),
                counts: Vec::new(),
                options: Options { include_zeros, ..options("", "") },
                known: Vec::new(),
            };
            let mut out = Samples::new("interrupts");
            interrupts.collect(&mut out).unwrap();
            assert_eq!(out.len(), series);
            assert!(out.remarks().starts_with(remark), "{}", out.remarks());
        };
        check(true, SERIES_MAX, "30000 of 50000 series, for there are more than 20000");
        check(false, 100, "");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(INTERRUPTS)) {
            let _ = read(&options("", ""), &text);
        }
    }
}
