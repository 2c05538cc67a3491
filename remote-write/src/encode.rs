//! Writing a message.
//!
//! [`Encoder`] takes any series. [`Template`] is for those who send the same series again and again: their
//! labels are encoded once, a message is then little more than copying.

use std::collections::HashMap;

use crate::{
    Family, Label, Metadata, Sample, Version,
    protobuf::{BYTES, VARINT, Write, varint_len},
};

/// Writes messages of one version; keeps its buffers from one to the next.
#[derive(Clone, Debug)]
pub struct Encoder {
    version: Version,
    /// Series (and families) as they will stand in the message.
    series: Vec<u8>,
    symbols: Symbols,
    /// One series, before its length is known.
    one: Vec<u8>,
    samples: usize,
}

impl Encoder {
    /// An encoder with nothing in it.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let symbols = Symbols::new(version);
        Self { version, series: Vec::new(), symbols, one: Vec::new(), samples: 0 }
    }

    /// Of which version its messages are.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Bytes of the message so far, before compression.
    #[must_use]
    pub fn len(&self) -> usize {
        self.symbols.bytes.len() + self.series.len()
    }

    /// Whether nothing has been added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Samples in the message so far.
    #[must_use]
    pub const fn samples(&self) -> usize {
        self.samples
    }

    /// Adds a series. Labels have to be sorted by name, samples by time: receivers refuse others.
    /// `metadata` goes into 2.0 messages; 1.0 has [`Encoder::family`].
    pub fn series(&mut self, labels: &[Label<'_>], samples: &[Sample], metadata: &Metadata<'_>) {
        self.one.clear();
        write_labels(&mut self.one, self.version, &mut self.symbols, labels);
        let start_ms = start_ms(self.version, metadata);
        for sample in samples {
            write_sample(&mut self.one, *sample, start_ms);
        }
        write_metadata(&mut self.one, self.version, &mut self.symbols, metadata);
        self.series.bytes(series_field(self.version), &self.one);
        self.samples += samples.len();
    }

    /// Adds what a 1.0 message says about a metric; nothing in a 2.0 one.
    pub fn family(&mut self, family: &Family<'_>) {
        if self.version != Version::V1 {
            return;
        }
        self.one.clear();
        number(&mut self.one, 1, family.kind.number());
        text(&mut self.one, 2, family.name);
        text(&mut self.one, 4, family.help);
        text(&mut self.one, 5, family.unit);
        self.series.bytes(3, &self.one);
    }

    /// The message; the encoder is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut message = std::mem::take(&mut self.symbols.bytes);
        message.extend_from_slice(&self.series);
        self.clear();
        message
    }

    /// Throws away what was added.
    pub fn clear(&mut self) {
        self.series.clear();
        self.symbols = Symbols::new(self.version);
        self.samples = 0;
    }
}

/// Series that are sent again and again, with their labels encoded once.
#[derive(Clone, Debug)]
pub struct Template {
    version: Version,
    symbols: Symbols,
    /// What is said of each series beside its samples, one after the other.
    described: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Where its part of what is described ends.
    end: usize,
    start_ms: i64,
}

impl Template {
    /// A template without series.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let symbols = Symbols::new(version);
        Self { version, symbols, described: Vec::new(), rows: Vec::new() }
    }

    /// Of which version its messages are.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Adds a series, with labels that are sorted by name; returns its number, from 0 on.
    pub fn push(&mut self, labels: &[Label<'_>], metadata: &Metadata<'_>) -> usize {
        let (version, symbols) = (self.version, &mut self.symbols);
        write_labels(&mut self.described, version, symbols, labels);
        write_metadata(&mut self.described, version, symbols, metadata);
        let start_ms = start_ms(version, metadata);
        self.rows.push(Row { end: self.described.len(), start_ms });
        self.rows.len() - 1
    }

    /// Series in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A message with one sample for each of the series that are named by number. A number that isn't
    /// one of a series is passed over.
    pub fn message(&self, samples: impl IntoIterator<Item = (usize, Sample)>) -> Vec<u8> {
        let mut message = self.symbols.bytes.clone();
        let mut one = Vec::new();
        for (number, sample) in samples {
            let Some(row) = self.rows.get(number) else { continue };
            let begin = number.checked_sub(1).map_or(0, |before| self.rows[before].end);
            one.clear();
            write_sample(&mut one, sample, row.start_ms);
            let described = &self.described[begin..row.end];
            message.key(series_field(self.version), BYTES);
            message.varint((described.len() + one.len()) as u64);
            message.extend_from_slice(described);
            message.extend_from_slice(&one);
        }
        message
    }
}

