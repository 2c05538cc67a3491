//! InfiniBand adapters and their ports: `/sys/class/infiniband`.
//!
//! What the attributes mean: the kernel's Documentation/ABI/stable/sysfs-class-infiniband.

use std::{fs, path::Path};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Field, Fields, Page, Text},
    devices::Devices,
    sysfs::number,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "infiniband",
    summary: "State, rate, traffic and errors of InfiniBand ports.",
    reads: &["/sys/class/infiniband"],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> = Metric::gauge(
    "node_infiniband_info",
    "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
);

/// What a port is and does; not plain numbers.
static STATES: [Field; 3] = [
    Field::new(
        "phys_state",
        Metric::gauge(
            "node_infiniband_physical_state_id",
            "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: shift, \
             5: link up, 6: link error recover, 7: phytest)",
        ),
    ),
    Field::new(
        RATE,
        Metric::gauge("node_infiniband_rate_bytes_per_second", "Maximum signal transfer rate"),
    ),
    Field::new(
        "state",
        Metric::gauge(
            "node_infiniband_state_id",
            "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)",
        ),
    ),
];
const RATE: &str = "rate";
const BYTES_PER_GIGABIT: f64 = 1e9 / 8.0;
/// Data is counted in words of four bytes, one on each of four lanes.
const WORDS_PER_BYTE: f64 = 0.25;
/// How old drivers say that an adapter has no such counter: `N/A (no PMA)`.
const NOT_COUNTED: &str = "N/A";

