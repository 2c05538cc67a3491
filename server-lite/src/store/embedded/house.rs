//! Housekeeping: what is due is sealed, rolled up and dropped, round after round.
//!
//! What is looked for is read beside the writer; what is changed goes through it in portions, so that
//! requests wait for one portion at most.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{Embedded, database::database, pages, retain, sums};
use crate::store::{Retention, StoreError, rollup::Level};

/// Rollups are made for so long in one round; the rest waits for the next.
const PAGING_TIME_MAX: Duration = Duration::from_secs(120);

impl Embedded {
    /// One round. What fails is tried again in the next.
    pub(super) async fn maintain_now(
        &self,
        now_ms: i64,
        keep: Retention,
    ) -> Result<(), StoreError> {
        let due = self.apart.readers.with(move |connection| {
            let before = now_ms.saturating_sub(retain::HEAD_AGE_MAX_MS);
            retain::due(connection, before).map_err(database("look for what is due"))
        });
        self.seals.add(due.await?);
        self.make_pages(now_ms, keep).await?;
        self.drop_old_samples(now_ms, keep).await?;
        let cutoff_ms = keep.raw_before_ms(now_ms);
        let cutoffs = retain::Cutoffs { samples_ms: cutoff_ms, all_ms: keep.all_before_ms(now_ms) };
        let agents = self.apart.readers.with(move |connection| {
            retain::agents_with_old_series(connection, cutoffs)
                .map_err(database("look for old series"))
        });
        for agent in agents.await? {
            self.change(move |writing| retain::drop_old_series(writing, agent, cutoffs)).await?;
        }
        self.drop_old_sums(cutoff_ms).await?;
        self.drop_old_ledger(cutoff_ms).await?;
        self.drop_empty_targets().await?;
        self.drop_old_texts(now_ms).await
    }

    /// Makes the pages of rollups that are due, for as long as one round may take.
    async fn make_pages(&self, now_ms: i64, keep: Retention) -> Result<(), StoreError> {
        let over = self.apart.readers.with(move |connection| {
            pages::over(connection, now_ms).map_err(database("look for rollups to be made"))
        });
        let over = over.await?;
        let due = self.patience.lock().unwrap_or_else(PoisonError::into_inner).pick(over);
        let started = Instant::now();
        for due in due.into_iter().take_while(|_| started.elapsed() < PAGING_TIME_MAX) {
            let counters = Arc::clone(&self.counters);
            let made = self
                .apart
                .readers
                .with(move |connection| pages::make(connection, &counters, due, &keep, now_ms));
            match made.await {
                Ok(made) => self.change(move |writing| pages::commit(writing, &made)).await?,
                // The others aren't to wait for it.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "rollups not made");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Drops samples whose rollups are there, and rollups.
    async fn drop_old_samples(&self, now_ms: i64, keep: Retention) -> Result<(), StoreError> {
        let cutoff_ms = keep.raw_before_ms(now_ms);
        let old = self.apart.readers.with(move |connection| {
            retain::old_groups(connection, cutoff_ms).map_err(database("look for old samples"))
        });
        for groups in old.await?.chunks(retain::GROUPS_ONCE) {
            let groups = groups.to_vec();
            self.change(move |writing| pages::drop_old_blocks(writing, &groups, cutoff_ms)).await?;
        }
        for level in Level::ALL {
            let cutoff_ms = keep.rollups_before_ms(level, now_ms);
            let old = self.apart.readers.with(move |connection| {
                pages::old_groups(connection, level, cutoff_ms)
                    .map_err(database("look for old rollups"))
            });
            for groups in old.await?.chunks(retain::GROUPS_ONCE) {
                let groups = groups.to_vec();
                self.change(move |writing| pages::drop_old(writing, &groups, level, cutoff_ms))
                    .await?;
            }
        }
        Ok(())
    }

    async fn drop_old_sums(&self, cutoff_ms: i64) -> Result<(), StoreError> {
        let streams = self.apart.readers.with(move |connection| {
            sums::old(connection, cutoff_ms).map_err(database("look for old checksums"))
        });
        for streams in streams.await?.chunks(retain::STREAMS_ONCE) {
            let streams = streams.to_vec();
            self.change(move |writing| retain::drop_sums(writing, &streams, cutoff_ms)).await?;
        }
        Ok(())
    }

    async fn drop_empty_targets(&self) -> Result<(), StoreError> {
        let targets = self.apart.readers.with(|connection| {
            retain::empty_targets(connection).map_err(database("look for old targets"))
        });
        for targets in targets.await?.chunks(retain::TARGETS_ONCE) {
            let targets = targets.to_vec();
            self.change(move |writing| retain::drop_targets(writing, &targets)).await?;
        }
        Ok(())
    }

    async fn drop_old_ledger(&self, cutoff_ms: i64) -> Result<(), StoreError> {
        let gaps = self.apart.readers.with(move |connection| {
            retain::old_gaps(connection, cutoff_ms).map_err(database("look for old gaps"))
        });
        for gaps in gaps.await?.chunks(retain::GAPS_ONCE) {
            let gaps = gaps.to_vec();
            self.change(move |writing| retain::drop_gaps(writing, &gaps)).await?;
        }
        let damaged = self.apart.readers.with(move |connection| {
            retain::untold_damage(connection).map_err(database("look for old damaged records"))
        });
        for rows in damaged.await?.chunks(retain::DAMAGED_ONCE) {
            let rows = rows.to_vec();
            self.change(move |writing| retain::drop_damaged(writing, &rows)).await?;
        }
        Ok(())
    }

    /// Now and then only: it reads every series.
    async fn drop_old_texts(&self, now_ms: i64) -> Result<(), StoreError> {
        let due_ms = self.texts_due_ms.load(Relaxed);
        if now_ms < due_ms && due_ms <= now_ms.saturating_add(retain::TEXTS_EVERY_MS) {
            return Ok(());
        }
        self.change(retain::watch_texts).await?;
        let unused = self.apart.readers.with(|connection| {
            retain::unused_texts(connection).map_err(database("look for old texts"))
        });
        let unused = unused.await?;
        self.change(move |writing| retain::drop_texts(writing, &unused)).await?;
        self.texts_due_ms.store(now_ms.saturating_add(retain::TEXTS_EVERY_MS), Relaxed);
        Ok(())
    }
}
