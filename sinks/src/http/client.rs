//! One request, and one bounded reply.

use std::{cell::Cell, rc::Rc};

use agent_core::{SinkError, clock::Clock};
use reqwest::{StatusCode, Url, header::HeaderMap};
use serde::de::DeserializeOwned;
use wire::api::{WORD_HEADER, Word};

use super::{
    bearer::Bearer,
    config::{self, HttpConfig, HttpConfigError, Identity},
    transport::{Post, Reply, Sockets, Transport},
    verdict,
};

/// Speaks to one hub.
pub(crate) struct Client {
    transport: Box<dyn Transport>,
    base: Url,
    bearer: Option<Bearer>,
    clock: Rc<dyn Clock>,
    /// The hub's latest word.
    heard: Cell<Option<Word>>,
}

impl Client {
    /// Speaks over sockets.
    pub(crate) fn new(
        config: HttpConfig,
        identity: &Identity,
        clock: Rc<dyn Clock>,
    ) -> Result<Self, HttpConfigError> {
        let base = config::base_url(&config.url)?;
        let sockets = Sockets::new(&config, &base, &identity.version)?;
        Self::over(Box::new(sockets), config, identity, clock)
    }

    /// Speaks over `transport`.
    pub(crate) fn over(
        transport: Box<dyn Transport>,
        config: HttpConfig,
        identity: &Identity,
        clock: Rc<dyn Clock>,
    ) -> Result<Self, HttpConfigError> {
        let base = config::base_url(&config.url)?;
        let subject = identity.agent_id.to_string();
        let bearer = config.token.map(|secret| Bearer::new(secret, subject));
        Ok(Self { transport, base, bearer, clock, heard: Cell::default() })
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// For what is said now: see [`wire::request::Header::sent_ms`].
    pub(crate) fn sent_ms(&self) -> i64 {
        self.clock.moment().boot_ms
    }

    /// Notes the word that came with a reply, whatever else it says; of two replies that overtook each
    /// other, the later.
    fn hear(&self, reply: &Reply) {
        let word = reply.headers.get(WORD_HEADER).and_then(|value| value.to_str().ok());
        let Some(word) = word.and_then(|text| text.parse::<Word>().ok()) else { return };
        let is_old =
            self.heard.get().is_some_and(|known| known.hub == word.hub && known.n > word.n);
        if !is_old {
            self.heard.set(Some(word));
        }
    }

    /// Posts a body and reads the answer to it.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<T, SinkError> {
        let url = format!("{}{}", self.base, path.trim_start_matches('/'));
        let what = format!("POST {url}");
        let token = self.bearer.as_ref().map(|bearer| bearer.token(self.now_s())).transpose();
        let token = token.map_err(|e| SinkError::Refused { reason: format!("{what}: {e}") })?;
        let authorization = token.map(|token| format!("Bearer {token}"));
        let heard = self.heard.get();
        let headers = HeaderMap::new();
        let post = Post { url, content_type, authorization, heard, headers, body };
        let sent = self.transport.post(post).await;
        let reply = sent.map_err(|reason| SinkError::Transient {
            reason: format!("{what}: {reason}"),
            retry_after: None,
        })?;
        self.hear(&reply);
        if reply.status == StatusCode::UNAUTHORIZED
            && let Some(bearer) = &self.bearer
        {
            bearer.forget();
        }
        verdict::judge(&what, &reply, self.now_ms())
    }

    fn now_s(&self) -> u64 {
        u64::try_from(self.now_ms() / 1000).unwrap_or(0)
    }
}
