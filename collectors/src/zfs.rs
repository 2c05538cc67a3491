//! ZFS: `/proc/spl/kstat/zfs`, for the whole machine, each pool and each data set.
//!
//! Names are made of the fields that the module has: `hits` of `arcstats` becomes `node_zfs_arc_hits`.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, MetricKind, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    attribute::{Attribute, Page},
    devices::Devices,
    kstat::{self, Value},
    names::{Names, part},
    parse::ParseError,
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "zfs",
    summary: "Caches and intent log of ZFS, I/O and state of its pools, I/O of its data sets.",
    reads: &["/proc/spl/kstat/zfs"],
    default_enabled: true,
    options: &[],
    build,
};

/// Files for the whole machine, and what their names begin with.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "node_zfs_abd_"),
    ("arcstats", "node_zfs_arc_"),
    ("dbuf_stats", "node_zfs_dbuf_"),
    ("dmu_tx", "node_zfs_dmu_tx_"),
    ("dnodestats", "node_zfs_dnode_"),
    ("fm", "node_zfs_fm_"),
    ("vdev_cache_stats", "node_zfs_vdev_cache_"),
    ("vdev_mirror_stats", "node_zfs_vdev_mirror_"),
    ("xuio_stats", "node_zfs_xuio_"),
    ("zfetchstats", "node_zfs_zfetch_"),
    ("zil", "node_zfs_zil_"),
];
const STATE: Metric<'_> = Metric::gauge("node_zfs_zpool_state", "kstat.zfs.misc.state");
const STATES: [&str; 6] = ["degraded", "faulted", "offline", "online", "removed", "unavail"];
const OBJSET: &str = "objset-";

struct Zfs {
    parts: Devices<Part>,
    page: Page,
}

/// What there is in the directory.
enum Part {
    Statistics(Statistics),
    Pool(Box<Pool>),
}

struct Statistics {
    file: KeptFile,
    names: Names,
    name: &'static str,
    prefix: &'static str,
}

struct Pool {
    pool: String,
    io: Option<KeptFile>,
    io_names: Names,
    state: Option<Attribute>,
    /// A file for each data set: there may be thousands.
    objsets: Devices<Attribute>,
    /// All have the same fields.
    objset_names: Names,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let parts = Devices::new(context.roots.proc("spl/kstat/zfs"));
    Ok(Box::new(Zfs { parts, page: Page::default() }))
}

impl Collector for Zfs {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { parts, page } = self;
        for part in parts.current(Part::discover)? {
            match part {
                Part::Statistics(statistics) => statistics.push(out)?,
                Part::Pool(pool) => pool.push(page, out)?,
            }
        }
        Ok(())
    }
}

impl Part {
    fn discover(name: &str, path: &Path) -> Option<Self> {
        if path.is_dir() {
            return Some(Self::Pool(Box::new(Pool::discover(name, path))));
        }
        let (name, prefix) = *FILES.iter().find(|(known, _)| *known == name)?;
        let file = KeptFile::new(path.to_owned());
        Some(Self::Statistics(Statistics { file, names: untyped(), name, prefix }))
    }
}

impl Statistics {
    fn push(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { file, names, name, prefix } = self;
        let text = file.text()?;
        names.restart();
        let parsed = kstat::named(text.content, |field, value| {
            let Value::Number(number) = value else { return };
            let make = || Some(made(prefix, name, field));
            if let Some(metric) = names.next("", field, make) {
                out.push(&metric, &[], number as f64);
            }
        });
        parsed.map_err(|error| text.malformed(&error))
    }
}

impl Pool {
    fn discover(name: &str, path: &Path) -> Self {
        let there = |name: &str| Some(path.join(name)).filter(|path| path.is_file());
        Self {
            pool: name.to_owned(),
            io: there("io").map(KeptFile::new),
            io_names: untyped(),
            state: there("state").map(Attribute::new),
            objsets: Devices::new(path.to_owned()),
            objset_names: untyped(),
        }
    }

    fn push(&mut self, page: &mut Page, out: &mut Samples) -> Result<(), CollectError> {
        self.push_io(out)?;
        let Self { pool, state, objsets, objset_names, .. } = self;
        // a file that isn't there any more: the pool was exported just now
        if let Some(Ok(state)) = state.as_mut().map(|state| state.read(page)) {
            for name in STATES {
                let is = f64::from(u8::from(state.eq_ignore_ascii_case(name)));
                out.push(&STATE, &[("state", name), ("zpool", pool)], is);
            }
        }
        let objsets = objsets.current_or_none(|name, path| {
            name.starts_with(OBJSET).then(|| Attribute::new(path.to_owned()))
        });
        for objset in objsets {
            let Ok(text) = objset.read(page) else { continue };
            let parsed = push_objset(text, pool, objset_names, out);
            parsed.map_err(|error| malformed(objset.path(), &error))?;
        }
        Ok(())
    }

    fn push_io(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { pool, io, io_names, .. } = self;
        let Some(Ok(text)) = io.as_mut().map(KeptFile::text) else { return Ok(()) };
        io_names.restart();
        let parsed = kstat::io(text.content, |field, count| {
            let make = || Some(made("node_zfs_zpool_", "io", field));
            if let Some(metric) = io_names.next("", field, make) {
                out.push(&metric, &[("zpool", pool)], count as f64);
            }
        });
        parsed.map_err(|error| text.malformed(&error))
    }
}

fn push_objset(
    text: &str,
    pool: &str,
    names: &mut Names,
    out: &mut Samples,
) -> Result<(), ParseError> {
    names.restart();
    let mut dataset = "";
    kstat::named(text, |field, value| match value {
        Value::Text(text) if field == "dataset_name" => dataset = text,
        Value::Number(number) => {
            let make = || Some(made("node_zfs_zpool_dataset_", "objset", field));
            if let Some(metric) = names.next("", field, make) {
                out.push(&metric, &[("dataset", dataset), ("zpool", pool)], number as f64);
            }
        }
        Value::Text(_) => {}
    })
}

fn untyped() -> Names {
    Names::new(MetricKind::Untyped)
}

/// Name and help of a field.
fn made(prefix: &str, file: &str, field: &str) -> (String, String) {
    (format!("{prefix}{}", part(field)), format!("kstat.zfs.misc.{file}.{field}"))
}

fn malformed(path: &Path, error: &ParseError) -> CollectError {
    CollectError::failed(path.display().to_string(), error)
}
