//! Who may ask: with a secret, whoever knows it.
//!
//! `Authorization: Bearer` with a token made with the secret ([`wire::token`]), as agents send it, or with
//! the secret itself, as programs send it that can't make tokens (`promtool --http.config.file`, Grafana);
//! or `Basic` with either as the password, whatever the user. What can only send the secret itself should
//! do so over a network that nobody else hears.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::{Hub, body, error::ApiError};

/// Lets a request through if it has a good token, or none is needed.
pub async fn require_token(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    match check(&hub, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            // Read to its end, so that whoever still sends gets to see the answer.
            body::discard(request.into_body()).await;
            error.into_response()
        }
    }
}

pub(super) fn check(hub: &Hub, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(secret) = &hub.token else { return Ok(()) };
    let refused = |reason: &str| {
        let advice = "send `Authorization: Bearer` with a token made with the hub's auth.token";
        ApiError::new(401, "unauthorised", format!("{reason}: {advice}"))
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| refused("no token"))?;
    let text = value.to_str().map_err(|_| refused("the token is not text"))?;
    let token = presented(text).ok_or_else(|| refused("the token is not a bearer's"))?;
    if is_secret(&token, secret.expose()) {
        return Ok(());
    }
    let now_s = u64::try_from(hub.now_ms() / 1_000).unwrap_or(0);
    let verified = wire::token::verify(secret.expose(), &token, now_s);
    verified.map(|_| ()).map_err(|error| refused(&error.to_string()))
}

/// The token of a bearer, or the password of whoever.
fn presented(authorization: &str) -> Option<String> {
    let (scheme, rest) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// How long it takes says nothing of the secret: what is compared are hashes.
fn is_secret(token: &str, secret: &str) -> bool {
    Sha256::digest(token) == Sha256::digest(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_passwords() {
        let check = |authorization: &str, expected: Option<&str>| {
            assert_eq!(presented(authorization).as_deref(), expected, "{authorization}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer  abc ", Some("abc"));
        // user:pass:word
        check("Basic dXNlcjpwYXNzOndvcmQ=", Some("pass:word"));
        check("Basic dXNlcg==", None);
        check("Basic ***", None);
        check("Digest abc", None);
        check("abc", None);
        assert!(is_secret("a", "a") && !is_secret("a", "b") && !is_secret("", "a"));
    }
}
