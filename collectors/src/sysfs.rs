//! Attributes of `/sys`: small files, one value each, in a directory a device.
//!
//! These are read seldom, or few: they are opened, read and closed. Those that a collector reads every
//! tick of every device stay open, as an [`Attribute`](crate::attribute::Attribute).

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use agent_core::CollectError;

/// A page: the kernel gives an attribute no more.
const ATTRIBUTE_BYTES_MAX: usize = 4 << 10;

/// Reads attributes into one buffer.
#[derive(Debug)]
pub(crate) struct Attributes {
    path: PathBuf,
    bytes: Vec<u8>,
    text: String,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { path: PathBuf::new(), bytes: vec![0; ATTRIBUTE_BYTES_MAX], text: String::new() }
    }
}

impl Attributes {
    /// An attribute's text without the space around it. `None` if the device has no such attribute, may
    /// not be asked for it by this user, or refuses just now (the speed of an interface that is down).
    pub(crate) fn text(&mut self, directory: &Path, attribute: &str) -> Option<&str> {
        self.path.clear();
        self.path.push(directory);
        self.path.push(attribute);
        let mut file = File::open(&self.path).ok()?;
        let mut length = 0;
        while length < self.bytes.len() {
            match file.read(&mut self.bytes[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        self.text.clear();
        self.text.push_str(&String::from_utf8_lossy(&self.bytes[..length]));
        Some(self.text.trim())
    }

    /// An attribute as a number, decimal or with `0x` in hexadecimal; `None` as for [`Attributes::text`], and if it
    /// is no number.
    pub(crate) fn number(&mut self, directory: &Path, attribute: &str) -> Option<f64> {
        number(self.text(directory, attribute)?)
    }
}

pub(crate) fn number(text: &str) -> Option<f64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(|value| value as f64);
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The entries of a directory by name, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Entries of a directory whose names begin so; an absent directory means that this machine has none.
pub(crate) fn entries(directory: &Path, prefix: &str) -> Result<Vec<Entry>, CollectError> {
    let failed = |error: std::io::Error| CollectError::from_io(directory, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            found.push(Entry { name, path: entry.path() });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// As [`entries`], but a directory without any also means that this machine has none.
pub(crate) fn devices(directory: &Path, prefix: &str) -> Result<Vec<Entry>, CollectError> {
    let found = entries(directory, prefix)?;
    if found.is_empty() {
        return Err(CollectError::unavailable(format!("nothing in {}", directory.display())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_or_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut attributes = Attributes::default();
        let mut check = |content: &[u8], text: Option<&str>, number: Option<f64>| {
            fs::write(path.join("attribute"), content).unwrap();
            assert_eq!(attributes.text(path, "attribute"), text);
            assert_eq!(attributes.number(path, "attribute"), number);
        };
        check(b"up\n", Some("up"), None);
        check(b"1500\n", Some("1500"), Some(1500.0));
        check(b"0x1003\n", Some("0x1003"), Some(4099.0));
        check(b"-1\n", Some("-1"), Some(-1.0));
        check(b"nan", Some("nan"), None);
        check(b"", Some(""), None);
        check(b"eth\xff", Some("eth\u{fffd}"), None);
        assert_eq!(attributes.text(path, "none"), None);
        assert_eq!(attributes.text(path.parent().unwrap(), "."), None, "a directory is none");
    }

    #[test]
    fn directories_are_listed_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b1", "a", "b0"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let names = |prefix| {
            let found = entries(directory.path(), prefix).unwrap();
            found.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(names("b"), ["b0", "b1"]);
        assert_eq!(names("c"), [""; 0]);
        for absent in [directory.path().join("none"), directory.path().to_owned()] {
            let error = devices(&absent, "c").unwrap_err();
            assert!(matches!(error, CollectError::Unavailable { .. }), "{error}");
        }
    }
}
