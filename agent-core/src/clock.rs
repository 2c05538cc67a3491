//! The only place that asks what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// A longer look at several clocks is taken again: what lies between the first and the last of them
/// would pass for a clock that was set.
const LOOK_MS_MAX: i64 = 20;
/// So often, on a host so busy that no look is short.
const LOOKS_MAX: u32 = 5;

/// A wall clock, and what it is held against. Injected, so that tests can turn it.
pub trait Clock {
    /// Unix milliseconds.
    fn now_ms(&self) -> i64;

    /// This moment by every clock there is. Unless said otherwise, of a host that never sleeps and
    /// whose clock nobody sets.
    fn moment(&self) -> Moment {
        let now_ms = self.now_ms();
        Moment { wall_ms: now_ms, boot_ms: now_ms, awake_ms: now_ms }
    }
}

/// One moment by three clocks. All three run at one rate, that of the kernel's time, which may be
/// slewed: only being set and sleeping brings them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Unix milliseconds by the wall clock, which anybody may set.
    pub wall_ms: i64,
    /// Milliseconds since the host came up (`CLOCK_BOOTTIME`): nobody sets it, and it goes on while the
    /// host sleeps.
    pub boot_ms: i64,
    /// Milliseconds of these that the host was awake (`CLOCK_MONOTONIC`).
    pub awake_ms: i64,
}

impl Moment {
    /// Unix milliseconds when the host came up, by what the wall clock says now.
    #[must_use]
    pub const fn booted_ms(&self) -> i64 {
        self.wall_ms.saturating_sub(self.boot_ms)
    }
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        unix_ms(SystemTime::now())
    }

    fn moment(&self) -> Moment {
        let mut looks = 0;
        loop {
            let boot_ms = kernel_ms(ClockId::CLOCK_BOOTTIME);
            let (wall_ms, awake_ms) = (self.now_ms(), kernel_ms(ClockId::CLOCK_MONOTONIC));
            let took_ms = kernel_ms(ClockId::CLOCK_BOOTTIME) - boot_ms;
            looks += 1;
            if took_ms <= LOOK_MS_MAX || looks == LOOKS_MAX {
                return Moment { wall_ms, boot_ms, awake_ms };
            }
        }
    }
}

/// Every kernel since 2.6.39 has these clocks. Without them nothing is held against the wall clock.
fn kernel_ms(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| millis(time.into()))
}

/// A time as Unix milliseconds.
#[must_use]
pub fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// A span as whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_clocks_go_on_together() {
        let (before, after) = (SystemClock.moment(), SystemClock.moment());
        assert!(before.boot_ms > 0 && before.awake_ms > 0, "{before:?}");
        assert!(before.boot_ms + LOOK_MS_MAX >= before.awake_ms, "sleep counts: {before:?}");
        assert!(after.boot_ms >= before.boot_ms && after.awake_ms >= before.awake_ms);
        assert!(before.booted_ms() > 0 && before.booted_ms() < before.wall_ms, "{before:?}");
    }
}
