//! The ARP table: `/proc/net/arp`, of the network namespace that the agent runs in.

use std::collections::BTreeMap;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    filter::{DeviceFilter, INTERFACE_OPTIONS},
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "arp",
    summary: "Entries of the ARP table by interface.",
    reads: &["/proc/net/arp"],
    default_enabled: true,
    options: &INTERFACE_OPTIONS,
    build,
};

const ENTRIES: Metric<'_> = Metric::gauge("node_arp_entries", "ARP entries by device");

struct Arp {
    file: KeptFile,
    filter: DeviceFilter,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let filter = DeviceFilter::from_options(context)?;
    Ok(Box::new(Arp { file: KeptFile::new(context.roots.proc("net/arp")), filter }))
}

impl Collector for Arp {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let arp = self.file.text()?;
        let entries = parse(arp.content).map_err(|error| arp.malformed(&error))?;
        for (device, count) in entries {
            if self.filter.takes(device) {
                out.push(&ENTRIES, &[("device", device)], count as f64);
            }
        }
        Ok(())
    }
}

/// How many lines name each device, in their sixth column.
fn parse(text: &str) -> Result<BTreeMap<&str, u64>, ParseError> {
    const BEFORE: usize = 5;
    let mut entries = BTreeMap::new();
    for (index, line) in numbered(text).skip(1) {
        let mut words = Words::new(index, line);
        for _ in 0..BEFORE {
            words.next();
        }
        *entries.entry(words.word("device")?).or_default() += 1;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const ARP: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
192.168.1.1      0x1         0x2         cc:aa:dd:ee:aa:bb     *        eth0
192.168.1.2      0x1         0x2         bb:cc:dd:ee:ff:aa     *        eth0
10.0.0.1         0x1         0x0         00:00:00:00:00:00     *        br-lan
";

    #[test]
    fn entries_are_counted_or_the_line_is_named() {
        let check = |text: &str, expected: Result<&[(&str, u64)], &str>| {
            let got = parse(text).map(|entries| entries.into_iter().collect::<Vec<_>>());
            let expected = expected.map(<[_]>::to_vec).map_err(str::to_owned);
            assert_eq!(got.map_err(|e| e.to_string()), expected);
        };
        check(ARP, Ok(&[("br-lan", 1), ("eth0", 2)]));
        check("heading\n", Ok(&[]));
        check("\n1 2 3 4 5\n", Err("line 2, device: missing"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(ARP)) {
            let _ = parse(&text);
        }
    }
}
