//! Errors that memory controllers corrected or could not: `/sys/devices/system/edac/mc`.

use std::path::PathBuf;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::sysfs::{self, Attributes};

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

struct Edac {
    directory: PathBuf,
    attributes: Attributes,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let directory = context.roots.sys("devices/system/edac/mc");
    Ok(Box::new(Edac { directory, attributes: Attributes::default() }))
}

impl Collector for Edac {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { directory, attributes } = self;
        for controller in numbered(sysfs::devices(directory, "mc")?, "mc") {
            let (number, path) = controller;
            let mut push = |metric: &Metric<'_>, labels: &[(&str, &str)], path: &PathBuf, name| {
                if let Some(count) = attributes.number(path, name) {
                    out.push(metric, labels, count);
                }
            };
            let of_controller = [("controller", &*number)];
            push(&CORRECTABLE, &of_controller, &path, "ce_count");
            push(&UNCORRECTABLE, &of_controller, &path, "ue_count");
            let of_unknown = [("controller", &*number), ("csrow", UNKNOWN)];
            push(&ROW_CORRECTABLE, &of_unknown, &path, "ce_noinfo_count");
            push(&ROW_UNCORRECTABLE, &of_unknown, &path, "ue_noinfo_count");
            for (row, path) in numbered(sysfs::entries(&path, "csrow")?, "csrow") {
                let of_row = [("controller", &*number), ("csrow", &*row)];
                push(&ROW_CORRECTABLE, &of_row, &path, "ce_count");
                push(&ROW_UNCORRECTABLE, &of_row, &path, "ue_count");
            }
        }
        Ok(())
    }
}

/// The entries whose names are the prefix and a number, with that number.
fn numbered(
    entries: Vec<sysfs::Entry>,
    prefix: &'static str,
) -> impl Iterator<Item = (String, PathBuf)> {
    entries.into_iter().filter_map(move |entry| {
        let number = entry.name.strip_prefix(prefix)?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| (number.to_owned(), entry.path))
    })
}
