//! What a collector is.
//!
//! A collector reads and parses; one runner times, isolates and counts it. It knows nothing of
//! timing, logging or its neighbours.

use std::{collections::BTreeMap, path::Path};

use crate::{roots::Roots, samples::Samples};

/// Reads one part of the kernel into samples, once a tick.
pub trait Collector: Send {
    /// Adds this tick's samples to `out`. Whatever was added before an error is kept out of the
    /// tick: a collector's samples are whole or absent.
    ///
    /// # Errors
    /// [`CollectError::Unavailable`] when this machine has none of it; [`CollectError::Failed`] when
    /// something that should be readable was not.
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError>;

    /// Whether it passes on what others say, under names that may be those of another collector: each of
    /// its series that another one has too is left out of the tick, and said.
    fn gives_way(&self) -> bool {
        false
    }
}

/// Why a collector has nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// This machine has none: no PSI in this kernel, no such device. Said once, never a failure.
    #[error("unavailable: {what}")]
    Unavailable {
        /// What is missing.
        what: String,
    },
    /// This machine has it, and this user may not read it.
    #[error("may not be read: {what}")]
    Denied {
        /// The file or call, and what the system said.
        what: String,
    },
    /// Something that should be readable or parseable was not.
    #[error("{what}: {reason}")]
    Failed {
        /// The file or call.
        what: String,
        /// Why, with line and field where it is a parser that failed.
        reason: String,
    },
}

impl CollectError {
    /// This machine has none.
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::Unavailable { what: what.into() }
    }

    /// Reading or parsing `what` failed.
    pub fn failed(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Failed { what: what.into(), reason: reason.to_string() }
    }

    /// An I/O error on a file of the kernel: one that isn't there makes the collector unavailable, one
    /// that this user may not read is denied; anything else is a failure.
    #[must_use]
    pub fn from_io(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{NotFound, PermissionDenied, Unsupported};
        let what = format!("{}: {error}", path.display());
        match error.kind() {
            NotFound | Unsupported => Self::Unavailable { what },
            PermissionDenied => Self::Denied { what },
            _ => Self::failed(path.display().to_string(), error),
        }
    }
}

/// One line of the registry: how a collector is named, configured and built.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// Name, as in `[collectors.<name>]` and in node_exporter's `--collector.<name>`.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// What it reads, for the documentation: `/proc/stat`, `statvfs(2)`.
    pub reads: &'static [&'static str],
    /// Whether it runs without being named in the configuration.
    pub default_enabled: bool,
    /// Options of its own, beyond `enabled`.
    pub options: &'static [OptionSpec],
    /// Builds it.
    pub build: fn(&Context<'_>) -> Result<Box<dyn Collector>, BuildError>,
}

/// An option of a collector: a string in the configuration.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Key, as node_exporter's flag with underscores: `mount_points_exclude`.
    pub key: &'static str,
    /// Default.
    pub default: &'static str,
    /// One sentence for the documentation.
    pub doc: &'static str,
}

/// What a collector is built from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where it reads.
    pub roots: &'a Roots,
    /// Its options as configured; absent ones have their defaults.
    pub options: &'a BTreeMap<String, String>,
    /// Its line of the registry.
    pub registration: &'a Registration,
}

impl<'a> Context<'a> {
    /// An option's value, or its default.
    #[must_use]
    pub fn option(&self, key: &str) -> &'a str {
        let configured = self.options.get(key).map(String::as_str);
        let spec = || self.registration.options.iter().find(|spec| spec.key == key);
        configured.or_else(|| spec().map(|spec| spec.default)).unwrap_or_default()
    }
}

/// An option that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("collectors.{collector}.{key}: {reason}")]
pub struct BuildError {
    /// Which collector.
    pub collector: &'static str,
    /// Which option.
    pub key: &'static str,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}
