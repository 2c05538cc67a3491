//! CPU time by mode: `/proc/stat`, throttling: `/sys/devices/system/cpu`, and what CPUs there are:
//! `/proc/cpuinfo`, if an option asks for it.
//!
//! Counters never go back: the kernel computes idle and iowait anew at each read and they can lose a
//! little, so the highest value seen stands, as in node_exporter; an idle time that loses three
//! seconds or more means that the CPU was taken away and came back, and everything starts over.
//!
//! A CPU that is offline has no series. (node_exporter 1.5.0 gives zeros to one whose number lies
//! below another's, which rates see as a reset; later versions don't.)

use agent_core::{
    CollectError, Collector, Metric, Registration, Roots, Samples,
    collector::{BuildError, Context, OptionSpec},
};

use crate::{
    cpu_info::{CpuInfo, Wanted},
    cpu_topology::Topology,
    filter::regex,
    options::switch,
    parse::{ParseError, Words, number, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "cpu",
    summary: "CPU time by mode, and how often cores and packages were throttled.",
    reads: &["/proc/stat", "/sys/devices/system/cpu", "/proc/cpuinfo"],
    default_enabled: true,
    options: &[
        OptionSpec {
            key: "guest",
            default: "true",
            doc: "Whether to take the time that CPUs ran virtual machines.",
        },
        OptionSpec {
            key: "info",
            default: "false",
            doc: "Whether to take model and maker of each CPU.",
        },
        OptionSpec {
            key: "info_flags_include",
            default: "",
            doc: "Regular expression of the CPUs' flags to take; switches info on.",
        },
        OptionSpec {
            key: "info_bugs_include",
            default: "",
            doc: "Regular expression of the CPUs' bugs to take; switches info on.",
        },
    ],
    build,
};

const SECONDS: Metric<'_> =
    Metric::counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
const GUEST_SECONDS: Metric<'_> = Metric::counter(
    "node_cpu_guest_seconds_total",
    "Seconds the CPUs spent in guests (VMs) for each mode.",
);

/// The columns of a CPU's line, in order: proc(5).
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMNS: usize = MODES.len() + GUEST_MODES.len();
const IDLE: usize = 3;

/// The kernel counts in hundredths of a second for programs, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;
/// An idle time that goes back by this much belongs to a CPU that came back.
const COMEBACK_TICKS: u64 = 300;

struct Cpu {
    roots: Roots,
    file: KeptFile,
    guest: bool,
    seen: Vec<Seen>,
    topology: Topology,
    /// Absent when no option asks for it.
    info: Option<CpuInfo>,
    /// The CPUs changed since the topology was looked up.
    topology_is_old: bool,
}

/// The highest ticks seen of one CPU.
#[derive(Debug)]
struct Seen {
    id: String,
    ticks: [u64; COLUMNS],
}

/// One CPU's line.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    id: &'a str,
    ticks: [u64; COLUMNS],
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let wanted = Wanted {
        flags: regex(context, "info_flags_include")?,
        bugs: regex(context, "info_bugs_include")?,
    };
    let info = switch(context, "info")? || wanted.flags.is_some() || wanted.bugs.is_some();
    Ok(Box::new(Cpu {
        roots: context.roots.clone(),
        file: KeptFile::new(context.roots.proc("stat")),
        guest: switch(context, "guest")?,
        info: info.then(|| CpuInfo::new(wanted)),
        seen: Vec::new(),
        topology: Topology::default(),
        topology_is_old: true,
    }))
}

impl Collector for Cpu {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let stat = self.file.text()?;
        let mut cpus = 0;
        for line in parse(stat.content) {
            let line = line.map_err(|error| stat.malformed(&error))?;
            self.topology_is_old |= note(&mut self.seen, cpus, &line);
            push(out, line.id, &self.seen[cpus].ticks, self.guest);
            cpus += 1;
        }
        if cpus == 0 {
            return Err(stat.malformed(&ParseError::new(1, "cpu0", "no line of a CPU")));
        }
        self.topology_is_old |= self.seen.len() > cpus;
        self.seen.truncate(cpus);
        if self.topology_is_old {
            self.topology = Topology::scan(&self.roots)?;
            let read = self.info.as_mut().is_none_or(|info| info.read(&self.roots));
            self.topology_is_old = !read;
        }
        self.topology.push(out);
        if let Some(info) = &self.info {
            info.push(out);
        }
        Ok(())
    }
}

fn push(out: &mut Samples, cpu: &str, ticks: &[u64; COLUMNS], with_guest: bool) {
    let (times, guest) = ticks.split_at(MODES.len());
    for (mode, ticks) in MODES.iter().zip(times) {
        out.push(&SECONDS, &[("cpu", cpu), ("mode", mode)], *ticks as f64 / TICKS_PER_SECOND);
    }
    for (mode, ticks) in GUEST_MODES.iter().zip(guest).filter(|_| with_guest) {
        out.push(&GUEST_SECONDS, &[("cpu", cpu), ("mode", mode)], *ticks as f64 / TICKS_PER_SECOND);
    }
}

