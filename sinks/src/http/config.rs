//! Where the hub is, with which key and which CA, and who speaks.

use std::{fmt, path::PathBuf, rc::Rc, time::Duration};

use reqwest::Url;
use wire::{AgentId, InstanceId, StreamId, limits, request::Header};

/// Time to connect, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole request and its reply.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of envelopes in a request, before compression: enough that a drain compresses well, little
/// enough for the agent's memory. Far below [`limits::REQUEST_DECODED_BYTES_MAX`].
pub const BATCH_BYTES: usize = 1 << 20;

/// Where the hub is, and how it is spoken to.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// `http://` or `https://`, host, maybe port and path; `/api/v1/…` is added.
    pub url: String,
    /// The secret that both sides share; `None`: the hub asks for none.
    pub token: Option<String>,
    /// PEM file of the only CAs to trust; `None`: the host's own.
    pub ca_file: Option<PathBuf>,
    /// Bytes of envelopes in a request.
    pub batch_bytes: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for a whole request.
    pub request_timeout: Duration,
}

impl HttpConfig {
    /// The defaults around a URL: no token, the host's CAs.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            ca_file: None,
            batch_bytes: BATCH_BYTES,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, token, ca_file, batch_bytes, connect_timeout, request_timeout } = self;
        f.debug_struct("HttpConfig")
            .field("url", url)
            .field("token", &token.as_ref().map(|_| "(secret)"))
            .field("ca_file", ca_file)
            .field("batch_bytes", batch_bytes)
            .field("connect_timeout", connect_timeout)
            .field("request_timeout", request_timeout)
            .finish()
    }
}

/// A configuration that can't work.
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    /// The URL isn't one.
    #[error("url {url:?}: {reason}; expected something like https://hub.example.org:8443")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The CA file can't be read.
    #[error("read ca_file {path}")]
    CaRead {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The CA file holds no certificates.
    #[error("ca_file {path}: {reason}; expected certificates in PEM form")]
    Ca {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refused.
    #[error("set up HTTP client: {0}")]
    Client(String),
}

/// Checks a URL, and gives it a path that ends in a slash, for others to be joined to it.
pub(crate) fn base_url(text: &str) -> Result<Url, HttpConfigError> {
    let mut url = checked_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        let reason = "has a query or a fragment".to_owned();
        return Err(HttpConfigError::Url { url: text.to_owned(), reason });
    }
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// Checks a URL: of HTTP, to a host, and without secrets.
pub(crate) fn checked_url(text: &str) -> Result<Url, HttpConfigError> {
    let wrong = |reason: &str| HttpConfigError::Url { url: text.into(), reason: reason.into() };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // not shown: it may be a secret
        let url = "…@…".to_owned();
        let reason = "holds a name or a password: the key goes into `token`".to_owned();
        return Err(HttpConfigError::Url { url, reason });
    }
    Ok(url)
}

/// Who speaks.
#[derive(Clone)]
pub struct Identity {
    /// This agent.
    pub agent_id: AgentId,
    /// Which process of it: another one for each start, one for all sinks of a process.
    pub instance_id: InstanceId,
    /// Its version.
    pub version: String,
    hostname: Rc<dyn Fn() -> String>,
    last_seq: Option<Rc<dyn Fn() -> u64>>,
}

impl Identity {
    /// An agent on a host that is called what `hostname` says at the time.
    pub fn new(
        agent_id: AgentId,
        instance_id: InstanceId,
        version: impl Into<String>,
        hostname: impl Fn() -> String + 'static,
    ) -> Self {
        let (version, hostname) = (version.into(), Rc::new(hostname));
        Self { agent_id, instance_id, version, hostname, last_seq: None }
    }

    /// Tells the hub the highest number in the log, too, so that it sees when a log was set back: by
    /// a restored snapshot, or a copy that went on elsewhere.
    #[must_use]
    pub fn with_log(self, last_seq: impl Fn() -> u64 + 'static) -> Self {
        Self { last_seq: Some(Rc::new(last_seq)), ..self }
    }

    /// The host's name now, such that a hub takes it: a kernel takes any bytes.
    #[must_use]
    pub fn hostname(&self) -> String {
        let mut name = (self.hostname)();
        name.retain(|c| !c.is_control());
        name.truncate(name.floor_char_boundary(limits::HOSTNAME_BYTES_MAX));
        name
    }

    /// `sending` is the highest number that goes along: the log holds at least that.
    pub(crate) fn header(&self, stream_id: StreamId, sending: u64, sent_ms: i64) -> Header {
        Header {
            agent_id: self.agent_id,
            instance_id: self.instance_id,
            stream_id,
            hostname: self.hostname(),
            agent_version: self.version.clone(),
            sent_ms,
            last_seq: self.last_seq.as_ref().map(|last_seq| last_seq().max(sending)),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent_id, instance_id, version, .. } = self;
        let hostname = self.hostname();
        let mut shown = f.debug_struct("Identity");
        shown.field("agent_id", agent_id).field("instance_id", instance_id);
        shown.field("version", version);
        shown.field("hostname", &hostname).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |text: &str, expected: Result<&str, &str>| match (base_url(text), expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                assert!(error.contains(expected), "expected {expected:?} in {error:?}");
            }
            (found, _) => panic!("{text:?}: {found:?}"),
        };
        check("http://hub:8080", Ok("http://hub:8080/"));
        check("https://hub", Ok("https://hub/"));
        check("https://hub/holdfast", Ok("https://hub/holdfast/"));
        check("https://[::1]:1/a//", Ok("https://[::1]:1/a/"));
        check("hub:8080", Err("begins with neither http:// nor https://"));
        check("hub", Err("relative URL"));
        check("", Err("relative URL"));
        check("https://", Err("empty host"));
        check("ftp://hub", Err("begins with neither"));
        check("https://hub?x=1", Err("has a query"));
        check("https://me:hush@hub", Err("the key goes into `token`"));
        let error = base_url("https://me:hush@hub").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"));
    }

    #[test]
    fn a_token_is_never_shown() {
        let config = HttpConfig { token: Some("hush".into()), ..HttpConfig::new("http://hub") };
        assert!(!format!("{config:?}").contains("hush"));
    }

    fn identity(hostname: impl Fn() -> String + 'static) -> Identity {
        let (agent_id, instance_id) =
            (AgentId::from_bytes([1; 16]), InstanceId::from_bytes([2; 16]));
        Identity::new(agent_id, instance_id, "0", hostname)
    }

    #[test]
    fn a_log_is_never_said_to_hold_less_than_what_is_sent() {
        let stream_id = StreamId::from_bytes([3; 16]);
        let check = |identity: &Identity, sending, expected| {
            assert_eq!(identity.header(stream_id, sending, 0).last_seq, expected);
        };
        check(&identity(String::new), 7, None);
        let told = identity(String::new).with_log(|| 5);
        check(&told, 4, Some(5));
        check(&told, 7, Some(7));
    }

    #[test]
    fn any_hostname_is_made_fit() {
        let check = |name: &'static str, expected: &str| {
            assert_eq!(identity(move || name.to_owned()).hostname(), expected);
        };
        check("web-1", "web-1");
        check("we\nb\u{7f}", "web");
        check("", "");
        let long = "é".repeat(200);
        assert_eq!(identity(move || long.clone()).hostname().len(), 252);
    }
}
