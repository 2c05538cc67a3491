//! System calls of a tick, counted by strace(1) in a child process.

use std::{env, fs, path::PathBuf, process::Command};

use agent_core::Roots;
use wire::tick::TickEncoder;

use crate::{build, build_one, tick, warm};

/// Tells this program to run so many ticks of a collector, after those that warm it up, and end: `cpu 50`.
const CHILD: &str = "HOLDFAST_BENCH_CHILD";
/// Where that child finds the host: `/proc`, `/sys` and `/`, one a line.
const CHILD_ROOTS: &str = "HOLDFAST_BENCH_ROOTS";
/// Ticks that calls are counted over.
const TICKS: u32 = 50;

/// Whether this is such a child; it has run its ticks then.
pub(crate) fn is_child() -> bool {
    let (Ok(order), Ok(roots)) = (env::var(CHILD), env::var(CHILD_ROOTS)) else { return false };
    let mut roots = roots.lines().map(PathBuf::from);
    let mut next = || roots.next().expect("three roots");
    let roots = Roots { procfs: next(), sysfs: next(), rootfs: next() };
    let (name, ticks) = order.split_once(' ').expect("a name and a number");
    let built = match name {
        "" => build(&roots),
        name => vec![build_one(name, &roots)],
    };
    let mut encoder = TickEncoder::new();
    let mut collectors = warm(built, &mut encoder);
    for _ in 0..ticks.parse().expect("a number of ticks") {
        tick(&mut collectors, &mut encoder);
    }
    true
}

/// System calls a tick of a collector, or of the default set if that has no name. `None` where strace is
/// not to be had.
pub(crate) fn count(name: &str, roots: &Roots) -> Option<f64> {
    let (few, many) = (total(name, 0, roots)?, total(name, TICKS, roots)?);
    Some((many - few) / f64::from(TICKS))
}

/// System calls of a process that runs so many ticks after it is warm.
fn total(name: &str, ticks: u32, roots: &Roots) -> Option<f64> {
    let Roots { procfs, sysfs, rootfs } = roots;
    let roots = [procfs, sysfs, rootfs].map(|root| root.display().to_string()).join("\n");
    let said = tempfile::NamedTempFile::new().ok()?;
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls", "-o"]).arg(said.path()).arg(env::current_exe().ok()?);
    command.env(CHILD, format!("{name} {ticks}")).env(CHILD_ROOTS, roots).output().ok()?;
    let counts = fs::read_to_string(said.path()).ok()?;
    let total = counts.lines().find_map(|line| line.strip_suffix("total"))?;
    total.trim().parse().ok()
}
