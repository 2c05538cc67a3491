//! Energy that packages, cores and memory used: `/sys/class/powercap`, Intel's RAPL.
//!
//! Since Linux 5.10 only root may read the energy, for it tells too much of what others compute. An
//! agent without that right has nothing to say here, as node_exporter.

use std::{collections::BTreeMap, io, path::Path};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};

use crate::{
    attribute::{Attribute, Page, no_number},
    devices::Devices,
    options,
    sysfs::number,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "rapl",
    summary: "Energy used by packages, cores and memory, as RAPL counts it.",
    reads: &["/sys/class/powercap"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "enable_zone_label",
        default: "false",
        doc: "Whether the zone is a label, rather than a part of the metric's name.",
    }],
    build,
};

const JOULES: Metric<'_> =
    Metric::counter("node_rapl_joules_total", "Current RAPL value in joules");
const MICROJOULES: f64 = 1e6;

struct Rapl {
    zones: Devices<Zone>,
    zone_label: bool,
    page: Page,
}

struct Zone {
    zone: String,
    index: String,
    path: String,
    metric: (String, String),
    energy: Attribute,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let zones = Devices::new(context.roots.sys("class/powercap"));
    let zone_label = options::switch(context, "enable_zone_label")?;
    Ok(Box::new(Rapl { zones, zone_label, page: Page::default() }))
}

impl Collector for Rapl {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { zones, zone_label, page } = self;
        let mut used = BTreeMap::new();
        for zone in zones.current(|_, path| Zone::discover(path, page, &mut used))? {
            let Zone { zone, index, path, metric: (name, help), energy } = zone;
            let text = match energy.read(page) {
                Ok(text) => text,
                Err(error) => return Err(CollectError::from_io(energy.path(), &error)),
            };
            let Some(microjoules) = number(text) else {
                out.remark(&no_number(energy.path(), text));
                continue;
            };
            let joules = microjoules / MICROJOULES;
            if *zone_label {
                let labels = [("index", &**index), ("path", path), ("rapl_zone", zone)];
                out.push(&JOULES, &labels, joules);
            } else {
                let labels = [("index", &**index), ("path", path)];
                out.push(&Metric::counter(name, help), &labels, joules);
            }
        }
        Ok(())
    }
}

impl Zone {
    /// A zone with a name and a counter of energy; `used` is how many zones of a name there are so far.
    fn discover(path: &Path, page: &mut Page, used: &mut BTreeMap<String, u64>) -> Option<Self> {
        let name = Attribute::new(path.join("name")).read(page).ok()?.to_owned();
        let mut energy = Attribute::new(path.join("energy_uj"));
        if energy.read(page).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        let (zone, index) = split(&name, used);
        used.insert(zone.to_owned(), index.saturating_add(1));
        let metric = format!("node_rapl_{}_joules_total", sanitized(zone));
        Some(Self {
            zone: zone.to_owned(),
            index: index.to_string(),
            path: path.to_string_lossy().into_owned(),
            metric: (metric, format!("Current RAPL {zone} value in joules")),
            energy,
        })
    }
}

/// The zone and its index: of `package-1` that number; of a name without one, which may come several
/// times, how many there were before.
fn split<'a>(name: &'a str, used: &BTreeMap<String, u64>) -> (&'a str, u64) {
    let numbered = name.split_once('-').and_then(|(zone, index)| Some((zone, index.parse().ok()?)));
    numbered.unwrap_or_else(|| (name, used.get(name).copied().unwrap_or(0)))
}

/// A part of a metric's name: what no name may hold, and underscores around it, become one underscore.
fn sanitized(zone: &str) -> String {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut name = String::with_capacity(zone.len());
    let mut rest = zone;
    while let Some(at) = rest.find(|c| !valid(c)) {
        name.push_str(rest[..at].trim_end_matches('_'));
        name.push('_');
        rest = rest[at..].trim_start_matches(|c| !valid(c)).trim_start_matches('_');
    }
    name + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_an_index() {
        let used = BTreeMap::from([("dram".to_owned(), 2)]);
        let check = |name: &str, zone: &str, index: u64| {
            assert_eq!(split(name, &used), (zone, index), "{name}");
        };
        check("package-0", "package", 0);
        check("package-12", "package", 12);
        check("core", "core", 0);
        check("dram", "dram", 2);
        check("package-0-die-1", "package-0-die-1", 0);
        check("psys-x", "psys-x", 0);
        check("", "", 0);
    }

    #[test]
    fn zones_become_parts_of_names() {
        let check = |zone: &str, expected: &str| assert_eq!(sanitized(zone), expected, "{zone}");
        check("package", "package");
        check("package-0-die-1", "package_0_die_1");
        check("a_ -_b", "a_b");
        check("a-_-b", "a__b");
        check("_core", "_core");
        check("uncore-", "uncore_");
        check("é", "_");
        check("", "");
    }
}
