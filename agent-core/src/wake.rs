//! A far side was seen alive again: what a shipper waits after a failure is cut short.
//!
//! After a long outage a shipper may have a minute to wait. Whoever hears from the far side before (a
//! heartbeat) says so, and the shipper sends soon: after a random share of [`WINDOW`], so that a fleet
//! that hears at one moment doesn't strike at one moment, and never before the far side itself said.

use std::{rc::Rc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use wire::api::HEARTBEAT_INTERVAL_S;

/// Within this time after the news a fleet sends again.
pub const WINDOW: Duration = Duration::from_secs(HEARTBEAT_INTERVAL_S);

/// Says that the far side of a sink is back. Clones say it to the same shipper.
#[derive(Clone, Debug)]
pub struct Wake(Rc<watch::Sender<()>>);

impl Default for Wake {
    fn default() -> Self {
        Self(Rc::new(watch::Sender::new(())))
    }
}

impl Wake {
    /// Says it: on the first sign of life after none, not on each. A far side that lives but refuses
    /// is not to be asked more often for it.
    pub fn far_side_is_back(&self) {
        self.0.send_replace(());
    }

    /// For who waits.
    pub(crate) fn news(&self) -> News {
        News { news: self.0.subscribe(), _wake: self.clone() }
    }
}

/// Hears that the far side is back.
#[derive(Debug)]
pub(crate) struct News {
    news: watch::Receiver<()>,
    /// Else the channel would close when nobody has news.
    _wake: Wake,
}

/// What to wait after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// The far side's own word: not before, whatever the news.
    pub(crate) floor: Instant,
    /// Its end without news.
    pub(crate) until: Instant,
    /// This member's share of [`WINDOW`].
    pub(crate) share: Duration,
}

impl News {
    /// What is known until now is no news any more.
    pub(crate) fn forget(&mut self) {
        self.news.mark_unchanged();
    }

    /// Waits; news since [`News::forget`] cut it short.
    pub(crate) async fn wait(&mut self, pause: Pause) {
        tokio::select! {
            biased;
            () = sleep_until(pause.until) => return,
            _ = self.news.changed() => {}
        }
        let from = Instant::now().max(pause.floor);
        sleep_until(pause.until.min(from + pause.share)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{task::LocalSet, time::sleep};

    use super::*;
    use crate::retry::Retry;

    const FLEET: usize = 200;

    /// When the members of a fleet go on, in milliseconds: all wait 60 s, hear after 20 s that the far
    /// side is back, and were told not to come before `floor`.
    async fn fleet(floor: Duration) -> Vec<u64> {
        let begun = Instant::now();
        let mut retry = Retry::default();
        let mut pause = || Pause {
            floor: begun + floor,
            until: begun + Duration::from_secs(60),
            share: retry.share_of(WINDOW),
        };
        let wakes: Vec<Wake> = (0..FLEET).map(|_| Wake::default()).collect();
        let tasks = LocalSet::new();
        let waiting = wakes.iter().map(|wake| {
            let (mut news, pause) = (wake.news(), pause());
            tasks.spawn_local(async move {
                news.wait(pause).await;
                begun.elapsed().as_millis() as u64
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let work = async {
            sleep(Duration::from_secs(20)).await;
            wakes.iter().for_each(Wake::far_side_is_back);
            let mut times = Vec::new();
            for one in waiting {
                times.push(one.await.unwrap());
            }
            times
        };
        tasks.run_until(work).await
    }

    /// All lie in the window after `from_ms`, in no part of it much more than its share.
    fn check_spread(times: &[u64], from_ms: u64) {
        let window_ms = WINDOW.as_millis() as u64;
        let mut parts = [0_u32; 4];
        for time in times {
            assert!((from_ms..=from_ms + window_ms + 1).contains(time), "{time} after {from_ms}");
            parts[((time - from_ms) * 4 / (window_ms + 2)) as usize] += 1;
        }
        // an even draw gives 50 ± 6 in each quarter
        assert!(parts.iter().all(|part| (20..=80).contains(part)), "{parts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_hears_at_one_moment_spreads_over_the_window() {
        check_spread(&fleet(Duration::ZERO).await, 20_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_far_sides_word_is_a_floor_and_the_fleet_spreads_after_it() {
        check_spread(&fleet(Duration::from_secs(30)).await, 30_000);
    }

    #[tokio::test(start_paused = true)]
    async fn news_only_shorten() {
        let wake = Wake::default();
        let mut news = wake.news();
        let begun = Instant::now();
        let share = WINDOW / 2;
        let pause = |seconds| {
            let until = Instant::now() + Duration::from_secs(seconds);
            Pause { floor: begun, until, share }
        };
        wake.far_side_is_back();
        news.forget();
        news.wait(pause(60)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(60), "old news are none");
        wake.far_side_is_back();
        let begun = Instant::now();
        news.wait(pause(60)).await;
        assert_eq!(begun.elapsed(), share);
        wake.far_side_is_back();
        let begun = Instant::now();
        news.wait(pause(1)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1), "it would have ended sooner");
    }
}
