//! What one query may use. Each bound is enforced while the query runs, before the memory is taken.

use std::cell::Cell;

use crate::error::{Error, Result};

/// Bounds of one query.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Samples read from the source and values held in results, added up over the query.
    pub samples_max: usize,
    /// Series that one selector may select.
    pub series_max: usize,
    /// Points in time of a range query or a subquery.
    pub steps_max: usize,
}

impl Default for Limits {
    /// Prometheus's own default for samples, and its 11 000 points a series.
    fn default() -> Self {
        Self { samples_max: 50_000_000, series_max: 100_000, steps_max: 11_000 }
    }
}

/// Asked again and again while a query runs; [`Error::Timeout`] or [`Error::Canceled`] end it.
///
/// The engine has no clock of its own.
pub type Interrupt<'a> = dyn Fn() -> Result<(), Error> + 'a;

/// Counts what a running query uses.
pub(crate) struct Budget<'a> {
    limits: Limits,
    interrupt: &'a Interrupt<'a>,
    samples: Cell<usize>,
    unchecked: Cell<usize>,
}

/// How many samples may go by until the interrupt is asked again.
const CHECK_EVERY_SAMPLES: usize = 4096;

impl<'a> Budget<'a> {
    pub(crate) fn new(limits: Limits, interrupt: &'a Interrupt<'a>) -> Self {
        Self { limits, interrupt, samples: Cell::new(0), unchecked: Cell::new(usize::MAX) }
    }

    /// Takes note of samples read or values about to be held.
    pub(crate) fn take(&self, samples: usize) -> Result<()> {
        let all = self.samples.get().saturating_add(samples);
        self.samples.set(all);
        if all > self.limits.samples_max {
            let message =
                "query processing would load too many samples into memory in query execution";
            return Err(Error::TooLarge(message.to_owned()));
        }
        self.work(samples)
    }

    /// Takes note of work without memory; now and then asks whether to go on.
    pub(crate) fn work(&self, samples: usize) -> Result<()> {
        let unchecked = self.unchecked.get().saturating_add(samples.max(1));
        if unchecked < CHECK_EVERY_SAMPLES {
            self.unchecked.set(unchecked);
            return Ok(());
        }
        self.unchecked.set(0);
        (self.interrupt)()
    }

    /// Whether one selector may have so many series.
    pub(crate) fn series(&self, series: usize) -> Result<()> {
        let max = self.limits.series_max;
        if series <= max {
            return Ok(());
        }
        let message = format!("query selects too many series: more than {max} for one selector");
        Err(Error::TooLarge(message))
    }

    /// Whether a query or subquery may have so many steps.
    pub(crate) fn steps(&self, steps: usize) -> Result<()> {
        let max = self.limits.steps_max;
        if steps <= max {
            return Ok(());
        }
        let message = format!(
            "exceeded maximum resolution of {max} points per timeseries. \
             Try decreasing the query resolution (?step=XX)"
        );
        Err(Error::TooLarge(message))
    }
}
