//! What a hub's reply means, and who should react.

use std::time::{Duration, SystemTime};

use agent_core::SinkError;
use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, LOCATION, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use wire::api::{ErrorBody, IDENTITY_ADVICE, IDENTITY_CONFLICT};

use super::transport::Reply;

/// A hub that says to come back later than this is asked again all the same: its word may be old.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// Bytes of a hub's message that are repeated.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// The answer, if it is one; `what` is the request, for messages.
pub(crate) fn judge<T: DeserializeOwned>(
    what: &str,
    reply: &Reply,
    now_ms: i64,
) -> Result<T, SinkError> {
    if reply.status != StatusCode::OK {
        return Err(refusal(what, reply, now_ms));
    }
    serde_json::from_slice(&reply.body).map_err(|error| SinkError::Refused {
        reason: format!(
            "{what}: the answer is not a hub's ({error}): check that `url` leads to a hub, and \
             that no proxy answers in its place"
        ),
    })
}

fn refusal(what: &str, reply: &Reply, now_ms: i64) -> SinkError {
    let body = serde_json::from_slice::<ErrorBody>(&reply.body).ok();
    let said = said(reply.status, body.as_ref());
    let refused = |advice: &str| SinkError::Refused { reason: format!("{what}: {said}{advice}") };
    match reply.status.as_u16() {
        400 => match body.and_then(|body| body.record) {
            Some(record) => SinkError::Rejected { seq: record.seq, reason: said },
            None => refused(": agent and hub don't understand each other, update the older one"),
        },
        401 => refused(": set the hub's token here, and check both clocks"),
        403 => refused(": this agent may not write there, check its token"),
        404 | 405 => refused(": no hub answers there, check `url`"),
        409 => conflict(what, &said, body.as_ref()),
        413 => SinkError::TooLarge { reason: said },
        408 | 425 | 429 | 500.. => SinkError::Transient {
            reason: format!("{what}: {said}"),
            retry_after: retry_after(&reply.headers, now_ms),
        },
        300..400 => refused(&redirected(&reply.headers)),
        _ => refused(": check that `url` leads to a hub of this version"),
    }
}

/// Two agents use one identity. The hub says who the other is and what to do; what isn't a hub's word
/// leaves that to us.
fn conflict(what: &str, said: &str, body: Option<&ErrorBody>) -> SinkError {
    let is_told = body.is_some_and(|body| body.error == IDENTITY_CONFLICT);
    let advice = if is_told {
        String::new()
    } else {
        format!(": stop one of the two agents, {IDENTITY_ADVICE}")
    };
    SinkError::Conflict { reason: format!("{what}: {said}{advice}") }
}

/// The status, and the hub's own words if they are there.
fn said(status: StatusCode, body: Option<&ErrorBody>) -> String {
    let Some(body) = body else { return status.to_string() };
    let cut = body.message.floor_char_boundary(MESSAGE_BYTES_MAX);
    let message = body.message[..cut].escape_debug();
    format!("{}: {message}", status.as_u16())
}

/// Where a redirect leads: it isn't followed.
pub(crate) fn redirected(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    match location {
        Some(location) => format!(": redirects to {location}, set `url` to where the hub is"),
        None => ": set `url` to where the hub is".to_owned(),
    }
}

/// Seconds, or an HTTP date (RFC 9110, 10.2.3); anything else is as if it weren't there.
pub(crate) fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = httpdate::parse_http_date(text).ok()?;
            // By the far side's own clock if it tells: ours may be wrong by years.
            let now = headers.get(DATE).and_then(|value| value.to_str().ok());
            let now = now.and_then(|text| httpdate::parse_http_date(text).ok());
            let ours = || u64::try_from(now_ms).ok().map(Duration::from_millis);
            let now = now.or_else(|| Some(SystemTime::UNIX_EPOCH + ours()?))?;
            then.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// No whole reply came: the hub is away, the network is, or it took too long.
pub(crate) fn transport(error: reqwest::Error) -> String {
    // the request is named already
    chain(&error.without_url())
}

