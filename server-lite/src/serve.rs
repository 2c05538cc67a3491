//! `holdfast-hub run`: the daemon. SIGTERM and SIGINT drain and end.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use server_lite::Config;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::logging;

/// Runs until told to stop. Once it listens, it says where: one line on standard output, and in
/// `ready_file`.
///
/// # Errors
/// When address or data directory can't be used.
pub(crate) fn run(config: Config, ready_file: Option<&Path>) -> Result<()> {
    logging::start(&config.log.level)?;
    let runtime = runtime()?;
    let served = runtime.block_on(serve(config, ready_file));
    // The store is closed. A query or a look-up of a name that hangs must not hold up the end.
    runtime.shutdown_background();
    served
}

/// What the hub's tasks run on.
///
/// # Errors
/// When the system gives no threads.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

async fn serve(config: Config, ready_file: Option<&Path>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}", config.listen))?;
    say_where(&listener, ready_file)?;
    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(server_lite::run(listener, config, told).await?)
}

/// Connections wait in the socket until the store is open, so whoever reads this may connect.
fn say_where(listener: &TcpListener, ready_file: Option<&Path>) -> Result<()> {
    let url = format!("http://{}", listener.local_addr()?);
    if let Some(path) = ready_file {
        fs::write(path, &url).with_context(|| format!("write {}", path.display()))?;
    }
    let mut out = io::stdout();
    writeln!(out, "listening on {url}").and_then(|()| out.flush()).context("say where")
}
