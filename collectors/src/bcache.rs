//! Block caches: `/sys/fs/bcache`.
//!
//! A cache set has caching devices (`cache0`) and backing devices (`bdev0`). What the attributes mean:
//! the kernel's Documentation/admin-guide/bcache.rst. `node_bcache_btree_read_average_duration_seconds` is a
//! thousandth of what its name says, as it is in node_exporter: the kernel's microseconds are taken for
//! nanoseconds.

use std::path::Path;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};

use crate::{
    attribute::{Attribute, Field, Fields, Page},
    bcache_text::{amount, keyed},
    devices::Devices,
    options,
    parse::ParseError,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "bcache",
    summary: "Hits, misses, dirty data and writeback of bcache.",
    reads: &["/sys/fs/bcache"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "priority_stats",
        default: "false",
        doc: "Whether to read `priority_stats`, for which the kernel sorts all buckets of the cache.",
    }],
    build,
};

/// Of a cache set.
static SET: [Field; 10] = [
    Field::new(
        "average_key_size",
        Metric::gauge(
            "node_bcache_average_key_size_sectors",
            "Average data per key in the btree (sectors).",
        ),
    ),
    Field::new(
        "btree_cache_size",
        Metric::gauge(
            "node_bcache_btree_cache_size_bytes",
            "Amount of memory currently used by the btree cache.",
        ),
    ),
    Field::new(
        "cache_available_percent",
        Metric::gauge(
            "node_bcache_cache_available_percent",
            "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).",
        ),
    ),
    Field::new("congested", Metric::gauge("node_bcache_congested", "Congestion.")),
    Field::new(
        "root_usage_percent",
        Metric::gauge(
            "node_bcache_root_usage_percent",
            "Percentage of the root btree node in use (tree depth increases if too high).",
        ),
    ),
    Field::new("tree_depth", Metric::gauge("node_bcache_tree_depth", "Depth of the btree.")),
    Field::new(
        "internal/active_journal_entries",
        Metric::gauge(
            "node_bcache_active_journal_entries",
            "Number of journal entries that are newer than the index.",
        ),
    ),
    Field::new(
        "internal/btree_nodes",
        Metric::gauge("node_bcache_btree_nodes", "Total nodes in the btree."),
    ),
    Field {
        attribute: "internal/btree_read_average_duration_us",
        metric: Metric::gauge(
            "node_bcache_btree_read_average_duration_seconds",
            "Average btree read duration.",
        ),
        divisor: 1e9,
    },
    Field::new(
        "internal/cache_read_races",
        Metric::counter(
            "node_bcache_cache_read_races_total",
            "Counts instances where while data was being read from the cache, the bucket was reused and invalidated - i.e. where the pointer was stale after the read completed.",
        ),
    ),
];
/// Of a backing device.
static BACKING: [Field; 8] = [
    Field::new(
        "dirty_data",
        Metric::gauge(
            "node_bcache_dirty_data_bytes",
            "Amount of dirty data for this backing device in the cache.",
        ),
    ),
    Field::new(
        "stats_total/bypassed",
        Metric::counter(
            "node_bcache_bypassed_bytes_total",
            "Amount of IO (both reads and writes) that has bypassed the cache.",
        ),
    ),
    Field::new(
        "stats_total/cache_hits",
        Metric::counter(
            "node_bcache_cache_hits_total",
            "Hits counted per individual IO as bcache sees them.",
        ),
    ),
    Field::new(
        "stats_total/cache_misses",
        Metric::counter(
            "node_bcache_cache_misses_total",
            "Misses counted per individual IO as bcache sees them.",
        ),
    ),
    Field::new(
        "stats_total/cache_bypass_hits",
        Metric::counter(
            "node_bcache_cache_bypass_hits_total",
            "Hits for IO intended to skip the cache.",
        ),
    ),
    Field::new(
        "stats_total/cache_bypass_misses",
        Metric::counter(
            "node_bcache_cache_bypass_misses_total",
            "Misses for IO intended to skip the cache.",
        ),
    ),
    Field::new(
        "stats_total/cache_miss_collisions",
        Metric::counter(
            "node_bcache_cache_miss_collisions_total",
            "Instances where data insertion from cache miss raced with write (data already present).",
        ),
    ),
    Field::new(
        "stats_total/cache_readaheads",
        Metric::counter("node_bcache_cache_readaheads_total", "Count of times readahead occurred."),
    ),
];
/// Of a caching device.
static CACHE: [Field; 3] = [
    Field::new(
        "io_errors",
        Metric::gauge(
            "node_bcache_io_errors",
            "Number of errors that have occurred, decayed by io_error_halflife.",
        ),
    ),
    Field::new(
        "metadata_written",
        Metric::counter(
            "node_bcache_metadata_written_bytes_total",
            "Sum of all non data writes (btree writes and all other metadata).",
        ),
    ),
    Field::new(
        "written",
        Metric::counter(
            "node_bcache_written_bytes_total",
            "Sum of all data that has been written to the cache.",
        ),
    ),
];
/// Keys of `writeback_rate_debug`; node_exporter takes nothing of the others.
static WRITEBACK: [(&str, Metric<'static>); 5] = [
    (
        "target",
        Metric::gauge(
            "node_bcache_dirty_target_bytes",
            "Current dirty data target threshold for this backing device in bytes.",
        ),
    ),
    (
        "rate",
        Metric::gauge(
            "node_bcache_writeback_rate",
            "Current writeback rate for this backing device in bytes.",
        ),
    ),
    (
        "proportional",
        Metric::gauge(
            "node_bcache_writeback_rate_proportional_term",
            "Current result of proportional controller, part of writeback rate",
        ),
    ),
    (
        "integral",
        Metric::gauge(
            "node_bcache_writeback_rate_integral_term",
            "Current result of integral controller, part of writeback rate",
        ),
    ),
    (
        "change",
        Metric::gauge(
            "node_bcache_writeback_change",
            "Last writeback rate change step for this backing device.",
        ),
    ),
];
/// Keys of `priority_stats`.
static PRIORITY: [(&str, Metric<'static>); 2] = [
    (
        "Unused",
        Metric::gauge(
            "node_bcache_priority_stats_unused_percent",
            "The percentage of the cache that doesn't contain any data.",
        ),
    ),
    (
        "Metadata",
        Metric::gauge("node_bcache_priority_stats_metadata_percent", "Bcache's metadata overhead."),
    ),
];

struct Bcache {
    sets: Devices<Set>,
    priority_stats: bool,
    page: Page,
}

struct Set {
    uuid: String,
    fields: Fields,
    members: Devices<Member>,
}

struct Member {
    name: String,
    /// The name of the label that its name is the value of.
    label: &'static str,
    fields: Fields,
    /// A text of several numbers.
    text: Option<(Attribute, &'static [(&'static str, Metric<'static>)])>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let sets = Devices::new(context.roots.sys("fs/bcache"));
    let priority_stats = options::switch(context, "priority_stats")?;
    Ok(Box::new(Bcache { sets, priority_stats, page: Page::default() }))
}

impl Collector for Bcache {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { sets, priority_stats, page } = self;
        // the others are `register` and the like
        for set in
            sets.current(|name, path| name.contains('-').then(|| Set::discover(name, path)))?
        {
            let Set { uuid, fields, members } = set;
            push(fields, &[("uuid", uuid)], page, out);
            let members =
                members.current_or_none(|name, path| Member::discover(name, path, *priority_stats));
            for member in members {
                member.push(uuid, page, out);
            }
        }
        Ok(())
    }
}

impl Set {
    fn discover(name: &str, path: &Path) -> Self {
        let members = Devices::new(path.to_owned());
        Self { uuid: name.to_owned(), fields: Fields::of(path, &SET), members }
    }
}

impl Member {
    fn discover(name: &str, path: &Path, priority_stats: bool) -> Option<Self> {
        let is = |kind| name.strip_prefix(kind).is_some_and(|rest: &str| starts_with_digit(rest));
        let text = |file: &str| Attribute::new(path.join(file));
        let (label, table, text): (_, &'static [Field], _) = if is("bdev") {
            let text = text("writeback_rate_debug");
            ("backing_device", &BACKING, Some((text, &WRITEBACK[..])))
        } else if is("cache") {
            let text = priority_stats.then(|| (text("priority_stats"), &PRIORITY[..]));
            ("cache_device", &CACHE, text)
        } else {
            return None;
        };
        Some(Self { name: name.to_owned(), label, fields: Fields::of(path, table), text })
    }

    fn push(&mut self, uuid: &str, page: &mut Page, out: &mut Samples) {
        let Self { name, label, fields, text } = self;
        let labels = [(*label, &**name), ("uuid", uuid)];
        push(fields, &labels, page, out);
        let Some((attribute, keys)) = text else { return };
        if let Err(error) = push_text(attribute, keys, &labels, page, out) {
            out.remark(&format!("{}: {error}", attribute.path().display()));
        }
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

fn push(fields: &mut Fields, labels: &[(&str, &str)], page: &mut Page, out: &mut Samples) {
    fields.push_parsed(labels, page, out, |_, text| {
        amount(text).filter(|amount| *amount >= 0.0).map(Some)
    });
}

fn push_text(
    attribute: &mut Attribute,
    keys: &'static [(&'static str, Metric<'static>)],
    labels: &[(&str, &str)],
    page: &mut Page,
    out: &mut Samples,
) -> Result<(), ParseError> {
    let Ok(text) = attribute.read(page) else { return Ok(()) };
    keyed(text, |key, amount| {
        let known = keys.iter().find(|(known, _)| *known == key);
        if let Some((_, metric)) = known {
            out.push(metric, labels, amount);
        }
    })
}
