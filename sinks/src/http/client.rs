//! One request, and one bounded reply.

use std::rc::Rc;

use agent_core::{SinkError, clock::Clock};
use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;

use super::{
    bearer::Bearer,
    config::{self, HttpConfig, HttpConfigError, Identity},
    transport::{Post, Sockets, Transport},
    verdict,
};

/// Speaks to one hub.
pub(crate) struct Client {
    transport: Box<dyn Transport>,
    base: Url,
    bearer: Option<Bearer>,
    clock: Rc<dyn Clock>,
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
        Ok(Self { transport, base, bearer, clock })
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
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
        let sent = self.transport.post(Post { url, content_type, authorization, body }).await;
        let reply = sent.map_err(|reason| SinkError::Transient {
            reason: format!("{what}: {reason}"),
            retry_after: None,
        })?;
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
