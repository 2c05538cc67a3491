//! Where, as whom, and with which labels.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use crate::http::{HttpConfig, HttpConfigError, Sockets, Transport, checked_url};

/// Series in one request, unless told otherwise: more than a host has.
pub(super) const SAMPLES_PER_REQUEST: usize = 10_000;

/// Which version of the protocol to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// 2.0, and 1.0 with a receiver that doesn't understand it.
    #[default]
    Auto,
    /// 1.0.
    V1,
    /// 2.0; a receiver that doesn't understand it is refused.
    V2,
}

/// What proves who writes.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A token, sent as it is.
    Bearer(String),
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where a receiver is, and how it is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWriteConfig {
    /// The whole address: `http://prometheus:9090/api/v1/write`.
    pub url: String,
    /// Which version of the protocol.
    pub protocol: Protocol,
    /// What proves who writes; `None`: nothing.
    pub credentials: Option<Credentials>,
    /// Further headers, for example the tenant's.
    pub headers: BTreeMap<String, String>,
    /// PEM file of the only CAs to trust; `None`: the host's own.
    pub ca_file: Option<PathBuf>,
    /// Time for a whole request.
    pub request_timeout: Duration,
    /// Label `job` of every series; empty: none.
    pub job: String,
    /// Label `instance` of every series; empty: none.
    pub instance: String,
    /// Labels of every series that doesn't have them itself.
    pub external_labels: BTreeMap<String, String>,
    /// Samples in one request.
    pub max_samples_per_request: usize,
    /// Collectors that don't run in every tick, and how often they do: their series don't end in between.
    pub intervals: BTreeMap<String, Duration>,
    /// Where to note how far sending came; `None`: nowhere, and what is sent again after a crash may be
    /// told as refused.
    pub state_file: Option<PathBuf>,
    /// The agent's version.
    pub version: String,
}

impl RemoteWriteConfig {
    /// The defaults around a URL: job `node`, no instance, nobody in particular.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            protocol: Protocol::Auto,
            credentials: None,
            headers: BTreeMap::new(),
            ca_file: None,
            request_timeout: Duration::from_secs(30),
            job: "node".to_owned(),
            instance: String::new(),
            external_labels: BTreeMap::new(),
            max_samples_per_request: SAMPLES_PER_REQUEST,
            intervals: BTreeMap::new(),
            state_file: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn transport(&self) -> Result<impl Transport + 'static, HttpConfigError> {
        let http = HttpConfig {
            ca_file: self.ca_file.clone(),
            request_timeout: self.request_timeout,
            ..HttpConfig::new(&self.url)
        };
        Sockets::new(&http, &checked_url(&self.url)?, &self.version)
    }

    /// The address without its query, which may hold a secret.
    pub(super) fn shown_url(&self) -> String {
        let shown = Url::parse(&self.url).map(|mut url| {
            url.set_query(None);
            url.to_string()
        });
        shown.unwrap_or_default()
    }

    pub(super) fn authorization(&self) -> Option<String> {
        Some(match self.credentials.as_ref()? {
            Credentials::Bearer(token) => format!("Bearer {token}"),
            Credentials::Basic { username, password } => {
                format!("Basic {}", base64(format!("{username}:{password}").as_bytes()))
            }
        })
    }

    pub(super) fn header_map(&self) -> Result<HeaderMap, RemoteWriteConfigError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = |reason| RemoteWriteConfigError::Header { name: name.clone(), reason };
            let parsed: HeaderName = name.parse().map_err(|_| wrong("is not a header's name"))?;
            if is_reserved(&parsed) {
                return Err(wrong("is set by the protocol, by `token` or by `username`"));
            }
            let value = HeaderValue::from_str(value);
            headers
                .insert(parsed, value.map_err(|_| wrong("has a value that no header can have"))?);
        }
        Ok(headers)
    }
}

/// Headers that the specification, HTTP or other keys speak for.
fn is_reserved(name: &HeaderName) -> bool {
    let reserved = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
        "x-prometheus-remote-write-version",
    ];
    reserved.contains(&name.as_str())
}

/// A configuration that can't work.
#[derive(Debug, thiserror::Error)]
pub enum RemoteWriteConfigError {
    /// URL or CA.
    #[error(transparent)]
    Http(#[from] HttpConfigError),
    /// A header that can't be sent.
    #[error("headers: {name:?} {reason}")]
    Header {
        /// As configured.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A label that can't be added.
    #[error("external_labels: {name:?} {reason}")]
    Label {
        /// As configured.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = char::from(ALPHABET[(bits >> shift) as usize & 63]);
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials() {
        let check = |credentials, expected: &str| {
            let credentials = Some(credentials);
            let config = RemoteWriteConfig { credentials, ..RemoteWriteConfig::new("http://x") };
            assert_eq!(config.authorization().unwrap(), expected);
            assert!(!format!("{config:?}").contains("hush"));
        };
        let basic = |username: &str, password: &str| Credentials::Basic {
            username: username.into(),
            password: password.into(),
        };
        check(Credentials::Bearer("hush".into()), "Bearer hush");
        // RFC 7617's own example
        check(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        check(basic("a", "b"), "Basic YTpi");
        check(basic("a", ""), "Basic YTo=");
        check(basic("ab", "hush"), "Basic YWI6aHVzaA==");
    }

    #[test]
    fn headers() {
        let check = |name: &str, value: &str, expected: &str| {
            let headers = [(name.to_owned(), value.to_owned())].into();
            let config = RemoteWriteConfig { headers, ..RemoteWriteConfig::new("http://x") };
            let found = config
                .header_map()
                .map_or_else(|error| error.to_string(), |map| format!("{map:?}"));
            assert!(found.contains(expected), "expected {expected:?} in {found:?}");
        };
        check("X-Scope-OrgID", "team-a", r#"{"x-scope-orgid": "team-a"}"#);
        check("User-Agent", "x", "is set by the protocol");
        check("authorization", "x", "by `token`");
        check("a b", "x", "headers: \"a b\" is not a header's name");
        check("a", "x\n", "has a value that no header can have");
    }

    #[test]
    fn addresses_keep_their_path_and_query() {
        let check = |url: &str, shown: &str| {
            assert_eq!(checked_url(url).unwrap().as_str(), url);
            assert_eq!(RemoteWriteConfig::new(url).shown_url(), shown);
        };
        check("http://p:9090/api/v1/write", "http://p:9090/api/v1/write");
        check("https://vm/api/v1/write?key=hush", "https://vm/api/v1/write");
        assert!(checked_url("ftp://x").is_err());
        assert!(checked_url("http://me:hush@x/").is_err());
    }
}
