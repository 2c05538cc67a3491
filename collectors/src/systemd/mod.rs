//! What systemd says of its units, over D-Bus: `org.freedesktop.systemd1`.
//!
//! One question gives all units and their states. What isn't in it is a property of each unit, asked one by one:
//! node_exporter asks all of them again every time, which on a host with 150 services is most of what it
//! costs there, in systemd and the bus more than in itself. We ask again each tick for what moves, and a few
//! a tick for the type of a service, which stands in a file: see [`Rotation`](crate::rotation::Rotation).
//!
//! Units are in the order of their names, so that a steady host has one schema.

mod properties;
mod units;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};

use self::{
    properties::Properties,
    units::{States, Unit, Units},
};
use crate::{
    dbus::{Answer, BUS_ADDRESS, Bus, Call, Unusable, get},
    filter::WholeFilter,
    rotation::Rotation,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "systemd",
    summary: "States of systemd's units, and what it knows of services, sockets and timers.",
    reads: &["org.freedesktop.systemd1 on the D-Bus system bus"],
    default_enabled: false,
    options: &[
        OptionSpec {
            key: "unit_include",
            default: ".+",
            doc: "Regular expression of the units to take; it has to match the whole name.",
        },
        OptionSpec {
            key: "unit_exclude",
            default: r".+\.(automount|device|mount|scope|slice)",
            doc: "Regular expression of units to leave out; it has to match the whole name.",
        },
        OptionSpec {
            key: "enable_task_metrics",
            default: "false",
            doc: "Whether services have their tasks: node_systemd_unit_tasks_current and …_max.",
        },
        OptionSpec {
            key: "enable_restarts_metrics",
            default: "false",
            doc: "Whether services have their restarts: node_systemd_service_restart_total.",
        },
        OptionSpec {
            key: "enable_start_time_metrics",
            default: "false",
            doc: "Whether units have their start: node_systemd_unit_start_time_seconds.",
        },
        BUS_ADDRESS,
    ],
    build,
};

const VERSION: Metric<'_> = Metric::gauge("node_systemd_version", "Detected systemd version");
const VIRTUALIZATION: Metric<'_> =
    Metric::gauge("node_systemd_virtualization_info", "Detected virtualization technology");
const RUNNING: Metric<'_> = Metric::gauge(
    "node_systemd_system_running",
    "Whether the system is operational (see 'systemctl is-system-running')",
);
const UNITS: Metric<'_> = Metric::gauge("node_systemd_units", "Summary of systemd unit states");
const UNIT_STATE: Metric<'_> = Metric::gauge("node_systemd_unit_state", "Systemd unit");

/// The states that a unit has a series of, and of which the summary always has one.
const STATES: [&str; 5] = ["active", "activating", "deactivating", "failed", "inactive"];

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// Units that have series; 4 000 of them are up to 36 000.
const UNITS_MAX: usize = 4_000;
/// Types of services that are asked for again in a tick.
const TYPES_AGAIN: usize = 8;

struct Systemd {
    bus: Bus,
    filter: WholeFilter,
    units: Units,
    types: Rotation,
    properties: Properties,
    manager: Manager,
}

/// What systemd says of itself.
#[derive(Debug, Default)]
struct Manager {
    version: String,
    virtualization: Option<String>,
    /// Absent where systemd is older than 212.
    state: Option<String>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Systemd {
        bus: Bus::from_options(context)?,
        filter: WholeFilter::from_options(context, "unit_include", "unit_exclude")?,
        units: Units::default(),
        types: Rotation::new(TYPES_AGAIN),
        properties: Properties::from_options(context)?,
        manager: Manager::default(),
    }))
}

impl Collector for Systemd {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        self.ask_manager()?;
        self.ask_types()?;
        self.manager.push(out);
        self.units.states.push(out);
        let (units, matching) = self.units.taken(UNITS_MAX);
        units.clone().for_each(|unit| push_states(unit, out));
        self.properties.collect(&mut self.bus, units, out)?;
        if matching > UNITS_MAX {
            out.remark(&format!(
                "{matching} units match, the first {UNITS_MAX} have series: narrow unit_include, or widen \
                 unit_exclude"
            ));
        }
        Ok(())
    }
}

