//! Writing a message.

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
    /// The table of a 2.0 message as it will stand there.
    symbols: Vec<u8>,
    known: HashMap<Box<str>, u32>,
    /// One series, before its length is known.
    one: Vec<u8>,
    samples: usize,
}

impl Encoder {
    /// An encoder with nothing in it.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let mut encoder = Self {
            version,
            series: Vec::new(),
            symbols: Vec::new(),
            known: HashMap::new(),
            one: Vec::new(),
            samples: 0,
        };
        encoder.clear();
        encoder
    }

    /// Of which version its messages are.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Bytes of the message so far, before compression.
    #[must_use]
    pub fn len(&self) -> usize {
        self.symbols.len() + self.series.len()
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
        match self.version {
            Version::V1 => labels.iter().for_each(|label| self.written_out(*label)),
            Version::V2 => self.references(labels),
        }
        let start_ms = metadata.created_ms.filter(|_| self.version == Version::V2).unwrap_or(0);
        for sample in samples {
            write_sample(&mut self.one, *sample, start_ms);
        }
        if self.version == Version::V2 {
            self.metadata(metadata);
        }
        let number = match self.version {
            Version::V1 => 1,
            Version::V2 => 5,
        };
        self.series.bytes(number, &self.one);
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
        let mut message = std::mem::take(&mut self.symbols);
        message.extend_from_slice(&self.series);
        self.clear();
        message
    }

    /// Throws away what was added.
    pub fn clear(&mut self) {
        self.series.clear();
        self.symbols.clear();
        self.known.clear();
        self.samples = 0;
        if self.version == Version::V2 {
            // the table begins with the empty string: what isn't said refers to it
            self.symbol("");
        }
    }

    fn written_out(&mut self, label: Label<'_>) {
        let length = text_len(label.name) + text_len(label.value);
        self.one.key(1, BYTES);
        self.one.varint(length as u64);
        text(&mut self.one, 1, label.name);
        text(&mut self.one, 2, label.value);
    }

    fn references(&mut self, labels: &[Label<'_>]) {
        let mut packed = Vec::with_capacity(4 * labels.len());
        for text in labels.iter().flat_map(|label| [label.name, label.value]) {
            packed.varint(u64::from(self.symbol(text)));
        }
        if !packed.is_empty() {
            self.one.bytes(1, &packed);
        }
    }

    fn metadata(&mut self, metadata: &Metadata<'_>) {
        let (help, unit) = (self.symbol(metadata.help), self.symbol(metadata.unit));
        let mut written = Vec::with_capacity(16);
        number(&mut written, 1, metadata.kind.number());
        number(&mut written, 3, u64::from(help));
        number(&mut written, 4, u64::from(unit));
        if !written.is_empty() {
            self.one.bytes(5, &written);
        }
    }

    /// The number of a string in the table, which it is added to.
    fn symbol(&mut self, text: &str) -> u32 {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        // a message of 4 billion strings is beyond what anybody takes
        let number = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.known.insert(text.into(), number);
        self.symbols.bytes(4, text.as_bytes());
        number
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
