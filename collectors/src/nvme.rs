//! NVMe drives: `/sys/class/nvme`.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Page, Text},
    devices::Devices,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "nvme",
    summary: "Model, serial number, firmware and state of NVMe drives.",
    reads: &["/sys/class/nvme"],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> = Metric::gauge(
    "node_nvme_info",
    "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
);

struct Nvme {
    drives: Devices<Drive>,
    page: Page,
}

struct Drive {
    device: String,
    firmware_revision: Text,
    model: Text,
    serial: Text,
    /// `live`, or why it isn't.
    state: Text,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let drives = Devices::new(context.roots.sys("class/nvme"));
    Ok(Box::new(Nvme { drives, page: Page::default() }))
}

impl Collector for Nvme {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { drives, page } = self;
        let drives = drives.current(|name, path| {
            let text = |attribute| Text::new(path.join(attribute));
            Some(Drive {
                device: name.to_owned(),
                firmware_revision: text("firmware_rev"),
                model: text("model"),
                serial: text("serial"),
                state: text("state"),
            })
        })?;
        for drive in drives {
            let Drive { device, firmware_revision, model, serial, state } = drive;
            for text in [&mut *firmware_revision, model, serial, state] {
                text.refresh(page);
            }
            let labels = [
                ("device", &**device),
                ("firmware_revision", firmware_revision.value()),
                ("model", model.value()),
                ("serial", serial.value()),
                ("state", state.value()),
            ];
            out.push(&INFO, &labels, 1.0);
        }
        Ok(())
    }
}
