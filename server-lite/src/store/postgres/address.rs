//! Where the database is, and how it is spoken to: what `database.url` says.
//!
//! As libpq has it, but for TLS: a certificate that can't be checked is never accepted. `sslmode` is
//! `disable`, `prefer` (TLS if the server has it, else none) or `require`; `verify-ca` and `verify-full`
//! are the same as `require`. Without it, TLS is required, except on this machine: a Unix socket or a
//! loopback address. `sslrootcert` names a file of the only certificates to trust.

use std::{net::IpAddr, path::PathBuf, str::FromStr as _, time::Duration};

use tokio_postgres::config::{Config, Host, SslMode};

/// Between two tries of an address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What is sent and not taken for so long means that nobody is there any more.
const SENT_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;

/// An address, read.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// For the driver.
    pub(crate) config: Config,
    /// The only certificates to trust.
    pub(crate) roots: Option<PathBuf>,
}

/// Reads an address.
///
/// # Errors
/// What is wrong, and what would be right; never the password.
pub(crate) fn read(url: &str) -> Result<Address, String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(
            "expected \"postgres://user@host/database\", or \"\" for the embedded store".into()
        );
    }
    let (mut rest, mut mode, mut roots) = (Vec::new(), None, None);
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(mode_of(value)?),
            Some(("sslrootcert", value)) => roots = Some(PathBuf::from(decoded(value))),
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    let mut config = Config::from_str(&url).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host; a Unix socket is ?host=/var/run/postgresql".into());
    }
    let is_here = config.get_hosts().iter().all(is_here);
    config.ssl_mode(mode.unwrap_or(if is_here { SslMode::Disable } else { SslMode::Require }));
    config.application_name("holdfast-hub");
    config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(SENT_TIMEOUT);
    config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
    config.keepalives_retries(KEEPALIVE_RETRIES);
    Ok(Address { config, roots })
}

fn mode_of(word: &str) -> Result<SslMode, String> {
    match word {
        "disable" => Ok(SslMode::Disable),
        "prefer" => Ok(SslMode::Prefer),
        "require" | "verify-ca" | "verify-full" => Ok(SslMode::Require),
        other => Err(format!("sslmode is {other:?}, expected disable, prefer or require")),
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    }
}

/// Percent-decoded; what isn't encoded well stays as it is.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        let hex = more.get(..2).filter(|_| *first == b'%').and_then(|hex| str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &more[2..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_machine_is_encrypted() {
        let check = |url: &str, expected: SslMode| {
            assert_eq!(read(url).unwrap().config.get_ssl_mode(), expected, "{url}");
        };
        check("postgres://hub@db.example.net/holdfast", SslMode::Require);
        check("postgres://hub@db.example.net/holdfast?sslmode=verify-full", SslMode::Require);
        check("postgres://hub@db.example.net/holdfast?sslmode=prefer", SslMode::Prefer);
        check("postgres://hub@db.example.net/holdfast?sslmode=disable", SslMode::Disable);
        check("postgres://hub@localhost,db.example.net/holdfast", SslMode::Require);
        check("postgres://hub@127.0.0.1:5433/holdfast", SslMode::Disable);
        check("postgresql:///holdfast?host=/var/run/postgresql&user=hub", SslMode::Disable);
        check("postgres://hub@%2Frun%2Fpostgresql/holdfast?sslmode=require", SslMode::Require);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let check = |url: &str, expected: &str| {
            let error = read(url).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        };
        check("mysql://a:hunter2@b/c", "expected \"postgres://");
        check("postgres://a:hunter2@b/c?sslmode=maybe", "expected disable, prefer or require");
        check("postgres://a:hunter2@b/c?color=red", "color");
        check("postgres:///holdfast?user=a", "names no host");
    }

    #[test]
    fn certificates_of_a_file_are_named_by_its_path() {
        let url = "postgres://hub@db/holdfast?sslrootcert=%2Fetc%2Fa%20b.pem&connect_timeout=1";
        assert_eq!(read(url).unwrap().roots, Some(PathBuf::from("/etc/a b.pem")));
    }
}
