//! Watchdogs, which restart a machine that hangs: `/sys/class/watchdog`.
//!
//! Names are those of node_exporter 1.8, the first that has them. The kernel's
//! Documentation/ABI/testing/sysfs-class-watchdog says what the attributes mean. A kernel without
//! `CONFIG_WATCHDOG_SYSFS` shows watchdogs without any: they have `node_watchdog_info` alone.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Field, Fields, Page, Text},
    devices::Devices,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "watchdog",
    summary: "Timeouts and state of watchdogs.",
    reads: &["/sys/class/watchdog"],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> =
    Metric::gauge("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>");

static NUMBERS: [Field; 7] = [
    gauge(
        "access_cs0",
        "node_watchdog_access_cs0",
        "Value of /sys/class/watchdog/<watchdog>/access_cs0",
    ),
    gauge(
        "bootstatus",
        "node_watchdog_bootstatus",
        "Value of /sys/class/watchdog/<watchdog>/bootstatus",
    ),
    gauge(
        "fw_version",
        "node_watchdog_fw_version",
        "Value of /sys/class/watchdog/<watchdog>/fw_version",
    ),
    gauge("nowayout", "node_watchdog_nowayout", "Value of /sys/class/watchdog/<watchdog>/nowayout"),
    gauge(
        "pretimeout",
        "node_watchdog_pretimeout_seconds",
        "Value of /sys/class/watchdog/<watchdog>/pretimeout",
    ),
    gauge(
        "timeleft",
        "node_watchdog_timeleft_seconds",
        "Value of /sys/class/watchdog/<watchdog>/timeleft",
    ),
    gauge(
        "timeout",
        "node_watchdog_timeout_seconds",
        "Value of /sys/class/watchdog/<watchdog>/timeout",
    ),
];

const fn gauge(attribute: &'static str, name: &'static str, help: &'static str) -> Field {
    Field::new(attribute, Metric::gauge(name, help))
}

struct Watchdog {
    watchdogs: Devices<Device>,
    page: Page,
}

struct Device {
    name: String,
    numbers: Fields,
    identity: Text,
    options: Text,
    pretimeout_governor: Text,
    state: Text,
    status: Text,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let watchdogs = Devices::new(context.roots.sys("class/watchdog"));
    Ok(Box::new(Watchdog { watchdogs, page: Page::default() }))
}

impl Collector for Watchdog {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { watchdogs, page } = self;
        let watchdogs = watchdogs.current(|name, path| {
            let text = |attribute| Text::new(path.join(attribute));
            Some(Device {
                name: name.to_owned(),
                numbers: Fields::of(path, &NUMBERS),
                identity: text("identity"),
                options: text("options"),
                pretimeout_governor: text("pretimeout_governor"),
                state: text("state"),
                status: text("status"),
            })
        })?;
        for device in watchdogs {
            let Device { name, numbers, identity, options, pretimeout_governor, state, status } =
                device;
            let name: &str = name;
            numbers.push(&[("name", name)], page, out);
            for text in [&mut *identity, options, pretimeout_governor, state, status] {
                text.refresh(page);
            }
            let labels = [
                ("identity", identity.value()),
                ("name", name),
                ("options", options.value()),
                ("pretimeout_governor", pretimeout_governor.value()),
                ("state", state.value()),
                ("status", status.value()),
            ];
            out.push(&INFO, &labels, 1.0);
        }
        Ok(())
    }
}
