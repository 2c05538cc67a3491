//! Hub and PostgreSQL are killed with SIGKILL while agents send, and the database fails in other ways:
//! whatever was acknowledged is there, once, in order, and the hub goes on by itself when its database is
//! back. The database flushes as in earnest.

mod fails;
mod killed;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use killed::{AGENTS, Home, Hub, Senders, check, live_and_die};
use xtask::cluster::{Cluster, Durability, PACKAGE};

const KILLS: u64 = 4;
/// Records acknowledged between two kills.
const RECORDS_A_LIFE: u64 = 200;

/// A cluster, or `None`, said aloud past the test harness.
fn cluster() -> Option<Cluster> {
    or_skip(Cluster::start(Durability::Durable).expect("a cluster"))
}

fn or_skip(cluster: Option<Cluster>) -> Option<Cluster> {
    if cluster.is_none() {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let why = format!("SKIPPED {name}: PostgreSQL is not here (apt-get install {PACKAGE})");
        let _ = writeln!(std::io::stderr(), "{why}");
    }
    cluster
}

fn nothing_acked() -> Vec<Arc<AtomicU64>> {
    (0..AGENTS).map(|_| Arc::default()).collect()
}

#[test]
fn of_a_hub_that_is_killed_nothing_acknowledged_is_lost() {
    let Some(cluster) = cluster() else { return };
    let (directory, database) = (tempfile::tempdir().expect("a directory"), cluster.url());
    let home = Home { data_dir: directory.path(), database: &database };
    let acked = nothing_acked();
    for life in 1..=KILLS {
        live_and_die(home, &acked, life * RECORDS_A_LIFE);
        check(home, &acked, &format!("kill {life} of the hub"));
    }
}

#[test]
fn of_a_database_that_is_killed_nothing_acknowledged_is_lost() {
    let Some(mut cluster) = cluster() else { return };
    let (directory, database) = (tempfile::tempdir().expect("a directory"), cluster.url());
    let home = Home { data_dir: directory.path(), database: &database };
    let (acked, hub) = (nothing_acked(), Hub::start(home));
    let senders = Senders::start(&hub.url, &acked);
    for life in 1..=KILLS {
        // The same hub and the same agents all the time.
        senders.wait(&acked, life * RECORDS_A_LIFE);
        cluster.kill().expect("kill the database");
        // Its other processes see that it has gone when they next look.
        let is_ready = || ureq::get(format!("{}/readyz", hub.url)).call();
        while !matches!(is_ready(), Err(ureq::Error::StatusCode(503))) {}
        cluster.run().expect("start the database again");
    }
    let most = acked.iter().map(|acked| acked.load(SeqCst)).max().unwrap_or_default();
    senders.wait(&acked, most + RECORDS_A_LIFE);
    hub.kill();
    senders.join();
    check(home, &acked, "kills of the database");
}
