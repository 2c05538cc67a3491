//! How a request gets to a hub and the reply to it back: sockets, or whatever stands for them.

use std::time::Duration;

use agent_core::sink::BoxFuture;
use reqwest::{
    Certificate, ClientBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
    redirect, tls,
};
use wire::api::{HEARD_HEADER, Word};

use super::{
    config::{HttpConfig, HttpConfigError},
    verdict,
};

/// Bytes of a reply that are read. The longest good one names a thousand schemas in 19 bytes each.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// One for records, one for presence.
const IDLE_CONNECTIONS_MAX: usize = 2;

/// Carries requests to a hub and replies back. What they say is none of its business.
pub trait Transport {
    /// Sends a request and waits for the whole reply, for as long as is worth waiting.
    ///
    /// # Errors
    /// Why no whole reply came, for people. Whether the hub took the request is not known then.
    fn post(&self, request: Post) -> BoxFuture<'_, Result<Reply, String>>;
}

/// A request.
#[derive(Clone)]
pub struct Post {
    /// Where to.
    pub url: String,
    /// What the body is.
    pub content_type: &'static str,
    /// Who sends, if the hub wants to know: a secret.
    pub authorization: Option<String>,
    /// The hub's latest word, if there was one.
    pub heard: Option<Word>,
    /// What else is said about it.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Vec<u8>,
}

/// A reply, read as far as it is needed.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, at most the first 64 KiB.
    pub body: Vec<u8>,
}

/// The transport of a real host.
pub(crate) struct Sockets {
    http: reqwest::Client,
}

impl Sockets {
    pub(crate) fn new(
        config: &HttpConfig,
        base: &Url,
        version: &str,
    ) -> Result<Self, HttpConfigError> {
        Ok(Self { http: build(config, base, version)? })
    }
}

impl Transport for Sockets {
    fn post(&self, request: Post) -> BoxFuture<'_, Result<Reply, String>> {
        let Post { url, content_type, authorization, heard, headers, body } = request;
        let request = self.http.post(url).headers(headers).header(CONTENT_TYPE, content_type);
        let request = request.body(body);
        let request = match heard {
            Some(word) => request.header(HEARD_HEADER, word.to_string()),
            None => request,
        };
        let request = match authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        };
        Box::pin(async {
            let sent = request.send().await.map_err(verdict::transport)?;
            let reply = read(sent).await;
            reply.map_err(|error| format!("read the reply: {}", verdict::transport(error)))
        })
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
