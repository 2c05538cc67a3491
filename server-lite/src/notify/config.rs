//! Notifiers as they are configured.
//!
//! ```toml
//! [notify.log]
//! enabled = true                  # the default: every alert is logged
//!
//! [notify.webhooks.ops]
//! url = "https://example.org/hook"
//! format = "json"                 # or "slack"; default json
//! token = "…"                     # sent as `Authorization: Bearer …`
//! timeout = "10s"                 # of one try; default 10s
//! give_up_after = "1d"            # of all tries together; default 1d
//! headers = { X-Team = "ops" }    # sent with each request
//! ```

use std::collections::BTreeMap;

use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};
use settings::{Duration, Secret};

/// Time for one try, unless configured.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Shortest time for one try.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longest time for one try.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Time after which a notification that can't be delivered is given up, unless configured: a page
/// of yesterday helps nobody, and it holds up those behind it.
pub const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// The table `[notify]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotifyConfig {
    /// The hub's own log.
    pub log: LogConfig,
    /// Webhooks by name.
    pub webhooks: BTreeMap<WebhookName, WebhookConfig>,
}

/// The table `[notify.log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Whether alerts are logged. Default: true.
    pub enabled: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// A table `[notify.webhooks.<name>]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to. May hold a secret, so it is never shown whole.
    pub url: WebhookUrl,
    /// What the body looks like.
    #[serde(default)]
    pub format: Format,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Sent with each request.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// Time for one try.
    #[serde(default = "timeout_default", deserialize_with = "timeout")]
    pub timeout: Duration,
    /// Time for all tries of one notification together.
    #[serde(default = "give_up_after_default")]
    pub give_up_after: Duration,
}

fn timeout_default() -> Duration {
    TIMEOUT_DEFAULT
}

fn timeout<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let found = Duration::deserialize(deserializer)?;
    if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&found) {
        return Ok(found);
    }
    let reason =
        format!("found {found}, expected at least {TIMEOUT_MIN} and at most {TIMEOUT_MAX}");
    Err(serde::de::Error::custom(reason))
}

fn give_up_after_default() -> Duration {
    GIVE_UP_AFTER_DEFAULT
}

/// What the body of a webhook looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// [`super::Notification`].
    #[default]
    Json,
    /// As Slack's incoming webhooks want it.
    Slack,
}

/// A webhook's name: letters, digits, `-` and `_`. It goes into keys and headers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookName(String);

impl TryFrom<String> for WebhookName {
    type Error = BadWebhook;

    fn try_from(name: String) -> Result<Self, BadWebhook> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let fits = (1..=64).contains(&name.len()) && name.chars().all(plain);
        if fits { Ok(Self(name)) } else { Err(BadWebhook::Name(name)) }
    }
}

impl From<WebhookName> for String {
    fn from(name: WebhookName) -> Self {
        name.0
    }
}

impl std::fmt::Display for WebhookName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An `http` or `https` address. Whoever has a webhook's path may often write to it, so only scheme
/// and host are ever shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// All of it, for the one place that sends.
    #[must_use]
    pub const fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether it is this machine itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Whether it is sent over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = BadWebhook;

    fn try_from(text: String) -> Result<Self, BadWebhook> {
        let url = Url::parse(&text).map_err(|error| BadWebhook::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(BadWebhook::Url(format!("found scheme {:?}", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadWebhook::Url("found user or password: use `token` or `headers`".into()));
        }
        Ok(Self(url))
    }
}

impl std::fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/…", self.0.origin().ascii_serialization())
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for WebhookUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Headers, whose values are never shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Secret>", into = "BTreeMap<String, Secret>")]
pub struct Headers(BTreeMap<String, Secret>);

impl Headers {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the client wants them.
    ///
    /// # Errors
    /// [`BadWebhook::Header`] names the one that can't be sent.
    pub fn to_map(&self) -> Result<HeaderMap, BadWebhook> {
        self.0.iter().map(|(name, value)| header(name, value.expose())).collect()
    }
}

/// A header that is never shown in logs.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), BadWebhook> {
    let bad = || BadWebhook::Header(name.to_owned());
    let header = HeaderName::try_from(name).map_err(|_| bad())?;
    let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok((header, value))
}

