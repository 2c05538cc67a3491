//! Network interfaces: `/proc/net/dev`, of the network namespace that the agent runs in.
//!
//! node_exporter asks netlink for the same counters under the same names. The kernel's text lacks
//! only `receive_nohandler`, which we leave out: it would cost an open file for every interface.

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
    name: "netdev",
    summary: "Bytes, packets, errors and drops of network interfaces.",
    reads: &["/proc/net/dev"],
    default_enabled: true,
    options: &INTERFACE_OPTIONS,
    build,
};

/// The columns after the interface's name, in order: `dev_seq_printf_stats` of the kernel, which also
/// adds up what node_exporter adds up (missed packets are dropped ones).
const COLUMNS: [Metric<'_>; 16] = [
    counter("node_network_receive_bytes_total", "Network device statistic receive_bytes."),
    counter("node_network_receive_packets_total", "Network device statistic receive_packets."),
    counter("node_network_receive_errs_total", "Network device statistic receive_errs."),
    counter("node_network_receive_drop_total", "Network device statistic receive_drop."),
    counter("node_network_receive_fifo_total", "Network device statistic receive_fifo."),
    counter("node_network_receive_frame_total", "Network device statistic receive_frame."),
    counter(
        "node_network_receive_compressed_total",
        "Network device statistic receive_compressed.",
    ),
    counter("node_network_receive_multicast_total", "Network device statistic receive_multicast."),
    counter("node_network_transmit_bytes_total", "Network device statistic transmit_bytes."),
    counter("node_network_transmit_packets_total", "Network device statistic transmit_packets."),
    counter("node_network_transmit_errs_total", "Network device statistic transmit_errs."),
    counter("node_network_transmit_drop_total", "Network device statistic transmit_drop."),
    counter("node_network_transmit_fifo_total", "Network device statistic transmit_fifo."),
    counter("node_network_transmit_colls_total", "Network device statistic transmit_colls."),
    counter("node_network_transmit_carrier_total", "Network device statistic transmit_carrier."),
    counter(
        "node_network_transmit_compressed_total",
        "Network device statistic transmit_compressed.",
    ),
];
const HEADINGS: usize = 2;

const fn counter(name: &'static str, help: &'static str) -> Metric<'static> {
    Metric::counter(name, help)
}

struct Netdev {
    file: KeptFile,
    filter: DeviceFilter,
}

/// One interface's line.
#[derive(Debug, PartialEq, Eq)]
struct Interface<'a> {
    device: &'a str,
    counts: [u64; COLUMNS.len()],
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Netdev {
        file: KeptFile::new(context.roots.proc("net/dev")),
        filter: DeviceFilter::from_options(context)?,
    }))
}

impl Collector for Netdev {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let netdev = self.file.text()?;
        for interface in parse(netdev.content).map_err(|error| netdev.malformed(&error))? {
            let interface = interface.map_err(|error| netdev.malformed(&error))?;
            if !self.filter.takes(interface.device) {
                continue;
            }
            for (metric, count) in COLUMNS.iter().zip(interface.counts) {
                out.push(metric, &[("device", interface.device)], count as f64);
            }
        }
        Ok(())
    }
}

/// The interfaces below the two lines of headings.
fn parse(
    text: &str,
) -> Result<impl Iterator<Item = Result<Interface<'_>, ParseError>>, ParseError> {
    let headings = text.lines().take(HEADINGS).take_while(|line| line.contains('|')).count();
    if headings < HEADINGS {
        return Err(ParseError::new(headings + 1, "headings", "missing"));
    }
    Ok(numbered(text).skip(HEADINGS).map(|(index, line)| parse_line(index, line)))
}

fn parse_line(index: usize, line: &str) -> Result<Interface<'_>, ParseError> {
    // the name can hold colons; the numbers can't, and may follow the last one without a space
    let Some((device, counts)) = line.rsplit_once(':') else {
        return Err(ParseError::new(index, "device", "no colon after its name"));
    };
    let mut words = Words::new(index, counts);
    let mut interface = Interface { device: device.trim_ascii_start(), counts: [0; COLUMNS.len()] };
    for (count, metric) in interface.counts.iter_mut().zip(&COLUMNS) {
        *count = words.number(metric.name)?;
    }
    Ok(interface)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const NETDEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:   36411      53    0    0    0     0          0         0    36411      53    0    0    0     0       0          0
br-0:1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
";

    fn read(text: &str) -> Result<Vec<(&str, u64, u64)>, String> {
        fn ends<'a>(i: Interface<'a>) -> (&'a str, u64, u64) {
            (i.device, i.counts[0], i.counts[COLUMNS.len() - 1])
        }
        let interfaces = parse(text).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        interfaces
            .map(|interfaces| interfaces.into_iter().map(ends).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_read_or_the_field_is_named() {
        let headings: String = NETDEV.split_inclusive('\n').take(2).collect();
        let check = |text: &str, expected: Result<&[(&str, u64, u64)], &str>| {
            assert_eq!(read(text), expected.map(<[_]>::to_vec).map_err(str::to_owned), "{text:?}");
        };
        check(NETDEV, Ok(&[("lo", 36411, 0), ("br-0:1", 1, 16)]));
        check(&headings, Ok(&[]));
        check("", Err("line 1, headings: missing"));
        check("Inter-| Receive\n lo: 1", Err("line 2, headings: missing"));
        let check_line = |line: &str, expected: &str| {
            check(&format!("{headings}{line}"), Err(expected));
        };
        check_line("eth0 1 2 3", "line 3, device: no colon after its name");
        check_line(
            "eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
            "line 3, node_network_transmit_compressed_total: missing",
        );
        check_line(
            "eth0: 1 2 x",
            "line 3, node_network_receive_errs_total: \"x\" is not a number, or too large",
        );
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(NETDEV)) {
            let _ = read(&text);
        }
    }
}
