//! One POST, and what its answer means.
//!
//! The request carries `Idempotency-Key`, the notification's id: a receiver that keeps the keys of a
//! day can drop what comes again because the hub died, or the answer was lost, after delivery.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | delivered |
//! | 408, 429, 5xx, none in time, no connection | try again; `Retry-After` in seconds is respected |
//! | any other | refused: redirects aren't followed, a POST would arrive as a GET |

use std::{error::Error as _, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect,
};

use super::{
    config::{BadWebhook, Format, WebhookConfig, WebhookName, header},
    message::Notification,
};

/// Characters of a refusal's body that are kept to say why.
const ANSWER_CHARS_MAX: usize = 200;

/// A webhook, ready to send.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    url: Url,
    format: Format,
    /// Name in the outbox: `webhook:<name>`.
    pub(super) name: String,
    /// Time for all tries of one notification together.
    pub(super) give_up_after: Duration,
}

/// Why a notification was not delivered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SendError {
    /// The receiver is away, busy or broken: try again.
    #[error("{reason}")]
    Transient {
        /// What happened.
        reason: String,
        /// The receiver's own word on when.
        retry_after: Option<Duration>,
    },
    /// The receiver won't have it.
    #[error("{0}")]
    Refused(String),
}

/// Why a webhook can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something in its configuration can't be sent.
    #[error("webhook {name}")]
    Config {
        /// Which one.
        name: String,
        /// What.
        source: BadWebhook,
    },
    /// The HTTP client can't be made.
    #[error("make HTTP client of webhook {name}")]
    Client {
        /// Which one.
        name: String,
        /// Why: most often no CA certificates on this machine (Debian's package `ca-certificates`).
        source: reqwest::Error,
    },
}

impl Webhook {
    /// Prepares a client for the webhook of that name.
    ///
    /// # Errors
    /// [`BuildError`] when a header can't be sent or TLS can't be set up.
    pub fn new(name: &WebhookName, config: &WebhookConfig) -> Result<Self, BuildError> {
        let config_error = |source| BuildError::Config { name: name.to_string(), source };
        let mut headers = config.headers.to_map().map_err(config_error)?;
        if let Some(token) = &config.token {
            let bearer = format!("Bearer {}", token.expose());
            headers.extend([header("authorization", &bearer).map_err(config_error)?]);
        }
        // Fails when one is installed already, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .timeout(config.timeout.get())
            .redirect(redirect::Policy::none())
            .user_agent(concat!("holdfast-hub/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers);
        if config.url.is_loopback() {
            builder = builder.no_proxy();
        }
        if !config.url.is_https() {
            // Without TLS no CA is needed, and a machine may have none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            .build()
            .map_err(|source| BuildError::Client { name: name.to_string(), source })?;
        Ok(Self {
            client,
            url: config.url.expose().clone(),
            format: config.format,
            name: format!("webhook:{name}"),
            give_up_after: config.give_up_after.get(),
        })
    }

    /// Sends one notification, once.
    ///
    /// # Errors
    /// [`SendError`] says whether to try again.
    pub async fn send(&self, notification: &Notification) -> Result<(), SendError> {
        let body = match self.format {
            Format::Json => serde_json::to_vec(notification),
            Format::Slack => serde_json::to_vec(&notification.to_slack()),
        };
        let body = body.map_err(|error| SendError::Refused(error.to_string()))?;
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", &notification.id)
            .body(body);
        judge(request.send().await.map_err(transport)?).await
    }
}

async fn judge(response: Response) -> Result<(), SendError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let retry_after = retry_after(&response);
    let answer = excerpt(response).await;
    let reason = if answer.is_empty() { status.to_string() } else { format!("{status}: {answer}") };
    let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || again.contains(&status) {
        Err(SendError::Transient { reason, retry_after })
    } else {
        Err(SendError::Refused(reason))
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The beginning of an answer, on one line.
async fn excerpt(mut response: Response) -> String {
    let first = response.chunk().await.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&first);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(ANSWER_CHARS_MAX).collect()
}

/// A transport error as one line, without the address: it may hold a secret.
fn transport(error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    SendError::Transient { reason, retry_after: None }
}
