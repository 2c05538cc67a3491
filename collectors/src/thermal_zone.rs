//! Temperatures and cooling as ACPI has them: `/sys/class/thermal`.

use std::path::PathBuf;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::sysfs::{self, Attributes};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "thermal_zone",
    summary: "Temperatures of thermal zones, and the state of what cools them.",
    reads: &["/sys/class/thermal"],
    default_enabled: true,
    options: &[],
    build,
};

const TEMPERATURE: Metric<'_> =
    Metric::gauge("node_thermal_zone_temp", "Zone temperature in Celsius");
const CURRENT_STATE: Metric<'_> =
    Metric::gauge("node_cooling_device_cur_state", "Current throttle state of the cooling device");
const MAX_STATE: Metric<'_> =
    Metric::gauge("node_cooling_device_max_state", "Maximum throttle state of the cooling device");
const MILLIDEGREES: f64 = 1_000.0;

struct ThermalZone {
    directory: PathBuf,
    attributes: Attributes,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let directory = context.roots.sys("class/thermal");
    Ok(Box::new(ThermalZone { directory, attributes: Attributes::default() }))
}

impl Collector for ThermalZone {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { directory, attributes } = self;
        for entry in sysfs::devices(directory, "")? {
            let Some(kind) = attributes.text(&entry.path, "type").map(str::to_owned) else {
                continue;
            };
            if let Some(zone) = entry.name.strip_prefix("thermal_zone") {
                if let Some(millidegrees) = attributes.number(&entry.path, "temp") {
                    let labels = [("type", &*kind), ("zone", zone)];
                    out.push(&TEMPERATURE, &labels, millidegrees / MILLIDEGREES);
                }
            } else if let Some(name) = entry.name.strip_prefix("cooling_device") {
                let labels = [("name", name), ("type", &*kind)];
                let states = [("cur_state", CURRENT_STATE), ("max_state", MAX_STATE)];
                for (attribute, metric) in states {
                    if let Some(state) = attributes.number(&entry.path, attribute) {
                        out.push(&metric, &labels, state);
                    }
                }
            }
        }
        Ok(())
    }
}
