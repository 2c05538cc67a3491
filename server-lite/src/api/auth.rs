//! Who may ask: with a secret, whoever can make a token with it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

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

fn check(hub: &Hub, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(secret) = &hub.token else { return Ok(()) };
    let refused = |reason: &str| {
        let advice = "send `Authorization: Bearer` with a token made with the hub's auth.token";
        ApiError::new(401, "unauthorised", format!("{reason}: {advice}"))
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| refused("no token"))?;
    let text = value.to_str().map_err(|_| refused("the token is not text"))?;
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(refused("the token is not a bearer's")),
    };
    let now_s = u64::try_from(hub.now_ms() / 1_000).unwrap_or(0);
    let verified = wire::token::verify(secret.expose(), token, now_s);
    verified.map(|_| ()).map_err(|error| refused(&error.to_string()))
}
