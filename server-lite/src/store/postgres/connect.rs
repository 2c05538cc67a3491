//! Connections to the database, and what kind of database it is.

use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio::time::timeout;
use tokio_postgres::{Client, config::TargetSessionAttrs};

use super::{address::Address, tls::MakeTls};
use crate::store::StoreError;

/// The oldest PostgreSQL that is supported, as `server_version_num`.
const VERSION_MIN: i32 = 140_000;
/// The first TimescaleDB whose columnstore is called that.
const TIMESCALE_MIN: (u32, u32) = (2, 18);
/// Waiting for a connection that is in use.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connecting, with the first statements.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is looked up, noted or checked is answered within this, or not at all.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Who reads samples for longer has lost the database, or whoever takes them.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(10 * 60);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Storing: a statement that takes long holds up agents.
    Write,
    /// Queries.
    Read,
    /// Migrations and what is dropped: as long as it takes.
    Keep,
}

impl Purpose {
    const fn statement_timeout(self) -> &'static str {
        match self {
            Self::Write => "20s",
            Self::Read => "2min",
            Self::Keep => "0",
        }
    }

    /// How long the server waits for a hub that has left a transaction open. Who stores holds locks that
    /// others wait for, and never thinks for long; who reads waits for whoever takes what is read.
    const fn idle_timeout(self) -> &'static str {
        match self {
            Self::Write => "15s",
            Self::Read | Self::Keep => "60s",
        }
    }
}

/// Says what was tried when the database refuses.
pub(crate) fn database(
    operation: &'static str,
) -> impl FnOnce(tokio_postgres::Error) -> StoreError {
    move |source| StoreError::Database { operation, source: source.into() }
}

/// So many connections at most, made when they are needed.
pub(crate) fn pool(address: &Address, purpose: Purpose, most: usize) -> Result<Pool, StoreError> {
    let mut config = address.config.clone();
    if config.get_hosts().len() > 1 {
        // After a failover the one that was the first may be there still, as a standby.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let tls = MakeTls::new(address.roots.as_deref())?;
    let settings = settings(purpose);
    let set = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
        let settings = settings.clone();
        Box::pin(async move {
            client.batch_execute(&settings).await.map_err(HookError::Backend)?;
            flush_commits(client).await.map_err(HookError::Backend)
        })
    });
    let pool = Pool::builder(Manager::from_config(config, tls, recycling))
        .max_size(most)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_TIMEOUT))
        .create_timeout(Some(CREATE_TIMEOUT))
        .recycle_timeout(Some(CREATE_TIMEOUT))
        .post_create(set);
    pool.build().map_err(|error| StoreError::Database {
        operation: "prepare connections",
        source: error.into(),
    })
}

fn settings(purpose: Purpose) -> String {
    // The server looks after its side too: the locks of a hub whose machine has died are given back.
    format!(
        "SET search_path = holdfast, public; SET client_min_messages = warning; \
         SET statement_timeout = '{}'; SET lock_timeout = '10s'; \
         SET idle_in_transaction_session_timeout = '{}'; SET extra_float_digits = 1; \
         SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; \
         SET tcp_keepalives_count = 3; SET timezone = 'UTC'",
        purpose.statement_timeout(),
        purpose.idle_timeout()
    )
}

/// What is acknowledged is flushed, whatever the server's default; a stronger one stays.
async fn flush_commits(client: &Client) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(
            "SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'",
        )
        .await
}

/// A connection; a closed pool is a closed store.
pub(crate) async fn get(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Closed => StoreError::Closed,
        other => {
            StoreError::Database { operation: "connect to the database", source: other.into() }
        }
    })
}

/// Does what may take so long. If it takes longer it is broken off, and with its connection all go that are
/// unused: a network that takes what is sent and brings nothing has swallowed those too.
pub(crate) async fn within<T>(
    pool: &Pool,
    most: Duration,
    operation: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    // By the end of this statement it is dropped, and has given its connection back.
    let done = timeout(most, work).await;
    done.unwrap_or_else(|_| {
        give_up_unused(pool);
        Err(silent(operation))
    })
}

/// Closes the connections that nobody uses.
pub(crate) fn give_up_unused(pool: &Pool) {
    drop(pool.retain(|_, _| false));
}

/// The database has not answered.
pub(crate) fn silent(operation: &'static str) -> StoreError {
    StoreError::Database { operation, source: "the database did not answer in time".into() }
}

/// What kind of database it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// As it calls itself.
    pub(crate) version: String,
    /// TimescaleDB in this database, and its licence.
    pub(crate) timescale: Option<(String, String)>,
    /// TimescaleDB could be in this database.
    pub(crate) could_have_timescale: bool,
    /// What is committed survives a power cut.
    pub(crate) flushes: bool,
}

impl Server {
    /// Asks.
    ///
    /// # Errors
    /// [`StoreError`], also when it is too old.
    pub(crate) async fn of(client: &Client) -> Result<Self, StoreError> {
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int, \
                 current_setting('server_version'), \
                 (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), \
                 current_setting('timescaledb.license', true), \
                 EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'), \
                 current_setting('fsync')",
                &[],
            )
            .await
            .map_err(database("ask for the server's version"))?;
        let (number, version): (i32, String) = (row.get(0), row.get(1));
        if number < VERSION_MIN {
            return Err(StoreError::Unusable(format!(
                "database.url: found PostgreSQL {version}, expected {} or newer",
                VERSION_MIN / 10_000
            )));
        }
        let (extension, licence): (Option<String>, Option<String>) = (row.get(2), row.get(3));
        Ok(Self {
            version,
            timescale: extension.map(|version| (version, licence.unwrap_or_default())),
            could_have_timescale: row.get(4),
            flushes: row.get::<_, &str>(5) == "on",
        })
    }

    /// Whether hypertables and columns can be used.
    pub(crate) fn has_columns(&self) -> bool {
        self.timescale.as_ref().is_some_and(|(version, licence)| {
            licence == "timescale" && number(version).is_some_and(|found| found >= TIMESCALE_MIN)
        })
    }
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_need_a_licence_and_a_version() {
        let check = |timescale: Option<(&str, &str)>, expected| {
            let timescale = timescale.map(|(version, licence)| (version.into(), licence.into()));
            let server = Server {
                version: "15.4".into(),
                timescale,
                could_have_timescale: true,
                flushes: true,
            };
            assert_eq!(server.has_columns(), expected, "{server:?}");
        };
        check(None, false);
        check(Some(("2.28.3", "timescale")), true);
        check(Some(("2.28.3", "apache")), false);
        check(Some(("2.18.0-dev", "timescale")), true);
        check(Some(("2.9.1", "timescale")), false);
        check(Some(("next", "timescale")), false);
    }
}
