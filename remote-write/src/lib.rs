//! Prometheus remote write, 1.0 and 2.0: what senders and receivers of samples say to each other.
//!
//! Codec and rules only: nothing here opens a socket, reads a file or asks for the time.
//!
//! - [`Encoder`] writes the protobuf message of either version ([`Template`] for series that are sent
//!   again and again), [`decode`] reads it, in bounds that
//!   [`Limits`] names. What is read borrows from the message: nothing is copied but numbers.
//! - [`snappy`]: the compression around it (block format), whose claimed size is checked first.
//! - [`content`]: content types, header names, which version is spoken, what was written.
//! - [`labels`]: the specification's rules for the labels of a series.
//!
//! After the specifications, <https://prometheus.io/docs/specs/prw/remote_write_spec/> (1.0) and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/> (2.0-rc.4). Why the messages are
//! read and written by hand: `docs/decisions/0014-remote-write.md`.
//!
//! ```
//! use remote_write::{Encoder, Label, Limits, Metadata, Sample, Version, decode, snappy};
//!
//! let labels = [Label::new("__name__", "node_load1"), Label::new("instance", "a")];
//! let mut encoder = Encoder::new(Version::V2);
//! encoder.series(&labels, &[Sample::new(1_000, 0.5)], &Metadata::default());
//! let body = snappy::compress(&encoder.finish());
//!
//! let limits = Limits::default();
//! let message = snappy::decompress(&body, limits.message_bytes).unwrap();
//! let request = decode(Version::V2, &message, &limits).unwrap();
//! assert_eq!(request.series().next().unwrap().labels, labels);
//! ```

pub mod content;
mod decode;
mod encode;
mod error;
pub mod labels;
mod limits;
mod model;
mod protobuf;
pub mod snappy;

pub use content::Version;
pub use decode::{Request, Series, decode};
pub use encode::{Encoder, Template};
pub use error::{DecodeError, Flaw, Place};
pub use limits::Limits;
pub use model::{Family, Label, Metadata, MetricType, STALE_BITS, Sample, is_stale, stale};