/// What a port counts. Adapters of old have theirs in `counters_ext`.
static COUNTERS: [Field; 30] = [
    Field::new(
        "counters/VL15_dropped",
        Metric::counter(
            "node_infiniband_vl15_dropped_total",
            "Number of incoming VL15 packets dropped due to resource limitations.",
        ),
    ),
    Field::new(
        "counters/excessive_buffer_overrun_errors",
        Metric::counter(
            "node_infiniband_excessive_buffer_overrun_errors_total",
            "Number of times that OverrunErrors consecutive flow control update periods occurred, each having at least one overrun error.",
        ),
    ),
    Field::new(
        "counters/link_downed",
        Metric::counter(
            "node_infiniband_link_downed_total",
            "Number of times the link failed to recover from an error state and went down",
        ),
    ),
    Field::new(
        "counters/link_error_recovery",
        Metric::counter(
            "node_infiniband_link_error_recovery_total",
            "Number of times the link successfully recovered from an error state",
        ),
    ),
    Field::new(
        "counters/local_link_integrity_errors",
        Metric::counter(
            "node_infiniband_local_link_integrity_errors_total",
            "Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors.",
        ),
    ),
    Field::new(
        "counters/multicast_rcv_packets",
        Metric::counter(
            "node_infiniband_multicast_packets_received_total",
            "Number of multicast packets received (including errors)",
        ),
    ),
    Field::new(
        "counters/multicast_xmit_packets",
        Metric::counter(
            "node_infiniband_multicast_packets_transmitted_total",
            "Number of multicast packets transmitted (including errors)",
        ),
    ),
    Field::new(
        "counters/port_rcv_constraint_errors",
        Metric::counter(
            "node_infiniband_port_constraint_errors_received_total",
            "Number of packets received on the switch physical port that are discarded",
        ),
    ),
    Field {
        attribute: "counters/port_rcv_data",
        metric: Metric::counter(
            "node_infiniband_port_data_received_bytes_total",
            "Number of data octets received on all links",
        ),
        divisor: WORDS_PER_BYTE,
    },
    Field::new(
        "counters/port_rcv_discards",
        Metric::counter(
            "node_infiniband_port_discards_received_total",
            "Number of inbound packets discarded by the port because the port is down or congested",
        ),
    ),
    Field::new(
        "counters/port_rcv_errors",
        Metric::counter(
            "node_infiniband_port_errors_received_total",
            "Number of packets containing an error that were received on this port",
        ),
    ),
    Field::new(
        "counters/port_rcv_packets",
        Metric::counter(
            "node_infiniband_port_packets_received_total",
            "Number of packets received on all VLs by this port (including errors)",
        ),
    ),
    Field::new(
        "counters/port_rcv_remote_physical_errors",
        Metric::counter(
            "node_infiniband_port_receive_remote_physical_errors_total",
            "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
        ),
    ),
    Field::new(
        "counters/port_rcv_switch_relay_errors",
        Metric::counter(
            "node_infiniband_port_receive_switch_relay_errors_total",
            "Number of packets that could not be forwarded by the switch.",
        ),
    ),
    Field::new(
        "counters/port_xmit_constraint_errors",
        Metric::counter(
            "node_infiniband_port_constraint_errors_transmitted_total",
            "Number of packets not transmitted from the switch physical port",
        ),
    ),
    Field {
        attribute: "counters/port_xmit_data",
        metric: Metric::counter(
            "node_infiniband_port_data_transmitted_bytes_total",
            "Number of data octets transmitted on all links",
        ),
        divisor: WORDS_PER_BYTE,
    },
    Field::new(
        "counters/port_xmit_discards",
        Metric::counter(
            "node_infiniband_port_discards_transmitted_total",
            "Number of outbound packets discarded by the port because the port is down or congested",
        ),
    ),
    Field::new(
        "counters/port_xmit_packets",
        Metric::counter(
            "node_infiniband_port_packets_transmitted_total",
            "Number of packets transmitted on all VLs from this port (including errors)",
        ),
    ),
    Field::new(
        "counters/port_xmit_wait",
        Metric::counter(
            "node_infiniband_port_transmit_wait_total",
            "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
        ),
    ),
    Field::new(
        "counters/symbol_error",
        Metric::counter(
            "node_infiniband_symbol_error_total",
            "Number of minor link errors detected on one or more physical lanes.",
        ),
    ),
    Field::new(
        "counters/unicast_rcv_packets",
        Metric::counter(
            "node_infiniband_unicast_packets_received_total",
            "Number of unicast packets received (including errors)",
        ),
    ),
    Field::new(
        "counters/unicast_xmit_packets",
        Metric::counter(
            "node_infiniband_unicast_packets_transmitted_total",
            "Number of unicast packets transmitted (including errors)",
        ),
    ),
    Field::new(
        "counters_ext/port_multicast_rcv_packets",
        Metric::counter(
            "node_infiniband_legacy_multicast_packets_received_total",
            "Number of multicast packets received",
        ),
    ),
    Field::new(
        "counters_ext/port_multicast_xmit_packets",
        Metric::counter(
            "node_infiniband_legacy_multicast_packets_transmitted_total",
            "Number of multicast packets transmitted",
        ),
    ),
    Field {
        attribute: "counters_ext/port_rcv_data_64",
        metric: Metric::counter(
            "node_infiniband_legacy_data_received_bytes_total",
            "Number of data octets received on all links",
        ),
        divisor: WORDS_PER_BYTE,
    },
    Field::new(
        "counters_ext/port_rcv_packets_64",
        Metric::counter(
            "node_infiniband_legacy_packets_received_total",
            "Number of data packets received on all links",
        ),
    ),
    Field::new(
        "counters_ext/port_unicast_rcv_packets",
        Metric::counter(
            "node_infiniband_legacy_unicast_packets_received_total",
            "Number of unicast packets received",
        ),
    ),
    Field::new(
        "counters_ext/port_unicast_xmit_packets",
        Metric::counter(
            "node_infiniband_legacy_unicast_packets_transmitted_total",
            "Number of unicast packets transmitted",
        ),
    ),
    Field {
        attribute: "counters_ext/port_xmit_data_64",
        metric: Metric::counter(
            "node_infiniband_legacy_data_transmitted_bytes_total",
            "Number of data octets transmitted on all links",
        ),
        divisor: WORDS_PER_BYTE,
    },
    Field::new(
        "counters_ext/port_xmit_packets_64",
        Metric::counter(
            "node_infiniband_legacy_packets_transmitted_total",
            "Number of data packets received on all links",
        ),
    ),
];

