//! The kernel's own memory by kind of object: `/proc/slabinfo`, which only root may read.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "slabinfo",
    summary: "The kernel's own memory by kind of object.",
    reads: &["/proc/slabinfo"],
    default_enabled: false,
    options: &[],
    build,
};

/// The columns behind the name, in order.
const COLUMNS: [Metric<'_>; 5] = [
    Metric::gauge(
        "node_slabinfo_active_objects",
        "The number of objects that are currently active (i.e., in use).",
    ),
    Metric::gauge(
        "node_slabinfo_objects",
        "The total number of allocated objects (i.e., objects that are both in use and not in use).",
    ),
    Metric::gauge("node_slabinfo_object_size_bytes", "The size of objects in this slab, in bytes."),
    Metric::gauge("node_slabinfo_objects_per_slab", "The number of objects stored in each slab."),
    Metric::gauge("node_slabinfo_pages_per_slab", "The number of pages allocated for each slab."),
];
const VERSION: &str = "slabinfo - version: 2.";

struct Slabinfo {
    file: KeptFile,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Slabinfo { file: KeptFile::new(context.roots.proc("slabinfo")) }))
}

impl Collector for Slabinfo {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let slabinfo = self.file.text()?;
        parse(slabinfo.content, &mut |slab, numbers| {
            for (metric, number) in COLUMNS.iter().zip(numbers) {
                out.push(metric, &[("slab", slab)], number as f64);
            }
        })
        .map_err(|error| slabinfo.malformed(&error))
    }
}

/// The lines below the version and the headings.
fn parse(text: &str, push: &mut impl FnMut(&str, [u64; COLUMNS.len()])) -> Result<(), ParseError> {
    if !text.starts_with(VERSION) {
        return Err(ParseError::new(1, "version", format!("not {VERSION:?}")));
    }
    for (index, line) in numbered(text).skip(1).filter(|(_, line)| !line.starts_with('#')) {
        let mut words = Words::new(index, line);
        let slab = words.word("name")?;
        let mut numbers = [0; COLUMNS.len()];
        for (number, metric) in numbers.iter_mut().zip(&COLUMNS) {
            *number = words.number(metric.name)?;
        }
        push(slab, numbers);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const SLABINFO: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
ext4_inode_cache   90120  90441   1184   27    8 : tunables    0    0    0 : slabdata   3350   3350      0
kmalloc-8k            88     92   8192    4    8 : tunables    0    0    0 : slabdata     23     23      0
";

    fn read(text: &str) -> Result<Vec<(String, [u64; 5])>, String> {
        let mut found = Vec::new();
        let push = &mut |slab: &str, numbers| found.push((slab.to_owned(), numbers));
        parse(text, push).map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&[(&str, [u64; 5])], &str>| {
            let own =
                |rows: &[(&str, _)]| rows.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
            assert_eq!(read(text), expected.map(own).map_err(str::to_owned), "{text:?}");
        };
        check(
            SLABINFO,
            Ok(&[
                ("ext4_inode_cache", [90_120, 90_441, 1_184, 27, 8]),
                ("kmalloc-8k", [88, 92, 8_192, 4, 8]),
            ]),
        );
        check("slabinfo - version: 2.1\n", Ok(&[]));
        check("", Err("line 1, version: not \"slabinfo - version: 2.\""));
        check(
            "slabinfo - version: 2.1\na 1 2 3\n",
            Err("line 2, node_slabinfo_objects_per_slab: missing"),
        );
        check("slabinfo - version: 2.1\n\n", Err("line 2, name: missing"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(SLABINFO)) {
            let _ = read(&text);
        }
    }
}
