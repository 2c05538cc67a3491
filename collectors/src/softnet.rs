//! The network's share of the softirqs: `/proc/net/softnet_stat`, a line a CPU, numbers in hexadecimal.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    labels::Numbers,
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "softnet",
    summary: "Packets that each CPU took from the network, dropped, or left for want of time.",
    reads: &["/proc/net/softnet_stat"],
    default_enabled: true,
    options: &[],
    build,
};

/// The first three columns.
const COLUMNS: [Metric<'_>; 3] = [
    Metric::counter("node_softnet_processed_total", "Number of processed packets"),
    Metric::counter("node_softnet_dropped_total", "Number of dropped packets"),
    Metric::counter(
        "node_softnet_times_squeezed_total",
        "Number of times processing packets ran out of quota",
    ),
];
/// The column with the CPU's number, since Linux 5.10; before, lines are numbered.
const CPU_COLUMN: usize = 12;

struct Softnet {
    file: KeptFile,
    numbers: Numbers,
}

/// One CPU's line.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    cpu: u64,
    counts: [u64; COLUMNS.len()],
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = KeptFile::new(context.roots.proc("net/softnet_stat"));
    Ok(Box::new(Softnet { file, numbers: Numbers::default() }))
}

impl Collector for Softnet {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let softnet = self.file.text()?;
        for line in parse(softnet.content) {
            let Line { cpu, counts } = line.map_err(|error| softnet.malformed(&error))?;
            let cpu = self.numbers.text(cpu);
            for (metric, count) in COLUMNS.iter().zip(counts) {
                out.push(metric, &[("cpu", cpu)], count as f64);
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> impl Iterator<Item = Result<Line, ParseError>> {
    let has_cpu = text.lines().next().is_some_and(|line| column(line, CPU_COLUMN).is_some());
    numbered(text).map(move |(index, line)| {
        let mut words = Words::new(index, line);
        let mut counts = [0; COLUMNS.len()];
        for (count, field) in counts.iter_mut().zip(["processed", "dropped", "time_squeeze"]) {
            *count = words.hexadecimal(field)?;
        }
        for _ in COLUMNS.len()..CPU_COLUMN {
            words.next();
        }
        let cpu = if has_cpu { words.hexadecimal("cpu")? } else { index as u64 - 1 };
        Ok(Line { cpu, counts })
    })
}

fn column(line: &str, column: usize) -> Option<&str> {
    line.split_ascii_whitespace().nth(column)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const SOFTNET: &str = "\
0000fd5c 00000001 0000000a 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000004
00000010 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001
";

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&[(u64, [u64; 3])], &str>| {
            let got: Result<Vec<Line>, ParseError> = parse(text).collect();
            let line = |&(cpu, counts): &(u64, [u64; 3])| Line { cpu, counts };
            let expected = expected.map(|lines| lines.iter().map(line).collect());
            assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        };
        check(SOFTNET, Ok(&[(4, [64_860, 1, 10]), (1, [16, 0, 0])]));
        check("10 1 0\n11 2 0\n", Ok(&[(0, [16, 1, 0]), (1, [17, 2, 0])]));
        let cut = &SOFTNET[..SOFTNET.len() - 10];
        check(cut, Err("line 2, cpu: missing"));
        check("", Ok(&[]));
        check("0a 00", Err("line 1, time_squeeze: missing"));
        check("0a 0g 00", Err("line 1, dropped: \"0g\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(SOFTNET)) {
            let _ = parse(&text).count();
        }
    }
}
