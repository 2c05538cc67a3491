//! When to tick: at whole multiples of the interval by the wall clock, so that all hosts tick at one
//! time and a record's time is the same on each.
//!
//! Waiting is done by the monotonic clock and checked against the wall clock, which can be set in the
//! meantime. A clock set back is followed: the same times come again, and that is what the records
//! say. So is one set forward, or a host that slept. Both are noticed and told with the next tick:
//! see [`Due`]. Steps smaller than [`JUMP_MS_MIN`] are nothing, and make no time come twice.

use std::{rc::Rc, time::Duration};

use tokio::time::sleep;

use crate::clock::{Clock, Moment, millis};

/// A wall clock that moved against the clocks nobody sets by this or more, from one tick to the next,
/// was set. Time servers slew all clocks alike, so what they correct that way doesn't show; what they
/// step (timesyncd from 0.4 s on, ntpd from 0.128 s on) shows when it could move a tick.
pub const JUMP_MS_MIN: i64 = 500;

/// A tick that is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Unix milliseconds, a whole multiple of the interval.
    pub time_ms: i64,
    /// The moment it is taken.
    pub moment: Moment,
    /// Ticks that fell out since the last one, because it took too long.
    pub missed: u64,
    /// The host slept since the last tick, and ticks fell out.
    pub asleep: Option<Asleep>,
    /// The wall clock was set since the last tick.
    pub jump: Option<Jump>,
}

/// A host that was suspended while it was time to tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asleep {
    /// The last tick before.
    pub from_ms: i64,
    /// The first tick after, by a clock that nobody set.
    pub to_ms: i64,
    /// How long it slept in between.
    pub asleep_ms: i64,
}

/// A wall clock that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// What it would have said.
    pub expected_ms: i64,
    /// What it said.
    pub found_ms: i64,
}

/// A tick that was taken: what the next one is held against.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    interval_ms: i64,
    time_ms: i64,
    moment: Moment,
}

/// Says when to tick.
pub struct Ticker {
    clock: Rc<dyn Clock>,
    interval_ms: i64,
    last: Option<Mark>,
}

impl Ticker {
    /// Ticks every `interval` by `clock`.
    pub fn new(clock: Rc<dyn Clock>, interval: Duration) -> Self {
        Self { clock, interval_ms: millis(interval).max(1), last: None }
    }

    /// Goes on after another ticker's last tick: what fell out since then is missed, unless the
    /// interval is another.
    #[must_use]
    pub fn after(mut self, last: Option<Mark>) -> Self {
        self.last = last;
        self
    }

    /// The last tick that was due.
    #[must_use]
    pub const fn last(&self) -> Option<Mark> {
        self.last
    }

    /// Waits for the next tick. Safe to drop and call again.
    pub async fn wait(&mut self) -> Due {
        let begun = self.clock.moment();
        let mut target_ms = self.next(begun);
        loop {
            let now = self.clock.moment();
            if target_ms - now.wall_ms > self.interval_ms {
                // set back while we waited
                target_ms = self.next(now);
            }
            let left_ms = target_ms - now.wall_ms;
            if left_ms <= 0 {
                return self.due(begun, now);
            }
            sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
        }
    }

    /// When the tick after `now` is due: after a step back that is too small to be told not at a time
    /// that was ticked already.
    fn next(&self, now: Moment) -> i64 {
        let next_ms = self.floor(now.wall_ms) + self.interval_ms;
        match &self.last {
            Some(last) if jump(last.moment, now).is_none() => {
                next_ms.max(self.floor(last.time_ms) + self.interval_ms)
            }
            _ => next_ms,
        }
    }

