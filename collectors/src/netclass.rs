//! Properties of network interfaces: `/sys/class/net`.

use std::path::PathBuf;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use regex_lite::Regex;

use crate::{
    filter::regex,
    sysfs::{self, Attributes},
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "netclass",
    summary: "State, speed, MTU and other properties of network interfaces.",
    reads: &["/sys/class/net"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "ignored_devices",
        default: "^$",
        doc: "Regular expression of interfaces to leave out.",
    }],
    build,
};

const INFO: Metric<'_> = Metric::gauge(
    "node_network_info",
    "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
);
const UP: Metric<'_> =
    Metric::gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
const SPEED: Metric<'_> =
    Metric::gauge("node_network_speed_bytes", "Network device property: speed_bytes");
/// Megabits a second, of which node_exporter makes bytes a second.
const BYTES_PER_MEGABIT: f64 = 1e6 / 8.0;

/// Attributes that are numbers.
const NUMBERS: [(&str, Metric<'_>); 17] = [
    (
        "addr_assign_type",
        property(
            "node_network_address_assign_type",
            "Network device property: address_assign_type",
        ),
    ),
    ("carrier", property("node_network_carrier", "Network device property: carrier")),
    (
        "carrier_changes",
        Metric::counter(
            "node_network_carrier_changes_total",
            "Network device property: carrier_changes_total",
        ),
    ),
    (
        "carrier_up_count",
        Metric::counter(
            "node_network_carrier_up_changes_total",
            "Network device property: carrier_up_changes_total",
        ),
    ),
    (
        "carrier_down_count",
        Metric::counter(
            "node_network_carrier_down_changes_total",
            "Network device property: carrier_down_changes_total",
        ),
    ),
    ("dev_id", property("node_network_device_id", "Network device property: device_id")),
    ("dormant", property("node_network_dormant", "Network device property: dormant")),
    ("flags", property("node_network_flags", "Network device property: flags")),
    ("ifindex", property("node_network_iface_id", "Network device property: iface_id")),
    ("iflink", property("node_network_iface_link", "Network device property: iface_link")),
    (
        "link_mode",
        property("node_network_iface_link_mode", "Network device property: iface_link_mode"),
    ),
    ("mtu", property("node_network_mtu_bytes", "Network device property: mtu_bytes")),
    (
        "name_assign_type",
        property("node_network_name_assign_type", "Network device property: name_assign_type"),
    ),
    (
        "netdev_group",
        property("node_network_net_dev_group", "Network device property: net_dev_group"),
    ),
    ("speed", SPEED),
    (
        "tx_queue_len",
        property(
            "node_network_transmit_queue_length",
            "Network device property: transmit_queue_length",
        ),
    ),
    ("type", property("node_network_protocol_type", "Network device property: protocol_type")),
];

const fn property(name: &'static str, help: &'static str) -> Metric<'static> {
    Metric::gauge(name, help)
}

struct Netclass {
    directory: PathBuf,
    ignored: Option<Regex>,
    attributes: Attributes,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Netclass {
        directory: context.roots.sys("class/net"),
        ignored: regex(context, "ignored_devices")?,
        attributes: Attributes::default(),
    }))
}

impl Collector for Netclass {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { directory, ignored, attributes } = self;
        for device in sysfs::devices(directory, "")? {
            let is_ignored = ignored.as_ref().is_some_and(|regex| regex.is_match(&device.name));
            // `bonding_masters` is a file.
            if is_ignored || attributes.text(&device.path, "operstate").is_none() {
                continue;
            }
            let keys = ["address", "broadcast", "duplex", "ifalias", "operstate"];
            let texts = keys.map(|key| attributes.text(&device.path, key).unwrap_or("").to_owned());
            let [address, broadcast, duplex, ifalias, operstate] = &texts;
            out.push(&UP, &[("device", &device.name)], f64::from(u8::from(operstate == "up")));
            let labels = [
                ("address", address.as_str()),
                ("broadcast", broadcast),
                ("device", &device.name),
                ("duplex", duplex),
                ("ifalias", ifalias),
                ("operstate", operstate),
            ];
            out.push(&INFO, &labels, 1.0);
            for (attribute, metric) in &NUMBERS {
                let Some(value) = attributes.number(&device.path, attribute) else { continue };
                let scale = if metric.name == SPEED.name { BYTES_PER_MEGABIT } else { 1.0 };
                out.push(metric, &[("device", &device.name)], value * scale);
            }
        }
        Ok(())
    }
}
