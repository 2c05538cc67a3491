//! What a receiver's reply means, and who should react.
//!
//! The specification forbids to read anything into the words of a refusal, and they differ from receiver
//! to receiver: only the status counts, the words are for people.

use std::time::Duration;

use agent_core::SinkError;
use remote_write::Version;
use remote_write::content::{self, Written};

use crate::http::{Reply, redirected, retry_after};

/// Bytes of a receiver's words that are repeated.
const WORDS_BYTES_MAX: usize = 1_024;

/// Why a request was not taken.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It speaks only 1.0, and that may be tried.
    SpeaksOnlyV1,
    /// Too much at once.
    TooLarge { reason: String },
    /// These samples will never be taken, as they are now.
    Invalid { reason: String },
    /// Try again later.
    Transient { reason: String, retry_after: Option<Duration> },
    /// A person has to change something.
    Refused { reason: String },
}

impl Trouble {
    /// For the shipper: about that record.
    pub(super) fn into_error(self, seq: u64) -> SinkError {
        match self {
            Self::Invalid { reason } | Self::TooLarge { reason } => {
                SinkError::Rejected { seq, reason }
            }
            Self::Transient { reason, retry_after } => SinkError::Transient { reason, retry_after },
            Self::Refused { reason } => SinkError::Refused { reason },
            Self::SpeaksOnlyV1 => {
                SinkError::Refused { reason: "speaks only remote write 1.0".to_owned() }
            }
        }
    }
}

/// What was asked.
pub(super) struct Asked<'a> {
    /// The request, for messages.
    pub(super) what: &'a str,
    pub(super) version: Version,
    /// Whether another version may be tried.
    pub(super) may_fall_back: bool,
    /// Whether the receiver has taken nothing so far.
    pub(super) is_first_contact: bool,
    /// Samples in it.
    pub(super) samples: usize,
}

/// Whether the receiver has taken everything.
pub(super) fn judge(asked: &Asked<'_>, reply: &Reply, now_ms: i64) -> Result<(), Trouble> {
    let status = reply.status.as_u16();
    let written = Written::read(|name| reply.headers.get(name)?.to_str().ok());
    let reason = || words(asked, reply, written);
    let refused = |advice: &str| Trouble::Refused { reason: format!("{}{advice}", reason()) };
    if asked.version == Version::V2 && is_v1_receiver(asked, status, written) {
        return Err(if asked.may_fall_back {
            Trouble::SpeaksOnlyV1
        } else {
            refused(
                ": it doesn't understand remote write 2.0, set `protocol` to \"auto\" or \"1.0\"",
            )
        });
    }
    Err(match status {
        200..=299 => return all_written(asked, written),
        // 409: Thanos says so of samples that are older than what it has, or differ from it
        400 | 409 | 422 => Trouble::Invalid { reason: reason() },
        413 => Trouble::TooLarge { reason: reason() },
        408 | 425 | 429 | 500.. => Trouble::Transient {
            reason: reason(),
            retry_after: retry_after(&reply.headers, now_ms),
        },
        401 => refused(": set `token`, and `username` if it asks for a password"),
        403 => refused(": this agent may not write there, check its credentials"),
        404 | 405 => refused(
            ": nobody takes remote write there, check the path of `url` (Prometheus: /api/v1/write, \
             with --web.enable-remote-write-receiver)",
        ),
        300..400 => refused(&redirected(&reply.headers)),
        _ => refused(": check that `url` leads to a receiver of remote write"),
    })
}

/// One of 1.0 may also take a 2.0 message for a bad one; one of 2.0 always says what it wrote.
fn is_v1_receiver(asked: &Asked<'_>, status: u16, written: Option<Written>) -> bool {
    let is_confused =
        status == 400 && written.is_none() && asked.is_first_contact && asked.may_fall_back;
    is_confused || content::understands_only_v1(status, written)
}

