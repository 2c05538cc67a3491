//! The operating system's name and version: `/etc/os-release`, else `/usr/lib/os-release`.
//!
//! The format: freedesktop.org's os-release(5).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "os",
    summary: "Name and version of the operating system.",
    reads: &["/etc/os-release", "/usr/lib/os-release"],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> = Metric::gauge(
    "node_os_info",
    "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, \
     name, pretty_name, variant, variant_id, version, version_codename, version_id.",
);
const VERSION: Metric<'_> =
    Metric::gauge("node_os_version", "Metric containing the major.minor part of the OS version.");

/// Labels in their order, with the keys of the file.
const LABELS: [(&str, &str); 12] = [
    ("build_id", "BUILD_ID"),
    ("id", "ID"),
    ("id_like", "ID_LIKE"),
    ("image_id", "IMAGE_ID"),
    ("image_version", "IMAGE_VERSION"),
    ("name", "NAME"),
    ("pretty_name", "PRETTY_NAME"),
    ("variant", "VARIANT"),
    ("variant_id", "VARIANT_ID"),
    ("version", "VERSION"),
    ("version_codename", "VERSION_CODENAME"),
    ("version_id", "VERSION_ID"),
];
const ID: usize = 1;
const ID_LIKE: usize = 2;
const NAME: usize = 5;
const VERSION_ID: usize = 11;

type Values = [String; LABELS.len()];

struct Os {
    paths: [PathBuf; 2],
    /// What was read, of which file, and when that was written: it changes with an upgrade.
    known: Option<(PathBuf, SystemTime, Values)>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let paths = ["/etc/os-release", "/usr/lib/os-release"].map(|path| context.roots.root(path));
    Ok(Box::new(Os { paths, known: None }))
}

impl Collector for Os {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let values = self.read()?;
        let mut labels = [("", ""); LABELS.len()];
        for ((label, (key, _)), value) in labels.iter_mut().zip(LABELS).zip(values) {
            *label = (key, value);
        }
        out.push(&INFO, &labels, 1.0);
        if let Some(version) = major_minor(&values[VERSION_ID]) {
            let labels =
                [("id", &*values[ID]), ("id_like", &*values[ID_LIKE]), ("name", &*values[NAME])];
            out.push(&VERSION, &labels, version);
        }
        Ok(())
    }
}

impl Os {
    fn read(&mut self) -> Result<&Values, CollectError> {
        let (path, written) = self.newest()?;
        let is_known =
            |known: &(PathBuf, SystemTime, Values)| known.0 == path && known.1 == written;
        if !self.known.as_ref().is_some_and(is_known) {
            let bytes = fs::read(&path).map_err(|error| CollectError::from_io(&path, &error))?;
            let values = parse(&String::from_utf8_lossy(&bytes));
            return Ok(&self.known.insert((path, written, values)).2);
        }
        self.known
            .as_ref()
            .map(|known| &known.2)
            .ok_or_else(|| CollectError::unavailable("no os-release"))
    }

    /// The first of the files that is there, and when it was written.
    fn newest(&self) -> Result<(PathBuf, SystemTime), CollectError> {
        let written = |path: &Path| -> io::Result<SystemTime> { fs::metadata(path)?.modified() };
        let [first, second] = &self.paths;
        let found = written(first).map(|time| (first.clone(), time));
        found
            .or_else(|_| written(second).map(|time| (second.clone(), time)))
            .map_err(|error| CollectError::from_io(first, &error))
    }
}

/// The values of [`LABELS`]; what isn't there is empty.
fn parse(text: &str) -> Values {
    let mut values = Values::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim_ascii().split_once('=') else { continue };
        if let Some(place) = LABELS.iter().position(|(_, known)| *known == key) {
            values[place] = unquote(value);
        }
    }
    values
}

/// A value as a shell reads it: quotes go, and so do backslashes before what is special in double quotes.
fn unquote(value: &str) -> String {
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(plain) = quoted('\'') {
        return plain.to_owned();
    }
    let mut text = String::new();
    let mut chars = quoted('"').unwrap_or(value).chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = chars.next_if(|next| c == '\\' && matches!(next, '"' | '$' | '`' | '\\'));
        text.push(escaped.unwrap_or(c));
    }
    text
}

/// `12` of `12`, `22.04` of `22.04.3`.
fn major_minor(version: &str) -> Option<f64> {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    let (major, rest) = version.split_at(end);
    let minor = rest.strip_prefix('.').unwrap_or("");
    let end = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    let minor = if end == 0 { "0" } else { &minor[..end] };
    if major.is_empty() { None } else { format!("{major}.{minor}").parse().ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const UBUNTU: &str = r#"NAME="Ubuntu"
VERSION="22.04.3 LTS (Jammy \"Jellyfish\")"
ID=ubuntu
ID_LIKE='debian'
# a comment
PRETTY_NAME="Ubuntu 22.04.3 LTS"
VERSION_ID="22.04"
HOME_URL="https://www.example.com/"
"#;

    #[test]
    fn values_are_unquoted() {
        let values = parse(UBUNTU);
        let value =
            |label: &str| &values[LABELS.iter().position(|(known, _)| *known == label).unwrap()];
        assert_eq!(value("name"), "Ubuntu");
        assert_eq!(value("version"), "22.04.3 LTS (Jammy \"Jellyfish\")");
        assert_eq!((value("id").as_str(), value("id_like").as_str()), ("ubuntu", "debian"));
        assert_eq!(value("variant"), "");
    }

    #[test]
    fn versions_are_numbers_where_they_are() {
        let check = |version: &str, expected: Option<f64>| {
            assert_eq!(major_minor(version), expected, "{version}");
        };
        check("12", Some(12.0));
        check("22.04", Some(22.04));
        check("22.04.3", Some(22.04));
        check("8.10-beta", Some(8.1));
        check("rolling", None);
        check("", None);
    }

    #[test]
    fn an_upgrade_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("os-release");
        let absent = directory.path().join("none");
        let mut os = Os { paths: [absent.clone(), path.clone()], known: None };
        fs::write(&path, "VERSION_ID=12\n").unwrap();
        assert_eq!(os.read().unwrap()[VERSION_ID], "12");
        fs::write(&path, "VERSION_ID=13\n").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(os.read().unwrap()[VERSION_ID], "13");
        let mut none = Os { paths: [absent.clone(), absent], known: None };
        assert!(matches!(none.read(), Err(CollectError::Unavailable { .. })));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in kernel_text(UBUNTU)) {
            let values = parse(&text);
            let _ = major_minor(&values[VERSION_ID]);
        }
    }
}