/// Raises what was seen of a CPU to its new line, and puts it at `index`; those that were at its place
/// are gone. Whether there is another CPU at that place than before.
fn note(seen: &mut Vec<Seen>, index: usize, line: &Line<'_>) -> bool {
    let gone = seen.iter().skip(index).position(|seen| seen.id == line.id);
    match gone {
        Some(gone) => {
            seen.drain(index..index + gone);
            raise(&mut seen[index].ticks, &line.ticks);
        }
        None => seen.insert(index, Seen { id: line.id.to_owned(), ticks: line.ticks }),
    }
    gone != Some(0)
}

fn raise(seen: &mut [u64; COLUMNS], now: &[u64; COLUMNS]) {
    if seen[IDLE].saturating_sub(now[IDLE]) >= COMEBACK_TICKS {
        *seen = *now;
    }
    for (seen, now) in seen.iter_mut().zip(now) {
        *seen = (*seen).max(*now);
    }
}

/// The lines `cpu0`, `cpu1`, …; the kernel puts them first, after their sum.
fn parse(text: &str) -> impl Iterator<Item = Result<Line<'_>, ParseError>> {
    let lines = numbered(text).take_while(|(_, line)| line.starts_with("cpu"));
    lines.filter(|(_, line)| !line.starts_with("cpu ")).map(|(index, line)| parse_line(index, line))
}

fn parse_line(index: usize, line: &str) -> Result<Line<'_>, ParseError> {
    let mut words = Words::new(index, line);
    let id = words.word("cpu")?.trim_start_matches("cpu");
    number(index, "cpu", id)?;
    let mut ticks = [0; COLUMNS];
    for (tick, field) in ticks.iter_mut().zip(MODES.into_iter().chain(["guest", "guest_nice"])) {
        *tick = words.number(field)?;
    }
    Ok(Line { id, ticks })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const STAT: &str = "\
cpu  30 0 9 286 13 0 62 55 7 3
cpu0 20 0 3 145 9 0 10 21 4 1
cpu12 10 0 6 141 4 0 52 34 3 2 99
intr 421195 0 0
ctxt 491315
";

    fn read(text: &str) -> Result<Vec<Line<'_>>, String> {
        parse(text).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_read_or_the_field_is_named() {
        let check = |text: &str, expected: Result<Vec<Line<'_>>, &str>| {
            assert_eq!(read(text), expected.map_err(str::to_owned), "{text:?}");
        };
        let first = Line { id: "0", ticks: [20, 0, 3, 145, 9, 0, 10, 21, 4, 1] };
        let last = Line { id: "12", ticks: [10, 0, 6, 141, 4, 0, 52, 34, 3, 2] };
        check(STAT, Ok(vec![first, last]));
        check("", Ok(vec![]));
        check("cpu  1 2 3\nintr 5", Ok(vec![]));
        check("cpu 1\ncpu0 20 0 3 145 9 0 10 21 4", Err("line 2, guest_nice: missing"));
        check("cpu0 20 0 3 14x", Err("line 1, idle: \"14x\" is not a number, or too large"));
        check("cpux 20", Err("line 1, cpu: \"x\" is not a number, or too large"));
        check("cpu", Err("line 1, cpu: \"\" is not a number, or too large"));
    }

    #[test]
    fn counters_never_go_back_unless_the_cpu_was_away() {
        let mut seen = Vec::new();
        let mut check = |idle: u64, iowait: u64, expected: (u64, u64)| {
            let line = Line { id: "0", ticks: [0, 0, 0, idle, iowait, 0, 0, 0, 0, 0] };
            note(&mut seen, 0, &line);
            assert_eq!((seen[0].ticks[3], seen[0].ticks[4]), expected);
        };
        check(1000, 50, (1000, 50));
        check(999, 49, (1000, 50));
        check(1001, 49, (1001, 50));
        check(702, 10, (1001, 50));
        check(701, 10, (701, 10));
    }

    #[test]
    fn cpus_come_and_go_and_the_others_keep_what_was_seen() {
        let mut seen = Vec::new();
        let mut check = |cpus: &[(&str, u64)], expected: &[u64], changed: bool| {
            let mut any = false;
            for (index, (id, user)) in cpus.iter().enumerate() {
                let line = Line { id, ticks: [*user, 0, 0, 0, 0, 0, 0, 0, 0, 0] };
                any |= note(&mut seen, index, &line);
            }
            any |= seen.len() > cpus.len();
            seen.truncate(cpus.len());
            assert_eq!(seen.iter().map(|cpu| cpu.ticks[0]).collect::<Vec<_>>(), expected);
            assert_eq!(any, changed, "{cpus:?}");
        };
        check(&[("0", 5), ("1", 9), ("2", 7)], &[5, 9, 7], true);
        check(&[("0", 5), ("1", 9), ("2", 7)], &[5, 9, 7], false);
        check(&[("0", 4), ("2", 6)], &[5, 7], true);
        check(&[("0", 5), ("1", 1), ("2", 6)], &[5, 1, 7], true);
        check(&[("0", 5)], &[5], true);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(STAT)) {
            let _ = read(&text);
        }
    }
}
