//! What else hubs keep in the database that they share: it has connections of its own, and knows whether this
//! hub leads.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed},
    },
};

use deadpool_postgres::{Object, Pool};

use super::{connect::get, counters::Counters};
use crate::store::StoreError;

/// A database that hubs share.
#[derive(Clone)]
pub struct Shared {
    /// For this alone.
    pub(super) pool: Pool,
    pub(super) counters: Arc<Counters>,
}

impl Shared {
    /// A connection.
    pub(crate) async fn client(&self) -> Result<Object, StoreError> {
        get(&self.pool).await
    }

    /// As which of all that ever led this hub leads; `None` if it doesn't, as far as it knows.
    pub(crate) fn epoch(&self) -> Option<i64> {
        let leads = self.counters.leads.load(Acquire);
        leads.then(|| self.counters.epoch.load(Relaxed))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}
