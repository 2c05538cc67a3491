//! `prometheus.WriteRequest`: every series has its labels written out.
//!
//! | message | fields |
//! |---|---|
//! | `WriteRequest` | 1 `TimeSeries`…, 3 `MetricMetadata`… |
//! | `TimeSeries` | 1 `Label`…, 2 `Sample`…, 3 `Exemplar`…, 4 `Histogram`… |
//! | `Label` | 1 name, 2 value |
//! | `Sample` | 1 value, 2 timestamp |
//! | `MetricMetadata` | 1 type, 2 metric family name, 4 help, 5 unit |

use super::{Builder, Request, at, each_field, sample, skipped};
use crate::{
    DecodeError, Family, Flaw, Label, Limits, MetricType, Place,
    protobuf::{Field, Reader},
};

pub(super) fn decode<'a>(message: &'a [u8], limits: &Limits) -> Result<Request<'a>, DecodeError> {
    let mut builder = Builder::new(limits);
    let mut reader = Reader::new(message);
    let whole = at(Place::default());
    while let Some(field) = reader.field().map_err(&whole)? {
        match field.number {
            1 => series(&mut builder, field)?,
            3 => {
                let part = ("metadata", builder.request.families.len());
                let place = Place { series: None, part: Some(part) };
                let family = family(field).map_err(at(place))?;
                builder.family(family)?;
            }
            _ => {}
        }
    }
    Ok(builder.request)
}

fn series<'a>(builder: &mut Builder<'a, '_>, field: Field<'a>) -> Result<(), DecodeError> {
    let here = at(builder.here());
    let mut reader = field.message().map_err(&here)?;
    let (mut labels, mut samples) = (0, 0);
    while let Some(field) = reader.field().map_err(&here)? {
        match field.number {
            1 => {
                let label = label(field).map_err(at(builder.part("label", labels)))?;
                builder.label(label)?;
                labels += 1;
            }
            2 => {
                let (sample, _) = sample(field).map_err(at(builder.part("sample", samples)))?;
                builder.sample(sample)?;
                samples += 1;
            }
            3 => {
                let place = builder.part("exemplar", builder.row.exemplars);
                exemplar(field).map_err(at(place))?;
                builder.exemplar()?;
            }
            4 => {
                let place = builder.part("histogram", builder.row.histograms);
                skipped::histogram(field).map_err(at(place))?;
                builder.histogram()?;
            }
            _ => {}
        }
    }
    builder.end_series()
}

fn label(field: Field<'_>) -> Result<Label<'_>, Flaw> {
    let mut label = Label::new("", "");
    each_field(field.message()?, |field| {
        match field.number {
            1 => label.name = field.text()?,
            2 => label.value = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(label)
}

fn exemplar(field: Field<'_>) -> Result<(), Flaw> {
    skipped::exemplar(field, |labels| label(labels).map(|_| ()))
}

fn family(field: Field<'_>) -> Result<Family<'_>, Flaw> {
    let mut family = Family::default();
    each_field(field.message()?, |field| {
        match field.number {
            1 => family.kind = MetricType::from_number(field.varint()?),
            2 => family.name = field.text()?,
            4 => family.help = field.text()?,
            5 => family.unit = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(family)
}
