//! The real binary is killed with SIGKILL while agents send, again and again: whatever it had
//! acknowledged is there, once, in order, and what it had not is taken when it is sent again.

mod killed;

use std::sync::{Arc, atomic::AtomicU64};

use killed::{AGENTS, Home, check, live_and_die, run_hub};

const KILLS: u64 = 6;
/// Records acknowledged between two kills; enough for the sealer to be at work.
const RECORDS_A_LIFE: u64 = 400;

#[test]
fn what_was_acknowledged_is_there_once_and_in_order() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let home = Home { data_dir: &directory.path().join("data"), database: "" };
    let acked: Vec<Arc<AtomicU64>> = (0..AGENTS).map(|_| Arc::default()).collect();
    for life in 1..=KILLS {
        live_and_die(home, &acked, life * RECORDS_A_LIFE);
        check(home, &acked, &format!("kill {life}"));
    }
    let lines = run_hub(home, &["samples", "--metric", "killed"]);
    assert!(lines.contains("\"where\":\"block\""), "some of it was sealed meanwhile");
}
