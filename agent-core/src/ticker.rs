//! When to tick: at whole multiples of the interval by the wall clock, so that all hosts tick at one
//! time and a record's time is the same on each.
//!
//! Waiting is done by the monotonic clock and checked against the wall clock, which can be set in the
//! meantime. A clock set back is followed: the same times come again, and that is what the records
//! say. So is one set forward, or a host that slept.

use std::{rc::Rc, time::Duration};

use tokio::time::sleep;

use crate::clock::{Clock, millis};

/// More ticks missed at once than this are a clock that jumped or a host that slept, not ticks that
/// took too long.
pub const MISSED_TICKS_MAX: u64 = 60;

/// A tick that is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Unix milliseconds, a whole multiple of the interval.
    pub time_ms: i64,
    /// Ticks that fell out since the last one, because it took too long.
    pub missed: u64,
}

/// Says when to tick.
pub struct Ticker {
    clock: Rc<dyn Clock>,
    interval_ms: i64,
    last_ms: Option<i64>,
}

impl Ticker {
    /// Ticks every `interval` by `clock`.
    pub fn new(clock: Rc<dyn Clock>, interval: Duration) -> Self {
        Self { clock, interval_ms: millis(interval).max(1), last_ms: None }
    }

    /// Goes on after a tick at `last_ms`: ticks that fell out since then are missed.
    #[must_use]
    pub fn after(mut self, last_ms: Option<i64>) -> Self {
        self.last_ms = last_ms;
        self
    }

    /// Waits for the next tick. Safe to drop and call again.
    pub async fn wait(&mut self) -> Due {
        let mut target_ms = self.floor(self.clock.now_ms()) + self.interval_ms;
        loop {
            let now_ms = self.clock.now_ms();
            let left_ms = target_ms - now_ms;
            if left_ms <= 0 {
                return self.due(self.floor(now_ms));
            }
            if left_ms > self.interval_ms {
                // set back while we waited
                target_ms = self.floor(now_ms) + self.interval_ms;
                continue;
            }
            sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
        }
    }

    fn due(&mut self, time_ms: i64) -> Due {
        let passed = self.last_ms.map_or(0, |last_ms| (time_ms - last_ms) / self.interval_ms - 1);
        let missed = u64::try_from(passed).unwrap_or(0);
        self.last_ms = Some(time_ms);
        Due { time_ms, missed: if missed > MISSED_TICKS_MAX { 0 } else { missed } }
    }

    fn floor(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.interval_ms) * self.interval_ms
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, advance};

    use super::*;

    /// A wall clock on Tokio's paused time, which can be set.
    struct TestClock {
        started: Instant,
        offset_ms: Cell<i64>,
    }

    impl Clock for TestClock {
        fn now_ms(&self) -> i64 {
            millis(self.started.elapsed()) + self.offset_ms.get()
        }
    }

    fn ticker(now_ms: i64) -> (Rc<TestClock>, Ticker) {
        let clock = Rc::new(TestClock { started: Instant::now(), offset_ms: Cell::new(now_ms) });
        (Rc::clone(&clock), Ticker::new(clock, Duration::from_secs(10)))
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_fall_on_whole_intervals() {
        let (_, mut ticker) = ticker(1_234);
        for time_ms in [10_000, 20_000, 30_000] {
            assert_eq!(ticker.wait().await, Due { time_ms, missed: 0 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_tick_skips_the_ones_it_covers() {
        let (_, mut ticker) = ticker(0);
        assert_eq!(ticker.wait().await.time_ms, 10_000);
        advance(Duration::from_secs(25)).await;
        assert_eq!(ticker.wait().await, Due { time_ms: 40_000, missed: 2 });
        assert_eq!(ticker.wait().await, Due { time_ms: 50_000, missed: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_is_followed() {
        let (clock, mut ticker) = ticker(100_000);
        assert_eq!(ticker.wait().await.time_ms, 110_000);
        clock.offset_ms.set(clock.offset_ms.get() - 65_000);
        assert_eq!(ticker.wait().await, Due { time_ms: 50_000, missed: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_while_waiting_is_followed() {
        let (clock, mut ticker) = ticker(100_000);
        let set = async {
            sleep(Duration::from_secs(3)).await;
            clock.offset_ms.set(86_400_000);
        };
        let (due, ()) = tokio::join!(ticker.wait(), set);
        assert_eq!(due, Due { time_ms: 86_410_000, missed: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_asleep_is_not_a_day_of_missed_ticks() {
        let (clock, mut ticker) = ticker(0);
        ticker.wait().await;
        clock.offset_ms.set(86_400_000);
        assert_eq!(ticker.wait().await.missed, 0);
    }
}
