//! A tick or a gap as text.
//!
//! - [`prometheus`]: the text format that scrapers read, byte for byte as node_exporter writes it.
//! - [`json`]: one object a line.
//! - [`pretty`]: for people.
//!
//! Everything writes to an [`io::Write`]; the only errors are the writer's.

pub mod go_float;
pub mod json;
pub mod pretty;
pub mod prometheus;
mod units;

use std::{
    fmt,
    io::{self, Write},
    str::FromStr,
};

use wire::{Family, Gap, Schema, StreamId};

/// One series with its value.
pub type Sample<'a> = (&'a Family, &'a [(String, String)], f64);

/// One collector's series and values of one tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block<'a> {
    /// The series.
    pub schema: &'a Schema,
    /// Their values, in order.
    pub values: &'a [f64],
}

impl<'a> Block<'a> {
    /// The samples, in order.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'a>> + use<'a> {
        let values = self.values.iter();
        self.schema.iter().zip(values).map(|((family, labels), value)| (family, labels, *value))
    }
}

/// What is rendered.
#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    /// One tick, a block a collector.
    Tick(Vec<Block<'a>>),
    /// Something is missing.
    Gap(&'a Gap),
}

/// Where it comes from; what is `None` is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heading<'a> {
    /// The stream of the record.
    pub stream_id: Option<StreamId>,
    /// Its place in the stream.
    pub seq: Option<u64>,
    /// Unix milliseconds.
    pub time_ms: i64,
    /// The host's name.
    pub host: Option<&'a str>,
}

/// How to render.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format 0.0.4.
    #[default]
    Prometheus,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

impl Format {
    /// All of them, for documentation and completion.
    pub const ALL: [Self; 3] = [Self::Prometheus, Self::Json, Self::Pretty];

    /// Its name in configuration and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Json => "json",
            Self::Pretty => "pretty",
        }
    }

    /// Writes one tick or gap.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(
        self,
        out: &mut impl Write,
        heading: &Heading<'_>,
        content: &Content<'_>,
    ) -> io::Result<()> {
        match self {
            Self::Prometheus => prometheus::write(out, content),
            Self::Json => json::write(out, heading, content),
            Self::Pretty => pretty::write(out, heading, content),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a [`Format`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: expected prometheus, json or pretty")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let named = |format: &Self| format.as_str() == name;
        Self::ALL.into_iter().find(named).ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn formats_have_names() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "yaml".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "unknown format \"yaml\": expected prometheus, json or pretty");
    }
}
