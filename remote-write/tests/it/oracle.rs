//! The messages as `prost` reads and writes them: declared after the specifications, so that a mistake
//! of ours isn't made twice.

use prost::Message;
use remote_write::{
    Encoder, Family, Label, Metadata, MetricType, Sample, Template, Version, labels,
};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<SampleV1>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) exemplars: Vec<ExemplarV1>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LabelPair {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SampleV1 {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExemplarV1 {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<LabelPair>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(string, tag = "2")]
    pub(crate) metric_family_name: String,
    #[prost(string, tag = "4")]
    pub(crate) help: String,
    #[prost(string, tag = "5")]
    pub(crate) unit: String,
}

/// The same in both versions, but for the start timestamp, which 2.0 has.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    #[prost(uint64, tag = "1")]
    pub(crate) count_int: u64,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(crate) schema: i32,
    #[prost(double, tag = "5")]
    pub(crate) zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    pub(crate) zero_count_int: u64,
    #[prost(message, repeated, tag = "8")]
    pub(crate) negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub(crate) negative_deltas: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "10")]
    pub(crate) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "12")]
    pub(crate) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(crate) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(crate) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(crate) custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub(crate) start_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(crate) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    pub(crate) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) timeseries: Vec<TimeSeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<SampleV2>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) exemplars: Vec<ExemplarV2>,
    #[prost(message, optional, tag = "5")]
    pub(crate) metadata: Option<MetadataV2>,
    #[prost(int64, tag = "6")]
    pub(crate) created_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SampleV2 {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
    #[prost(int64, tag = "3")]
    pub(crate) start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetadataV2 {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(uint32, tag = "3")]
    pub(crate) help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) unit_ref: u32,
}

/// A series that owns what it says: what goes in and what comes out, whichever way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owned {
    pub(crate) labels: Vec<(String, String)>,
    /// Time and the value's bits, so that a NaN equals itself.
    pub(crate) samples: Vec<(i64, u64)>,
    pub(crate) kind: u8,
    pub(crate) help: String,
    pub(crate) unit: String,
    pub(crate) created_ms: Option<i64>,
}

impl Owned {
    fn labels(&self) -> Vec<Label<'_>> {
        self.labels.iter().map(|(name, value)| Label::new(name, value)).collect()
    }

    fn metadata(&self) -> Metadata<'_> {
        let Self { help, unit, created_ms, .. } = self;
        Metadata { kind: kind(self.kind), help, unit, created_ms: *created_ms }
    }

    /// Adds it to a message.
    pub(crate) fn write(&self, encoder: &mut Encoder) {
        let labels = self.labels();
        let sample = |(time_ms, bits): &(i64, u64)| Sample::new(*time_ms, f64::from_bits(*bits));
        let samples: Vec<_> = self.samples.iter().map(sample).collect();
        encoder.series(&labels, &samples, &self.metadata());
        let name = labels::metric(&labels).unwrap_or_default();
        let (help, unit) = (self.help.as_str(), self.unit.as_str());
        encoder.family(&Family { name, kind: kind(self.kind), help, unit });
    }

    /// Adds it to a template; returns its number there.
    pub(crate) fn add(&self, template: &mut Template) -> usize {
        template.push(&self.labels(), &self.metadata())
    }
}

pub(crate) fn kind(number: u8) -> MetricType {
    [
        MetricType::Unknown,
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::GaugeHistogram,
        MetricType::Summary,
        MetricType::Info,
        MetricType::StateSet,
    ][usize::from(number)]
}

/// A message as our own decoder sees it.
pub(crate) fn ours(version: Version, message: &[u8]) -> Vec<Owned> {
    let request = remote_write::decode(version, message, &remote_write::Limits::default()).unwrap();
    let told: Vec<_> = request.families().to_vec();
    let series = request.series().enumerate().map(|(at, series)| {
        let family = told.get(at);
        let metadata = &series.metadata;
        let (kind, help, unit) = family
            .map_or((metadata.kind, metadata.help, metadata.unit), |family| {
                (family.kind, family.help, family.unit)
            });
        let label = |label: &Label<'_>| (label.name.to_owned(), label.value.to_owned());
        Owned {
            labels: series.labels.iter().map(label).collect(),
            samples: series.samples.iter().map(|s| (s.time_ms, s.value.to_bits())).collect(),
            kind: kind as u8,
            help: help.to_owned(),
            unit: unit.to_owned(),
            created_ms: metadata.created_ms,
        }
    });
    series.collect()
}

/// A message as `prost` sees it.
pub(crate) fn theirs(version: Version, message: &[u8]) -> Vec<Owned> {
    match version {
        Version::V1 => theirs_v1(&WriteRequest::decode(message).unwrap()),
        Version::V2 => theirs_v2(&RequestV2::decode(message).unwrap()),
    }
}

fn theirs_v1(request: &WriteRequest) -> Vec<Owned> {
    let series = request.timeseries.iter().enumerate().map(|(at, series)| {
        let family = request.metadata.get(at).cloned().unwrap_or_default();
        Owned {
            labels: series.labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect(),
            samples: series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect(),
            kind: u8::try_from(family.kind).unwrap(),
            help: family.help,
            unit: family.unit,
            created_ms: None,
        }
    });
    series.collect()
}

fn theirs_v2(request: &RequestV2) -> Vec<Owned> {
    let text = |reference: u32| request.symbols[reference as usize].clone();
    let series = request.timeseries.iter().map(|series| {
        let metadata = series.metadata.unwrap_or_default();
        let start = series.samples.first().map_or(0, |sample| sample.start_timestamp);
        Owned {
            labels: series.labels_refs.chunks(2).map(|l| (text(l[0]), text(l[1]))).collect(),
            samples: series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect(),
            kind: u8::try_from(metadata.kind).unwrap(),
            help: text(metadata.help_ref),
            unit: text(metadata.unit_ref),
            created_ms: (start != 0).then_some(start),
        }
    });
    series.collect()
}
