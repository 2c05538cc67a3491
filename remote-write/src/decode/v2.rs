//! `io.prometheus.write.v2.Request`: all text in one table, series refer to it.
//!
//! | message | fields |
//! |---|---|
//! | `Request` | 4 symbols…, 5 `TimeSeries`… |
//! | `TimeSeries` | 1 label references… (packed), 2 `Sample`…, 3 `Histogram`…, 4 `Exemplar`…, 5 `Metadata`, 6 created timestamp (until rc.3) |
//! | `Sample` | 1 value, 2 timestamp, 3 start timestamp (since rc.4) |
//! | `Metadata` | 1 type, 3 help reference, 4 unit reference |

use super::{Builder, Request, at, bounded, each_field, sample, skipped};
use crate::{
    DecodeError, Flaw, Label, Limits, Metadata, MetricType, Place,
    protobuf::{BYTES, Field, Reader},
};

pub(super) fn decode<'a>(message: &'a [u8], limits: &Limits) -> Result<Request<'a>, DecodeError> {
    // a sender may write the table after the series that refer to it
    let symbols = symbols(message, limits)?;
    let mut builder = Builder::new(limits);
    let mut reader = Reader::new(message);
    let whole = at(Place::default());
    while let Some(field) = reader.field().map_err(&whole)? {
        if field.number == 5 {
            series(&mut builder, &symbols, field)?;
        }
    }
    Ok(builder.request)
}

fn symbols<'a>(message: &'a [u8], limits: &Limits) -> Result<Vec<&'a str>, DecodeError> {
    let mut symbols = Vec::new();
    let mut reader = Reader::new(message);
    let whole = at(Place::default());
    let mut has_series = false;
    while let Some(field) = reader.field().map_err(&whole)? {
        if field.number == 4 {
            bounded(symbols.len(), limits.symbols, "symbols")?;
            let place = Place { series: None, part: Some(("symbol", symbols.len())) };
            symbols.push(field.text().map_err(at(place))?);
        }
        has_series |= field.number == 5;
    }
    match symbols.first() {
        Some(&"") => Ok(symbols),
        None if !has_series => Ok(symbols),
        _ => Err(whole(Flaw::FirstSymbol)),
    }
}

fn series<'a>(
    builder: &mut Builder<'a, '_>,
    symbols: &[&'a str],
    field: Field<'a>,
) -> Result<(), DecodeError> {
    let here = at(builder.here());
    let mut reader = field.message().map_err(&here)?;
    let mut labels = References::default();
    let mut samples = 0;
    while let Some(field) = reader.field().map_err(&here)? {
        match field.number {
            1 => labels.take(builder, symbols, field)?,
            2 => {
                let place = builder.part("sample", samples);
                let (sample, start_ms) = sample(field).map_err(at(place))?;
                created(&mut builder.row.metadata, start_ms);
                builder.sample(sample)?;
                samples += 1;
            }
            3 => {
                let place = builder.part("histogram", builder.row.histograms);
                skipped::histogram(field).map_err(at(place))?;
                builder.histogram()?;
            }
            4 => {
                let place = builder.part("exemplar", builder.row.exemplars);
                exemplar(field, symbols).map_err(at(place))?;
                builder.exemplar()?;
            }
            5 => {
                let place = builder.part("metadata", 0);
                metadata(&mut builder.row.metadata, symbols, field).map_err(at(place))?;
            }
            6 => created(&mut builder.row.metadata, field.int64().map_err(&here)?),
            _ => {}
        }
    }
    labels.end().map_err(&here)?;
    builder.end_series()
}

/// Notes since when a series counts, at the first that says so; 0 says nothing.
fn created(metadata: &mut Metadata<'_>, start_ms: i64) {
    if start_ms != 0 {
        metadata.created_ms.get_or_insert(start_ms);
    }
}

fn metadata<'a>(
    metadata: &mut Metadata<'a>,
    symbols: &[&'a str],
    field: Field<'a>,
) -> Result<(), Flaw> {
    each_field(field.message()?, |field| {
        match field.number {
            1 => metadata.kind = MetricType::from_number(field.varint()?),
            3 => metadata.help = look_up(symbols, field.varint()?)?,
            4 => metadata.unit = look_up(symbols, field.varint()?)?,
            _ => {}
        }
        Ok(())
    })
}

fn exemplar(field: Field<'_>, symbols: &[&str]) -> Result<(), Flaw> {
    let mut count = 0;
    skipped::exemplar(field, |labels| {
        each_reference(labels, |symbol| {
            count += 1;
            look_up(symbols, symbol).map(|_| ())
        })
    })?;
    if count % 2 == 0 { Ok(()) } else { Err(Flaw::OddReferences(count)) }
}

fn look_up<'a>(symbols: &[&'a str], symbol: u64) -> Result<&'a str, Flaw> {
    let found = usize::try_from(symbol).ok().and_then(|at| symbols.get(at));
    found.copied().ok_or(Flaw::Symbol { symbol, symbols: symbols.len() })
}

/// References to labels come in one packed field, or in several.
#[derive(Default)]
struct References<'a> {
    count: usize,
    name: Option<&'a str>,
}

impl<'a> References<'a> {
    fn take(
        &mut self,
        builder: &mut Builder<'a, '_>,
        symbols: &[&'a str],
        field: Field<'a>,
    ) -> Result<(), DecodeError> {
        let mut full = Ok(());
        each_reference(field, |symbol| {
            let text = look_up(symbols, symbol)?;
            self.count += 1;
            match self.name.take() {
                None => self.name = Some(text),
                Some(name) if full.is_ok() => full = builder.label(Label::new(name, text)),
                Some(_) => {}
            }
            Ok(())
        })
        .map_err(at(builder.part("label", self.count / 2)))?;
        full
    }

    fn end(&self) -> Result<(), Flaw> {
        if self.name.is_none() { Ok(()) } else { Err(Flaw::OddReferences(self.count)) }
    }
}

/// Numbers that are packed into one field, or stand in a field each.
fn each_reference(
    field: Field<'_>,
    mut take: impl FnMut(u64) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    if field.wire_type() != BYTES {
        return take(field.varint()?);
    }
    let mut packed = field.message()?;
    while !packed.is_empty() {
        take(packed.varint()?)?;
    }
    Ok(())
}
