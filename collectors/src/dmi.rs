//! What the firmware says of the machine: `/sys/class/dmi/id`. It doesn't change while the machine runs, so
//! it is read once.

use std::path::PathBuf;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::sysfs::{self, Attributes};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "dmi",
    summary: "Vendor, product and versions of machine, board and firmware.",
    reads: &["/sys/class/dmi/id"],
    default_enabled: true,
    options: &[],
    build,
};

/// Attributes in the order of the labels. Serial numbers are only for root to read.
const ATTRIBUTES: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];
/// What node_exporter calls the last of them.
const SYSTEM_VENDOR: &str = "system_vendor";

const INFO: Metric<'_> = Metric::gauge(
    "node_dmi_info",
    "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, bios_version, \
     board_asset_tag, board_name, board_serial, board_vendor, board_version, chassis_asset_tag, \
     chassis_serial, chassis_vendor, chassis_version, product_family, product_name, product_serial, \
     product_sku, product_uuid, product_version, system_vendor if provided by DMI.",
);

struct Dmi {
    directory: PathBuf,
    /// Labels with their values, once read.
    known: Option<Vec<(&'static str, String)>>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Dmi { directory: context.roots.sys("class/dmi/id"), known: None }))
}

impl Collector for Dmi {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => read(&self.directory)?,
        };
        let labels: Vec<(&str, &str)> =
            known.iter().map(|(label, value)| (*label, value.as_str())).collect();
        out.push(&INFO, &labels, 1.0);
        self.known = Some(known);
        Ok(())
    }
}

fn read(directory: &std::path::Path) -> Result<Vec<(&'static str, String)>, CollectError> {
    sysfs::devices(directory, "")?;
    let mut attributes = Attributes::default();
    let found = ATTRIBUTES.iter().filter_map(|attribute| {
        let label = if *attribute == "sys_vendor" { SYSTEM_VENDOR } else { attribute };
        Some((label, attributes.text(directory, attribute)?.to_owned()))
    });
    Ok(found.collect())
}
