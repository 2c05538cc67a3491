//! Where a bus listens: `unix:path=/run/dbus/system_bus_socket`, several of them with `;` between.
//!
//! Of the transports in the D-Bus specification ("Server Addresses") only sockets of this host count: a bus
//! of another host would tell of that one.

use std::{ffi::OsString, fmt, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// What an address has to look like, for messages.
const EXAMPLE: &str = "unix:path=/run/dbus/system_bus_socket";
/// Addresses beyond this are not looked at.
const ADDRESSES_MAX: usize = 8;

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A file.
    Path(PathBuf),
    /// A name in Linux's abstract namespace.
    Abstract(Vec<u8>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "unix:path={}", path.display()),
            Self::Abstract(name) => write!(f, "unix:abstract={}", String::from_utf8_lossy(name)),
        }
    }
}

/// The sockets that a text names, in its order; those that are none of this host are passed over.
pub(super) fn parse(text: &str) -> Result<Vec<Address>, String> {
    let mut addresses = Vec::new();
    for one in text.split(';').filter(|one| !one.is_empty()).take(ADDRESSES_MAX) {
        let wrong = |reason: &str| format!("'{one}' is no address ({reason}): write {EXAMPLE}");
        let (transport, pairs) = one.split_once(':').ok_or_else(|| wrong("no transport"))?;
        if transport != "unix" {
            continue;
        }
        for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("a key without value"))?;
            let value = || unescape(value).ok_or_else(|| wrong("% without two digits"));
            match key {
                "path" => {
                    addresses.push(Address::Path(OsString::from_vec(value()?).into()));
                }
                "abstract" => addresses.push(Address::Abstract(value()?)),
                _ => {}
            }
        }
    }
    match addresses.is_empty() {
        true => Err(format!("'{text}' names no Unix socket: write {EXAMPLE}")),
        false => Ok(addresses),
    }
}

/// `%20` is a byte in hexadecimal.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut plain = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = match byte {
            b'%' => u8::try_from(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?).ok()?,
            byte => byte,
        };
        plain.push(byte);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_this_host_are_taken_or_it_is_said_what_would_be_right() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let shown = parse(text).map(|addresses| {
                addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(shown, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check("unix:path=/run/bus", Ok("unix:path=/run/bus"));
        check("unix:path=/run/bus,guid=0badc0de", Ok("unix:path=/run/bus"));
        check("tcp:host=h,port=1;unix:abstract=/tmp/x%20y;", Ok("unix:abstract=/tmp/x y"));
        check("unix:path=/a;unix:path=/b", Ok("unix:path=/a unix:path=/b"));
        check("", Err("'' names no Unix socket: write unix:path=/run/dbus/system_bus_socket"));
        check(
            "tcp:host=h",
            Err("'tcp:host=h' names no Unix socket: write unix:path=/run/dbus/system_bus_socket"),
        );
        check(
            "/run/bus",
            Err(
                "'/run/bus' is no address (no transport): write unix:path=/run/dbus/system_bus_socket",
            ),
        );
        check(
            "unix:path=%2",
            Err("'unix:path=%2' is no address (% without two digits): write \
                 unix:path=/run/dbus/system_bus_socket"),
        );
        check(
            "unix:path",
            Err("'unix:path' is no address (a key without value): write \
                 unix:path=/run/dbus/system_bus_socket"),
        );
    }
}
