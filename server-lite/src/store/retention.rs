//! How long what is kept.

use std::time::Duration;

use super::rollup::Level;

/// How long samples are kept as they came, and what they come to in spans of each length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Samples as they came, lines of the gap ledger, checksums of records.
    pub raw: Duration,
    /// Rollups, by [`Level::ALL`]. None shorter than that of the level before.
    pub rollups: [Duration; Level::ALL.len()],
}

impl Retention {
    /// The same for everything.
    #[must_use]
    pub const fn all(keep: Duration) -> Self {
        Self { raw: keep, rollups: [keep; Level::ALL.len()] }
    }

    /// Samples older than this go.
    #[must_use]
    pub fn raw_before_ms(&self, now_ms: i64) -> i64 {
        before(now_ms, self.raw)
    }

    /// Rollups of this level go that are older than this.
    #[must_use]
    pub fn rollups_before_ms(&self, level: Level, now_ms: i64) -> i64 {
        let keep = Level::ALL.iter().zip(self.rollups).find(|(one, _)| **one == level);
        before(now_ms, keep.map_or(self.raw, |(_, keep)| keep))
    }

    /// Of what is older than this there is nothing at all.
    #[must_use]
    pub fn all_before_ms(&self, now_ms: i64) -> i64 {
        let longest = self.rollups.iter().copied().fold(self.raw, Duration::max);
        before(now_ms, longest)
    }
}

fn before(now_ms: i64, keep: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_has_its_own() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let keep = Retention { raw: days(5), rollups: [days(2), days(3), days(4), days(9)] };
        let day_ms = 86_400_000;
        assert_eq!(keep.raw_before_ms(5 * day_ms + 1), 1);
        assert_eq!(keep.all_before_ms(9 * day_ms), 0);
        let found = Level::ALL.map(|level| keep.rollups_before_ms(level, 10 * day_ms) / day_ms);
        assert_eq!(found, [8, 7, 6, 1]);
        assert_eq!(Retention::all(Duration::MAX).raw_before_ms(0), -i64::MAX);
    }
}
