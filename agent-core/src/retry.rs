//! How long to wait before trying again. The only module that names `backoff`.
//!
//! Exponential with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015): the
//! wait is drawn evenly between nothing and a ceiling that doubles from [`FIRST`] to [`LONGEST`], so
//! that a fleet which lost its hub at one moment doesn't come back at one moment.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff as _};

/// Ceiling of the first wait.
pub const FIRST: Duration = Duration::from_secs(1);
/// Ceiling of every later wait.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A row of waits; it never ends.
#[derive(Debug)]
pub struct Retry {
    inner: ExponentialBackoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self::between(FIRST, LONGEST)
    }
}

impl Retry {
    /// Waits with ceilings from `first` to `longest`.
    #[must_use]
    pub fn between(first: Duration, longest: Duration) -> Self {
        // The crate draws from interval × (1 ± factor): with half the ceiling and a factor of one,
        // that is 0 to the ceiling.
        let inner = ExponentialBackoff {
            current_interval: first / 2,
            initial_interval: first / 2,
            randomization_factor: 1.0,
            multiplier: 2.0,
            max_interval: longest / 2,
            // The default gives up after 15 minutes.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { inner }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.inner.max_interval * 2;
        self.inner.next_backoff().unwrap_or(ceiling).min(ceiling)
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_doubling_ceilings_and_never_end() {
        let mut retry = Retry::default();
        for round in 0..100_u32 {
            let ceiling = FIRST.saturating_mul(1 << round.min(6)).min(LONGEST);
            let wait = retry.next_wait();
            assert!(wait <= ceiling, "round {round}: {wait:?} > {ceiling:?}");
        }
        retry.reset();
        assert!(retry.next_wait() <= FIRST);
    }

    #[test]
    fn jitter_is_full() {
        let mut low = 0;
        for _ in 0..1_000 {
            let wait = Retry::between(LONGEST, LONGEST).next_wait();
            low += u32::from(wait < LONGEST / 2);
        }
        // an even draw gives 500 ± 16; half jitter would give 0
        assert!((350..650).contains(&low), "{low} of 1000 below half the ceiling");
    }
}
