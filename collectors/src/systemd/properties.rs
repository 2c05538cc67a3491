//! What systemd knows of single units: properties that are numbers, asked for in every tick.

use agent_core::{
    CollectError, Metric, Samples,
    collector::{BuildError, Context},
};

use super::{SYSTEMD, units::Unit};
use crate::{
    dbus::{Bus, get},
    options::switch,
};

/// A property, and the metric that it is.
#[derive(Debug)]
struct Property {
    /// Of the units that have it; all of them if it is empty.
    suffix: &'static str,
    /// Interface and name.
    name: [&'static str; 2],
    metric: Metric<'static>,
    /// What its number is divided by.
    divisor: f64,
    /// The option that switches it on; it is always on if that is empty.
    option: &'static str,
    /// Whether it is 0, unasked, while the unit isn't active.
    of_active: bool,
}

const SERVICE: &str = "org.freedesktop.systemd1.Service";
const SOCKET: &str = "org.freedesktop.systemd1.Socket";
/// systemd's times.
const MICROSECONDS: f64 = 1e6;
/// What systemd says for "no number" and "no limit".
const NONE: f64 = u64::MAX as f64;

impl Property {
    const fn of(
        suffix: &'static str,
        interface: &'static str,
        name: &'static str,
        metric: Metric<'static>,
    ) -> Self {
        let name = [interface, name];
        Self { suffix, name, metric, divisor: 1.0, option: "", of_active: false }
    }

    const fn by(self, option: &'static str) -> Self {
        Self { option, ..self }
    }
}

static TABLE: [Property; 8] = [
    Property::of(
        "service",
        SERVICE,
        "NRestarts",
        Metric::counter(
            "node_systemd_service_restart_total",
            "Service unit count of Restart triggers",
        ),
    )
    .by("enable_restarts_metrics"),
    Property::of(
        "socket",
        SOCKET,
        "NAccepted",
        Metric::counter(
            "node_systemd_socket_accepted_connections_total",
            "Total number of accepted socket connections",
        ),
    ),
    Property::of(
        "socket",
        SOCKET,
        "NConnections",
        Metric::gauge(
            "node_systemd_socket_current_connections",
            "Current number of socket connections",
        ),
    ),
    // it counts up, but node_exporter says gauge
    Property::of(
        "socket",
        SOCKET,
        "NRefused",
        Metric::gauge(
            "node_systemd_socket_refused_connections_total",
            "Total number of refused socket connections",
        ),
    ),
    Property {
        divisor: MICROSECONDS,
        ..Property::of(
            "timer",
            "org.freedesktop.systemd1.Timer",
            "LastTriggerUSec",
            Metric::gauge(
                "node_systemd_timer_last_trigger_seconds",
                "Seconds since epoch of last trigger.",
            ),
        )
    },
    Property {
        divisor: MICROSECONDS,
        of_active: true,
        ..Property::of(
            "",
            "org.freedesktop.systemd1.Unit",
            "ActiveEnterTimestamp",
            Metric::gauge(
                "node_systemd_unit_start_time_seconds",
                "Start time of the unit since unix epoch in seconds.",
            ),
        )
        .by("enable_start_time_metrics")
    },
    Property::of(
        "service",
        SERVICE,
        "TasksCurrent",
        Metric::gauge(
            "node_systemd_unit_tasks_current",
            "Current number of tasks per Systemd unit",
        ),
    )
    .by("enable_task_metrics"),
    Property::of(
        "service",
        SERVICE,
        "TasksMax",
        Metric::gauge("node_systemd_unit_tasks_max", "Maximum number of tasks per Systemd unit"),
    )
    .by("enable_task_metrics"),
];

/// Those properties that are switched on.
#[derive(Debug)]
pub(super) struct Properties(Vec<&'static Property>);

/// A property of a unit, and its number once it is known.
struct Wanted<'a> {
    property: &'static Property,
    unit: &'a Unit,
    number: Option<f64>,
}

impl Properties {
    pub(super) fn from_options(context: &Context<'_>) -> Result<Self, BuildError> {
        let mut on = Vec::new();
        for property in &TABLE {
            if property.option.is_empty() || switch(context, property.option)? {
                on.push(property);
            }
        }
        Ok(Self(on))
    }

    /// Asks for them and adds them, property by property. One that a unit hasn't is left out.
    pub(super) fn collect<'a>(
        &self,
        bus: &mut Bus,
        units: impl Iterator<Item = &'a Unit> + Clone,
        out: &mut Samples,
    ) -> Result<(), CollectError> {
        let of_property = |property: &'static Property| {
            let has = move |unit: &&'a Unit| {
                property.suffix.is_empty() || unit.suffix() == property.suffix
            };
            units.clone().filter(has).map(move |unit| {
                let rests = property.of_active && unit.active != "active";
                Wanted { property, unit, number: rests.then_some(0.0) }
            })
        };
        let mut wanted: Vec<_> = self.0.iter().copied().flat_map(of_property).collect();
        ask(bus, &mut wanted)?;
        for Wanted { property, unit, number } in &wanted {
            if let Some(number) = number.filter(|number| *number < NONE) {
                out.push(&property.metric, &[("name", &unit.name)], number / property.divisor);
            }
        }
        Ok(())
    }
}

fn ask<'a>(bus: &mut Bus, wanted: &mut [Wanted<'a>]) -> Result<(), CollectError> {
    let mut asked: Vec<_> = wanted.iter_mut().filter(|one| one.number.is_none()).collect();
    let questions = asked.iter().map(|one| (one.unit, one.property));
    let call =
        |(unit, property): (&'a Unit, &'static Property)| get(SYSTEMD, &unit.path, &property.name);
    let calls: Vec<_> = questions.map(call).collect();
    bus.ask(&calls, |index, answer| {
        asked[index].number = answer.number_property()?;
        Ok(())
    })
}
