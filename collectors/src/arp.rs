//! The ARP table: `/proc/net/arp`, of the network namespace that the agent runs in.

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
    counts: Counts,
}

/// How many lines name each device, ordered by name; names stay from tick to tick.
#[derive(Debug, Default)]
struct Counts(Vec<(String, u64)>);

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let filter = DeviceFilter::from_options(context)?;
    let file = KeptFile::new(context.roots.proc("net/arp"));
    Ok(Box::new(Arp { file, filter, counts: Counts::default() }))
}

impl Collector for Arp {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let arp = self.file.text()?;
        self.counts.read(arp.content).map_err(|error| arp.malformed(&error))?;
        for (device, count) in &self.counts.0 {
            if self.filter.takes(device) {
                out.push(&ENTRIES, &[("device", device)], *count as f64);
            }
        }
        Ok(())
    }
}

impl Counts {
    /// Counts the lines of a table anew; a device is named in their sixth column.
    fn read(&mut self, text: &str) -> Result<(), ParseError> {
        const BEFORE: usize = 5;
        self.0.iter_mut().for_each(|(_, count)| *count = 0);
        for (index, line) in numbered(text).skip(1) {
            let mut words = Words::new(index, line);
            for _ in 0..BEFORE {
                words.next();
            }
            self.add(words.word("device")?);
        }
        self.0.retain(|(_, count)| *count > 0);
        Ok(())
    }

    fn add(&mut self, device: &str) {
        match self.0.binary_search_by(|(known, _)| known.as_str().cmp(device)) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => self.0.insert(place, (device.to_owned(), 1)),
        }
    }
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
        let mut counts = Counts::default();
        let mut check = |text: &str, expected: Result<&[(&str, u64)], &str>| {
            let read = counts.read(text).map_err(|error| error.to_string());
            let got = read.map(|()| {
                counts.0.iter().map(|(device, count)| (device.as_str(), *count)).collect::<Vec<_>>()
            });
            assert_eq!(got, expected.map(<[_]>::to_vec).map_err(str::to_owned));
        };
        check(ARP, Ok(&[("br-lan", 1), ("eth0", 2)]));
        check(ARP, Ok(&[("br-lan", 1), ("eth0", 2)]));
        check("\n1 2 3 4 5 a\n1 2 3 4 5 eth0\n", Ok(&[("a", 1), ("eth0", 1)]));
        check("\n1 2 3 4 5\n", Err("line 2, device: missing"));
        check("heading\n", Ok(&[]));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(ARP)) {
            let _ = Counts::default().read(&text);
        }
    }
}
