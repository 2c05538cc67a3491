//! A database of its own for each test, on the cluster that the test command has started.

use std::{
    env,
    io::Write as _,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio_postgres::{Client, NoTls};
use xtask::cluster;

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A database that is empty.
pub(crate) struct Database {
    pub(crate) url: String,
}

impl Database {
    /// One without TimescaleDB; `None`, said aloud, where there is no PostgreSQL.
    pub(crate) async fn plain() -> Option<Self> {
        let Some(cluster) = env::var(cluster::VARIABLE).ok().filter(|url| !url.is_empty()) else {
            skip(&format!(
                "no PostgreSQL: {} isn't set (cargo xtask test, or cargo xtask with-postgres …)",
                cluster::VARIABLE
            ));
            return None;
        };
        let name = format!("test_{}_{}", process::id(), NEXT.fetch_add(1, Relaxed));
        connect(&cluster).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (server, _) = cluster.rsplit_once('/').unwrap();
        Some(Self { url: format!("{server}/{name}") })
    }

    /// One with TimescaleDB; `None`, said aloud, where it isn't installed.
    pub(crate) async fn timescale() -> Option<Self> {
        let database = Self::plain().await?;
        let client = database.connect().await;
        let there =
            "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')";
        if !client.query_one(there, &[]).await.unwrap().get::<_, bool>(0) {
            skip("TimescaleDB is not installed for this PostgreSQL");
            return None;
        }
        client.batch_execute("CREATE EXTENSION timescaledb").await.unwrap();
        Some(database)
    }

    /// A connection to it, beside the store's.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url).await
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Past the test harness, which keeps what passing tests print.
fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}
