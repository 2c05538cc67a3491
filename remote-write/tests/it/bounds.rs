//! What is refused, and how it is told.

use remote_write::{Encoder, Family, Label, Limits, Metadata, Sample, Version, decode};

const SMALL: Limits = Limits {
    message_bytes: 1 << 20,
    series: 3,
    samples: 6,
    labels: 6,
    symbols: 8,
    families: 2,
    series_labels: 10,
    name_bytes: 10,
    value_bytes: 10,
};

fn refused(version: Version, message: &[u8], expected: &str) {
    let error = decode(version, message, &SMALL).unwrap_err().to_string();
    assert!(error.contains(expected), "expected {expected:?} in {error:?}");
}

#[test]
fn more_than_is_taken() {
    let check = |series: usize, labels: usize, samples: usize, expected: &str| {
        for version in [Version::V1, Version::V2] {
            let mut encoder = Encoder::new(version);
            for _ in 0..series {
                let labels = vec![Label::new("a", "b"); labels];
                encoder.series(&labels, &vec![Sample::new(1, 2.0); samples], &Metadata::default());
            }
            let message = encoder.finish();
            if expected.is_empty() {
                decode(version, &message, &SMALL).unwrap();
            } else {
                refused(version, &message, expected);
            }
        }
    };
    check(3, 2, 2, "");
    check(4, 1, 1, "more than 3 series in one request: send fewer at once");
    check(3, 3, 1, "more than 6 labels in one request");
    check(3, 1, 3, "more than 6 samples in one request");
    // empty parts count too
    refused(Version::V1, &[0x0a, 0].repeat(4), "more than 3 series");
    refused(
        Version::V1,
        b"\x0a\x0e\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0\x12\0",
        "more than 6 samples",
    );
    refused(Version::V2, &[0x22, 0].repeat(9), "more than 8 symbols");
    let mut encoder = Encoder::new(Version::V1);
    (0..3).for_each(|_| encoder.family(&Family::default()));
    refused(Version::V1, &encoder.finish(), "more than 2 metric families");
}

#[test]
fn where_and_what() {
    use Version::{V1, V2};
    refused(V1, b"\x0a", "request: ends in the middle of a field");
    refused(V1, b"\x08\x01", "series 0: field 1 has wire type 0, expected 2");
    refused(V1, b"\x0a\x00\x0a\x02\x0a\x05", "series 1: ends in the middle of a field");
    refused(
        V1,
        b"\x0a\x09\x0a\x00\x0a\x05\x12\x03\xff\xff\xff",
        "series 0, label 1: field 2 isn't UTF-8",
    );
    refused(
        V1,
        b"\x0a\x04\x12\x02\x08\x01",
        "series 0, sample 0: field 1 has wire type 0, expected 1",
    );
    refused(V1, b"\x1a\x02\x12\x05", "metadata 0: ends in the middle");
    refused(V2, b"\x22\x01a", "request: symbol 0 has to be the empty string");
    refused(V2, b"\x2a\x00", "request: symbol 0 has to be the empty string");
    refused(V2, b"\x22\x00\x22\x01\xff", "symbol 1: field 4 isn't UTF-8");
    refused(
        V2,
        b"\x22\x00\x2a\x04\x0a\x02\x00\x09",
        "series 0, label 0: refers to symbol 9, the table has 1",
    );
    refused(
        V2,
        b"\x22\x00\x2a\x03\x0a\x01\x00",
        "series 0: has 1 label references, which aren't pairs",
    );
    refused(V2, b"\x22\x00\x2a\x04\x2a\x02\x18\x07", "series 0, metadata 0: refers to symbol 7");
    refused(
        V2,
        b"\x22\x00\x2a\x05\x22\x03\x0a\x01\x00",
        "series 0, exemplar 0: has 1 label references",
    );
}

/// A 2.0 message that is read as one of 1.0 is empty: the specification keeps their fields apart.
#[test]
fn versions_taken_for_each_other_are_empty() {
    let write = |version| {
        let mut encoder = Encoder::new(version);
        encoder.series(&[Label::new("a", "b")], &[Sample::new(1, 2.0)], &Metadata::default());
        encoder.finish()
    };
    let read = |version, message: &[u8]| decode(version, message, &SMALL).unwrap().series().len();
    assert_eq!(read(Version::V1, &write(Version::V2)), 0);
    assert_eq!(read(Version::V2, &write(Version::V1)), 0);
}
