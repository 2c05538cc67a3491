//! One request, and in which version of the protocol.

use std::rc::Rc;

use agent_core::clock::Clock;
use remote_write::{Version, content, snappy};
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};

use super::{
    config::{Protocol, RemoteWriteConfig, RemoteWriteConfigError},
    verdict::{Asked, Trouble, judge},
};
use crate::http::{Post, Transport};

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// Speaks to one receiver.
pub(super) struct Client {
    transport: Box<dyn Transport>,
    url: String,
    what: String,
    authorization: Option<String>,
    headers: HeaderMap,
    protocol: Protocol,
    version: Version,
    /// Whether it has shown to understand 2.0.
    has_confirmed: bool,
    clock: Rc<dyn Clock>,
}

impl Client {
    pub(super) fn new(
        transport: Box<dyn Transport>,
        config: RemoteWriteConfig,
        clock: Rc<dyn Clock>,
    ) -> Result<Self, RemoteWriteConfigError> {
        let version = match config.protocol {
            Protocol::Auto | Protocol::V2 => Version::V2,
            Protocol::V1 => Version::V1,
        };
        Ok(Self {
            transport,
            what: format!("POST {}", config.shown_url()),
            authorization: config.authorization(),
            headers: config.header_map()?,
            url: config.url,
            protocol: config.protocol,
            version,
            has_confirmed: false,
            clock,
        })
    }

    /// In which version to send now.
    pub(super) const fn version(&self) -> Version {
        self.version
    }

    /// Speaks 1.0 from now on, for as long as this process has this configuration.
    pub(super) fn fall_back(&mut self) {
        tracing::info!(request = self.what, "receiver speaks remote write 1.0, not 2.0");
        self.version = Version::V1;
    }

    /// Posts a message of so many samples.
    pub(super) async fn post(
        &mut self,
        version: Version,
        message: &[u8],
        samples: usize,
    ) -> Result<(), Trouble> {
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(content::ENCODING));
        headers.insert(VERSION, HeaderValue::from_static(version.header()));
        let post = Post {
            url: self.url.clone(),
            content_type: version.content_type(),
            authorization: self.authorization.clone(),
            heard: None,
            headers,
            body: snappy::compress(message),
        };
        let sent = self.transport.post(post).await;
        let reply = sent.map_err(|reason| Trouble::Transient {
            reason: format!("{}: {reason}", self.what),
            retry_after: None,
        })?;
        let asked = Asked {
            what: &self.what,
            version,
            may_fall_back: self.protocol == Protocol::Auto,
            is_first_contact: !self.has_confirmed,
            samples,
        };
        let verdict = judge(&asked, &reply, self.clock.now_ms());
        self.has_confirmed |= verdict.is_ok();
        verdict
    }
}
