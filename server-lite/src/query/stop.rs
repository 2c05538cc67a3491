//! When a running query has to end: nobody waits for it any more, or its time is over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use promql::Error;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Shared between who asks and who reckons.
#[derive(Debug)]
pub(crate) struct Stop {
    deadline: Instant,
    canceled: AtomicBool,
    told: Notify,
}

impl Stop {
    /// Ends after so long, or once the guard is dropped.
    pub(crate) fn after(time: Duration) -> (Arc<Self>, CancelOnDrop) {
        let deadline = Instant::now() + time;
        let stop =
            Arc::new(Self { deadline, canceled: AtomicBool::new(false), told: Notify::new() });
        (Arc::clone(&stop), CancelOnDrop(stop))
    }

    /// Whether to go on.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.canceled.load(Relaxed) {
            return Err(Error::Canceled);
        }
        if Instant::now() >= self.deadline {
            return Err(Error::Timeout);
        }
        Ok(())
    }

    /// Waits for the end, and says which it is.
    pub(crate) async fn ended(&self) -> Error {
        let told = self.told.notified();
        if let Err(error) = self.check() {
            return error;
        }
        tokio::select! {
            () = told => Error::Canceled,
            () = sleep_until(self.deadline) => Error::Timeout,
        }
    }
}

/// Ends the query when whoever asked goes away.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(Arc<Stop>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.canceled.store(true, Relaxed);
        self.0.told.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_with_the_first_of_both() {
        let (stop, guard) = Stop::after(Duration::from_secs(5));
        assert_eq!(stop.check(), Ok(()));
        let waiting = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move { stop.ended().await }
        });
        tokio::task::yield_now().await;
        drop(guard);
        assert_eq!(waiting.await.unwrap(), Error::Canceled);
        assert_eq!(stop.check(), Err(Error::Canceled));

        let (stop, _guard) = Stop::after(Duration::from_secs(5));
        assert_eq!(stop.ended().await, Error::Timeout);
        assert_eq!(stop.check(), Err(Error::Timeout));
    }
}
