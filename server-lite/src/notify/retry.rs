//! How long to wait before the next try: exponential backoff with jitter.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Shortest wait.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest wait that a receiver can ask for with `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(10 * 60);

/// The wait after the `attempt`-th failure in a row (from 1): anywhere, by `random` in 0..1, between
/// [`WAIT_MIN`] and a ceiling that doubles with each attempt up to [`WAIT_MAX`].
#[must_use]
pub fn wait(attempt: u32, random: f64) -> Duration {
    let factor = 2_u32.checked_pow(attempt).unwrap_or(u32::MAX);
    let ceiling = WAIT_MIN.saturating_mul(factor).min(WAIT_MAX);
    WAIT_MIN + (ceiling - WAIT_MIN).mul_f64(random.clamp(0.0, 1.0))
}

/// The longer of our own wait and the receiver's, which is not believed beyond
/// [`RETRY_AFTER_MAX`].
#[must_use]
pub fn respecting(wait: Duration, asked: Option<Duration>) -> Duration {
    wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))
}

/// A number in 0..1 that spreads tries of several notifiers and hubs; no good for secrets. Each
/// `RandomState` of the standard library has keys of its own.
#[must_use]
pub fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_are_spread() {
        let check = |attempt: u32, random: f64, expected_ms: u64| {
            assert_eq!(
                wait(attempt, random),
                Duration::from_millis(expected_ms),
                "{attempt} {random}"
            );
        };
        check(0, 1.0, 1_000);
        check(1, 0.0, 1_000);
        check(1, 0.5, 1_500);
        check(1, 1.0, 2_000);
        check(2, 1.0, 4_000);
        check(5, 1.0, 32_000);
        check(6, 1.0, 60_000);
        check(6, 0.5, 30_500);
        check(u32::MAX, 1.0, 60_000);
        check(u32::MAX, 0.0, 1_000);
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_ever() {
        let check = |wait_s: u64, asked_s: Option<u64>, expected_s: u64| {
            let asked = asked_s.map(Duration::from_secs);
            let expected = Duration::from_secs(expected_s);
            assert_eq!(respecting(Duration::from_secs(wait_s), asked), expected);
        };
        check(5, None, 5);
        check(5, Some(2), 5);
        check(5, Some(30), 30);
        check(5, Some(86_400), 600);
    }

    #[test]
    fn random_numbers_differ_and_stay_in_bounds() {
        let numbers: Vec<_> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(numbers.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
