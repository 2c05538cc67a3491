//! What samples come to in spans of time: one format for every store, without any I/O.
//!
//! A [`Rollup`] is what the samples of one series in one span amount to. Two of neighbouring spans
//! [`join`](Rollup::join) into that of both, so an hour's is made of its minutes', and what lies between two
//! samples in different spans isn't lost: an increase across the border is known from the last value of the
//! one and the first of the other. That makes a rate over rollups the rate over the samples, resets
//! included.
//!
//! Spans are closed at their end: `(end − length, end]`, ends are multiples of the length. A sample of
//! 12:00:00 so belongs to the minute that ends there, and what holds at 12:00:00 is known from spans that
//! have ended by then, as PromQL asks for it.

pub(crate) mod kept;

use std::{collections::VecDeque, mem};

use super::{ReadRequest, Samples, SeriesId, StoreError};

/// Lengths of spans that stores keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// 1 minute.
    Minute,
    /// 10 minutes.
    TenMinutes,
    /// 1 hour.
    Hour,
    /// 1 day of UTC.
    Day,
}

impl Level {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Minute, Self::TenMinutes, Self::Hour, Self::Day];

    /// Length of a span, in milliseconds.
    #[must_use]
    pub const fn ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::TenMinutes => 600_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// End of the span that a time lies in.
    #[must_use]
    pub const fn end_of(self, time_ms: i64) -> i64 {
        let past = time_ms.rem_euclid(self.ms());
        if past == 0 { time_ms } else { time_ms.saturating_add(self.ms() - past) }
    }

    /// The name used in configuration, tables and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::TenMinutes => "10m",
            Self::Hour => "1h",
            Self::Day => "1d",
        }
    }
}

/// What the samples of a series in a span come to. Markers of a series' end count only as
/// [`Rollup::is_ended`]; a NaN that is a value is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollup {
    /// The least; NaN only if all are.
    pub min: f64,
    /// The greatest; NaN only if all are.
    pub max: f64,
    /// Their sum.
    pub sum: f64,
    /// How many; 0 if there is nothing but the marker of an end.
    pub count: u64,
    /// The first.
    pub first: f64,
    /// Time of the first, Unix milliseconds.
    pub first_ms: i64,
    /// The last.
    pub last: f64,
    /// Time of the last, Unix milliseconds.
    pub last_ms: i64,
    /// How much a counter has grown from the first to the last: a value less than the one before it means
    /// that it began at nothing again.
    pub increase: f64,
    /// Whether the series ended in this span, after its last sample.
    pub is_ended: bool,
}

impl Rollup {
    /// That of one sample.
    #[must_use]
    pub fn of(time_ms: i64, value: f64) -> Self {
        let is_ended = promql::is_stale(value);
        Self {
            min: value,
            max: value,
            sum: if is_ended { 0.0 } else { value },
            count: u64::from(!is_ended),
            first: value,
            first_ms: time_ms,
            last: value,
            last_ms: time_ms,
            increase: 0.0,
            is_ended,
        }
    }

    /// That of this span and a later one together.
    #[must_use]
    pub fn join(self, later: Self) -> Self {
        if later.count == 0 {
            return Self { is_ended: later.is_ended, ..self };
        }
        if self.count == 0 {
            return later;
        }
        Self {
            // These take the number where one is none.
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            sum: self.sum + later.sum,
            count: self.count + later.count,
            increase: self.increase + growth(self.last, later.first) + later.increase,
            first: self.first,
            first_ms: self.first_ms,
            ..later
        }
    }

    /// That of two parts of one span, of which neither need be the earlier. Where one ends before the
    /// other begins, it is what [`join`](Rollup::join) gives. Where they lie between each other,
    /// [`increase`](Rollup::increase) knows only of resets that the part shows which begins first, and of
    /// one at its end; a time that both have counts twice. All else is exact.
    #[must_use]
    pub fn together(self, other: Self) -> Self {
        let (a, b) = if other.first_ms < self.first_ms { (other, self) } else { (self, other) };
        if a.count == 0 || b.count == 0 || a.last_ms < b.first_ms {
            let is_apart = a.last_ms < b.first_ms;
            let is_ended = b.is_ended || (a.is_ended && !is_apart);
            return if b.count == 0 {
                Self { is_ended, ..a }
            } else {
                Self { is_ended, ..a.join(b) }
            };
        }
        let latest = if b.last_ms >= a.last_ms { b } else { a };
        let behind = if b.last_ms > a.last_ms { growth(a.last, b.last) } else { 0.0 };
        Self {
            min: a.min.min(b.min),
            max: a.max.max(b.max),
            sum: a.sum + b.sum,
            count: a.count + b.count,
            increase: a.increase + behind,
            first: a.first,
            first_ms: a.first_ms,
            ..latest
        }
    }
}

/// How much a counter has grown between two neighbouring samples.
fn growth(before: f64, after: f64) -> f64 {
    if after < before { after } else { after - before }
}

/// Folds the samples of one series, in order of time.
#[derive(Clone, Debug)]
pub struct Folding {
    level: Level,
    open: Option<(i64, Rollup)>,
}

impl Folding {
    /// Nothing yet.
    #[must_use]
    pub const fn new(level: Level) -> Self {
        Self { level, open: None }
    }

