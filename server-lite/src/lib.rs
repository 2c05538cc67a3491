//! The hub: ingest, store, query, rules, notify.
//!
//! - [`store`]: where records are kept, and what every implementation promises.

pub mod store;

pub mod notify;
pub mod rules;
