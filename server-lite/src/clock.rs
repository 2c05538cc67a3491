//! What time it is: the only place in the hub that asks the system.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Says what time it is, in Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn system() -> Clock {
    Arc::new(|| {
        // Before 1970 there was no hub: whatever is wrong, it is not worth failing for.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
