//! Connection tracking: `/proc/sys/net/netfilter` and `/proc/net/stat/nf_conntrack`. Without the kernel's
//! module there are no such files.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "conntrack",
    summary: "Connections that the firewall tracks, how many there may be, and what went wrong.",
    reads: &["/proc/sys/net/netfilter", "/proc/net/stat/nf_conntrack"],
    default_enabled: true,
    options: &[],
    build,
};

const ENTRIES: Metric<'_> = Metric::gauge(
    "node_nf_conntrack_entries",
    "Number of currently allocated flow entries for connection tracking.",
);
const LIMIT: Metric<'_> =
    Metric::gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.");
/// Headings of the columns that count, with what they mean. They are counters, of which node_exporter
/// makes gauges; so do we.
const COLUMNS: [(&str, Metric<'_>); 8] = [
    (
        "found",
        Metric::gauge(
            "node_nf_conntrack_stat_found",
            "Number of searched entries which were successful.",
        ),
    ),
    (
        "invalid",
        Metric::gauge(
            "node_nf_conntrack_stat_invalid",
            "Number of packets seen which can not be tracked.",
        ),
    ),
    (
        "ignore",
        Metric::gauge(
            "node_nf_conntrack_stat_ignore",
            "Number of packets seen which are already connected to a conntrack entry.",
        ),
    ),
    (
        "insert",
        Metric::gauge("node_nf_conntrack_stat_insert", "Number of entries inserted into the list."),
    ),
    (
        "insert_failed",
        Metric::gauge(
            "node_nf_conntrack_stat_insert_failed",
            "Number of entries for which list insertion was attempted but failed.",
        ),
    ),
    (
        "drop",
        Metric::gauge(
            "node_nf_conntrack_stat_drop",
            "Number of packets dropped due to conntrack failure.",
        ),
    ),
    (
        "early_drop",
        Metric::gauge(
            "node_nf_conntrack_stat_early_drop",
            "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
        ),
    ),
    (
        "search_restart",
        Metric::gauge(
            "node_nf_conntrack_stat_search_restart",
            "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
        ),
    ),
];

struct Conntrack {
    entries: KeptFile,
    limit: KeptFile,
    stat: KeptFile,
}

type Sums = [u64; COLUMNS.len()];

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |name: &str| KeptFile::new(context.roots.proc(name));
    Ok(Box::new(Conntrack {
        entries: file("sys/net/netfilter/nf_conntrack_count"),
        limit: file("sys/net/netfilter/nf_conntrack_max"),
        stat: file("net/stat/nf_conntrack"),
    }))
}

impl Collector for Conntrack {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        for (metric, file) in [(ENTRIES, &mut self.entries), (LIMIT, &mut self.limit)] {
            let text = file.text()?;
            let count = Words::new(1, text.content).number("count");
            out.push(&metric, &[], count.map_err(|error| text.malformed(&error))? as f64);
        }
        let stat = match self.stat.text() {
            // The kernel can be built without this file.
            Err(CollectError::Unavailable { .. }) => return Ok(()),
            text => text?,
        };
        let sums = parse(stat.content).map_err(|error| stat.malformed(&error))?;
        for ((_, metric), sum) in COLUMNS.iter().zip(sums) {
            out.push(metric, &[], sum as f64);
        }
        Ok(())
    }
}

/// The sums of our columns over all CPUs, each a line of hexadecimal numbers. Which column is which
/// depends on the kernel; one that it doesn't have is 0.
fn parse(text: &str) -> Result<Sums, ParseError> {
    let mut sums = Sums::default();
    let mut lines = numbered(text);
    let headings = lines.next().map_or("", |(_, line)| line);
    for (index, line) in lines {
        let mut words = Words::new(index, line);
        for heading in headings.split_ascii_whitespace() {
            let count = words.hexadecimal("count")?;
            if let Some(place) = COLUMNS.iter().position(|(name, _)| *name == heading) {
                sums[place] = sums[place].wrapping_add(count);
            }
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const STAT: &str = "\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000021 00000000 00000001 00000000 00000003 00000588 00000000 00000000 00000000 00000004 00000000 0000000a 00000000 00000000 00000000 00000000 00000000
00000021 00000000 00000002 00000000 00000002 000056a4 00000000 00000000 00000000 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000002
";

    #[test]
    fn columns_are_summed_by_their_headings() {
        let check = |text: &str, expected: Result<Sums, &str>| {
            assert_eq!(parse(text).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        };
        check(STAT, Ok([3, 5, 0x588 + 0x56a4, 0, 7, 0, 10, 2]));
        check("found drop\nff 1\n", Ok([255, 0, 0, 0, 0, 1, 0, 0]));
        check("", Ok([0; 8]));
        check("found drop\nff\n", Err("line 2, count: missing"));
        check("found\nx\n", Err("line 2, count: \"x\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(STAT)) {
            let _ = parse(&text);
        }
    }
}
