//! One request, and one bounded reply.

use std::{rc::Rc, time::Duration};

use agent_core::{SinkError, clock::Clock};
use reqwest::{
    Certificate, ClientBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
    redirect, tls,
};
use serde::de::DeserializeOwned;

use super::{
    bearer::Bearer,
    config::{self, HttpConfig, HttpConfigError, Identity},
    verdict,
};

/// Bytes of a reply that are read. The longest good one names a thousand schemas in 19 bytes each.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// One for records, one for presence.
const IDLE_CONNECTIONS_MAX: usize = 2;

/// Speaks to one hub.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    bearer: Option<Bearer>,
    clock: Rc<dyn Clock>,
}

/// A reply, read as far as it is needed.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(
        config: HttpConfig,
        identity: &Identity,
        clock: Rc<dyn Clock>,
    ) -> Result<Self, HttpConfigError> {
        let base = config::base_url(&config.url)?;
        let http = build(&config, &base, &identity.version)?;
        let subject = identity.agent_id.to_string();
        let bearer = config.token.map(|secret| Bearer::new(secret, subject));
        Ok(Self { http, base, bearer, clock })
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
        let mut request = self.http.post(url).header(CONTENT_TYPE, content_type).body(body);
        if let Some(bearer) = &self.bearer {
            let token = bearer.token(self.now_s());
            let token = token.map_err(|e| SinkError::Refused { reason: format!("{what}: {e}") })?;
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let sent = request.send().await;
        let reply = read(sent.map_err(|e| verdict::transport(&what, e))?)
            .await
            .map_err(|e| verdict::transport(&format!("{what}: read the reply"), e))?;
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

/// Reads a reply up to [`REPLY_BYTES_MAX`]; what comes after that is not read.
async fn read(mut response: Response) -> reqwest::Result<Reply> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while body.len() < REPLY_BYTES_MAX
        && let Some(chunk) = response.chunk().await?
    {
        let take = chunk.len().min(REPLY_BYTES_MAX - body.len());
        body.extend_from_slice(&chunk[..take]);
    }
    Ok(Reply { status, headers, body })
}

fn build(
    config: &HttpConfig,
    base: &Url,
    version: &str,
) -> Result<reqwest::Client, HttpConfigError> {
    // without a provider the client would panic; a second install says there is one, and that's fine
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secure = base.scheme() == "https";
    let builder = ClientBuilder::new()
        .user_agent(format!("holdfast-agent/{version}"))
        .connect_timeout(config.connect_timeout)
        .timeout(config.request_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(Duration::from_secs(90))
        // records go where the configuration says, not where a reply says
        .redirect(redirect::Policy::none())
        .tls_version_min(tls::Version::TLS_1_3)
        .https_only(secure);
    let builder = match (&config.ca_file, secure) {
        (Some(_), _) => builder.tls_certs_only(own_ca(config)?),
        // the host's CAs, read now
        (None, true) => builder,
        // none are needed: don't ask for the host's
        (None, false) => builder.tls_certs_only([]),
    };
    builder.build().map_err(|error| HttpConfigError::Client(verdict::chain(&error)))
}

fn own_ca(config: &HttpConfig) -> Result<Vec<Certificate>, HttpConfigError> {
    let Some(path) = &config.ca_file else { return Ok(Vec::new()) };
    let pem = std::fs::read(path)
        .map_err(|source| HttpConfigError::CaRead { path: path.clone(), source })?;
    let wrong = |reason: String| HttpConfigError::Ca { path: path.clone(), reason };
    let found = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(verdict::chain(&e)))?;
    if found.is_empty() { Err(wrong("holds no certificate".into())) } else { Ok(found) }
}
