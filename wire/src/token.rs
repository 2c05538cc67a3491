//! Shared-secret mode: an HS256 JSON Web Token (RFC 7519) that both sides make from one secret.
//!
//! For trying out and for clients of older collectors; it says that the sender knows the secret, not
//! who the sender is.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Seconds for which a token is good.
pub const LIFETIME_S: u64 = 24 * 60 * 60;
/// Seconds by which two clocks may differ.
pub const LEEWAY_S: u64 = 300;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who it was made for: an agent's id, or a person's tool.
    pub sub: String,
    /// Unix seconds when it was made.
    pub iat: u64,
    /// Unix seconds when it ends.
    pub exp: u64,
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not a token, not HS256, or made with another secret.
    #[error("token is not valid: {0}")]
    Invalid(String),
    /// Good once.
    #[error("token expired {0} s ago: make a new one, and check both clocks")]
    Expired(u64),
    /// Made by a clock ahead of ours.
    #[error("token was made {0} s in the future: check both clocks")]
    Future(u64),
}

/// Makes a token for `subject`, good from `now_s` for [`LIFETIME_S`].
///
/// # Errors
/// [`TokenError::Invalid`] if the claims can't be signed, which HS256 has no case for.
pub fn mint(secret: &str, subject: &str, now_s: u64) -> Result<String, TokenError> {
    let claims = Claims { sub: subject.to_owned(), iat: now_s, exp: now_s + LIFETIME_S };
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| TokenError::Invalid(error.to_string()))
}

/// Checks signature and time.
///
/// # Errors
/// [`TokenError`] says which check failed.
pub fn verify(secret: &str, token: &str, now_s: u64) -> Result<Claims, TokenError> {
    let mut validation = Validation::new(Algorithm::HS256);
    // Time is ours to check: this crate has no clock.
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(secret.as_bytes());
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
        .map_err(|error| TokenError::Invalid(error.to_string()))?
        .claims;
    if claims.exp.saturating_add(LEEWAY_S) <= now_s {
        return Err(TokenError::Expired(now_s - claims.exp));
    }
    if claims.iat > now_s.saturating_add(LEEWAY_S) {
        return Err(TokenError::Future(claims.iat - now_s));
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn good_for_a_day() {
        let token = mint("secret", "agent", NOW).unwrap();
        assert_eq!(verify("secret", &token, NOW).unwrap().sub, "agent");
        assert!(verify("secret", &token, NOW + LIFETIME_S).is_ok(), "clocks may differ a little");
        let late = NOW + LIFETIME_S + LEEWAY_S;
        assert_eq!(verify("secret", &token, late), Err(TokenError::Expired(LEEWAY_S)));
        let early = NOW - LEEWAY_S - 1;
        assert_eq!(verify("secret", &token, early), Err(TokenError::Future(LEEWAY_S + 1)));
    }

    #[test]
    fn another_secret_or_algorithm_is_refused() {
        let token = mint("secret", "agent", NOW).unwrap();
        assert!(matches!(verify("other", &token, NOW), Err(TokenError::Invalid(_))));
        assert!(matches!(verify("secret", "a.b.c", NOW), Err(TokenError::Invalid(_))));
        // {"alg":"none","typ":"JWT"}
        let unsigned =
            format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", token.split('.').nth(1).unwrap());
        assert!(matches!(verify("secret", &unsigned, NOW), Err(TokenError::Invalid(_))));
    }
}
