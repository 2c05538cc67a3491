//! A transaction whose statements are prepared once a connection.

use bytes::Bytes;
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{CopyInSink, Row, SimpleQueryMessage, types::ToSql};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// An advisory lock: who stores shares it, who drops old samples has it alone for a moment.
const DROPPED_LOCK: i64 = 0x686f_6c64_6472_6f70;

/// What a statement is given.
pub(crate) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// See the module's opening. Dropped without [`Change::commit`], it never was.
pub(crate) struct Change<'a>(Transaction<'a>);

impl<'a> Change<'a> {
    /// Begins one.
    pub(crate) async fn begin(client: &'a mut Object) -> Result<Self> {
        client.transaction().await.map(Self)
    }

    /// Ends it: all of it is there now.
    pub(crate) async fn commit(self) -> Result<()> {
        self.0.commit().await
    }

    /// Every row.
    pub(crate) async fn query(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>> {
        let statement = self.0.prepare_cached(sql).await?;
        self.0.query(&statement, values).await
    }

    /// The only row.
    pub(crate) async fn query_one(&self, sql: &str, values: Values<'_>) -> Result<Row> {
        let statement = self.0.prepare_cached(sql).await?;
        self.0.query_one(&statement, values).await
    }

    /// How many rows it was.
    pub(crate) async fn execute(&self, sql: &str, values: Values<'_>) -> Result<u64> {
        let statement = self.0.prepare_cached(sql).await?;
        self.0.execute(&statement, values).await
    }

    /// The day before which samples have been dropped. It stays that until the transaction has ended.
    pub(crate) async fn hold_dropped(&self) -> Result<i64> {
        // Two statements, so that the second sees what there is once the first has its lock.
        let hold = format!(
            "SELECT pg_advisory_xact_lock_shared({DROPPED_LOCK}); SELECT before_day FROM dropped"
        );
        let day = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        };
        let answers = self.0.simple_query(&hold).await?;
        Ok(answers.iter().filter_map(day).last().unwrap_or(i64::MIN))
    }

    /// Waits until nobody holds what [`Change::hold_dropped`] gives, and lets nobody have it.
    pub(crate) async fn change_dropped(&self) -> Result<i64> {
        let lock = format!("SELECT pg_advisory_xact_lock({DROPPED_LOCK})");
        self.0.batch_execute(&lock).await?;
        Ok(self.query_one("SELECT before_day FROM dropped", &[]).await?.get(0))
    }

    /// Begins a COPY.
    pub(crate) async fn copy_in(&self, sql: &str) -> Result<CopyInSink<Bytes>> {
        let statement = self.0.prepare_cached(sql).await?;
        self.0.copy_in(&statement).await
    }
}
