//! Every collector on committed `/proc` and `/sys` trees, compared with a committed listing.
//!
//! `UPDATE_GOLDEN=1 cargo test -p collectors --test golden` rewrites the listings
//! (`fixtures/<name>/expected.txt`): look at the difference before committing it.
//!
//! - `vm`: a small virtual machine, as captured (its mounts shortened).
//! - `large`: a server: 31 CPUs with one offline, throttling, LVM, udev, odd interface and device names,
//!   sensors, drives and power supplies of many kinds (more than one machine has).
//! - `bare`: an old kernel in a container: no PSI, swap, `/sys`, udev or process 1.
//! - `broken`: every file cut off somewhere, or odd.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use agent_core::{Collector, Roots, Samples};

/// What the machine says that runs the test, not the fixture.
const MASKED: [&str; 7] = [
    "node_time_seconds",
    "node_filesystem_size_bytes",
    "node_filesystem_free_bytes",
    "node_filesystem_avail_bytes",
    "node_filesystem_files",
    "node_filesystem_files_free",
    "node_textfile_mtime_seconds",
];
/// All they say is of the machine that runs the test, if it may be asked there.
const LEFT_OUT: [&str; 2] = ["timex", "uname"];

fn check(fixture: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
    let got = listing(&directory);
    let file = directory.join("expected.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &got).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let differing = got.lines().zip(expected.lines()).find(|(got, expected)| got != expected);
    assert!(got == expected, "{fixture}: UPDATE_GOLDEN=1 rewrites it; first: {differing:#?}");
}

/// One line a series, sorted, and one a collector that has nothing to say.
fn listing(directory: &Path) -> String {
    let roots = roots(directory);
    let mut lines = Vec::new();
    for line in collectors::REGISTRY.iter().filter(|line| !LEFT_OUT.contains(&line.name)) {
        let mut collector =
            collectors::build(line, &roots, &options(directory, line.name)).unwrap();
        tick(line.name, collector.as_mut(), directory, &mut lines);
    }
    lines.sort();
    lines.concat()
}

fn roots(directory: &Path) -> Roots {
    let below = |name: &str| -> PathBuf { directory.join(name) };
    Roots { procfs: below("proc"), sysfs: below("sys"), rootfs: below("root") }
}

/// The options of a collector that reads nothing, or less, by default.
fn options(directory: &Path, collector: &str) -> BTreeMap<String, String> {
    let textfile = directory.join("textfile");
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let cpu =
        [("info_flags_include", "^(aes|avx.*|constant_tsc)$"), ("info_bugs_include", "^spectre")];
    match collector {
        "cpu" if directory.join("proc/cpuinfo").exists() => cpu.into_iter().map(own).collect(),
        "textfile" if textfile.exists() => {
            BTreeMap::from([("directory".to_owned(), textfile.display().to_string())])
        }
        _ => BTreeMap::new(),
    }
}

/// Two ticks: the second one must say the same with the same schema.
fn tick(name: &str, collector: &mut dyn Collector, directory: &Path, lines: &mut Vec<String>) {
    let tidy = |text: &str| text.replace(&format!("{}/", directory.display()), "");
    let mut samples = Samples::new(name);
    if let Err(error) = collector.collect(&mut samples) {
        lines.push(format!("# {name}: {}\n", tidy(&error.to_string())));
        return;
    }
    let remarks = samples.remarks();
    if !remarks.is_empty() {
        lines.push(format!("# {name}, without a part: {}\n", tidy(&remarks)));
    }
    let first = samples.finish().0.id;
    assert!(samples.fault().is_none(), "{name}: {:?}", samples.fault());
    samples.clear();
    collector.collect(&mut samples).unwrap();
    let (schema, values) = samples.finish();
    assert_eq!(schema.id, first, "{name}: another schema on an unchanged host");
    for ((family, labels), value) in schema.schema.iter().zip(values) {
        let value = match MASKED.contains(&family.name.as_str()) {
            true => "(this host's)".to_owned(),
            false => value.to_string(),
        };
        let labels = labels.iter().fold(String::new(), |mut text, (name, value)| {
            let separator = if text.is_empty() { "" } else { "," };
            write!(text, "{separator}{name}={:?}", tidy(value)).unwrap();
            text
        });
        lines.push(format!("{}{{{labels}}} {} {value}\n", family.name, family.kind.as_str()));
    }
}

#[test]
fn a_virtual_machine() {
    check("vm");
}

#[test]
fn a_large_server() {
    check("large");
}

#[test]
fn a_bare_container() {
    check("bare");
}

#[test]
fn files_that_are_cut_off() {
    check("broken");
}

#[test]
fn no_series_is_there_twice() {
    for fixture in ["vm", "large", "bare"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
        let mut seen = BTreeMap::new();
        for line in listing(&directory).lines() {
            let series = line.rsplit_once("} ").map_or(line, |(series, _)| series).to_owned();
            assert_eq!(seen.insert(series, ()), None, "{fixture}: {line}");
        }
    }
}
