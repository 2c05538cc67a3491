//! What the hub says of itself: lines on standard error, filtered as `RUST_LOG` would.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

/// Starts logging.
///
/// # Errors
/// When `level` is not a filter.
pub(crate) fn start(level: &str) -> Result<()> {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(parse(level)?)
        .with_writer(io::stderr)
        .with_ansi(color)
        .init();
    Ok(())
}

/// Says whether `level` is a filter.
///
/// # Errors
/// When it isn't.
pub(crate) fn check(level: &str) -> Result<()> {
    parse(level).map(drop)
}

fn parse(level: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| {
        format!(
            "log.level: {level:?} is not a filter such as \"info\" or \"info,server_lite=debug\""
        )
    })
}
