//! The hub: ingest, store, query, rules, notify.
//!
//! - [`config`]: the configuration file. [`clock`]: what time it is. `calendar`: how it is written.
//! - [`store`]: where records are kept, and what every implementation promises.
//! - [`ingest`]: from a request's bytes to an acknowledgement. [`presence`]: who is there.
//!   [`instances`]: which process speaks for an agent, and whether two do.
//! - [`query`]: samples in buckets of time.
//! - [`rules`], [`notify`]: what is watched for, and who is told.
//! - [`api`]: all of it over HTTP, on connections that [`listen`] bounds. [`telemetry`]: the hub's own metrics.
//! - [`run()`]: everything together, on a socket, until told to stop.

pub mod api;
mod calendar;
pub mod clock;
pub mod config;
pub mod ingest;
pub mod instances;
pub mod listen;
pub mod notify;
pub mod presence;
pub mod query;
pub mod rules;
mod run;
pub mod store;
pub mod telemetry;

pub use config::Config;
pub use run::{HubError, check, run};
