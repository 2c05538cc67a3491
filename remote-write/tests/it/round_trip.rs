//! Any series there and back, by our own codec and by `prost`.

use proptest::prelude::*;
use prost::Message;
use remote_write::{DecodeError, Encoder, Limits, Sample, Template, Version, decode, snappy};

use crate::oracle::{
    BucketSpan, ExemplarV1, ExemplarV2, Histogram, LabelPair, Owned, RequestV2, TimeSeries,
    TimeSeriesV2, WriteRequest, ours, theirs,
};

fn series() -> impl Strategy<Value = Owned> {
    let text = || prop_oneof![Just(String::new()), "[a-zé]{1,6}", "\\PC{0,200}"];
    // both edges, what fits a varint of each length, and what real senders have
    let time = || prop_oneof![any::<i64>(), 0..300i64, Just(1_767_312_000_000)];
    let value = prop_oneof![any::<u64>(), any::<f64>().prop_map(f64::to_bits), Just(0)];
    let created = prop_oneof![Just(None), time().prop_map(|ms| Some(ms).filter(|ms| *ms != 0))];
    (
        prop::collection::vec((text(), text()), 0..8),
        prop::collection::vec((time(), value), 1..5),
        0..8u8,
        text(),
        text(),
        created,
    )
        .prop_map(|(labels, samples, kind, help, unit, created_ms)| Owned {
            labels,
            samples,
            kind,
            help,
            unit,
            created_ms,
        })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(all in prop::collection::vec(series(), 0..20)) {
        for version in [Version::V1, Version::V2] {
            let mut encoder = Encoder::new(version);
            all.iter().for_each(|series| series.write(&mut encoder));
            prop_assert_eq!(encoder.samples(), all.iter().map(|s| s.samples.len()).sum::<usize>());
            let length = encoder.len();
            let message = encoder.finish();
            prop_assert_eq!(message.len(), length);
            prop_assert!(encoder.is_empty());
            let message = snappy::decompress(&snappy::compress(&message), message.len()).unwrap();
            let mut expected = all.clone();
            if version == Version::V1 {
                // it can't say
                expected.iter_mut().for_each(|series| series.created_ms = None);
            }
            prop_assert_eq!(&ours(version, &message), &expected);
            prop_assert_eq!(&theirs(version, &message), &expected);
        }
    }

    /// But for negative zero, which `prost` writes as zero, and we as it is.
    #[test]
    fn the_same_bytes_as_another_encoder(mut all in prop::collection::vec(series(), 0..20)) {
        let values = all.iter_mut().flat_map(|series| &mut series.samples);
        values.filter(|(_, bits)| *bits == (-0f64).to_bits()).for_each(|(_, bits)| *bits = 0);
        let mut encoder = Encoder::new(Version::V1);
        all.iter().for_each(|series| series.write(&mut encoder));
        let message = encoder.finish();
        let again = WriteRequest::decode(&message[..]).unwrap().encode_to_vec();
        prop_assert_eq!(message.len(), again.len());
        let mut encoder = Encoder::new(Version::V2);
        all.iter().for_each(|series| series.write(&mut encoder));
        let message = encoder.finish();
        prop_assert_eq!(&RequestV2::decode(&message[..]).unwrap().encode_to_vec(), &message);
    }

    /// A template's messages say the same as an encoder's.
    #[test]
    fn templates_are_read_alike(mut all in prop::collection::vec(series(), 0..20)) {
        all.iter_mut().for_each(|series| series.samples.truncate(1));
        for version in [Version::V1, Version::V2] {
            let mut template = Template::new(version);
            for (number, series) in all.iter().enumerate() {
                prop_assert_eq!(series.add(&mut template), number);
            }
            // every other series, and one that isn't there
            let sample = |(time_ms, bits): (i64, u64)| Sample::new(time_ms, f64::from_bits(bits));
            let samples = all.iter().enumerate().step_by(2);
            let samples = samples.map(|(number, series)| (number, sample(series.samples[0])));
            let message = template.message(samples.chain([(all.len(), Sample::default())]));
            let mut expected: Vec<_> = all.iter().step_by(2).cloned().collect();
            if version == Version::V1 {
                for series in &mut expected {
                    (series.kind, series.created_ms) = (0, None);
                    series.help.clear();
                    series.unit.clear();
                }
            }
            prop_assert_eq!(&ours(version, &message), &expected);
            prop_assert_eq!(&theirs(version, &message), &expected);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for version in [Version::V1, Version::V2] {
            let _ = decode(version, &bytes, &Limits::default());
        }
        let _ = snappy::decompress(&bytes, 1 << 20);
    }

    /// A good message with one byte changed, or cut short, gets further than any bytes do.
    #[test]
    fn damaged_messages_are_read_or_refused(
        all in prop::collection::vec(series(), 1..4),
        at: prop::sample::Index,
        byte: u8,
    ) {
        for version in [Version::V1, Version::V2] {
            let mut encoder = Encoder::new(version);
            all.iter().for_each(|series| series.write(&mut encoder));
            let mut message = encoder.finish();
            let at = at.index(message.len());
            let _ = decode(version, &message[..at], &Limits::default());
            message[at] = byte;
            let _ = decode(version, &message, &Limits::default());
        }
    }
}

fn histogram() -> Histogram {
    Histogram {
        count_int: 12,
        sum: 18.4,
        schema: -2,
        zero_threshold: 0.001,
        zero_count_int: 2,
        negative_spans: vec![BucketSpan { offset: -3, length: 2 }],
        negative_deltas: vec![1, -1, 300],
        negative_counts: vec![1.0, 2.5],
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_deltas: vec![2, -1, 0],
        positive_counts: vec![3.0],
        reset_hint: 2,
        timestamp: 1_000,
        custom_values: vec![0.5, 1.0],
        start_timestamp: 1,
    }
}

/// Spans with a damaged byte, and a list of numbers that ends in the middle of one.
fn broken_histograms() -> [(Vec<u8>, &'static str); 3] {
    [
        (b"\x09\0\0\0\0\0\0\0\0".to_vec(), "field 1 has wire type 1, expected 0"),
        (b"\x42\x02\x0a\x00".to_vec(), "field 1 has wire type 2, expected 0"),
        (b"\x6a\x03\0\0\0".to_vec(), "ends in the middle of a field"),
    ]
}

#[test]
fn histograms_and_exemplars_are_counted() {
    let label = LabelPair { name: "trace_id".into(), value: "x".into() };
    let exemplar = ExemplarV1 { labels: vec![label], value: 1.0, timestamp: 7 };
    let series = TimeSeries {
        exemplars: vec![exemplar.clone(), exemplar],
        histograms: vec![histogram()],
        ..TimeSeries::default()
    };
    let request = WriteRequest { timeseries: vec![series; 2], metadata: Vec::new() };
    count(Version::V1, &request.encode_to_vec());
    let exemplar = ExemplarV2 { labels_refs: vec![1, 0], value: 1.0, timestamp: 7 };
    let series = TimeSeriesV2 {
        exemplars: vec![exemplar.clone(), exemplar],
        histograms: vec![histogram()],
        ..TimeSeriesV2::default()
    };
    let symbols = vec![String::new(), "trace_id".into()];
    count(Version::V2, &RequestV2 { symbols, timeseries: vec![series; 2] }.encode_to_vec());
}

fn count(version: Version, message: &[u8]) {
    let request = decode(version, message, &Limits::default()).unwrap();
    assert_eq!((request.histograms(), request.exemplars(), request.samples()), (2, 4, 0));
    for series in request.series() {
        assert_eq!((series.histograms, series.exemplars), (1, 2));
    }
    let limits = Limits { samples: 5, ..Limits::default() };
    let error = decode(version, message, &limits).unwrap_err();
    assert_eq!(error, DecodeError::TooMany { what: "samples", max: 5 });
}

#[test]
fn damage_in_a_histogram_is_told() {
    for (histogram, expected) in broken_histograms() {
        let mut series = vec![0x22, u8::try_from(histogram.len()).unwrap()];
        series.extend(histogram);
        let mut message = vec![0x0a, u8::try_from(series.len()).unwrap()];
        message.extend(series);
        let error = decode(Version::V1, &message, &Limits::default()).unwrap_err().to_string();
        assert_eq!(error, format!("series 0, histogram 0: {expected}"));
    }
}

/// Since when a series counts stood beside its samples before it stood in them.
#[test]
fn both_places_for_the_created_time() {
    let series = TimeSeriesV2 { created_timestamp: 77, ..TimeSeriesV2::default() };
    let request = RequestV2 { symbols: vec![String::new()], timeseries: vec![series] };
    let message = request.encode_to_vec();
    let request = decode(Version::V2, &message, &Limits::default()).unwrap();
    assert_eq!(request.series().next().unwrap().metadata.created_ms, Some(77));
}

/// Protobuf lets the parts of a message come in any order, and numbers come packed or not.
#[test]
fn symbols_after_series_and_references_one_by_one() {
    // series: references 1 and 2 as fields of their own, one sample (1 at 5 ms)
    let message = b"\x2a\x11\x08\x01\x08\x02\x12\x0b\x09\0\0\0\0\0\0\xf0\x3f\x10\x05\
                    \x22\x00\x22\x08__name__\x22\x02up";
    let found = ours(Version::V2, message);
    assert_eq!(found, theirs(Version::V2, message));
    assert_eq!(found[0].labels, [("__name__".to_owned(), "up".to_owned())]);
    assert_eq!(found[0].samples, [(5, 1f64.to_bits())]);
}
