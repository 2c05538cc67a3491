//! The token that goes along with each request, in shared-secret mode.

use std::cell::RefCell;

use wire::token::{self, LIFETIME_S};

/// A token is used for half its life: both clocks may be wrong by hours and it is still good.
const USED_FOR_S: u64 = LIFETIME_S / 2;

/// Mints tokens from the shared secret, and keeps the last as long as it is good.
pub(crate) struct Bearer {
    secret: String,
    subject: String,
    minted: RefCell<Option<Minted>>,
}

struct Minted {
    at_s: u64,
    token: String,
}

impl Bearer {
    pub(crate) fn new(secret: String, subject: String) -> Self {
        Self { secret, subject, minted: RefCell::new(None) }
    }

    /// A token that is good at `now_s`, in Unix seconds.
    pub(crate) fn token(&self, now_s: u64) -> Result<String, token::TokenError> {
        let mut minted = self.minted.borrow_mut();
        // one from the future was made before the clock was set back: the hub would refuse it
        let good = minted.as_ref().filter(|minted| {
            now_s.checked_sub(minted.at_s).is_some_and(|age_s| age_s < USED_FOR_S)
        });
        if let Some(good) = good {
            return Ok(good.token.clone());
        }
        let token = token::mint(&self.secret, &self.subject, now_s)?;
        *minted = Some(Minted { at_s: now_s, token: token.clone() });
        Ok(token)
    }

    /// Mints anew the next time: the hub refused the last one.
    pub(crate) fn forget(&self) {
        *self.minted.borrow_mut() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn tokens_are_kept_and_made_anew_in_time() {
        let bearer = Bearer::new("secret".into(), "agent".into());
        let first = bearer.token(NOW).unwrap();
        assert_eq!(token::verify("secret", &first, NOW).unwrap().sub, "agent");
        assert_eq!(bearer.token(NOW + USED_FOR_S - 1).unwrap(), first);
        let made_at = |now_s| {
            let token = bearer.token(now_s).unwrap();
            token::verify("secret", &token, now_s).unwrap().iat
        };
        assert_eq!(made_at(NOW + USED_FOR_S), NOW + USED_FOR_S);
        assert_eq!(made_at(NOW + USED_FOR_S - 1), NOW + USED_FOR_S - 1, "the clock was set back");
        assert_eq!(made_at(NOW + USED_FOR_S), NOW + USED_FOR_S - 1);
        bearer.forget();
        assert_eq!(made_at(NOW + USED_FOR_S), NOW + USED_FOR_S);
    }
}
