//! Others take every connection that the server has.

use tokio_postgres::{Client, NoTls};
use xtask::cluster::{Cluster, Durability};

use super::Story;
use crate::or_skip;

/// Takes what is free, until the server has no more.
async fn take_all(url: &str, taken: &mut Vec<Client>) {
    while let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
        tokio::spawn(connection);
        taken.push(client);
    }
}

/// Ends those of the hub. Each is taken by it again, or by us; in the end by us.
async fn take_from_the_hub(url: &str, taken: &mut Vec<Client>) {
    let lost = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE application_name = 'holdfast-hub'";
    loop {
        take_all(url, taken).await;
        let first = taken.first().expect("one at least");
        if first.query_one(lost, &[]).await.expect("asked").get::<_, i64>(0) == 0 {
            return;
        }
    }
}

#[test]
fn a_server_without_connections_is_waited_for() {
    let cluster = Cluster::start_with(Durability::Durable, &["max_connections=25"]);
    let Some(cluster) = or_skip(cluster.expect("a cluster")) else { return };
    let (directory, database) = (tempfile::tempdir().expect("a directory"), cluster.url());
    let mut story = Story::begin(directory.path(), &database);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut taken = Vec::new();
    story.fails_while(|| runtime.block_on(take_from_the_hub(&database, &mut taken)));
    drop(taken);
    story.goes_on();
    story.end("a server without connections");
}