/// A receiver that takes a request and says that it wrote less contradicts itself.
fn all_written(asked: &Asked<'_>, written: Option<Written>) -> Result<(), Trouble> {
    let Some(written) = written else { return Ok(()) };
    let is_all = usize::try_from(written.samples).is_ok_and(|count| count >= asked.samples);
    if asked.version == Version::V1 || is_all {
        return Ok(());
    }
    let Asked { what, samples, .. } = asked;
    let reason = format!("{what}: 2xx, but {} of {samples} samples written", written.samples);
    Err(Trouble::Invalid { reason })
}

/// The status, what was written all the same, and the receiver's own words.
fn words(asked: &Asked<'_>, reply: &Reply, written: Option<Written>) -> String {
    let cut = reply.body.len().min(WORDS_BYTES_MAX);
    let said = String::from_utf8_lossy(&reply.body[..cut]);
    let said = said.trim().escape_debug();
    let colon = if reply.body.is_empty() { "" } else { ": " };
    let Asked { what, samples, .. } = asked;
    let partly = match written {
        Some(written) if written.samples > 0 => {
            format!(" ({} of {samples} samples written)", written.samples)
        }
        _ => String::new(),
    };
    format!("{what}: {}{colon}{said}{partly}", reply.status)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn verdict(
        version: Version,
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> String {
        let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: body.into(),
        };
        let is_first_contact = body == "first contact";
        let may_fall_back = body != "must be 2.0";
        let asked = Asked { what: "POST x", version, may_fall_back, is_first_contact, samples: 3 };
        match judge(&asked, &reply, 0) {
            Ok(()) => "taken".to_owned(),
            Err(trouble) => format!("{trouble:?}"),
        }
    }

    #[test]
    fn every_status_has_somebody_to_react() {
        let check = |status, headers: &[(&'static str, &'static str)], body, expected: &str| {
            let found = verdict(Version::V1, status, headers, body);
            assert!(found.contains(expected), "{status}: expected {expected:?} in {found:?}");
        };
        check(200, &[], "ignored", "taken");
        check(204, &[], "", "taken");
        check(
            400,
            &[],
            "out of order \"sample\"\n",
            r#"Invalid { reason: "POST x: 400 Bad Request: out of order"#,
        );
        check(409, &[], "", "Invalid");
        check(422, &[], "", "Invalid");
        check(413, &[], "", "TooLarge");
        check(429, &[("retry-after", "7")], "", "retry_after: Some(7s)");
        check(408, &[], "", "Transient");
        check(500, &[], "", "Transient");
        check(503, &[], "", "retry_after: None");
        check(401, &[], "", "set `token`, and `username` if it asks for a password");
        check(403, &[], "", "check its credentials");
        check(404, &[], "", "check the path of `url`");
        check(302, &[("location", "https://b/")], "", "redirects to https://b/");
        check(415, &[], "", "check that `url` leads to a receiver");
        check(418, &[], "", "Refused");
    }

    #[test]
    fn versions() {
        const SAMPLES: &str = content::SAMPLES_WRITTEN_HEADER;
        const LOWER: &str = "x-prometheus-remote-write-samples-written";
        assert!(SAMPLES.eq_ignore_ascii_case(LOWER));
        let check = |status, headers: &[(&'static str, &'static str)], body, expected: &str| {
            let found = verdict(Version::V2, status, headers, body);
            assert!(found.contains(expected), "{status}: expected {expected:?} in {found:?}");
        };
        check(204, &[(LOWER, "3")], "", "taken");
        check(204, &[], "", "SpeaksOnlyV1");
        check(415, &[], "", "SpeaksOnlyV1");
        check(415, &[], "must be 2.0", "set `protocol` to");
        check(204, &[(LOWER, "2")], "", "2 of 3 samples written");
        check(400, &[(LOWER, "2")], "", "(2 of 3 samples written)");
        check(400, &[], "", "Invalid");
        check(400, &[], "first contact", "SpeaksOnlyV1");
        check(400, &[(LOWER, "0")], "first contact", "Invalid");
    }
}
