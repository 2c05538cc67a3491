//! Names of sensors' attributes, and what node_exporter makes of them.

use std::fmt;

use agent_core::MetricKind;

/// The property that is a sensor's label and no number.
pub(crate) const LABEL: &str = "label";

/// Kinds of sensors; what else is in the directory is none.
const KINDS: [&str; 13] = [
    "beep_enable",
    "cpu",
    "curr",
    "energy",
    "fan",
    "humidity",
    "in",
    "intrusion",
    "power",
    "pwm",
    "temp",
    "update_interval",
    "vrm",
];

/// Volts, degrees and amperes come in thousandths, watts and joules in millionths.
const MILLI: f64 = 1e3;
const MICRO: f64 = 1e6;

/// One sensor of a chip: `temp1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sensor {
    /// What it measures, in the kernel's word.
    pub(crate) kind: &'static str,
    number: u64,
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind, self.number)
    }
}

impl Sensor {
    /// Of a file's name, with the property: `temp1_crit` is `crit` of `temp1`, `pwm1` has none,
    /// `update_interval` has number 0.
    pub(crate) fn parse(file: &str) -> Option<(Self, &str)> {
        let digits = file.find(|c: char| c.is_ascii_digit()).unwrap_or(file.len());
        let (kind, rest) = file.split_at(digits);
        let kind = *KINDS.iter().find(|known| **known == kind)?;
        let property = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = &rest[..rest.len() - property.len()];
        let number = if number.is_empty() { 0 } else { number.parse().ok()? };
        let property = match property.strip_prefix('_') {
            Some("") => return None,
            Some(property) => property,
            None if property.is_empty() => property,
            None => return None,
        };
        Some((Self { kind, number }, property))
    }
}

/// What a property becomes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) divisor: f64,
    pub(crate) kind: MetricKind,
}

impl Made {
    /// Of a property of a sensor of that kind. `has_value` if the sensor has a file without a property
    /// too, beside which `input` is a name of its own. `None` for those that become nothing.
    pub(crate) fn new(kind: &str, property: &str, has_value: bool) -> Option<Self> {
        if let Some((name, help, divisor)) = alone(kind) {
            let is_alone = property.is_empty();
            return is_alone.then(|| Self::gauge(name.to_owned(), help.to_owned(), divisor));
        }
        let suffix = match property {
            "" => String::new(),
            "input" if !has_value => String::new(),
            _ => format!("_{}", clean(property)),
        };
        let name = format!("node_hwmon_{kind}{suffix}");
        let (unit, help, divisor) = match (kind, property) {
            (_, "fault" | "alarm") => {
                ("", format!("Hardware sensor {property} status ({kind})"), 1.0)
            }
            (_, "beep") => {
                ("_enabled", "Hardware monitor sensor has beeping enabled".to_owned(), 1.0)
            }
            ("in" | "cpu", _) => {
                ("_volts", format!("Hardware monitor for voltage ({property})"), MILLI)
            }
            ("temp", property) if property != "type" => {
                let property = if property.is_empty() { "input" } else { property };
                ("_celsius", format!("Hardware monitor for temperature ({property})"), MILLI)
            }
            ("curr", _) => ("_amps", format!("Hardware monitor for current ({property})"), MILLI),
            ("energy", _) => (
                "_joule_total",
                format!("Hardware monitor for joules used so far ({property})"),
                MICRO,
            ),
            ("power", "accuracy") => {
                ("", "Hardware monitor power meter accuracy, as a ratio".to_owned(), MICRO)
            }
            ("power", "average_interval" | "average_interval_min" | "average_interval_max") => (
                "_seconds",
                format!("Hardware monitor power usage update interval ({property})"),
                MILLI,
            ),
            ("power", _) => {
                ("_watt", format!("Hardware monitor for power usage in watts ({property})"), MICRO)
            }
            ("humidity", _) => (
                "",
                format!(
                    "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the \
                     humidity as a percentage) ({property})"
                ),
                MICRO,
            ),
            ("fan", "input" | "min" | "max" | "target") => (
                "_rpm",
                format!("Hardware monitor for fan revolutions per minute ({property})"),
                1.0,
            ),
            _ => ("", format!("Hardware monitor {kind} element {property}"), 1.0),
        };
        let kind = if unit == "_joule_total" { MetricKind::Counter } else { MetricKind::Gauge };
        Some(Self { name: format!("{name}{unit}"), help, divisor, kind })
    }

    const fn gauge(name: String, help: String, divisor: f64) -> Self {
        Self { name, help, divisor, kind: MetricKind::Gauge }
    }
}

