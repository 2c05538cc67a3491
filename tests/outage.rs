//! The promise, end to end: both real binaries on this host's data, a hub outage, a `kill -9` of each.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{path::Path, time::Duration};

use xtask::{
    drill::{self, Plan},
    programs::Binaries,
};

fn binaries() -> Binaries {
    let agent = Path::new(env!("CARGO_BIN_EXE_holdfast-agent"));
    Binaries::below(agent.parent().unwrap()).unwrap()
}

#[test]
fn an_outage_with_a_kill_loses_doubles_and_reorders_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan { outage: Duration::from_secs(8), interval: Duration::from_secs(1) };
    let report = drill::run(&binaries(), directory.path(), &plan, |step| println!("· {step}"));
    let report = report.unwrap();
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    // Before the outage, during it, after it: what was expected is no handful by accident.
    assert!(report.verdict.expected >= 10, "{report}");
    assert!(report.verdict.samples > report.verdict.expected * 50, "{report}");
    assert!(report.verdict.agent_down >= 1, "{report}");
    // Nothing is told but that the agent was down, once.
    assert_eq!(report.verdict.gaps, [("agent_down".to_owned(), 1)].into(), "{report}");
}
