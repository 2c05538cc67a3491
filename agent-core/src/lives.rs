//! This life of the agent and the one before: what lies between them is told once, before the first
//! tick; what the next one needs is left for it.

use std::{io, path::PathBuf};

use tokio::task::spawn_blocking;
use wire::Gap;

use crate::{
    gaps,
    life::{self, Life},
    ticker::Due,
};

/// The last life until the first tick, then this one.
#[derive(Debug)]
pub struct Lives {
    data_dir: PathBuf,
    last: Option<Life>,
    now: Option<Life>,
    /// Whether what was left is not yet what is to be known.
    stale: bool,
    /// Whether this life has left anything, so that the gap before it is told.
    begun: bool,
}

impl Lives {
    /// Finds out about the last life from what it left below `data_dir` and what the log says of its
    /// last record.
    #[must_use]
    pub fn open(data_dir: PathBuf, log_last_ms: Option<i64>) -> Self {
        let last = Life::last(&data_dir, log_last_ms);
        Self { data_dir, last, now: None, stale: false, begun: false }
    }

    /// The gaps that come before this tick.
    pub fn before(&mut self, due: &Due, interval_ms: i64) -> Vec<Gap> {
        let booted_ms = Some(due.moment.booted_ms());
        match &mut self.now {
            Some(now) => {
                if due.jump.is_some() {
                    now.booted_ms = booted_ms;
                }
                self.stale |= due.jump.is_some() || now.interval_ms != interval_ms;
                now.interval_ms = interval_ms;
                gaps::before(due, interval_ms)
            }
            None => {
                let (boot_id, tick_ms) = (life::boot_id(), due.time_ms);
                let now = Life { boot_id, booted_ms, interval_ms, tick_ms, ..Life::default() };
                self.stale = true;
                let gaps = self.last.take().map(|last| gaps::between(&last, &now));
                self.now = Some(now);
                gaps.unwrap_or_default()
            }
        }
    }

    /// Everything told so far is durable: the next life needs not tell it again.
    pub async fn told(&mut self) {
        if !self.stale {
            return;
        }
        match self.leave().await {
            Ok(()) => (self.stale, self.begun) = (false, true),
            Err(error) => {
                let path = self.data_dir.display();
                tracing::warn!(%path, %error, "can't leave word for the agent's next life, trying again");
            }
        }
    }

    /// This life ends in order, after a last tick at `last_ms`, with that many ticks that the log
    /// refused. One that never had a durable tick leaves the word of the one before.
    pub async fn end(&mut self, last_ms: Option<i64>, lost_ticks: u64) {
        let Some(now) = self.now.as_mut().filter(|_| self.begun) else { return };
        now.tick_ms = last_ms.unwrap_or(now.tick_ms);
        (now.stopped, now.lost_ticks) = (true, lost_ticks);
        if let Err(error) = self.leave().await {
            let path = self.data_dir.display();
            tracing::warn!(%path, %error, "can't leave word for the agent's next life");
        }
    }

    /// On a thread of its own: the disk may hang.
    async fn leave(&self) -> io::Result<()> {
        let Some(now) = self.now.clone() else { return Ok(()) };
        let data_dir = self.data_dir.clone();
        spawn_blocking(move || now.leave(&data_dir)).await.map_err(io::Error::other)?
    }
}
