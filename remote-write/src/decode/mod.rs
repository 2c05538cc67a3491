//! Reading a message, in bounds.
//!
//! Bounds are checked before memory is set aside, so that a message of many empty parts costs no more
//! than one of real ones. Every part is looked at, also those that nobody stores (native histograms,
//! exemplars): what isn't well formed is refused whole. What is well formed and merely wrong (labels in
//! disorder) is left to [`labels::check`](crate::labels::check), series by series.

mod skipped;
mod v1;
mod v2;

use std::ops::Range;

use crate::{
    DecodeError, Family, Flaw, Label, Limits, Metadata, Place, Sample, Version,
    protobuf::{Field, Reader},
};

/// Reads a message of that version (after decompression).
///
/// # Errors
///
/// It isn't well formed, or holds more than `limits` allow; the error says where.
pub fn decode<'a>(
    version: Version,
    message: &'a [u8],
    limits: &Limits,
) -> Result<Request<'a>, DecodeError> {
    match version {
        Version::V1 => v1::decode(message, limits),
        Version::V2 => v2::decode(message, limits),
    }
}

/// A message, as read.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    rows: Vec<Row<'a>>,
    labels: Vec<Label<'a>>,
    samples: Vec<Sample>,
    families: Vec<Family<'a>>,
    histograms: usize,
    exemplars: usize,
}

#[derive(Clone, Debug)]
struct Row<'a> {
    labels: Range<usize>,
    samples: Range<usize>,
    metadata: Metadata<'a>,
    histograms: usize,
    exemplars: usize,
}

/// A series of a message, with what it says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Series<'r> {
    /// As sent: check them with [`labels::check`](crate::labels::check).
    pub labels: &'r [Label<'r>],
    /// As sent: they should be in the order of time.
    pub samples: &'r [Sample],
    /// All unknown in a 1.0 message.
    pub metadata: Metadata<'r>,
    /// Native histograms, that were passed over.
    pub histograms: usize,
    /// Exemplars, that were passed over.
    pub exemplars: usize,
}

impl<'a> Request<'a> {
    /// The series, in the order they came; the same labels may come more than once.
    pub fn series(&self) -> impl ExactSizeIterator<Item = Series<'_>> {
        self.rows.iter().map(|row| Series {
            labels: &self.labels[row.labels.clone()],
            samples: &self.samples[row.samples.clone()],
            metadata: row.metadata,
            histograms: row.histograms,
            exemplars: row.exemplars,
        })
    }

    /// What a 1.0 message says about metrics; empty in a 2.0 one, whose series say it.
    #[must_use]
    pub fn families(&self) -> &[Family<'a>] {
        &self.families
    }

    /// Samples of all series, without histograms.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Native histograms of all series.
    #[must_use]
    pub const fn histograms(&self) -> usize {
        self.histograms
    }

    /// Exemplars of all series.
    #[must_use]
    pub const fn exemplars(&self) -> usize {
        self.exemplars
    }
}

/// A request in the making: every push is bounded.
struct Builder<'a, 'l> {
    request: Request<'a>,
    limits: &'l Limits,
    /// The series that is being read.
    row: Row<'a>,
}

impl<'a, 'l> Builder<'a, 'l> {
    fn new(limits: &'l Limits) -> Self {
        let row = Row {
            labels: 0..0,
            samples: 0..0,
            metadata: Metadata::default(),
            histograms: 0,
            exemplars: 0,
        };
        Self { request: Request::default(), limits, row }
    }

    fn label(&mut self, label: Label<'a>) -> Result<(), DecodeError> {
        bounded(self.request.labels.len(), self.limits.labels, "labels")?;
        self.request.labels.push(label);
        Ok(())
    }

    fn sample(&mut self, sample: Sample) -> Result<(), DecodeError> {
        self.one_more_sample()?;
        self.request.samples.push(sample);
        Ok(())
    }

    fn histogram(&mut self) -> Result<(), DecodeError> {
        self.one_more_sample()?;
        self.row.histograms += 1;
        self.request.histograms += 1;
        Ok(())
    }

    fn exemplar(&mut self) -> Result<(), DecodeError> {
        self.one_more_sample()?;
        self.row.exemplars += 1;
        self.request.exemplars += 1;
        Ok(())
    }

    fn one_more_sample(&self) -> Result<(), DecodeError> {
        let Request { samples, histograms, exemplars, .. } = &self.request;
        bounded(samples.len() + histograms + exemplars, self.limits.samples, "samples")
    }

    fn family(&mut self, family: Family<'a>) -> Result<(), DecodeError> {
        bounded(self.request.families.len(), self.limits.families, "metric families")?;
        self.request.families.push(family);
        Ok(())
    }

    /// The series that was being read is complete.
    fn end_series(&mut self) -> Result<(), DecodeError> {
        bounded(self.request.rows.len(), self.limits.series, "series")?;
        let (labels, samples) = (self.request.labels.len(), self.request.samples.len());
        let next = Row {
            labels: labels..labels,
            samples: samples..samples,
            metadata: Metadata::default(),
            histograms: 0,
            exemplars: 0,
        };
        let mut row = std::mem::replace(&mut self.row, next);
        row.labels.end = labels;
        row.samples.end = samples;
        self.request.rows.push(row);
        Ok(())
    }

    /// Where a part of the series lies that is being read.
    fn part(&self, part: &'static str, at: usize) -> Place {
        Place { series: Some(self.request.rows.len()), part: Some((part, at)) }
    }

    /// The series that is being read.
    fn here(&self) -> Place {
        Place { series: Some(self.request.rows.len()), part: None }
    }
}

fn bounded(count: usize, max: usize, what: &'static str) -> Result<(), DecodeError> {
    if count < max { Ok(()) } else { Err(DecodeError::TooMany { what, max }) }
}

/// A flaw as an error that says where.
fn at(place: Place) -> impl Fn(Flaw) -> DecodeError {
    move |flaw| DecodeError::Malformed { place, flaw }
}

/// Shows every field of a message to `take`.
fn each_field<'a>(
    mut reader: Reader<'a>,
    mut take: impl FnMut(Field<'a>) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    while let Some(field) = reader.field()? {
        take(field)?;
    }
    Ok(())
}

/// A sample, and since when its series counts (2.0; 0: not said).
fn sample(field: Field<'_>) -> Result<(Sample, i64), Flaw> {
    let (mut sample, mut start_ms) = (Sample::default(), 0);
    each_field(field.message()?, |field| {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.time_ms = field.int64()?,
            3 => start_ms = field.int64()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((sample, start_ms))
}
