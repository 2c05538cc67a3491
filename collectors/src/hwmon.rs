//! What sensors measure: temperatures, fans, voltages, power: `/sys/class/hwmon`.
//!
//! The kernel's Documentation/hwmon/sysfs-interface.rst says what the attributes mean: `temp1_crit` is
//! property `crit` of sensor number 1 of the kind `temp`. node_exporter's way of making names of them
//! is kept as it is, its oddities too: `temp1_crit_alarm` is in Celsius, humidity is divided by a
//! million.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Attribute, Page},
    devices::{self, Devices},
    hwmon_names::{LABEL, Made, Sensor, clean},
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "hwmon",
    summary: "What hardware sensors measure: temperatures, fans, voltages, currents, power.",
    reads: &["/sys/class/hwmon"],
    default_enabled: true,
    options: &[],
    build,
};

const CHIP_NAME: Metric<'_> =
    Metric::gauge("node_hwmon_chip_names", "Annotation metric for human-readable chip names");
const SENSOR_LABEL: Metric<'_> =
    Metric::gauge("node_hwmon_sensor_label", "Label for given chip and sensor");

struct Hwmon {
    chips: Devices<Chip>,
    page: Page,
}

struct Chip {
    /// Made of the device it is on, since numbers of chips change from boot to boot.
    chip: String,
    /// What its driver calls it.
    name: Option<String>,
    /// Sensors that have a label, and it.
    labels: Vec<(String, String)>,
    measures: Vec<Measure>,
}

/// An attribute of a sensor, and what it becomes.
struct Measure {
    attribute: Attribute,
    sensor: String,
    metric: Made,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let chips = Devices::new(context.roots.sys("class/hwmon"));
    Ok(Box::new(Hwmon { chips, page: Page::default() }))
}

impl Collector for Hwmon {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { chips, page } = self;
        // allocates only when chips are discovered
        let mut taken = HashSet::new();
        for chip in chips.current(|_, path| Chip::discover(path, page, &mut taken))? {
            let Chip { chip, name, labels, measures } = chip;
            if let Some(name) = name {
                out.push(&CHIP_NAME, &[("chip", chip), ("chip_name", name)], 1.0);
            }
            for (sensor, label) in labels {
                let labels = [("chip", &**chip), ("label", label), ("sensor", sensor)];
                out.push(&SENSOR_LABEL, &labels, 1.0);
            }
            for measure in measures {
                measure.push(chip, page, out);
            }
        }
        Ok(())
    }
}

impl Measure {
    fn push(&mut self, chip: &str, page: &mut Page, out: &mut Samples) {
        let Made { name, help, divisor, kind } = &self.metric;
        let Some(value) = self.attribute.number(page) else { return };
        let metric = Metric { name, kind: *kind, help };
        out.push(&metric, &[("chip", chip), ("sensor", &self.sensor)], value / divisor);
    }
}

impl Chip {
    /// What there is of a chip. `taken` are the series there are so far: two chips on one device have one
    /// name, and of their sensors of the same number only the first counts.
    fn discover(path: &Path, page: &mut Page, taken: &mut HashSet<String>) -> Option<Self> {
        let chip = chip(path, page)?;
        let name = name(path, page).filter(|name| taken.insert(format!("{chip} {name}")));
        let (mut labels, mut measures) = (Vec::new(), Vec::new());
        for (sensor, properties) in sensors(path) {
            let has_value = properties.contains_key("");
            let kind = sensor.kind;
            let sensor = sensor.to_string();
            for (property, path) in properties {
                let mut attribute = Attribute::new(path);
                let read = attribute.read(page);
                if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
                    continue; // it can only be written
                }
                if property == LABEL {
                    if let Ok(label) = read
                        && taken.insert(format!("{chip} {sensor} {LABEL}"))
                    {
                        labels.push((sensor.clone(), label.to_owned()));
                    }
                } else if let Some(metric) = Made::new(kind, &property, has_value)
                    && taken.insert(format!("{chip} {sensor} {}", metric.name))
                {
                    measures.push(Measure { attribute, sensor: sensor.clone(), metric });
                }
            }
        }
        Some(Self { chip, name, labels, measures })
    }
}

/// Properties of sensors with the files they are in. Drivers of old have them in the device's directory
/// instead of the chip's.
fn sensors(chip: &Path) -> BTreeMap<Sensor, BTreeMap<String, PathBuf>> {
    let mut sensors: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for directory in [chip.to_owned(), chip.join("device")] {
        for file in devices::files(&directory) {
            if let Some((sensor, property)) = Sensor::parse(&file) {
                let properties = sensors.entry(sensor).or_default();
                properties.insert(property.to_owned(), directory.join(&file));
            }
        }
    }
    sensors
}

/// A name for the chip that stays: of its device and what that is on, else the driver's, else its number.
/// `None` if it isn't there any more.
fn chip(path: &Path, page: &mut Page) -> Option<String> {
    let part = |path: &Path| path.file_name().map(|name| clean(&name.to_string_lossy()));
    if let Ok(device) = fs::canonicalize(path.join("device")) {
        let device_name = part(&device).unwrap_or_default();
        let bus = device.parent().and_then(part).unwrap_or_default();
        match (bus.is_empty(), device_name.is_empty()) {
            (false, false) => return Some(format!("{bus}_{device_name}")),
            (true, false) => return Some(device_name),
            (_, true) => {}
        }
    }
    let numbered = || part(&fs::canonicalize(path).ok()?).filter(|name| !name.is_empty());
    name(path, page).or_else(numbered)
}

/// What the driver calls the chip.
fn name(path: &Path, page: &mut Page) -> Option<String> {
    let name = clean(Attribute::new(path.join("name")).read(page).ok()?);
    (!name.is_empty()).then_some(name)
}
