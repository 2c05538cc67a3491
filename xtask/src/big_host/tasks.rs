//! Processes, and the control groups that they would be in.

use std::{fs, io};

use super::{Size, Tree};

/// Beyond those of the tree that it begins with.
const FIRST_PID: usize = 10_000;

pub(super) fn write(tree: &Tree<'_>, size: &Size) -> io::Result<()> {
    (0..size.processes).try_for_each(|process| one_process(tree, process))?;
    (0..size.cgroups).try_for_each(|group| one_group(tree, group))
}

fn one_process(tree: &Tree<'_>, process: usize) -> io::Result<()> {
    // twice the distance: the second thread has the number between
    let pid = FIRST_PID + 2 * process;
    let threads = if process.is_multiple_of(10) { 2 } else { 1 };
    let stat = |id: usize| {
        format!(
            "{id} (worker {process}) S 1 1 1 0 -1 4194560 7682 0 12 0 311 140 0 0 20 0 {threads} 0 \
             105763 170221568 3380 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 7 0 0 0 0 0\n"
        )
    };
    let directory = tree.0.join(format!("proc/{pid}"));
    fs::create_dir(&directory)?;
    fs::write(directory.join("stat"), stat(pid))?;
    if threads == 1 {
        return Ok(());
    }
    [pid, pid + 1]
        .into_iter()
        .try_for_each(|thread| tree.file(&format!("proc/{pid}/task/{thread}/stat"), &stat(thread)))
}

fn one_group(tree: &Tree<'_>, group: usize) -> io::Result<()> {
    let attributes = [
        ("cpu.stat", format!("usage_usec {group}\nuser_usec 2\nsystem_usec 1\n")),
        ("memory.current", format!("{}\n", 4_096 * group)),
        ("pids.current", "1\n".to_owned()),
    ];
    tree.attributes(&format!("sys/fs/cgroup/system.slice/unit{group}.service"), &attributes)
}