/// An error with its causes; what a cause repeats of the one before it is said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use wire::api::IngestReply;

    use super::*;

    const NOW_MS: i64 = 784_111_747_000; // ten seconds before RFC 9110's example of a date

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Reply {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: body.into(),
        }
    }

    /// Who should react, and with what words.
    fn verdict(reply: &Reply) -> (&'static str, String) {
        match judge::<IngestReply>("POST x", reply, NOW_MS) {
            Ok(reply) => ("ok", format!("{}", reply.acked_seq)),
            Err(SinkError::Transient { reason, retry_after }) => {
                ("transient", format!("{reason} {retry_after:?}"))
            }
            Err(SinkError::Refused { reason }) => ("refused", reason),
            Err(SinkError::Conflict { reason }) => ("conflict", reason),
            Err(SinkError::Rejected { seq, reason }) => ("rejected", format!("{seq} {reason}")),
            Err(SinkError::TooLarge { reason }) => ("too large", reason),
        }
    }

    fn check(reply: &Reply, who: &str, words: &str) {
        let (found_who, found_words) = verdict(reply);
        assert_eq!(found_who, who, "{found_words}");
        assert!(found_words.contains(words), "expected {words:?} in {found_words:?}");
    }

    #[test]
    fn every_status_has_somebody_to_react() {
        let body = r#"{"error":"x","message":"what was \"wrong\""}"#;
        check(&reply(200, &[], r#"{"acked_seq":7,"time_ms":1}"#), "ok", "7");
        check(&reply(200, &[], "<html>"), "refused", "check that `url` leads to a hub");
        check(&reply(200, &[], ""), "refused", "the answer is not a hub's");
        check(&reply(204, &[], ""), "refused", "204 No Content");
        check(&reply(400, &[], body), "refused", r#"POST x: 400: what was \"wrong\""#);
        let record = r#"{"error":"x","message":"m","record":{"index":1,"seq":9}}"#;
        check(&reply(400, &[], record), "rejected", "9 400: m");
        check(&reply(400, &[], "<html>"), "refused", "400 Bad Request: agent and hub");
        check(&reply(401, &[], body), "refused", "set the hub's token");
        check(&reply(403, &[], ""), "refused", "check its token");
        check(&reply(404, &[], ""), "refused", "check `url`");
        check(&reply(405, &[], ""), "refused", "check `url`");
        check(&reply(409, &[], body), "conflict", "delete the file `agent-id`");
        let told = r#"{"error":"identity_conflict","message":"also on web-2: do this"}"#;
        check(&reply(409, &[], told), "conflict", "POST x: 409: also on web-2: do this");
        check(&reply(413, &[], body), "too large", "413: what was");
        check(&reply(415, &[], body), "refused", "of this version");
        check(&reply(408, &[], ""), "transient", "408 Request Timeout");
        check(&reply(429, &[], body), "transient", "429: what was");
        for status in [500, 502, 503, 504, 599] {
            check(&reply(status, &[], ""), "transient", "None");
        }
        check(&reply(302, &[("location", "https://b/")], ""), "refused", "redirects to https://b/");
        check(&reply(307, &[], ""), "refused", "set `url`");
        // only a bad request names a record; a server that fails doesn't
        check(&reply(500, &[], record), "transient", "500: m");
    }

    #[test]
    fn retry_after_in_both_forms() {
        let check = |text: &'static str, expected: Option<u64>| {
            for status in [429, 503] {
                let reply = reply(status, &[("retry-after", text)], "");
                let Err(SinkError::Transient { retry_after, .. }) =
                    judge::<IngestReply>("x", &reply, NOW_MS)
                else {
                    panic!("{status} is transient");
                };
                assert_eq!(retry_after, expected.map(Duration::from_secs), "{status} {text:?}");
            }
        };
        check("0", Some(0));
        check("120", Some(120));
        check(" 5 ", Some(5));
        check("99999999", Some(3_600));
        check("Sun, 06 Nov 1994 08:49:17 GMT", Some(10));
        check("Sunday, 06-Nov-94 08:49:17 GMT", Some(10));
        check("Sun Nov  6 08:49:17 1994", Some(10));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0));
        check("Sat, 06 Nov 2094 08:49:17 GMT", Some(3_600));
        let dates = [
            ("date", "Sun, 06 Nov 1994 08:49:27 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        let found = retry_after(&reply(503, &dates, "").headers, NOW_MS - 86_400_000);
        assert_eq!(found, Some(Duration::from_secs(10)), "by the far side's clock");
        check("soon", None);
        check("-1", None);
        check("", None);
    }

    #[test]
    fn long_and_broken_messages_stay_short_and_on_one_line() {
        let message = "é\\n".repeat(1_000);
        let body = format!(r#"{{"error":"x","message":"{message}"}}"#);
        let (_, words) = verdict(&reply(503, &[], &body));
        assert!(words.len() < 2 * MESSAGE_BYTES_MAX && !words.contains('\n'), "{words}");
    }
}
