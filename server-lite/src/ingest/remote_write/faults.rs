//! What of a request can't be stored, in counts and in words.

use std::collections::BTreeMap;

/// Faults that are told in words; of more only the number is.
const TOLD_MAX: usize = 10;

/// Why something of a request can't be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Its labels make no series.
    Labels,
    /// The series has another value at that time.
    OtherValue,
    /// Its target has too many series.
    SeriesLimit,
    /// It is a native histogram.
    Histogram,
    /// It is an exemplar.
    Exemplar,
}

impl Fault {
    /// The word used for it in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::OtherValue => "other_value",
            Self::SeriesLimit => "series_limit",
            Self::Histogram => "histogram",
            Self::Exemplar => "exemplar",
        }
    }

    /// What is wrong with a sample of a series.
    pub(super) fn of_sample(self, series: &str, time_ms: i64) -> String {
        match self {
            Self::OtherValue => {
                format!("{series}: duplicate sample for timestamp {time_ms}: it has another value")
            }
            _ => format!(
                "{series}: its job and instance have more series than limits.series_per_agent"
            ),
        }
    }
}

/// What of a request can't be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    counts: BTreeMap<Fault, u64>,
    told: Vec<String>,
    untold: u64,
}

impl Faults {
    /// Adds so many samples, and in words what is wrong with them.
    pub(super) fn add(&mut self, fault: Fault, count: u64, words: impl FnOnce() -> String) {
        *self.counts.entry(fault).or_default() += count;
        if self.told.len() < TOLD_MAX { self.told.push(words()) } else { self.untold += 1 }
    }

    /// Counts what is passed over and no fault of the request.
    pub(super) fn pass_over(&mut self, fault: Fault, count: u64) {
        if count > 0 {
            *self.counts.entry(fault).or_default() += count;
        }
    }

    /// How much of what.
    pub fn counts(&self) -> impl Iterator<Item = (Fault, u64)> {
        self.counts.iter().map(|(fault, count)| (*fault, *count))
    }

    /// What to answer; `None` if all was stored.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let (first, rest) = self.told.split_first()?;
        let mut message = rest.iter().fold(first.clone(), |all, one| all + "; " + one);
        if self.untold > 0 {
            message += &format!("; and {} more", self.untold);
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_told() {
        let mut faults = Faults::default();
        faults.pass_over(Fault::Exemplar, 0);
        assert_eq!((faults.message(), faults.counts().count()), (None, 0));
        faults.pass_over(Fault::Exemplar, 3);
        assert_eq!(faults.message(), None, "no fault");
        for n in 0..12 {
            faults.add(Fault::OtherValue, 2, || format!("series {n}"));
        }
        let message = faults.message().unwrap();
        assert!(message.starts_with("series 0; series 1; "), "{message}");
        assert!(message.ends_with("; series 9; and 2 more"), "{message}");
        let counts: Vec<_> = faults.counts().collect();
        assert_eq!(counts, [(Fault::OtherValue, 24), (Fault::Exemplar, 3)]);
    }
}