/// Kinds that are one number for the whole chip.
fn alone(kind: &str) -> Option<(&'static str, &'static str, f64)> {
    match kind {
        "beep_enable" => Some(("node_hwmon_beep_enabled", "Hardware beep enabled", 1.0)),
        "vrm" => Some(("node_hwmon_voltage_regulator_version", "Hardware voltage regulator", 1.0)),
        "update_interval" => {
            Some(("node_hwmon_update_interval_seconds", "Hardware monitor update interval", MILLI))
        }
        _ => None,
    }
}

/// A part of a name, or the name of a chip: in small letters, with underscores for what no name may
/// hold, and none around it.
pub(crate) fn clean(text: &str) -> String {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '_');
    let lower = text.to_lowercase();
    let cleaned: String = lower.chars().map(|c| if valid(c) { c } else { '_' }).collect();
    cleaned.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_are_properties_of_sensors() {
        let check = |file: &str, expected: Option<(&str, &str)>| {
            let got = Sensor::parse(file).map(|(sensor, property)| (sensor.to_string(), property));
            let got = got.as_ref().map(|(sensor, property)| (sensor.as_str(), *property));
            assert_eq!(got, expected, "{file}");
        };
        check("temp1_input", Some(("temp1", "input")));
        check("temp12_crit_alarm", Some(("temp12", "crit_alarm")));
        check("in00_min", Some(("in0", "min")));
        check("pwm1", Some(("pwm1", "")));
        check("pwm1_auto_point1_temp", Some(("pwm1", "auto_point1_temp")));
        check("update_interval", Some(("update_interval0", "")));
        check("beep_enable", Some(("beep_enable0", "")));
        check("vrm", Some(("vrm0", "")));
        check("temp1_", None);
        check("temp1x", None);
        check("temp_input", None);
        check("freq1_input", None);
        check("name", None);
        check("1_input", None);
        check("", None);
        check("fan18446744073709551616_input", None);
    }

    #[test]
    fn properties_become_metrics() {
        let check = |kind: &str, property: &str, has_value: bool, expected: &str| {
            let got = Made::new(kind, property, has_value);
            let got = got.map(|made| {
                format!("{} {} /{} # {}", made.name, made.kind.as_str(), made.divisor, made.help)
            });
            assert_eq!(got.unwrap_or_default(), expected);
        };
        check(
            "temp",
            "input",
            false,
            "node_hwmon_temp_celsius gauge /1000 # Hardware monitor for temperature (input)",
        );
        check(
            "temp",
            "crit_alarm",
            false,
            "node_hwmon_temp_crit_alarm_celsius gauge /1000 # Hardware monitor for temperature \
             (crit_alarm)",
        );
        check(
            "temp",
            "type",
            false,
            "node_hwmon_temp_type gauge /1 # Hardware monitor temp element type",
        );
        check(
            "temp",
            "fault",
            false,
            "node_hwmon_temp_fault gauge /1 # Hardware sensor fault status (temp)",
        );
        check(
            "in",
            "beep",
            false,
            "node_hwmon_in_beep_enabled gauge /1 # Hardware monitor sensor has beeping enabled",
        );
        check("pwm", "", true, "node_hwmon_pwm gauge /1 # Hardware monitor pwm element ");
        check(
            "fan",
            "input",
            true,
            "node_hwmon_fan_input_rpm gauge /1 # Hardware monitor for fan revolutions per minute (input)",
        );
        check(
            "fan",
            "div",
            false,
            "node_hwmon_fan_div gauge /1 # Hardware monitor fan element div",
        );
        check(
            "energy",
            "input",
            false,
            "node_hwmon_energy_joule_total counter /1000000 # Hardware monitor for joules used so far \
             (input)",
        );
        check(
            "power",
            "Average-1",
            false,
            "node_hwmon_power_average_1_watt gauge /1000000 # Hardware monitor for power usage in watts \
             (Average-1)",
        );
        check(
            "vrm",
            "",
            true,
            "node_hwmon_voltage_regulator_version gauge /1 # Hardware voltage regulator",
        );
        check("vrm", "input", true, "");
    }

    #[test]
    fn names_are_cleaned() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text), expected);
        check("0000:00:18.3", "0000:00:18_3");
        check("BAT0\n", "bat0");
        check("_nct6798 ", "nct6798");
        check("wärme", "w_rme");
        check("--", "");
    }

    proptest! {
        #[test]
        fn whatever_a_file_is_called_its_metric_has_a_name(file in "[a-z]{0,6}[0-9]{0,3}.{0,12}") {
            if let Some((sensor, property)) = Sensor::parse(&file)
                && let Some(made) = Made::new(sensor.kind, property, false)
            {
                let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_');
                prop_assert!(made.name.chars().all(valid), "{}", made.name);
            }
        }
    }
}
