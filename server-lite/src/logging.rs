//! What the hub says of itself: lines on standard error, filtered as `RUST_LOG` would.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Starts logging.
///
/// # Errors
/// When `level` is not a filter.
pub(crate) fn start(level: &str) -> Result<()> {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(color);
    tracing_subscriber::registry().with(lines.with_filter(parse(level)?)).init();
    Ok(())
}

/// Says whether `level` is a filter.
///
/// # Errors
/// When it isn't.
pub(crate) fn check(level: &str) -> Result<()> {
    parse(level).map(drop)
}

fn parse(level: &str) -> Result<Targets> {
    // A word that is no level would be taken for the name of a module.
    let is_level = |part: &str| {
        !part.is_empty() && (part.contains('=') || part.parse::<LevelFilter>().is_ok())
    };
    let filter = level.split(',').all(is_level).then(|| level.parse().ok()).flatten();
    filter.with_context(|| {
        format!("log.level: found {level:?}, expected a filter such as \"info\" or \"info,server_lite=debug\"")
    })
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn filters_are_levels_or_modules_with_levels() {
        for good in ["info", "off", "WARN,agent_core::wal=debug", "sinks=trace"] {
            assert!(check(good).is_ok(), "{good:?}");
        }
        for wrong in ["", "inof", "info,agent_core", "info,sinks=loud"] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
