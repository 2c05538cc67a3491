//! Notifiers: who is told of an alert, and how it is made sure that they are.
//!
//! - [`config`]: notifiers as they are configured.
//! - [`keys`]: how they are documented in the hub's table of keys.
//! - [`message`]: what is told: the JSON body, and Slack's form of it.
//! - [`webhook`]: one POST, and what its answer means.
//! - [`retry`]: how long to wait before the next try.
//! - [`deliver`](mod@deliver): drains the outbox of [`crate::rules::alert_store`], each notifier on its own.

pub mod config;
pub mod deliver;
pub mod keys;
pub mod message;
pub mod retry;
pub mod webhook;

pub use config::NotifyConfig;
pub use deliver::{Notifier, run};
pub use message::Notification;
