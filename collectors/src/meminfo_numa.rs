//! Memory of each NUMA node: `/sys/devices/system/node/node*/meminfo` and `numastat`.

use std::path::Path;

use agent_core::{
    CollectError, Collector, MetricKind, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    devices::Devices,
    names::{Names, part},
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "meminfo_numa",
    summary: "Memory of each NUMA node, and how often it was taken from another.",
    reads: &["/sys/devices/system/node"],
    default_enabled: false,
    options: &[],
    build,
};

const BYTES_PER_KIB: f64 = 1024.0;
/// The kernel's own bound for most machines.
const NODES_MAX: usize = 1_024;

struct MeminfoNuma {
    nodes: Devices<Node>,
}

struct Node {
    number: String,
    meminfo: KeptFile,
    numastat: KeptFile,
    gauges: Names,
    counters: Names,
}

/// A field of a node and its value.
type Field<'a> = Result<(&'a str, f64), ParseError>;

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(MeminfoNuma { nodes: Devices::new(context.roots.sys("devices/system/node")) }))
}

impl Collector for MeminfoNuma {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        for node in self.nodes.current(node)?.iter_mut().take(NODES_MAX) {
            push(&mut node.meminfo, &mut node.gauges, &node.number, meminfo, out)?;
            push(&mut node.numastat, &mut node.counters, &node.number, numastat, out)?;
        }
        Ok(())
    }
}

fn node(name: &str, path: &Path) -> Option<Node> {
    let number = name.strip_prefix("node")?;
    number.parse::<u32>().ok()?;
    Some(Node {
        number: number.to_owned(),
        meminfo: KeptFile::new(path.join("meminfo")),
        numastat: KeptFile::new(path.join("numastat")),
        gauges: Names::new(MetricKind::Gauge),
        counters: Names::new(MetricKind::Counter),
    })
}

fn push(
    file: &mut KeptFile,
    names: &mut Names,
    number: &str,
    parse_line: fn(usize, &str) -> Field<'_>,
    out: &mut Samples,
) -> Result<(), CollectError> {
    let text = file.text()?;
    names.restart();
    let counts = matches!(names.kind(), MetricKind::Counter);
    for (index, line) in numbered(text.content).filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let (field, value) = parse_line(index, line).map_err(|error| text.malformed(&error))?;
        if let Some(metric) = names.next("", field, || Some(name_of(field, counts))) {
            out.push(&metric, &[("node", number)], value);
        }
    }
    Ok(())
}

/// `Active(anon)` becomes `Active_anon`; counters end with `_total`.
fn name_of(field: &str, counts: bool) -> (String, String) {
    let field = field.strip_suffix(')').unwrap_or(field);
    let name = format!("{}{}", part(field), if counts { "_total" } else { "" });
    let help = format!("Memory information field {name}.");
    (format!("node_memory_numa_{name}"), help)
}

/// `Node 0 MemTotal: 16384000 kB`.
fn meminfo(index: usize, line: &str) -> Field<'_> {
    let mut words = Words::new(index, line);
    words.word("Node")?;
    words.word("node")?;
    let field = words.word("field")?.trim_end_matches(':');
    let value = words.number("value")? as f64;
    match words.next() {
        None => Ok((field, value)),
        Some("kB") => Ok((field, value * BYTES_PER_KIB)),
        Some(unit) => Err(ParseError::new(index, "unit", format!("{unit:?} is not kB"))),
    }
}

/// `numa_hit 193460335812`.
fn numastat(index: usize, line: &str) -> Field<'_> {
    let mut words = Words::new(index, line);
    Ok((words.word("field")?, words.number("value")? as f64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const MEMINFO: &str = "Node 0 MemTotal:       65826584 kB\nNode 0 Active(anon):   1 kB\nNode 0 HugePages_Free:  7\n";

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |parse: fn(usize, &str) -> Field<'_>, line: &str, expected: Result<_, &str>| {
            let got = parse(3, line).map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{line:?}");
        };
        check(meminfo, "Node 0 MemTotal:       65826584 kB", Ok(("MemTotal", 67_406_422_016.0)));
        check(meminfo, "Node 0 HugePages_Free:     7", Ok(("HugePages_Free", 7.0)));
        check(meminfo, "Node 0 MemTotal: 1 MB", Err("line 3, unit: \"MB\" is not kB"));
        check(meminfo, "Node 0 MemTotal:", Err("line 3, value: missing"));
        check(numastat, "numa_hit 193", Ok(("numa_hit", 193.0)));
        check(numastat, "numa_hit x", Err("line 3, value: \"x\" is not a number, or too large"));
    }

    #[test]
    fn fields_make_names() {
        let check = |field: &str, counts: bool, expected: &str| {
            assert_eq!(name_of(field, counts).0, format!("node_memory_numa_{expected}"));
        };
        check("Active(anon)", false, "Active_anon");
        check("MemFree", false, "MemFree");
        check("numa_hit", true, "numa_hit_total");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(MEMINFO)) {
            for (index, line) in numbered(&text) {
                let _ = (meminfo(index, line), numastat(index, line));
            }
        }
    }
}
