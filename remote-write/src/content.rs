//! Headers: which version is spoken, and what became of a request.

/// What every request's `Content-Encoding` says; there is no other.
pub const ENCODING: &str = "snappy";
/// The header that says which specification a sender follows.
pub const VERSION_HEADER: &str = "X-Prometheus-Remote-Write-Version";
/// Samples that a receiver has written of a request.
pub const SAMPLES_WRITTEN_HEADER: &str = "X-Prometheus-Remote-Write-Samples-Written";
/// Native histograms that a receiver has written of a request.
pub const HISTOGRAMS_WRITTEN_HEADER: &str = "X-Prometheus-Remote-Write-Histograms-Written";
/// Exemplars that a receiver has written of a request.
pub const EXEMPLARS_WRITTEN_HEADER: &str = "X-Prometheus-Remote-Write-Exemplars-Written";

const MEDIA_TYPE: &str = "application/x-protobuf";

/// A version of the protocol, which is the message that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 1.0: `prometheus.WriteRequest`.
    V1,
    /// 2.0: `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// Its message's full name.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }

    /// The `Content-Type` to send. For 1.0 without the message's name: old receivers know none.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::V1 => MEDIA_TYPE,
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// What to send as [`VERSION_HEADER`].
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// A request that isn't remote write: status 415.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Another type.
    #[error("content type {0:?} isn't remote write: expected application/x-protobuf")]
    Type(String),
    /// Another message.
    #[error(
        "protobuf message {0:?} isn't known: expected prometheus.WriteRequest or \
         io.prometheus.write.v2.Request"
    )]
    Message(String),
    /// Another compression.
    #[error("content encoding {0:?} isn't supported: expected snappy")]
    Encoding(String),
}

/// Which message a request holds, by its `Content-Type` and `Content-Encoding`. A missing header is
/// taken as 1.0's: there are senders that send none, as Prometheus takes them.
///
/// # Errors
///
/// Another type, message or compression.
pub fn accept(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<Version, Unsupported> {
    let encoding = content_encoding.unwrap_or(ENCODING).trim();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(ENCODING) {
        return Err(Unsupported::Encoding(encoding.to_owned()));
    }
    let content_type = content_type.unwrap_or(MEDIA_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case(MEDIA_TYPE)) {
        return Err(Unsupported::Type(content_type.to_owned()));
    }
    let message = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    match message {
        None => Ok(Version::V1),
        Some(name) => [Version::V1, Version::V2]
            .into_iter()
            .find(|version| version.message() == name)
            .ok_or_else(|| Unsupported::Message(name.to_owned())),
    }
}

/// What a receiver says to have written of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Written {
    /// As headers of a reply.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            (SAMPLES_WRITTEN_HEADER, self.samples.to_string()),
            (HISTOGRAMS_WRITTEN_HEADER, self.histograms.to_string()),
            (EXEMPLARS_WRITTEN_HEADER, self.exemplars.to_string()),
        ]
    }

    /// From the headers of a reply, which `get` looks up; `None` when there is none of them, so that
    /// nothing was said. One that is missing beside others is 0, as the specification has it.
    pub fn read<'h>(get: impl Fn(&'static str) -> Option<&'h str>) -> Option<Self> {
        let read = |name| get(name).and_then(|text| text.trim().parse::<u64>().ok());
        let samples = read(SAMPLES_WRITTEN_HEADER);
        let histograms = read(HISTOGRAMS_WRITTEN_HEADER);
        let exemplars = read(EXEMPLARS_WRITTEN_HEADER);
        samples.or(histograms).or(exemplars)?;
        Some(Self {
            samples: samples.unwrap_or(0),
            histograms: histograms.unwrap_or(0),
            exemplars: exemplars.unwrap_or(0),
        })
    }
}

/// Whether a receiver that was sent a 2.0 message has to be spoken to in 1.0: it says 415; or it says
/// that all is well but not what it wrote, so that it took the message for one of 1.0, which is then
/// empty to it.
#[must_use]
pub const fn understands_only_v1(status: u16, written: Option<Written>) -> bool {
    match status {
        415 => true,
        200..=299 => written.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation() {
        let check = |content_type, encoding, expected: Result<Version, &str>| {
            let found = accept(content_type, encoding).map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{content_type:?}"),
                (Err(found), Err(expected)) => {
                    assert!(found.contains(expected), "expected {expected:?} in {found:?}");
                }
                other => panic!("{content_type:?}, {encoding:?}: {other:?}"),
            }
        };
        for version in [Version::V1, Version::V2] {
            check(Some(version.content_type()), Some("snappy"), Ok(version));
        }
        check(None, None, Ok(Version::V1));
        check(Some("Application/X-Protobuf"), Some("Snappy"), Ok(Version::V1));
        check(Some("application/x-protobuf; proto=prometheus.WriteRequest"), None, Ok(Version::V1));
        check(
            Some("application/x-protobuf ; charset=x; Proto = \"io.prometheus.write.v2.Request\""),
            None,
            Ok(Version::V2),
        );
        check(Some("text/plain"), None, Err(r#"content type "text/plain" isn't remote write"#));
        check(Some(""), None, Err(r#"content type "" isn't"#));
        check(
            Some("application/x-protobuf;proto=io.prometheus.write.v3.Request"),
            None,
            Err("message \"io.prometheus.write.v3.Request\" isn't known"),
        );
        check(None, Some("zstd"), Err(r#"content encoding "zstd" isn't supported"#));
    }

    #[test]
    fn what_was_written() {
        let written = Written { samples: 3, histograms: 0, exemplars: 1 };
        let headers = written.headers();
        let get = |name| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(Written::read(get), Some(written));
        assert_eq!(Written::read(|_| None), None);
        assert_eq!(Written::read(|_| Some("many")), None);
        let samples = |name| (name == SAMPLES_WRITTEN_HEADER).then_some("7");
        assert_eq!(Written::read(samples), Some(Written { samples: 7, ..Written::default() }));
    }

    #[test]
    fn falling_back() {
        let check = |status, written, expected| {
            assert_eq!(understands_only_v1(status, written), expected, "{status} {written:?}");
        };
        let some = Some(Written::default());
        check(415, None, true);
        check(204, None, true);
        check(204, some, false);
        check(200, some, false);
        check(400, None, false);
        check(503, None, false);
    }
}
