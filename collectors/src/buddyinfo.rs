//! Free blocks of memory by size: `/proc/buddyinfo`, a line a zone. Without large blocks a kernel can't
//! make huge pages, however much memory is free.

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
    name: "buddyinfo",
    summary: "Free blocks of memory by size, zone and NUMA node.",
    reads: &["/proc/buddyinfo"],
    default_enabled: false,
    options: &[],
    build,
};

const BLOCKS: Metric<'_> =
    Metric::gauge("node_buddyinfo_blocks", "Count of free blocks according to size.");

struct Buddyinfo {
    file: KeptFile,
    numbers: Numbers,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = KeptFile::new(context.roots.proc("buddyinfo"));
    Ok(Box::new(Buddyinfo { file, numbers: Numbers::default() }))
}

impl Collector for Buddyinfo {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { file, numbers } = self;
        let buddyinfo = file.text()?;
        parse(buddyinfo.content, &mut |node, zone, order, blocks| {
            let labels = [("node", node), ("size", numbers.text(order)), ("zone", zone)];
            out.push(&BLOCKS, &labels, blocks as f64);
        })
        .map_err(|error| buddyinfo.malformed(&error))
    }
}

/// `Node 0, zone DMA32 438 487 …`: blocks of 1, 2, 4, … pages. Gives node, zone, order and blocks.
fn parse(text: &str, push: &mut impl FnMut(&str, &str, u64, u64)) -> Result<(), ParseError> {
    for (index, line) in numbered(text) {
        let mut words = Words::new(index, line);
        let mut named = |field: &'static str, word: &str| match words.word(field)? {
            found if found == word => Ok(words.word(field)?.trim_end_matches(',')),
            _ => Err(ParseError::new(index, field, format!("no {word:?} before it"))),
        };
        let (node, zone) = (named("node", "Node")?, named("zone", "zone")?);
        let mut order = 0;
        while let Some(blocks) = words.maybe_number("blocks")? {
            push(node, zone, order, blocks);
            order += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const BUDDYINFO: &str = "\
Node 0, zone      DMA      1      0      3
Node 1, zone   Normal   1504   4134     38
";

    fn read(text: &str) -> Result<String, String> {
        let mut found = Vec::new();
        parse(text, &mut |node, zone, order, blocks| {
            found.push(format!("{node} {zone} {order} {blocks}"));
        })
        .map_err(|error| error.to_string())?;
        Ok(found.join(", "))
    }

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(read(text), expected.map(str::to_owned).map_err(str::to_owned), "{text:?}");
        };
        check(
            BUDDYINFO,
            Ok("0 DMA 0 1, 0 DMA 1 0, 0 DMA 2 3, 1 Normal 0 1504, 1 Normal 1 4134, 1 Normal 2 38"),
        );
        check("", Ok(""));
        check("Node 0, zone DMA\n", Ok(""));
        check("Node 0,\n", Err("line 1, zone: missing"));
        check("Node\n", Err("line 1, node: missing"));
        check("Zone 0, zone DMA 1\n", Err("line 1, node: no \"Node\" before it"));
        check("Node 0, zone DMA 1 x\n", Err("line 1, blocks: \"x\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(BUDDYINFO)) {
            let _ = read(&text);
        }
    }
}
