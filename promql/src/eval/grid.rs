//! The points in time at which an expression is evaluated.

/// Steps of equal length; one step is an instant query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start_ms: i64,
    /// More than zero.
    pub(crate) step_ms: i64,
    /// At least one in a query; a subquery may have none.
    pub(crate) steps: usize,
}

impl Grid {
    /// From a start up to an end, where a step falls on it.
    pub(crate) fn new(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        let steps = if end_ms < start_ms { 0 } else { (end_ms - start_ms) / step_ms + 1 };
        Self { start_ms, step_ms, steps: usize::try_from(steps).unwrap_or(usize::MAX) }
    }

    pub(crate) fn instant(time_ms: i64) -> Self {
        Self { start_ms: time_ms, step_ms: 1, steps: 1 }
    }

    /// Its first step alone.
    pub(crate) fn first(self) -> Self {
        Self { steps: 1, ..self }
    }

    pub(crate) fn time(self, step: usize) -> i64 {
        self.start_ms + i64::try_from(step).unwrap_or(i64::MAX) * self.step_ms
    }

    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.steps).map(move |step| self.time(step))
    }

    /// Between two steps; an instant has none.
    pub(crate) fn step_seconds(self) -> f64 {
        if self.steps > 1 { self.step_ms as f64 / 1000.0 } else { 0.0 }
    }

    /// The last step's time.
    pub(crate) fn end_ms(self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }
}