impl TryFrom<BTreeMap<String, Secret>> for Headers {
    type Error = BadWebhook;

    fn try_from(headers: BTreeMap<String, Secret>) -> Result<Self, BadWebhook> {
        let headers = Self(headers);
        headers.to_map().map(|_| headers)
    }
}

impl From<Headers> for BTreeMap<String, Secret> {
    fn from(headers: Headers) -> Self {
        headers.0
    }
}

/// A webhook that can't be meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadWebhook {
    /// Its name.
    #[error("webhook name {0:?}: expected 1 to 64 letters, digits, '-' or '_'")]
    Name(String),
    /// Its address; the text itself is not repeated, it may hold a secret.
    #[error("{0}, expected an address such as \"https://example.org/hook\"")]
    Url(String),
    /// One of its headers.
    #[error("header {0:?}: name or value can't be sent in a header")]
    Header(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NotifyConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(parse("").unwrap(), NotifyConfig::default());
        assert!(parse("").unwrap().log.enabled);
        let config = parse("[webhooks.ops]\nurl = 'https://example.org/hook'\n").unwrap();
        let (name, webhook) = config.webhooks.first_key_value().unwrap();
        assert_eq!((name.to_string().as_str(), webhook.format), ("ops", Format::Json));
        assert_eq!(webhook.timeout, Duration::from_secs(10));
        assert_eq!(webhook.give_up_after, Duration::from_secs(86_400));
    }

    #[test]
    fn every_key_is_read_and_no_secret_is_shown() {
        let config = parse(
            "[log]\nenabled = false\n[webhooks.chat]\nurl = 'https://hooks.example.org/T1/hidden'\n\
             format = 'slack'\ntoken = 'hidden'\nheaders = { X-Key = 'hidden' }\n\
             timeout = '2s'\ngive_up_after = '1h'\n",
        )
        .unwrap();
        assert!(!config.log.enabled);
        let webhook = config.webhooks.first_key_value().unwrap().1;
        assert_eq!(webhook.url.expose().path(), "/T1/hidden");
        assert_eq!(webhook.headers.to_map().unwrap()["x-key"], "hidden");
        for shown in [format!("{config:?}"), toml::to_string(&config).unwrap()] {
            assert!(!shown.contains("hidden"), "{shown}");
            assert!(shown.contains("hooks.example.org"), "{shown}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |keys: &str, expected: &str| {
            let error = parse(&format!("[webhooks.ops]\n{keys}\n")).unwrap_err();
            assert!(error.contains(expected), "{keys}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        };
        let url = "url = 'https://example.org'\n";
        check("", "missing field `url`");
        check("url = 'example.org/hidden'", "expected an address such as");
        check("url = 'ftp://example.org/hidden'", "found scheme \"ftp\"");
        check("url = 'https://u:hidden@example.org'", "use `token` or `headers`");
        check(&format!("{url}format = 'xml'"), "unknown variant `xml`, expected `json` or `slack`");
        check(&format!("{url}headers = {{ 'a b' = 'hidden' }}"), "header \"a b\"");
        check(&format!("{url}tokn = 'hidden'"), "unknown field `tokn`");
        check(&format!("{url}timeout = '10'"), "expected a duration");
        check(&format!("{url}timeout = '0s'"), "expected at least 100ms and at most 1m");
        let error = parse("[webhooks.'a b']\nurl = 'https://example.org'\n").unwrap_err();
        assert!(error.contains("webhook name \"a b\""), "{error}");
    }

    #[test]
    fn loopback_is_known() {
        let check = |url: &str, expected: bool| {
            assert_eq!(WebhookUrl::try_from(url.to_owned()).unwrap().is_loopback(), expected);
        };
        check("http://127.0.0.1:9/x", true);
        check("http://[::1]:9/x", true);
        check("http://localhost/x", true);
        check("http://127.0.0.1.example.org/x", false);
        check("https://example.org/127.0.0.1", false);
    }
}