    fn due(&mut self, begun: Moment, now: Moment) -> Due {
        let (time_ms, moment) = (self.floor(now.wall_ms), now);
        let mark = Mark { interval_ms: self.interval_ms, time_ms, moment };
        let Some(last) = self.last.replace(mark) else {
            return Due { time_ms, moment, missed: 0, asleep: None, jump: None };
        };
        let jump = jump(last.moment, now);
        let asleep = self.asleep(&last, now);
        let missed = if last.interval_ms != self.interval_ms {
            0
        } else if jump.is_some() || asleep.is_some() {
            // The wall clock doesn't say; how long the last tick took does.
            (begun.awake_ms - last.moment.awake_ms) / self.interval_ms
        } else {
            (time_ms - last.time_ms) / self.interval_ms - 1
        };
        Due { time_ms, moment, missed: u64::try_from(missed).unwrap_or(0), asleep, jump }
    }

    fn asleep(&self, last: &Mark, now: Moment) -> Option<Asleep> {
        let passed_ms = now.boot_ms - last.moment.boot_ms;
        let asleep_ms = passed_ms - (now.awake_ms - last.moment.awake_ms);
        let (from_ms, to_ms) = (last.time_ms, self.floor(last.moment.wall_ms + passed_ms));
        // In less than an interval of sleep no tick falls out: the wait only ends later.
        let interval_ms = self.interval_ms.max(last.interval_ms);
        let fell_out = asleep_ms >= interval_ms && to_ms - from_ms >= 2 * interval_ms;
        fell_out.then_some(Asleep { from_ms, to_ms, asleep_ms })
    }

    fn floor(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.interval_ms) * self.interval_ms
    }
}

