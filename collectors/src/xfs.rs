//! What XFS file systems do: `/sys/fs/xfs/*/stats/stats`.
//!
//! A line begins with what it counts. The fields: `xfs_stats_format` of the kernel's fs/xfs/xfs_stats.c.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    devices::Devices,
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "xfs",
    summary: "Operations of XFS file systems: extents, B-trees, directories, inodes, reads and writes.",
    reads: &["/sys/fs/xfs"],
    default_enabled: true,
    options: &[],
    build,
};

/// Lines that are taken, with their fields. More may follow at their end.
static LINES: [(&str, &[Metric<'static>]); 8] = [
    (
        "extent_alloc",
        &[
            Metric::counter(
                "node_xfs_extent_allocation_extents_allocated_total",
                "Number of extents allocated for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_extent_allocation_blocks_allocated_total",
                "Number of blocks allocated for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_extent_allocation_extents_freed_total",
                "Number of extents freed for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_extent_allocation_blocks_freed_total",
                "Number of blocks freed for a filesystem.",
            ),
        ],
    ),
    (
        "abt",
        &[
            Metric::counter(
                "node_xfs_allocation_btree_lookups_total",
                "Number of allocation B-tree lookups for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_allocation_btree_compares_total",
                "Number of allocation B-tree compares for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_allocation_btree_records_inserted_total",
                "Number of allocation B-tree records inserted for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_allocation_btree_records_deleted_total",
                "Number of allocation B-tree records deleted for a filesystem.",
            ),
        ],
    ),
    (
        "blk_map",
        &[
            Metric::counter(
                "node_xfs_block_mapping_reads_total",
                "Number of block map for read operations for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_mapping_writes_total",
                "Number of block map for write operations for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_mapping_unmaps_total",
                "Number of block unmaps (deletes) for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_mapping_extent_list_insertions_total",
                "Number of extent list insertions for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_mapping_extent_list_deletions_total",
                "Number of extent list deletions for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_mapping_extent_list_lookups_total",
                "Number of extent list lookups for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_mapping_extent_list_compares_total",
                "Number of extent list compares for a filesystem.",
            ),
        ],
    ),
    (
        "bmbt",
        &[
            Metric::counter(
                "node_xfs_block_map_btree_lookups_total",
                "Number of block map B-tree lookups for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_map_btree_compares_total",
                "Number of block map B-tree compares for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_map_btree_records_inserted_total",
                "Number of block map B-tree records inserted for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_block_map_btree_records_deleted_total",
                "Number of block map B-tree records deleted for a filesystem.",
            ),
        ],
    ),
    (
        "dir",
        &[
            Metric::counter(
                "node_xfs_directory_operation_lookup_total",
                "Number of file name directory lookups which miss the operating systems directory name lookup cache.",
            ),
            Metric::counter(
                "node_xfs_directory_operation_create_total",
                "Number of times a new directory entry was created for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_directory_operation_remove_total",
                "Number of times an existing directory entry was created for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_directory_operation_getdents_total",
                "Number of times the directory getdents operation was performed for a filesystem.",
            ),
        ],
    ),
    (
        "ig",
        &[
            Metric::counter(
                "node_xfs_inode_operation_attempts_total",
                "Number of times the OS looked for an XFS inode in the inode cache.",
            ),
            Metric::counter(
                "node_xfs_inode_operation_found_total",
                "Number of times the OS looked for and found an XFS inode in the inode cache.",
            ),
            Metric::counter(
                "node_xfs_inode_operation_recycled_total",
                "Number of times the OS found an XFS inode in the cache, but could not use it as it was being recycled.",
            ),
            Metric::counter(
                "node_xfs_inode_operation_missed_total",
                "Number of times the OS looked for an XFS inode in the cache, but did not find it.",
            ),
            Metric::counter(
                "node_xfs_inode_operation_duplicates_total",
                "Number of times the OS tried to add a missing XFS inode to the inode cache, but found it had already been added by another process.",
            ),
            Metric::counter(
                "node_xfs_inode_operation_reclaims_total",
                "Number of times the OS reclaimed an XFS inode from the inode cache to free memory for another purpose.",
            ),
            Metric::counter(
                "node_xfs_inode_operation_attribute_changes_total",
                "Number of times the OS explicitly changed the attributes of an XFS inode.",
            ),
        ],
    ),
    (
        "rw",
        &[
            Metric::counter(
                "node_xfs_write_calls_total",
                "Number of write(2) system calls made to files in a filesystem.",
            ),
            Metric::counter(
                "node_xfs_read_calls_total",
                "Number of read(2) system calls made to files in a filesystem.",
            ),
        ],
    ),
    (
        "vnodes",
        &[
            Metric::counter(
                "node_xfs_vnode_active_total",
                "Number of vnodes not on free lists for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_vnode_allocate_total",
                "Number of times vn_alloc called for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_vnode_get_total",
                "Number of times vn_get called for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_vnode_hold_total",
                "Number of times vn_hold called for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_vnode_release_total",
                "Number of times vn_rele called for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_vnode_reclaim_total",
                "Number of times vn_reclaim called for a filesystem.",
            ),
            Metric::counter(
                "node_xfs_vnode_remove_total",
                "Number of times vn_remove called for a filesystem.",
            ),
        ],
    ),
];

struct Xfs {
    filesystems: Devices<(String, KeptFile)>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Xfs { filesystems: Devices::new(context.roots.sys("fs/xfs")) }))
}

impl Collector for Xfs {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let filesystems = self.filesystems.current(|name, path| {
            let path = path.join("stats/stats");
            path.is_file().then(|| (name.to_owned(), KeptFile::new(path)))
        })?;
        for (device, file) in filesystems {
            // it was unmounted just now
            let Ok(text) = file.text() else { continue };
            let labels = [("device", &**device)];
            let parsed = parse(text.content, |metric, count| {
                out.push(metric, &labels, count as f64);
            });
            parsed.map_err(|error| text.malformed(&error))?;
        }
        Ok(())
    }
}

/// Gives each number of the lines that are taken to `each`.
fn parse(
    text: &str,
    mut each: impl FnMut(&'static Metric<'static>, u64),
) -> Result<(), ParseError> {
    for (number, line) in numbered(text) {
        let mut words = Words::new(number, line);
        let label = words.next();
        let known = LINES.iter().find(|(known, _)| Some(*known) == label);
        let Some((_, metrics)) = known else { continue };
        for metric in *metrics {
            each(metric, words.number(metric.name)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const LARGE: &str = include_str!("../fixtures/large/sys/fs/xfs/sdb1/stats/stats");

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: &str| {
            let mut counts = Vec::new();
            let read = parse(text, |metric, count| counts.push(format!("{} {count}", metric.name)));
            let got = read.map_or_else(|error| error.to_string(), |()| counts.join(", "));
            assert_eq!(got, expected, "{text}");
        };
        check("rw 28 30\n", "node_xfs_write_calls_total 28, node_xfs_read_calls_total 30");
        check("rw 28 30 5\n", "node_xfs_write_calls_total 28, node_xfs_read_calls_total 30");
        check("trans 1 2 3\nxpc 1 2 3\n\ntomorrow x", "");
        check("", "");
        check("trans 1\nrw 28", "line 2, node_xfs_read_calls_total: missing");
        check(
            "rw 28 -1",
            "line 1, node_xfs_read_calls_total: \"-1\" is not a number, or too large",
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in kernel_text(LARGE)) {
            let _ = parse(&text, |_, _| {});
        }
    }
}
