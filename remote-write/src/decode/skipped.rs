//! Parts that are looked at and passed over: native histograms and exemplars.
//!
//! Both versions have the same ones, but for the labels of exemplars.

use super::each_field;
use crate::{
    Flaw,
    protobuf::{BYTES, FIXED64, Field, VARINT},
};

/// `Histogram`: which wire type each of its fields has, from field 1 on. Fields 9, 10, 12, 13 and 16
/// are lists of numbers, that may be packed or not.
const HISTOGRAM: [u8; 17] = [
    VARINT,  // 1: count, integer
    FIXED64, // 2: count, float
    FIXED64, // 3: sum
    VARINT,  // 4: schema
    FIXED64, // 5: zero threshold
    VARINT,  // 6: zero count, integer
    FIXED64, // 7: zero count, float
    BYTES,   // 8: negative spans
    VARINT,  // 9: negative deltas
    FIXED64, // 10: negative counts
    BYTES,   // 11: positive spans
    VARINT,  // 12: positive deltas
    FIXED64, // 13: positive counts
    VARINT,  // 14: reset hint
    VARINT,  // 15: timestamp
    FIXED64, // 16: custom values
    VARINT,  // 17: start timestamp
];
const LISTS: [u32; 5] = [9, 10, 12, 13, 16];
const SPANS: [u32; 2] = [8, 11];

pub(super) fn histogram(field: Field<'_>) -> Result<(), Flaw> {
    each_field(field.message()?, |field| {
        let Some(expected) = HISTOGRAM.get(field.number as usize - 1) else { return Ok(()) };
        if LISTS.contains(&field.number) && field.wire_type() == BYTES {
            return packed(field, *expected);
        }
        if SPANS.contains(&field.number) {
            return span(field);
        }
        has_type(field, *expected)
    })
}

/// `BucketSpan`: 1 offset, 2 length.
fn span(field: Field<'_>) -> Result<(), Flaw> {
    each_field(field.message()?, |field| {
        if matches!(field.number, 1 | 2) { has_type(field, VARINT) } else { Ok(()) }
    })
}

/// `Exemplar`: 1 labels, 2 value, 3 timestamp.
pub(super) fn exemplar<'a>(
    field: Field<'a>,
    mut labels: impl FnMut(Field<'a>) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    each_field(field.message()?, |field| match field.number {
        1 => labels(field),
        2 => has_type(field, FIXED64),
        3 => has_type(field, VARINT),
        _ => Ok(()),
    })
}

fn packed(field: Field<'_>, of: u8) -> Result<(), Flaw> {
    let mut numbers = field.message()?;
    while !numbers.is_empty() {
        if of == VARINT {
            numbers.varint()?
        } else {
            numbers.fixed64()?
        };
    }
    Ok(())
}

fn has_type(field: Field<'_>, expected: u8) -> Result<(), Flaw> {
    match expected {
        VARINT => field.varint().map(|_| ()),
        FIXED64 => field.double().map(|_| ()),
        _ => field.bytes().map(|_| ()),
    }
}
