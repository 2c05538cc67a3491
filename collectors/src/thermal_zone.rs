//! Temperatures and cooling as ACPI has them: `/sys/class/thermal`.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Attribute, Field, Fields, Page},
    devices::Devices,
};

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

static OF_ZONE: [Field; 1] = [Field { divisor: MILLIDEGREES, ..Field::new("temp", TEMPERATURE) }];
static OF_COOLING: [Field; 2] =
    [Field::new("cur_state", CURRENT_STATE), Field::new("max_state", MAX_STATE)];

struct ThermalZone {
    devices: Devices<Device>,
    page: Page,
}

/// A zone, or what cools one.
struct Device {
    labels: [(&'static str, String); 2],
    numbers: Fields,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let devices = Devices::new(context.roots.sys("class/thermal"));
    Ok(Box::new(ThermalZone { devices, page: Page::default() }))
}

impl Collector for ThermalZone {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { devices, page } = self;
        for device in devices.current(|name, path| Device::discover(name, path, page))? {
            let Device { labels: [(first, one), (second, other)], numbers } = device;
            numbers.push(&[(first, one), (second, other)], page, out);
        }
        Ok(())
    }
}

impl Device {
    fn discover(name: &str, path: &Path, page: &mut Page) -> Option<Self> {
        // what it is stays while it is there
        let kind = Attribute::new(path.join("type")).read(page).ok()?.to_owned();
        if let Some(zone) = name.strip_prefix("thermal_zone") {
            let labels = [("type", kind), ("zone", zone.to_owned())];
            return Some(Self { labels, numbers: Fields::of(path, &OF_ZONE) });
        }
        let name = name.strip_prefix("cooling_device")?;
        let labels = [("name", name.to_owned()), ("type", kind)];
        Some(Self { labels, numbers: Fields::of(path, &OF_COOLING) })
    }
}
