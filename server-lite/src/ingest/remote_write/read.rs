//! From a body to a batch for the store: decompressed, decoded, its labels checked.

use remote_write::{
    Family, Label, MetricType, Series, Version, decode,
    labels::{self, NAME},
    snappy,
};
use wire::MetricKind;

use super::{Fault, Faults, LIMITS, WriteRefusal};
use crate::store::{WriteBatch, write::WriteFamily};

/// Bytes of a series' labels that are repeated in a message.
const TOLD_BYTES_MAX: usize = 300;

/// A request as it was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// What can be stored.
    pub(super) batch: WriteBatch,
    /// What can't.
    pub(super) faults: Faults,
}

/// Reads a body.
///
/// # Errors
/// [`WriteRefusal`] when it can't be read, or is too large.
pub(super) fn read(
    version: Version,
    body: &[u8],
    received_ms: i64,
    bytes_max: usize,
) -> Result<Reading, WriteRefusal> {
    let message = snappy::decompress(body, LIMITS.message_bytes)?;
    let request = decode(version, &message, &LIMITS)?;
    let mut reading = Reading { batch: WriteBatch::new(received_ms), faults: Faults::default() };
    for series in request.series() {
        reading.add(&series);
        if reading.batch.bytes() > bytes_max {
            return Err(WriteRefusal::TooLarge(bytes_max));
        }
    }
    reading.batch.families = request.families().iter().flat_map(families).collect();
    Ok(reading)
}

impl Reading {
    fn add(&mut self, series: &Series<'_>) {
        let Series { labels, samples, metadata, histograms, exemplars } = series;
        if let Err(error) = labels::check(labels, &LIMITS) {
            let count = samples.len() + histograms + exemplars;
            self.faults.add(Fault::Labels, count as u64, || format!("{}: {error}", told(labels)));
            return;
        }
        if *histograms > 0 {
            let words = || {
                format!("{}: native histograms are not supported, send classic ones", told(labels))
            };
            self.faults.add(Fault::Histogram, *histograms as u64, words);
        }
        self.faults.pass_over(Fault::Exemplar, *exemplars as u64);
        if samples.is_empty() {
            return;
        }
        let metric = labels::metric(labels).unwrap_or_default();
        let others = labels.iter().filter(|label| label.name != NAME);
        let samples = samples.iter().map(|sample| (sample.time_ms, sample.value));
        self.batch.push(
            metric,
            others.map(|label| (label.name, label.value)),
            (kind_of(metadata.kind, metric), metadata.help),
            samples,
        );
    }
}

/// Labels as they are told in a message: `{__name__="up", job="x"}`, cut when they are long.
fn told(labels: &[Label<'_>]) -> String {
    let labels = labels.iter().map(|label| format!("{}={:?}", label.name, label.value));
    let mut text = format!("{{{}}}", labels.collect::<Vec<_>>().join(", "));
    if text.len() > TOLD_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TOLD_BYTES_MAX));
        text.push('…');
    }
    text
}

/// What the values of a series mean, by what is said of its metric: of histograms and summaries, some
/// series are counters.
fn kind_of(kind: MetricType, series: &str) -> Option<MetricKind> {
    use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Unknown};
    match kind {
        Unknown => None,
        Counter | Histogram => Some(MetricKind::Counter),
        Gauge | GaugeHistogram | Info | StateSet => Some(MetricKind::Gauge),
        Summary if series.ends_with("_sum") || series.ends_with("_count") => {
            Some(MetricKind::Counter)
        }
        Summary => Some(MetricKind::Gauge),
    }
}

/// What 1.0 says of a metric, as of the series that it has: their names differ where one metric has
/// several, or where OpenMetrics adds to them.
fn families(family: &Family<'_>) -> Vec<WriteFamily> {
    use MetricType::{Counter, GaugeHistogram, Histogram, Info, Summary};
    let suffixes: &[&str] = match family.kind {
        Counter => &["", "_total"],
        Histogram => &["_bucket", "_sum", "_count"],
        Summary => &["", "_sum", "_count"],
        GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        Info => &["", "_info"],
        _ => &[""],
    };
    let of = |suffix: &&str| {
        let metric = format!("{}{suffix}", family.name);
        let kind = kind_of(family.kind, &metric)?;
        Some(WriteFamily { metric, kind, help: family.help.to_owned() })
    };
    suffixes.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use remote_write::{Encoder, Metadata, Sample};

    use super::*;

    const ROOM: usize = 1 << 20;

    fn body(version: Version, series: &[&[(&str, &str)]]) -> Vec<u8> {
        let mut encoder = Encoder::new(version);
        for labels in series {
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| Label::new(name, value)).collect();
            let metadata =
                Metadata { kind: MetricType::Gauge, help: "Help.", ..Metadata::default() };
            encoder.series(&labels, &[Sample::new(1, 0.5)], &metadata);
        }
        snappy::compress(&encoder.finish())
    }

    #[test]
    fn what_is_well_formed_is_taken() {
        for version in [Version::V1, Version::V2] {
            let body = body(
                version,
                &[
                    &[("__name__", "up"), ("job", "x")],
                    &[("__name__", "up"), ("b", "1"), ("a", "1")],
                    &[("a", "1")],
                    &[("A", "1"), ("__name__", "up")],
                ],
            );
            let Reading { batch, faults } = read(version, &body, 7, ROOM).unwrap();
            let metrics: Vec<String> = batch.iter().map(|series| series.to_string()).collect();
            assert_eq!(metrics, [r#"up{job="x"}"#, r#"up{A="1"}"#]);
            let kind = (version == Version::V2).then_some(MetricKind::Gauge);
            assert_eq!((batch.received_ms, batch.series(0).unwrap().kind()), (7, kind));
            assert_eq!(faults.counts().collect::<Vec<_>>(), [(Fault::Labels, 2)]);
            let message = faults.message().unwrap();
            let first = r#"{__name__="up", b="1", a="1"}: label "a" comes after "b""#;
            assert!(message.starts_with(first) && message.contains("__name__"), "{message}");
        }
    }

    #[test]
    fn a_batch_has_a_bound() {
        let long = "x".repeat(2_000);
        let labels = [("__name__", "up"), ("a", long.as_str())];
        let body = body(Version::V2, &vec![&labels[..]; 1_000]);
        assert!(body.len() < 50_000, "a string is sent once");
        let refused = read(Version::V2, &body, 0, ROOM);
        assert!(matches!(refused, Err(WriteRefusal::TooLarge(ROOM))), "{refused:?}");
    }

    #[test]
    fn families_are_said_of_their_series() {
        let check = |kind, expected: &[(&str, MetricKind)]| {
            let family = Family { name: "m", kind, help: "Help.", unit: "" };
            let found = families(&family);
            let found: Vec<_> = found.iter().map(|one| (one.metric.as_str(), one.kind)).collect();
            assert_eq!(found, expected);
        };
        use MetricKind::{Counter, Gauge};
        check(MetricType::Unknown, &[]);
        check(MetricType::Gauge, &[("m", Gauge)]);
        check(MetricType::Counter, &[("m", Counter), ("m_total", Counter)]);
        check(
            MetricType::Histogram,
            &[("m_bucket", Counter), ("m_sum", Counter), ("m_count", Counter)],
        );
        check(MetricType::Summary, &[("m", Gauge), ("m_sum", Counter), ("m_count", Counter)]);
    }
}
