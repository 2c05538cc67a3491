//! What `/proc/cpuinfo` says of each CPU: maker, model, microcode, and which flags and bugs it has.
//!
//! To read it costs a large host milliseconds, for the kernel asks every CPU for its frequency. What we
//! take of it stays the same as long as the CPUs do, so it is read again only when they change. A machine
//! without it, or with one that nobody can read, still has its CPU times.

use agent_core::{Metric, Roots, Samples};
use regex_lite::Regex;

use crate::{
    parse::{ParseError, number, numbered},
    reader::KeptFile,
};

const INFO: Metric<'_> = Metric::gauge("node_cpu_info", "CPU information from /proc/cpuinfo.");
const FLAG_INFO: Metric<'_> = Metric::gauge(
    "node_cpu_flag_info",
    "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
);
const BUG_INFO: Metric<'_> = Metric::gauge(
    "node_cpu_bug_info",
    "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
);

/// Labels in their order, and the fields that they are.
const LABELS: [(&str, &str); 10] = [
    ("cachesize", "cache size"),
    ("core", "core id"),
    ("cpu", PROCESSOR),
    ("family", "cpu family"),
    ("microcode", "microcode"),
    ("model", "model"),
    ("model_name", "model name"),
    ("package", "physical id"),
    ("stepping", "stepping"),
    ("vendor", "vendor_id"),
];
/// The field that a CPU begins with.
const PROCESSOR: &str = "processor";

/// Which of it are series.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) flags: Option<Regex>,
    pub(crate) bugs: Option<Regex>,
}

/// What was read last.
#[derive(Debug, Default)]
pub(crate) struct CpuInfo {
    wanted: Wanted,
    known: Known,
    /// Why there is none.
    trouble: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    cpus: Vec<[String; LABELS.len()]>,
    flags: Vec<String>,
    bugs: Vec<String>,
}

impl CpuInfo {
    /// Nothing is read yet.
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Reads it anew; whether it could be read.
    pub(crate) fn read(&mut self, roots: &Roots) -> bool {
        let mut file = KeptFile::new(roots.proc("cpuinfo"));
        let parsed = file
            .text()
            .and_then(|text| parse(text.content).map_err(|error| text.malformed(&error)));
        self.trouble.clear();
        match parsed {
            Ok(known) => self.known = known,
            Err(error) => {
                self.known = Known::default();
                self.trouble = format!("node_cpu_info: {error}");
            }
        }
        self.trouble.is_empty()
    }

    /// Adds the samples of this tick.
    pub(crate) fn push(&self, out: &mut Samples) {
        if !self.trouble.is_empty() {
            out.remark(&self.trouble);
        }
        for values in &self.known.cpus {
            let mut labels = [("", ""); LABELS.len()];
            for ((label, (name, _)), value) in labels.iter_mut().zip(&LABELS).zip(values) {
                *label = (name, value);
            }
            out.push(&INFO, &labels, 1.0);
        }
        let lists = [
            (&FLAG_INFO, "flag", &self.known.flags, &self.wanted.flags),
            (&BUG_INFO, "bug", &self.known.bugs, &self.wanted.bugs),
        ];
        for (metric, label, words, regex) in lists {
            let Some(regex) = regex else { continue };
            for word in words.iter().filter(|word| regex.is_match(word)) {
                out.push(metric, &[(label, word)], 1.0);
            }
        }
    }
}

/// Blocks of `field : value`, one a CPU; ARM and others have fields of their own before, behind and
/// between them.
fn parse(text: &str) -> Result<Known, ParseError> {
    let mut known = Known::default();
    for (index, line) in numbered(text) {
        let Some((field, value)) = line.split_once(':') else { continue };
        let (field, value) = (field.trim_ascii(), value.trim_ascii());
        if field == PROCESSOR {
            number(index, PROCESSOR, value)?;
            known.cpus.push(Default::default());
        }
        let first = known.cpus.len() == 1;
        let Some(cpu) = known.cpus.last_mut() else { continue };
        if let Some(place) = LABELS.iter().position(|(_, known)| *known == field) {
            value.clone_into(&mut cpu[place]);
        }
        let words = || words(value);
        match field {
            "flags" | "Features" if first => known.flags = words(),
            "bugs" if first => known.bugs = words(),
            _ => {}
        }
    }
    if known.cpus.is_empty() {
        return Err(ParseError::new(1, PROCESSOR, "no line of a CPU"));
    }
    Ok(known)
}

/// Each word once: a series each.
fn words(list: &str) -> Vec<String> {
    let mut words: Vec<_> = list.split_ascii_whitespace().map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const CPUINFO: &str = "\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Some CPU @ 2.30GHz: fast
stepping\t: 6
microcode\t: 0xd0003a5
cpu MHz\t\t: 2300.000
cache size\t: 49152 KB
physical id\t: 1
core id\t\t: 3
flags\t\t: fpu vme sse sse aes
bugs\t\t: spectre_v1 swapgs
power management:

processor\t: 7
flags\t\t: other
";

    #[test]
    fn cpus_are_read_or_the_place_is_named() {
        let known = parse(CPUINFO).unwrap();
        let first = [
            "49152 KB",
            "3",
            "0",
            "6",
            "0xd0003a5",
            "106",
            "Some CPU @ 2.30GHz: fast",
            "1",
            "6",
            "GenuineIntel",
        ];
        let second = ["", "", "7", "", "", "", "", "", "", ""];
        assert_eq!(known.cpus, [first.map(str::to_owned), second.map(str::to_owned)]);
        assert_eq!(known.flags, ["aes", "fpu", "sse", "vme"]);
        assert_eq!(known.bugs, ["spectre_v1", "swapgs"]);

        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text:?}");
        };
        check("", "line 1, processor: no line of a CPU");
        check("model : 3\n", "line 1, processor: no line of a CPU");
        check("\nprocessor : x\n", "line 2, processor: \"x\" is not a number, or too large");
    }

    #[test]
    fn an_arm_has_features() {
        let known = parse("processor\t: 0\nBogoMIPS : 50\nFeatures : fp asimd\n").unwrap();
        assert_eq!((known.cpus.len(), known.flags), (1, vec!["asimd".to_owned(), "fp".to_owned()]));
    }

    #[test]
    fn without_it_a_remark_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots { procfs: directory.path().to_owned(), ..Roots::default() };
        let mut info = CpuInfo::new(Wanted { flags: Regex::new("^aes$").ok(), bugs: None });
        let mut out = Samples::new("cpu");
        assert!(!info.read(&roots));
        info.push(&mut out);
        assert_eq!(out.len(), 0);
        assert!(out.remarks().contains("cpuinfo: No such file"), "{}", out.remarks());

        std::fs::write(directory.path().join("cpuinfo"), CPUINFO).unwrap();
        assert!(info.read(&roots));
        out.clear();
        info.push(&mut out);
        assert_eq!((out.len(), out.remarks()), (3, String::new()));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(CPUINFO)) {
            let _ = parse(&text);
        }
    }
}