/// Whether the wall clock was set between two moments.
fn jump(last: Moment, now: Moment) -> Option<Jump> {
    let expected_ms = last.wall_ms + (now.boot_ms - last.boot_ms);
    let found_ms = now.wall_ms;
    (found_ms.abs_diff(expected_ms) >= JUMP_MS_MIN.unsigned_abs())
        .then_some(Jump { expected_ms, found_ms })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, advance};

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// Tokio's paused time as a host's clocks, which can be set and put to sleep.
    struct TestClock {
        started: Instant,
        set_ms: Cell<i64>,
        slept_ms: Cell<i64>,
    }

    impl TestClock {
        fn set(&self, by_ms: i64) {
            self.set_ms.set(self.set_ms.get() + by_ms);
        }

        fn sleep(&self, for_ms: i64) {
            self.slept_ms.set(self.slept_ms.get() + for_ms);
        }
    }

    impl Clock for TestClock {
        fn now_ms(&self) -> i64 {
            self.moment().wall_ms
        }

        fn moment(&self) -> Moment {
            let awake_ms = millis(self.started.elapsed());
            let boot_ms = awake_ms + self.slept_ms.get();
            Moment { wall_ms: boot_ms + self.set_ms.get(), boot_ms, awake_ms }
        }
    }

    fn ticker(now_ms: i64) -> (Rc<TestClock>, Ticker) {
        let (set_ms, slept_ms) = (Cell::new(now_ms), Cell::new(0));
        let clock = Rc::new(TestClock { started: Instant::now(), set_ms, slept_ms });
        (Rc::clone(&clock), Ticker::new(clock, Duration::from_secs(10)))
    }

    /// Time, ticks missed, sleep (from, to, for), jump (expected, found).
    type Seen = (i64, u64, Option<(i64, i64, i64)>, Option<(i64, i64)>);

    async fn check(ticker: &mut Ticker, expected: Seen) {
        let Due { time_ms, missed, asleep, jump, .. } = ticker.wait().await;
        let asleep = asleep.map(|asleep| (asleep.from_ms, asleep.to_ms, asleep.asleep_ms));
        let jump = jump.map(|jump| (jump.expected_ms, jump.found_ms));
        assert_eq!((time_ms, missed, asleep, jump), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_fall_on_whole_intervals() {
        let (_, mut ticker) = ticker(1_234);
        for time_ms in [10_000, 20_000, 30_000] {
            check(&mut ticker, (time_ms, 0, None, None)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_tick_skips_the_ones_it_covers() {
        let (_, mut ticker) = ticker(0);
        check(&mut ticker, (10_000, 0, None, None)).await;
        advance(Duration::from_secs(25)).await;
        check(&mut ticker, (40_000, 2, None, None)).await;
        check(&mut ticker, (50_000, 0, None, None)).await;
        // However long it was held up: the clocks say that it was awake.
        advance(Duration::from_secs(3_600)).await;
        check(&mut ticker, (3_660_000, 360, None, None)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_is_followed_and_told() {
        let (clock, mut ticker) = ticker(100_000);
        check(&mut ticker, (110_000, 0, None, None)).await;
        clock.set(-65_000);
        check(&mut ticker, (50_000, 0, None, Some((115_000, 50_000)))).await;
        check(&mut ticker, (60_000, 0, None, None)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_while_waiting_is_followed_and_told() {
        for (by_ms, time_ms, expected_ms) in
            [(86_400_000, 86_520_000, 120_000), (-86_400_000, -86_270_000, 130_000)]
        {
            let (clock, mut ticker) = ticker(100_000);
            check(&mut ticker, (110_000, 0, None, None)).await;
            let set = async {
                sleep(Duration::from_secs(3)).await;
                clock.set(by_ms);
            };
            let jump = Some((expected_ms, time_ms));
            tokio::join!(check(&mut ticker, (time_ms, 0, None, jump)), set);
            check(&mut ticker, (time_ms + 10_000, 0, None, None)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_missed_are_counted_by_a_clock_that_was_not_set() {
        let (clock, mut ticker) = ticker(0);
        check(&mut ticker, (10_000, 0, None, None)).await;
        advance(Duration::from_secs(25)).await;
        clock.set(HOUR_MS);
        check(&mut ticker, (3_640_000, 2, None, Some((40_000, 3_640_000)))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_step_is_nothing_and_repeats_no_time() {
        let (clock, mut ticker) = ticker(0);
        check(&mut ticker, (10_000, 0, None, None)).await;
        clock.set(-400);
        check(&mut ticker, (20_000, 0, None, None)).await;
        clock.set(499);
        check(&mut ticker, (30_000, 0, None, None)).await;
        clock.set(-500);
        check(&mut ticker, (30_000, 0, None, Some((30_500, 30_000)))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_slept_missed_nothing_and_is_told() {
        let (clock, mut ticker) = ticker(0);
        check(&mut ticker, (10_000, 0, None, None)).await;
        clock.sleep(HOUR_MS);
        check(&mut ticker, (3_620_000, 0, Some((10_000, 3_620_000, HOUR_MS)), None)).await;
        clock.sleep(HOUR_MS);
        clock.set(-2 * HOUR_MS);
        let asleep = Some((3_620_000, 7_230_000, HOUR_MS));
        check(&mut ticker, (30_000, 0, asleep, Some((7_230_000, 30_000)))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_nap_between_two_ticks_is_nothing() {
        let (clock, mut ticker) = ticker(0);
        check(&mut ticker, (10_000, 0, None, None)).await;
        let nap = async {
            sleep(Duration::from_secs(2)).await;
            clock.sleep(5_000);
        };
        // The wait is the kernel's, which stands still meanwhile: the tick is late, none fell out.
        tokio::join!(check(&mut ticker, (20_000, 0, None, None)), nap);
    }

    #[tokio::test(start_paused = true)]
    async fn another_ticker_goes_on_where_one_was() {
        let (clock, mut first) = ticker(0);
        check(&mut first, (10_000, 0, None, None)).await;
        advance(Duration::from_secs(25)).await;
        clock.set(HOUR_MS);
        let then = |interval| {
            let clock = Rc::clone(&clock);
            Ticker::new(clock, Duration::from_secs(interval)).after(first.last())
        };
        check(&mut then(10), (3_640_000, 2, None, Some((40_000, 3_640_000)))).await;
        let jump = Some((60_000, 3_660_000));
        check(&mut then(60), (3_660_000, 0, None, jump)).await;
    }
}
