//! The promise under fire: hub and agents are killed with `kill -9` again and again; then the store is
//! read. `cargo xtask torture --kills 200` is the long version.

use std::{path::Path, time::Duration};

use xtask::{
    programs::Binaries,
    torture::{self, Plan},
};

const KILLS: usize = 20;

#[test]
fn kills_at_any_moment_lose_double_and_reorder_nothing() {
    let agent = Path::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    let binaries = Binaries::below(agent.parent().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    // This one has something of everything. It is the same each time; where in its work a program is
    // hit is not.
    let plan = Plan { kills: KILLS, seed: 42, interval: Duration::from_secs(1) };
    let report = torture::run(&binaries, directory.path(), &plan, |step| println!("· {step}"));
    let report = report.unwrap();
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    // Both were hit, and there was something to lose.
    assert!(report.kills.hub >= 3 && report.kills.agents >= 3, "{report}");
    assert!(report.kills.all() >= KILLS, "{report}");
    assert!(report.verdict.expected >= 20, "{report}");
    assert!(report.verdict.samples >= 10_000, "{report}");
}