impl Systemd {
    fn ask_manager(&mut self) -> Result<(), CollectError> {
        let Self { bus, filter, units, manager, .. } = self;
        let property = |property| get(SYSTEMD, MANAGER_PATH, property);
        let list = Call {
            destination: SYSTEMD,
            path: MANAGER_PATH,
            interface: MANAGER,
            member: "ListUnits",
            arguments: &[],
        };
        let calls = [
            property(&[MANAGER, "Version"]),
            property(&[MANAGER, "Virtualization"]),
            property(&[MANAGER, "SystemState"]),
            list,
        ];
        bus.ask(&calls, |index, answer| {
            match index {
                0 => manager.version = text(answer)?.unwrap_or_default(),
                1 => manager.virtualization = text(answer)?,
                2 => manager.state = text(answer)?,
                _ => units.renew(answer.body(units::LIST_SIGNATURE)?, filter)?,
            }
            Ok(())
        })
    }

    /// Of those units that have a type, those that are new or changed, and a few of the others.
    fn ask_types(&mut self) -> Result<(), CollectError> {
        let mut asked: Vec<&mut Unit> = self.units.typed(UNITS_MAX).collect();
        let again = self.types.next(asked.len());
        let mut index = 0;
        asked.retain(|unit| {
            index += 1;
            unit.kind_is_stale || again.contains(&(index - 1))
        });
        let mut kinds: Vec<Option<String>> = vec![None; asked.len()];
        let calls =
            asked.iter().filter_map(|unit| Some(get(SYSTEMD, &unit.path, unit.type_property()?)));
        let calls: Vec<_> = calls.collect();
        self.bus.ask(&calls, |index, answer| {
            kinds[index] = answer.text_property()?.map(str::to_owned);
            Ok(())
        })?;
        drop(calls);
        for (unit, kind) in asked.into_iter().zip(kinds) {
            unit.kind_is_stale = kind.is_none();
            unit.kind = kind.unwrap_or_default();
        }
        Ok(())
    }
}

fn text(answer: Answer<'_>) -> Result<Option<String>, Unusable> {
    Ok(answer.text_property()?.map(str::to_owned))
}

impl Manager {
    fn push(&self, out: &mut Samples) {
        let number = version_number(&self.version);
        let shown = if number.is_some() { self.version.as_str() } else { "" };
        out.push(&VERSION, &[("version", shown)], number.unwrap_or_default());
        let virtualization = match self.virtualization.as_deref() {
            None => "unknown",
            Some("") => "none",
            Some(technology) => technology,
        };
        out.push(&VIRTUALIZATION, &[("virtualization_type", virtualization)], 1.0);
        if let Some(state) = &self.state {
            out.push(&RUNNING, &[], f64::from(u8::from(state == "running")));
        }
    }
}

impl States {
    fn push(&self, out: &mut Samples) {
        for (state, count) in self.iter() {
            out.push(&UNITS, &[("state", state)], count as f64);
        }
    }
}

fn push_states(unit: &Unit, out: &mut Samples) {
    for state in STATES {
        let is_in = f64::from(u8::from(unit.active == state));
        out.push(
            &UNIT_STATE,
            &[("name", &unit.name), ("state", state), ("type", &unit.kind)],
            is_in,
        );
    }
}

/// The number in `252.38-1~deb12u1`: three digits at least, and what follows one dot.
fn version_number(version: &str) -> Option<f64> {
    let bytes = version.as_bytes();
    let mut start = 0;
    loop {
        start += bytes.get(start..)?.iter().position(u8::is_ascii_digit)?;
        let digits =
            |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = start + digits(start);
        if whole - start < 3 {
            start = whole;
            continue;
        }
        let minor = if bytes.get(whole) == Some(&b'.') { digits(whole + 1) } else { 0 };
        let end = if minor > 0 { whole + 1 + minor } else { whole };
        return version[start..end].parse().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        let check = |version: &str, expected: Option<f64>| {
            assert_eq!(version_number(version), expected, "{version}");
        };
        check("252.38-1~deb12u1", Some(252.38));
        check("v219", Some(219.0));
        check("systemd 12 249.", Some(249.0));
        check("257~rc1", Some(257.0));
        check("12.345", Some(345.0));
        check("12", None);
        check("", None);
        check("älter 208", Some(208.0));
    }
}
