//! Errors that memory controllers corrected or could not: `/sys/devices/system/edac/mc`.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Field, Fields, Page},
    devices::Devices,
    sysfs,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "edac",
    summary: "Memory errors, corrected and not, by controller and row.",
    reads: &["/sys/devices/system/edac/mc"],
    default_enabled: true,
    options: &[],
    build,
};

const CORRECTABLE: Metric<'_> =
    Metric::counter("node_edac_correctable_errors_total", "Total correctable memory errors.");
const UNCORRECTABLE: Metric<'_> =
    Metric::counter("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors.");
const ROW_CORRECTABLE: Metric<'_> = Metric::counter(
    "node_edac_csrow_correctable_errors_total",
    "Total correctable memory errors for this csrow.",
);
const ROW_UNCORRECTABLE: Metric<'_> = Metric::counter(
    "node_edac_csrow_uncorrectable_errors_total",
    "Total uncorrectable memory errors for this csrow.",
);
/// Errors of which the controller doesn't know the row.
const UNKNOWN: &str = "unknown";

static OF_CONTROLLER: [Field; 2] =
    [Field::new("ce_count", CORRECTABLE), Field::new("ue_count", UNCORRECTABLE)];
static OF_UNKNOWN: [Field; 2] = [
    Field::new("ce_noinfo_count", ROW_CORRECTABLE),
    Field::new("ue_noinfo_count", ROW_UNCORRECTABLE),
];
static OF_ROW: [Field; 2] =
    [Field::new("ce_count", ROW_CORRECTABLE), Field::new("ue_count", ROW_UNCORRECTABLE)];

struct Edac {
    controllers: Devices<Controller>,
    page: Page,
}

struct Controller {
    number: String,
    counts: Fields,
    /// Rows by number, [`UNKNOWN`] first.
    rows: Vec<(String, Fields)>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let controllers = Devices::new(context.roots.sys("devices/system/edac/mc"));
    Ok(Box::new(Edac { controllers, page: Page::default() }))
}

impl Collector for Edac {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { controllers, page } = self;
        for controller in controllers.current(Controller::discover)? {
            let Controller { number, counts, rows } = controller;
            counts.push(&[("controller", number)], page, out);
            for (row, counts) in rows {
                counts.push(&[("controller", number), ("csrow", row)], page, out);
            }
        }
        Ok(())
    }
}

impl Controller {
    fn discover(name: &str, path: &Path) -> Option<Self> {
        let controller = number(name, "mc")?;
        let mut rows = vec![(UNKNOWN.to_owned(), Fields::of(path, &OF_UNKNOWN))];
        // a controller that went since it was listed has none
        for entry in sysfs::entries(path, "csrow").unwrap_or_default() {
            if let Some(row) = number(&entry.name, "csrow") {
                rows.push((row.to_owned(), Fields::of(&entry.path, &OF_ROW)));
            }
        }
        let counts = Fields::of(path, &OF_CONTROLLER);
        Some(Self { number: controller.to_owned(), counts, rows })
    }
}

/// The number in a name that is the prefix and a number.
fn number<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let number = name.strip_prefix(prefix)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(number)
}
