//! Batteries and mains adapters: `/sys/class/power_supply`.
//!
//! What an attribute means: the kernel's Documentation/ABI/testing/sysfs-class-power.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use regex_lite::Regex;

use crate::{
    attribute::{Field, Fields, Page, Text},
    devices::Devices,
    filter::regex,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "powersupplyclass",
    summary: "Charge, voltage, current and state of batteries and mains adapters.",
    reads: &["/sys/class/power_supply"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "ignored_supplies",
        default: "^$",
        doc: "Regular expression of power supplies to leave out.",
    }],
    build,
};

const INFO: Metric<'_> =
    Metric::gauge("node_power_supply_info", "info of /sys/class/power_supply/<power_supply>.");
/// Labels of [`INFO`] in their order, each an attribute but for the name of the power supply itself.
const TEXTS: [&str; 12] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    NAME,
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];
const NAME: &str = "power_supply";

/// Volts, amperes, watts and so on come in millionths, temperatures in tenths of a degree.
const MICRO: f64 = 1e6;
const TENTHS: f64 = 10.0;

macro_rules! property {
    ($attribute:literal, $name:literal, $divisor:expr) => {
        Field {
            attribute: $attribute,
            metric: Metric::gauge(
                concat!("node_power_supply_", $name),
                concat!($name, " value of /sys/class/power_supply/<power_supply>."),
            ),
            divisor: $divisor,
        }
    };
}

/// Attributes that are numbers.
static NUMBERS: [Field; 49] = [
    property!("authentic", "authentic", 1.0),
    property!("calibrate", "calibrate", 1.0),
    property!("capacity", "capacity", 1.0),
    property!("capacity_alert_max", "capacity_alert_max", 1.0),
    property!("capacity_alert_min", "capacity_alert_min", 1.0),
    property!("cycle_count", "cyclecount", 1.0),
    property!("online", "online", 1.0),
    property!("present", "present", 1.0),
    property!("time_to_empty_now", "time_to_empty_seconds", 1.0),
    property!("time_to_full_now", "time_to_full_seconds", 1.0),
    property!("current_boot", "current_boot", MICRO),
    property!("current_max", "current_max", MICRO),
    property!("current_now", "current_ampere", MICRO),
    property!("energy_empty", "energy_empty", MICRO),
    property!("energy_empty_design", "energy_empty_design", MICRO),
    property!("energy_full", "energy_full", MICRO),
    property!("energy_full_design", "energy_full_design", MICRO),
    property!("energy_now", "energy_watthour", MICRO),
    property!("voltage_boot", "voltage_boot", MICRO),
    property!("voltage_max", "voltage_max", MICRO),
    property!("voltage_max_design", "voltage_max_design", MICRO),
    property!("voltage_min", "voltage_min", MICRO),
    property!("voltage_min_design", "voltage_min_design", MICRO),
    property!("voltage_now", "voltage_volt", MICRO),
    property!("voltage_ocv", "voltage_ocv", MICRO),
    property!("charge_control_limit", "charge_control_limit", MICRO),
    property!("charge_control_limit_max", "charge_control_limit_max", MICRO),
    property!("charge_counter", "charge_counter", MICRO),
    property!("charge_empty", "charge_empty", MICRO),
    property!("charge_empty_design", "charge_empty_design", MICRO),
    property!("charge_full", "charge_full", MICRO),
    property!("charge_full_design", "charge_full_design", MICRO),
    property!("charge_now", "charge_ampere", MICRO),
    property!("charge_term_current", "charge_term_current", MICRO),
    property!("constant_charge_current", "constant_charge_current", MICRO),
    property!("constant_charge_current_max", "constant_charge_current_max", MICRO),
    property!("constant_charge_voltage", "constant_charge_voltage", MICRO),
    property!("constant_charge_voltage_max", "constant_charge_voltage_max", MICRO),
    property!("precharge_current", "precharge_current", MICRO),
    property!("input_current_limit", "input_current_limit", MICRO),
    property!("power_now", "power_watt", MICRO),
    property!("temp", "temp_celsius", TENTHS),
    property!("temp_alert_max", "temp_alert_max_celsius", TENTHS),
    property!("temp_alert_min", "temp_alert_min_celsius", TENTHS),
    property!("temp_ambient", "temp_ambient_celsius", TENTHS),
    property!("temp_ambient_max", "temp_ambient_max_celsius", TENTHS),
    property!("temp_ambient_min", "temp_ambient_min_celsius", TENTHS),
    property!("temp_max", "temp_max_celsius", TENTHS),
    property!("temp_min", "temp_min_celsius", TENTHS),
];

struct Powersupplyclass {
    supplies: Devices<Supply>,
    ignored: Option<Regex>,
    page: Page,
}

struct Supply {
    name: String,
    numbers: Fields,
    /// Attributes of [`TEXTS`] that it has.
    texts: Vec<(&'static str, Text)>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Powersupplyclass {
        supplies: Devices::new(context.roots.sys("class/power_supply")),
        ignored: regex(context, "ignored_supplies")?,
        page: Page::default(),
    }))
}

impl Collector for Powersupplyclass {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { supplies, ignored, page } = self;
        let supplies = supplies.current(|name, path| {
            let is_ignored = ignored.as_ref().is_some_and(|regex| regex.is_match(name));
            let texts = TEXTS.iter().filter(|text| path.join(text).is_file());
            (!is_ignored).then(|| Supply {
                name: name.to_owned(),
                numbers: Fields::of(path, &NUMBERS),
                texts: texts.map(|text| (*text, Text::new(path.join(text)))).collect(),
            })
        })?;
        for supply in supplies {
            supply.push(page, out);
        }
        Ok(())
    }
}

impl Supply {
    fn push(&mut self, page: &mut Page, out: &mut Samples) {
        let Self { name, numbers, texts } = self;
        let name: &str = name;
        numbers.push(&[(NAME, name)], page, out);
        for (_, text) in &mut *texts {
            text.refresh(page);
        }
        let mut labels = [("", ""); TEXTS.len()];
        let mut count = 0;
        for key in TEXTS {
            let text = texts.iter().find(|(known, _)| *known == key);
            let value = if key == NAME { name } else { text.map_or("", |(_, text)| text.value()) };
            if !value.is_empty() {
                labels[count] = (key, value);
                count += 1;
            }
        }
        out.push(&INFO, &labels[..count], 1.0);
    }
}
