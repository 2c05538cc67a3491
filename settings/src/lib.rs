//! Configuration as people write it.
//!
//! A program describes its configuration once, as a table of [`Keys`]: path, kind, default, bounds, a
//! sentence each. From that one table come:
//!
//! - [`load()`]: defaults, then the file, then the environment, then flags, into the program's own
//!   structs. Unknown keys are refused with place and nearest valid key, values of the wrong kind with
//!   what was found and what was expected, and all of it at once.
//! - [`Effective`]: what is in force and where each value came from, as TOML for people
//!   ([`Effective::to_toml`]) and as the difference between two configurations
//!   ([`Effective::changes_to`]). Secrets are never shown.
//! - [`sample()`] and [`reference()`]: a commented sample file and a page of documentation.
//!
//! [`Duration`], [`Size`] and [`Secret`] are the types that configuration structs hold.
//!
//! ```
//! use std::collections::BTreeMap;
//! use settings::{Duration, Key, Keys, Kind, Layers, Source};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     interval: Duration,
//!     #[serde(default)]
//!     sinks: BTreeMap<String, Sink>,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Sink {
//!     url: String,
//! }
//!
//! let keys = Keys {
//!     keys: vec![
//!         Key::new("interval", Kind::Duration, "Time between ticks.").default("10s").min("1s"),
//!         Key::new("sinks.*.url", Kind::Url, "Where to send.").required(),
//!     ],
//!     tables: vec![],
//! };
//! let text = "interval = 10\n[sinks.hub]\nurl = \"http://hub\"\nulr = \"\"".to_owned();
//! let file = Some(Source { name: "/etc/holdfast/agent.toml".to_owned(), text });
//! let layers = Layers { file, variables: settings::environment(), prefix: "HOLDFAST", ..Layers::default() };
//! let Err(problems) = settings::load::<Config>(&keys, &layers) else { panic!() };
//! assert_eq!(
//!     problems.to_string(),
//!     "/etc/holdfast/agent.toml:1:12: interval: found the integer 10, expected a duration with its unit, as \"10s\"\n\
//!      /etc/holdfast/agent.toml:4:1: unknown key \"sinks.hub.ulr\", did you mean \"sinks.hub.url\"?"
//! );
//! ```

mod duration;
mod effective;
mod key;
mod layers;
mod load;
#[cfg(test)]
mod load_tests;
mod nearest;
mod pages;
mod problem;
mod secret;
mod size;
mod source;
mod tree;
mod value;
mod variables;

pub use duration::Duration;
pub use effective::{Change, Effective, Origin, Setting};
pub use key::{Key, Keys, Kind, Reload, UserTable};
pub use layers::{Flag, Layers, environment};
pub use load::{Loaded, load};
pub use pages::{reference, sample};
pub use problem::{Place, Problem, Problems};
pub use secret::Secret;
pub use size::Size;
pub use source::Source;
pub use value::ValueError;
