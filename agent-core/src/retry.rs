//! How long to wait before trying again. The only module that names `backoff`.
//!
//! Exponential with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015): the
//! wait is drawn evenly between nothing and a ceiling that doubles from [`FIRST`] to [`LONGEST`], so
//! that a fleet which lost its hub at one moment doesn't come back at one moment.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use backoff::{ExponentialBackoff, backoff::Backoff as _};

/// Ceiling of the first wait.
pub const FIRST: Duration = Duration::from_secs(1);
/// Ceiling of every later wait.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A row of waits; it never ends.
pub struct Retry {
    /// Gives the ceilings.
    inner: ExponentialBackoff,
    draw: Box<dyn FnMut() -> f64>,
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
        let inner = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            // We draw ourselves.
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: longest,
            // The default gives up after 15 minutes.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { inner, draw: Box::new(random) }
    }

    /// Draws waits with `draw`, which gives numbers in 0..1, evenly: so that a simulation can be
    /// repeated.
    #[must_use]
    pub fn drawn_by(self, draw: impl FnMut() -> f64 + 'static) -> Self {
        Self { draw: Box::new(draw), ..self }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let longest = self.inner.max_interval;
        let ceiling = self.inner.next_backoff().unwrap_or(longest).min(longest);
        self.share_of(ceiling)
    }

    /// A random share of a time, drawn evenly.
    pub fn share_of(&mut self, time: Duration) -> Duration {
        time.mul_f64((self.draw)().clamp(0.0, 1.0))
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// A number in 0..1 that keeps a fleet apart; no good for secrets. Each `RandomState` of the standard
/// library has keys of its own.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
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
    fn what_is_drawn_decides() {
        let check = |drawn: f64, expected: [u64; 4]| {
            let mut retry = Retry::default().drawn_by(move || drawn);
            let found = expected.map(|_| retry.next_wait().as_secs());
            assert_eq!(found, expected, "{drawn}");
        };
        check(0.0, [0, 0, 0, 0]);
        check(1.0, [1, 2, 4, 8]);
        check(0.5, [0, 1, 2, 4]);
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