    /// Takes the next sample; gives the end and rollup of a span that it closes.
    pub fn push(&mut self, time_ms: i64, value: f64) -> Option<(i64, Rollup)> {
        let (end_ms, one) = (self.level.end_of(time_ms), Rollup::of(time_ms, value));
        match &mut self.open {
            Some((open_ms, rollup)) if *open_ms == end_ms => {
                *rollup = rollup.join(one);
                None
            }
            open => open.replace((end_ms, one)),
        }
    }

    /// Takes the next rollup, of a shorter level; gives the span that it closes.
    pub fn push_rollup(&mut self, end_ms: i64, one: Rollup) -> Option<(i64, Rollup)> {
        let end_ms = self.level.end_of(end_ms);
        match &mut self.open {
            Some((open_ms, rollup)) if *open_ms == end_ms => {
                *rollup = rollup.join(one);
                None
            }
            open => open.replace((end_ms, one)),
        }
    }

    /// The span that is still open.
    pub const fn finish(&mut self) -> Option<(i64, Rollup)> {
        self.open.take()
    }
}

/// Which rollups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupRequest {
    /// Of which series; an unknown one has none.
    pub series: Vec<SeriesId>,
    /// Of which length.
    pub level: Level,
    /// Of spans that end at this time or later, Unix milliseconds.
    pub from_ms: i64,
    /// Of spans that end at this time or earlier.
    pub to_ms: i64,
}

impl RollupRequest {
    /// The samples of all spans asked for.
    #[must_use]
    pub fn samples(&self) -> ReadRequest {
        let length = self.level.ms();
        let to_ms = self.to_ms.div_euclid(length).saturating_mul(length);
        let from_ms = self.level.end_of(self.from_ms).saturating_sub(length).saturating_add(1);
        ReadRequest { series: self.series.clone(), from_ms, to_ms }
    }
}

/// Some rollups of one series. A series' chunks come in order of time; no span is there twice.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupChunk {
    /// Place of the series in [`RollupRequest::series`].
    pub series: usize,
    /// Ends of spans, ascending, and what is in them; never empty.
    pub rollups: Vec<(i64, Rollup)>,
}

/// Rollups as they are read; dropping it ends the reading.
#[derive(Debug)]
pub struct Rollups(Kind);

#[derive(Debug)]
enum Kind {
    Kept(tokio::sync::mpsc::Receiver<Result<RollupChunk, StoreError>>),
    Folded(Folded),
}

#[derive(Debug)]
struct Folded {
    samples: Samples,
    open: Vec<Folding>,
    /// Chunks to be given, once no samples are left.
    rest: Option<VecDeque<RollupChunk>>,
    /// What is said when all has been given.
    damaged: Option<StoreError>,
}

impl Rollups {
    /// Rollups that come through a channel; a bounded one keeps memory bounded.
    #[must_use]
    pub const fn new(chunks: tokio::sync::mpsc::Receiver<Result<RollupChunk, StoreError>>) -> Self {
        Self(Kind::Kept(chunks))
    }

    /// Rollups made of [`RollupRequest::samples`] as they are read.
    #[must_use]
    pub fn fold(samples: Samples, request: &RollupRequest) -> Self {
        let open = vec![Folding::new(request.level); request.series.len()];
        Self(Kind::Folded(Folded { samples, open, rest: None, damaged: None }))
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// As [`Samples::next`].
    pub async fn next(&mut self) -> Result<Option<RollupChunk>, StoreError> {
        match &mut self.0 {
            Kind::Kept(chunks) => chunks.recv().await.transpose(),
            Kind::Folded(folded) => folded.next().await,
        }
    }

    /// All there is, a vector for each of `series` asked for. For small requests, and tests.
    ///
    /// # Errors
    /// As [`Rollups::next`].
    pub async fn collect(mut self, series: usize) -> Result<Vec<Vec<(i64, Rollup)>>, StoreError> {
        let mut all = vec![Vec::new(); series];
        while let Some(chunk) = self.next().await? {
            if let Some(one) = all.get_mut(chunk.series) {
                one.extend(chunk.rollups);
            }
        }
        Ok(all)
    }
}

impl Folded {
    async fn next(&mut self) -> Result<Option<RollupChunk>, StoreError> {
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.pop_front().map_or_else(
                    || self.damaged.take().map_or(Ok(None), Err),
                    |chunk| Ok(Some(chunk)),
                );
            }
            match self.samples.next().await {
                Ok(Some(chunk)) => {
                    let Some(open) = self.open.get_mut(chunk.series) else { continue };
                    let samples = chunk.times.into_iter().zip(chunk.values);
                    let rollups: Vec<_> =
                        samples.filter_map(|(time_ms, value)| open.push(time_ms, value)).collect();
                    if !rollups.is_empty() {
                        return Ok(Some(RollupChunk { series: chunk.series, rollups }));
                    }
                }
                Ok(None) => self.end(),
                // Said after all that could be read.
                Err(damaged @ StoreError::Damaged { .. }) => {
                    self.damaged = Some(damaged);
                    self.end();
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn end(&mut self) {
        let open = mem::take(&mut self.open);
        let rest = open.into_iter().enumerate().filter_map(|(series, mut open)| {
            open.finish().map(|last| RollupChunk { series, rollups: vec![last] })
        });
        self.rest = Some(rest.collect());
    }
}

#[cfg(test)]
mod tests;
