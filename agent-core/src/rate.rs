//! How many bytes may go in a second: a token bucket by tokio's clock.
//!
//! It holds what may go in [`BURST`]. It can be overdrawn: while it isn't, whoever comes takes what it
//! needs, so that even a record larger than the bucket goes; the next one waits until that is made up
//! for. Kept as the moment at which it is (the generic cell rate algorithm, ITU-T I.371): nothing has
//! to be filled.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What may go at once after a rest is what goes in this time.
pub const BURST: Duration = Duration::from_secs(1);

/// Bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    bytes_per_second: u64,
    /// When it is overdrawn no more. Behind now by what may go at once.
    ready_at: Instant,
}

impl Bucket {
    /// A full one, of at least a byte a second.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), ready_at: full() }
    }

    /// Takes bytes, ready or not.
    pub fn take(&mut self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = self.ready_at.max(full());
        self.ready_at = from.checked_add(time).unwrap_or(from);
    }

    /// Waits until it isn't overdrawn.
    pub async fn ready(&self) {
        if self.ready_at > Instant::now() {
            sleep_until(self.ready_at).await;
        }
    }
}

/// What a full bucket is ready at; a host that has just started may not have so much past.
fn full() -> Instant {
    let now = Instant::now();
    now.checked_sub(BURST).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Milliseconds after which each of these goes, one after the other, at 1 000 bytes a second.
    async fn check(bytes: &[u64], expected_ms: &[u128]) {
        let mut bucket = Bucket::new(1_000);
        let begun = Instant::now();
        let mut found_ms = Vec::new();
        for bytes in bytes {
            bucket.ready().await;
            found_ms.push(begun.elapsed().as_millis());
            bucket.take(*bytes);
        }
        assert_eq!(found_ms, expected_ms, "{bytes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate() {
        check(&[500, 500, 500, 500, 500], &[0, 0, 0, 500, 1_000]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_the_bucket_goes_and_is_made_up_for() {
        check(&[10_000, 1, 1_000, 1], &[0, 9_000, 9_001, 10_001]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_fills_it_but_no_fuller_than_full() {
        let mut bucket = Bucket::new(1_000);
        bucket.take(2_000);
        advance(Duration::from_secs(3_600)).await;
        let begun = Instant::now();
        bucket.ready().await;
        bucket.take(1_000);
        bucket.ready().await;
        bucket.take(1_000);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        bucket.ready().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_overflows() {
        let mut bucket = Bucket::new(0);
        bucket.take(u64::MAX);
        bucket.take(u64::MAX);
        assert!(bucket.ready_at > Instant::now() + Duration::from_secs(1 << 32));
    }
}
