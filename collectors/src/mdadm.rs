//! Software RAID: `/proc/mdstat`, and `/sys/block/md*/md` for how many disks an array has and lacks.
//!
//! The format: `md_seq_show` of the kernel's drivers/md/md.c. What comes of `/sys` has the names that
//! later versions of node_exporter give it.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Field, Fields, Page},
    mdstat::{Array, State, parse},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "mdadm",
    summary: "State, disks and synchronisation of software RAID arrays.",
    reads: &["/proc/mdstat", "/sys/block"],
    default_enabled: true,
    options: &[],
    build,
};

const DISKS_REQUIRED: Metric<'_> =
    Metric::gauge("node_md_disks_required", "Total number of disks of device.");
const DISKS: Metric<'_> =
    Metric::gauge("node_md_disks", "Number of active/failed/spare disks of device.");
const STATE: Metric<'_> = Metric::gauge("node_md_state", "Indicates the state of md-device.");
const BLOCKS: Metric<'_> = Metric::gauge("node_md_blocks", "Total number of blocks on device.");
const BLOCKS_SYNCED: Metric<'_> =
    Metric::gauge("node_md_blocks_synced", "Number of blocks synced on device.");

/// Attributes of an array's directory in `/sys/block`. One that can lack no disk has no `degraded`.
static ATTRIBUTES: [Field; 2] = [
    Field::new(
        "md/degraded",
        Metric::gauge("node_md_degraded", "Number of degraded disks on device."),
    ),
    Field::new(
        "md/raid_disks",
        Metric::gauge("node_md_raid_disks", "Number of raid disks on device."),
    ),
];

struct Mdadm {
    mdstat: KeptFile,
    /// Attributes of arrays in the order of the file, with their names.
    attributes: Vec<(String, Fields)>,
    page: Page,
    block: std::path::PathBuf,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Mdadm {
        mdstat: KeptFile::new(context.roots.proc("mdstat")),
        attributes: Vec::new(),
        page: Page::default(),
        block: context.roots.sys("block"),
    }))
}

impl Collector for Mdadm {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { mdstat, attributes, page, block } = self;
        let text = mdstat.text()?;
        let mut place = 0;
        let parsed = parse(text.content, |array| {
            push(array, out);
            attributes_of(attributes, place, array.name, block).push(
                &[("device", array.name)],
                page,
                out,
            );
            place += 1;
        });
        parsed.map_err(|error| text.malformed(&error))?;
        attributes.truncate(place);
        if place == 0 {
            return Err(CollectError::unavailable("no array in /proc/mdstat"));
        }
        Ok(())
    }
}

fn attributes_of<'a>(
    known: &'a mut Vec<(String, Fields)>,
    place: usize,
    name: &str,
    block: &Path,
) -> &'a mut Fields {
    if known.get(place).is_none_or(|(known, _)| known != name) {
        known.truncate(place);
        known.push((name.to_owned(), Fields::of(&block.join(name), &ATTRIBUTES)));
    }
    &mut known[place].1
}

fn push(array: &Array<'_>, out: &mut Samples) {
    let device = ("device", array.name);
    out.push(&DISKS_REQUIRED, &[device], array.disks_required as f64);
    let disks = [
        ("active", array.disks_active),
        ("failed", array.disks_failed),
        ("spare", array.disks_spare),
    ];
    for (state, count) in disks {
        out.push(&DISKS, &[device, ("state", state)], count as f64);
    }
    for (state, name) in State::ALL {
        let is = f64::from(u8::from(array.state == state));
        out.push(&STATE, &[device, ("state", name)], is);
    }
    out.push(&BLOCKS, &[device], array.blocks as f64);
    out.push(&BLOCKS_SYNCED, &[device], array.blocks_synced as f64);
}