/// The table of a 2.0 message, as it will stand there; empty for 1.0.
#[derive(Clone, Debug, Default)]
struct Symbols {
    bytes: Vec<u8>,
    known: HashMap<Box<str>, u32>,
}

impl Symbols {
    fn new(version: Version) -> Self {
        let mut symbols = Self::default();
        if version == Version::V2 {
            // the table begins with the empty string: what isn't said refers to it
            symbols.number("");
        }
        symbols
    }

    /// The number of a string in the table, which it is added to.
    fn number(&mut self, text: &str) -> u32 {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        // a message of 4 billion strings is beyond what anybody takes
        let number = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.known.insert(text.into(), number);
        self.bytes.bytes(4, text.as_bytes());
        number
    }
}

const fn series_field(version: Version) -> u32 {
    match version {
        Version::V1 => 1,
        Version::V2 => 5,
    }
}

fn start_ms(version: Version, metadata: &Metadata<'_>) -> i64 {
    metadata.created_ms.filter(|_| version == Version::V2).unwrap_or(0)
}

fn write_labels(out: &mut Vec<u8>, version: Version, symbols: &mut Symbols, labels: &[Label<'_>]) {
    match version {
        Version::V1 => labels.iter().for_each(|label| written_out(out, *label)),
        Version::V2 => references(out, symbols, labels),
    }
}

fn written_out(out: &mut Vec<u8>, label: Label<'_>) {
    out.key(1, BYTES);
    out.varint((text_len(label.name) + text_len(label.value)) as u64);
    text(out, 1, label.name);
    text(out, 2, label.value);
}

fn references(out: &mut Vec<u8>, symbols: &mut Symbols, labels: &[Label<'_>]) {
    let mut packed = Vec::with_capacity(4 * labels.len());
    for text in labels.iter().flat_map(|label| [label.name, label.value]) {
        packed.varint(u64::from(symbols.number(text)));
    }
    if !packed.is_empty() {
        out.bytes(1, &packed);
    }
}

/// Only 2.0 has it with each series.
fn write_metadata(
    out: &mut Vec<u8>,
    version: Version,
    symbols: &mut Symbols,
    metadata: &Metadata<'_>,
) {
    if version == Version::V1 {
        return;
    }
    let mut written = Vec::with_capacity(16);
    number(&mut written, 1, metadata.kind.number());
    number(&mut written, 3, u64::from(symbols.number(metadata.help)));
    number(&mut written, 4, u64::from(symbols.number(metadata.unit)));
    if !written.is_empty() {
        out.bytes(5, &written);
    }
}

fn write_sample(out: &mut Vec<u8>, sample: Sample, start_ms: i64) {
    let (time, start) = (sample.time_ms.cast_unsigned(), start_ms.cast_unsigned());
    let has_value = sample.value.to_bits() != 0;
    let length = if has_value { 9 } else { 0 } + number_len(time) + number_len(start);
    out.key(2, BYTES);
    out.varint(length as u64);
    if has_value {
        out.double(1, sample.value);
    }
    number(out, 2, time);
    number(out, 3, start);
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        out.key(field, VARINT);
        out.varint(value);
    }
}

/// Bytes of a number in a field below 16.
const fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        out.bytes(field, text.as_bytes());
    }
}

/// Bytes of a text in a field below 16.
const fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { 1 + varint_len(text.len() as u64) + text.len() }
}
