//! `holdfast-hub backup`, `restore`, `doctor`, `migrate`: for whoever runs a hub.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Result, bail, ensure};
use server_lite::{
    Config, clock,
    rules::alert_store,
    store::{
        Embedded, Finding, Verdict,
        embedded::{backup, doctor},
        postgres,
    },
};

use crate::serve;

/// What lies beside the store: what is known of alerts.
const OTHERS: [&str; 1] = [alert_store::FILE];

/// Copies the store.
///
/// # Errors
/// When there is none, or the copy can't be written.
pub(crate) fn backup(config: &Config, directory: &Path) -> Result<()> {
    check_embedded(config)?;
    let data_dir = &config.data_dir;
    let bytes = backup::backup(data_dir, &OTHERS, directory)?;
    let (from, to) = (data_dir.display(), directory.display());
    Ok(writeln!(io::stdout(), "copied {from} to {to}: {bytes} bytes")?)
}

/// Puts a copy back.
///
/// # Errors
/// When it is none, or something lies where it is to go.
pub(crate) fn restore(directory: &Path, config: &Config) -> Result<()> {
    check_embedded(config)?;
    let data_dir = &config.data_dir;
    backup::restore(directory, &OTHERS, data_dir)?;
    let (from, to) = (directory.display(), data_dir.display());
    Ok(writeln!(
        io::stdout(),
        "restored {from} to {to}; what agents were acknowledged after the copy was made is told in the \
         gap ledger when they send again"
    )?)
}

/// Says how the store stands.
///
/// # Errors
/// When something is bad, or can't be looked at.
pub(crate) fn doctor(config: &Config, configuration: Result<()>) -> Result<()> {
    if let Err(error) = &configuration {
        writeln!(io::stdout(), "bad       configuration: {error:#}")?;
    }
    let findings = match config.database.url() {
        Some(url) => serve::runtime()?.block_on(postgres::examine(url, clock::system()()))?,
        None => doctor::examine(&config.data_dir, clock::system()())?,
    };
    for Finding { verdict, what, says } in &findings {
        let word = match verdict {
            Verdict::Good => "good",
            Verdict::Doubtful => "doubtful",
            Verdict::Bad => "bad",
        };
        writeln!(io::stdout(), "{word:9} {what}: {says}")?;
    }
    let is_bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    if is_bad || configuration.is_err() {
        bail!("something is bad: see above");
    }
    Ok(())
}

/// Brings the store up to date.
///
/// # Errors
/// When there is none, or it is a newer hub's, or in use.
pub(crate) fn migrate(config: &Config) -> Result<()> {
    if let Some(url) = config.database.url() {
        let done = serve::runtime()?.block_on(postgres::migrate(url))?;
        return Ok(writeln!(io::stdout(), "{done}")?);
    }
    let data_dir = &config.data_dir;
    let (before, now) = Embedded::migrate(data_dir)?;
    let says = if before == now { "up to date" } else { "brought up to date" };
    Ok(writeln!(io::stdout(), "{}: format {before}, now {now}: {says}", data_dir.display())?)
}

/// A database has tools of its own.
fn check_embedded(config: &Config) -> Result<()> {
    ensure!(
        config.database.url().is_none(),
        "the store is the database in database.url: copy and restore it with PostgreSQL's own tools, \
         pg_dump or pg_basebackup"
    );
    Ok(())
}
