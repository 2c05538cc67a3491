//! A transaction whose statements are prepared once a connection.

use bytes::Bytes;
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{CopyInSink, Row, types::ToSql};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

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

    /// Begins a COPY.
    pub(crate) async fn copy_in(&self, sql: &str) -> Result<CopyInSink<Bytes>> {
        let statement = self.0.prepare_cached(sql).await?;
        self.0.copy_in(&statement).await
    }
}