struct Infiniband {
    adapters: Devices<Adapter>,
    page: Page,
}

struct Adapter {
    device: String,
    board_id: Text,
    firmware_version: Text,
    hca_type: Text,
    ports: Vec<Port>,
}

struct Port {
    port: String,
    states: Fields,
    counters: Fields,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let adapters = Devices::new(context.roots.sys("class/infiniband"));
    Ok(Box::new(Infiniband { adapters, page: Page::default() }))
}

impl Collector for Infiniband {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { adapters, page } = self;
        for adapter in adapters.current(|name, path| Some(Adapter::discover(name, path)))? {
            adapter.push(page, out);
        }
        Ok(())
    }
}

impl Adapter {
    fn discover(name: &str, path: &Path) -> Self {
        let text = |attribute| Text::new(path.join(attribute));
        Self {
            device: name.to_owned(),
            board_id: text("board_id"),
            firmware_version: text("fw_ver"),
            hca_type: text("hca_type"),
            ports: ports(&path.join("ports")),
        }
    }

    fn push(&mut self, page: &mut Page, out: &mut Samples) {
        let Self { device, board_id, firmware_version, hca_type, ports } = self;
        for text in [&mut *board_id, firmware_version, hca_type] {
            text.refresh(page);
        }
        let labels = [
            ("board_id", board_id.value()),
            ("device", device),
            ("firmware_version", firmware_version.value()),
            ("hca_type", hca_type.value()),
        ];
        out.push(&INFO, &labels, 1.0);
        for Port { port, states, counters } in ports {
            let labels = [("device", &**device), ("port", port)];
            states.push_parsed(&labels, page, out, |field, text| {
                let parse = if field.attribute == RATE { rate } else { id };
                parse(text).map(Some)
            });
            counters.push_parsed(&labels, page, out, |_, text| {
                match text.starts_with(NOT_COUNTED) {
                    true => Some(None),
                    false => number(text).map(Some),
                }
            });
        }
    }
}

fn ports(directory: &Path) -> Vec<Port> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    let port = |number: u32| {
        let port = number.to_string();
        let path = directory.join(&port);
        let (states, counters) = (Fields::of(&path, &STATES), Fields::of(&path, &COUNTERS));
        Port { port, states, counters }
    };
    numbers.into_iter().map(port).collect()
}

/// The number of a state, `4: ACTIVE`.
fn id(text: &str) -> Option<f64> {
    let (id, _) = text.split_once(':')?;
    id.trim().parse::<u32>().ok().map(f64::from)
}

/// Bytes a second of a rate, `100 Gb/sec (4X EDR)`.
fn rate(text: &str) -> Option<f64> {
    let (gigabits, _) = text.split_once(' ')?;
    let gigabits = gigabits.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0)?;
    Some((gigabits * BYTES_PER_GIGABIT).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_a_number() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(id(text), expected, "{text}");
        check("4: ACTIVE", Some(4.0));
        check("5: LinkUp", Some(5.0));
        check(" 1 :", Some(1.0));
        check("4", None);
        check(": ACTIVE", None);
        check("-1: ACTIVE", None);
        check("99999999999: ACTIVE", None);
        check("", None);
    }

    #[test]
    fn rates_become_bytes_a_second() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(rate(text), expected, "{text}");
        check("100 Gb/sec (4X EDR)", Some(12.5e9));
        check("2.5 Gb/sec (1X SDR)", Some(312.5e6));
        check("0 Gb/sec", Some(0.0));
        check("100", None);
        check("-1 Gb/sec", None);
        check("inf Gb/sec", None);
        check("fast Gb/sec", None);
        check("", None);
    }
}
