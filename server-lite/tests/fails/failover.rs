//! The server dies, and its standby takes over: what was acknowledged is there, since no commit is answered
//! before the standby has it.

use xtask::cluster::{Cluster, Durability};

use super::Story;
use crate::or_skip;

#[test]
fn after_a_failover_nothing_acknowledged_is_lost() {
    let first = Cluster::start_with(Durability::Durable, &["synchronous_standby_names=*"]);
    let Some(mut first) = or_skip(first.expect("a cluster")) else { return };
    let standby = first.standby().expect("a standby");
    let hosts = [&first, &standby]
        .map(|cluster| cluster.directory().to_string_lossy().replace('/', "%2F"))
        .join(",");
    let database = format!("postgres://postgres@{hosts}/postgres");
    let directory = tempfile::tempdir().expect("a directory");
    let mut story = Story::begin(directory.path(), &database);
    first.kill().expect("kill the server");
    // The standby is there, and only reads.
    story.fails();
    assert_eq!(story.get("/readyz").0, 503);
    standby.promote().expect("promote the standby");
    story.goes_on();
    story.end("a failover");
}
