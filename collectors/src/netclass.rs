//! Properties of network interfaces: `/sys/class/net`.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use regex_lite::Regex;

use crate::{
    attribute::{Field, Fields, Page, Text},
    devices::Devices,
    filter::regex,
    sysfs::number,
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
static NUMBERS: [Field; 17] = [
    Field::new(
        "addr_assign_type",
        property(
            "node_network_address_assign_type",
            "Network device property: address_assign_type",
        ),
    ),
    Field::new("carrier", property("node_network_carrier", "Network device property: carrier")),
    Field::new(
        "carrier_changes",
        Metric::counter(
            "node_network_carrier_changes_total",
            "Network device property: carrier_changes_total",
        ),
    ),
    Field::new(
        "carrier_up_count",
        Metric::counter(
            "node_network_carrier_up_changes_total",
            "Network device property: carrier_up_changes_total",
        ),
    ),
    Field::new(
        "carrier_down_count",
        Metric::counter(
            "node_network_carrier_down_changes_total",
            "Network device property: carrier_down_changes_total",
        ),
    ),
    Field::new("dev_id", property("node_network_device_id", "Network device property: device_id")),
    Field::new("dormant", property("node_network_dormant", "Network device property: dormant")),
    Field::new("flags", property("node_network_flags", "Network device property: flags")),
    Field::new("ifindex", property("node_network_iface_id", "Network device property: iface_id")),
    Field::new(
        "iflink",
        property("node_network_iface_link", "Network device property: iface_link"),
    ),
    Field::new(
        "link_mode",
        property("node_network_iface_link_mode", "Network device property: iface_link_mode"),
    ),
    Field::new("mtu", property("node_network_mtu_bytes", "Network device property: mtu_bytes")),
    Field::new(
        "name_assign_type",
        property("node_network_name_assign_type", "Network device property: name_assign_type"),
    ),
    Field::new(
        "netdev_group",
        property("node_network_net_dev_group", "Network device property: net_dev_group"),
    ),
    Field::new("speed", SPEED),
    Field::new(
        "tx_queue_len",
        property(
            "node_network_transmit_queue_length",
            "Network device property: transmit_queue_length",
        ),
    ),
    Field::new(
        "type",
        property("node_network_protocol_type", "Network device property: protocol_type"),
    ),
];

const fn property(name: &'static str, help: &'static str) -> Metric<'static> {
    Metric::gauge(name, help)
}

struct Netclass {
    /// `None` for what is left out, or is no interface: `bonding_masters` is a file.
    interfaces: Devices<Option<Interface>>,
    ignored: Option<Regex>,
    page: Page,
}

struct Interface {
    name: String,
    address: Text,
    broadcast: Text,
    duplex: Text,
    ifalias: Text,
    operstate: Text,
    numbers: Fields,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Netclass {
        interfaces: Devices::new(context.roots.sys("class/net")),
        ignored: regex(context, "ignored_devices")?,
        page: Page::default(),
    }))
}

impl Collector for Netclass {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { interfaces, ignored, page } = self;
        let interfaces = interfaces.current(|name, path| {
            let is_ignored = ignored.as_ref().is_some_and(|regex| regex.is_match(name));
            Some((!is_ignored && path.is_dir()).then(|| Interface::new(name, path)))
        })?;
        for interface in interfaces.iter_mut().flatten() {
            interface.push(page, out);
        }
        Ok(())
    }
}

impl Interface {
    fn new(name: &str, path: &Path) -> Self {
        let text = |attribute| Text::new(path.join(attribute));
        Self {
            name: name.to_owned(),
            address: text("address"),
            broadcast: text("broadcast"),
            duplex: text("duplex"),
            ifalias: text("ifalias"),
            operstate: text("operstate"),
            numbers: Fields::of(path, &NUMBERS),
        }
    }

    fn push(&mut self, page: &mut Page, out: &mut Samples) {
        let Self { name, address, broadcast, duplex, ifalias, operstate, numbers } = self;
        for text in [&mut *address, broadcast, duplex, ifalias, operstate] {
            text.refresh(page);
        }
        let operstate = operstate.value();
        if operstate.is_empty() {
            return; // it went since it was listed: every interface has a state
        }
        let of_interface = [("device", &**name)];
        out.push(&UP, &of_interface, f64::from(u8::from(operstate == "up")));
        let labels = [
            ("address", address.value()),
            ("broadcast", broadcast.value()),
            ("device", &**name),
            ("duplex", duplex.value()),
            ("ifalias", ifalias.value()),
            ("operstate", operstate),
        ];
        out.push(&INFO, &labels, 1.0);
        numbers.push_parsed(&of_interface, page, out, |field, text| {
            let scale = if field.metric.name == SPEED.name { BYTES_PER_MEGABIT } else { 1.0 };
            number(text).map(|number| Some(number * scale))
        });
    }
}
