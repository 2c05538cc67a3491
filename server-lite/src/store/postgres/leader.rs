//! Of several hubs on one database one leads: it keeps house, and evaluates rules. It holds an advisory lock
//! on a connection of its own; when it dies, the server gives the lock back, and another has it within
//! seconds. One that has lost its connection no longer leads before the server can have noticed.

use std::{
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, Release},
    },
    time::Duration,
};

use deadpool_postgres::{Object, Pool};
use tokio::time::{self, MissedTickBehavior, timeout};

use super::{
    connect::{database, get, give_up_unused},
    counters::Counters,
};
use crate::store::StoreError;

/// Who leads holds this advisory lock.
const LOCK: i64 = 0x686f_6c64_6c65_6164;
/// Time between two tries to lead, or looks whether the connection is still there.
const EVERY: Duration = Duration::from_secs(3);
/// What takes longer means that it isn't. With the time between two looks it is less than the server
/// takes to give up a machine that has gone: 5 + 3 × 2 s.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// Looks at the database's size after so many rounds.
const SIZE_ROUNDS: u32 = 10;

/// Leads, or waits to.
pub(crate) struct Leader {
    pool: Pool,
    counters: Arc<Counters>,
    /// The connection with the lock.
    holds: Option<Object>,
}

impl Leader {
    /// Doesn't lead yet. The pool is for this alone.
    pub(crate) const fn new(pool: Pool, counters: Arc<Counters>) -> Self {
        Self { pool, counters, holds: None }
    }

    /// Goes on until it is broken off.
    pub(crate) async fn run(mut self) {
        let mut rounds = time::interval(EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u32.. {
            rounds.tick().await;
            self.round().await;
            if round % SIZE_ROUNDS == 0 {
                // Who waits for this doesn't look whether it still leads.
                let _ = timeout(ANSWER_TIME_MAX, self.measure()).await;
            }
        }
    }

    /// One try, or one look.
    pub(crate) async fn round(&mut self) {
        let led = self.holds.is_some();
        let found = timeout(ANSWER_TIME_MAX, self.try_lead()).await;
        if found.is_err() {
            give_up_unused(&self.pool);
        }
        let leads = matches!(found, Ok(Ok(true)));
        if !leads && let Some(client) = self.holds.take() {
            // With its connection it gives back the lock, if it still has it.
            drop(Object::take(client));
        }
        // After the epoch, for who asks for both.
        self.counters.leads.store(leads, Release);
        if leads != led {
            tracing::info!(leads, "this hub keeps house and evaluates rules: {leads}");
        }
    }

    async fn try_lead(&mut self) -> Result<bool, StoreError> {
        if let Some(client) = &self.holds {
            let there = client.batch_execute("SELECT 1").await;
            return there.map(|()| true).map_err(database("look whether this hub still leads"));
        }
        let client = get(&self.pool).await?;
        let lock = format!("SELECT pg_try_advisory_lock({LOCK})");
        let row = client.query_one(&lock, &[]).await.map_err(database("try to lead"))?;
        if !row.get::<_, bool>(0) {
            return Ok(false);
        }
        // From here on the lock goes with the connection, whatever fails.
        let client = self.holds.insert(client);
        // What another hub is writing as the one that leads is written first.
        let count = "UPDATE leader SET epoch = epoch + 1 RETURNING epoch";
        let row = client.query_one(count, &[]).await.map_err(database("begin to lead"))?;
        self.counters.epoch.store(row.get(0), Relaxed);
        Ok(true)
    }

    /// What metrics say of the whole database.
    async fn measure(&self) {
        let sql = "SELECT count(*) FILTER (WHERE job IS NULL), \
                   count(*) FILTER (WHERE job IS NOT NULL), coalesce(sum(series), 0)::bigint, \
                   pg_database_size(current_database()), (SELECT before_day FROM dropped) FROM agents";
        let Some(client) = &self.holds else {
            let Ok(client) = get(&self.pool).await else { return };
            return self.note(client.query_one(sql, &[]).await);
        };
        self.note(client.query_one(sql, &[]).await);
    }

    fn note(&self, row: Result<tokio_postgres::Row, tokio_postgres::Error>) {
        let Ok(row) = row else { return };
        let figure = |at| row.get::<_, i64>(at).cast_unsigned();
        self.counters.agents.set(figure(0));
        self.counters.targets.set(figure(1));
        self.counters.series.set(figure(2));
        self.counters.disk_bytes.set(figure(3));
        self.counters.note_dropped(row.get(4));
    }
}
