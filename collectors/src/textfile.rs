//! Metrics that other programs write into files: `<directory>/*.prom` in Prometheus's text format.
//!
//! As in node_exporter a file is taken whole or left out whole: see `exposition`. The rest of the tick
//! doesn't suffer from a bad file: `node_textfile_scrape_error` becomes 1, and what was left out is
//! said in the log once, with file and line.
//!
//! Where files disagree, the first one by name stands. A series that is there twice is taken once; a
//! metric with another type than before is left out. node_exporter does the same but says so only in its
//! log; it also leaves out a metric with another help text than before, which is no reason to lose it. A
//! series that another collector has too gives way to that one: there a scrape fails of it.
//!
//! Files are read every tick and parsed again only when one of them changed, so a directory that rests
//! costs its reads. Write a file under another name and rename it; one that is cut off is left out.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use nix::fcntl::OFlag;

use crate::{
    exposition::{self, Family, Sample},
    glob::Glob,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "textfile",
    summary: "Metrics that other programs write into files.",
    reads: &["*.prom in a directory"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "directory",
        default: "",
        doc: "Directory of the files, or a pattern such as /srv/*/metrics; none if it is empty.",
    }],
    build,
};

const MTIME: Metric<'_> =
    Metric::gauge("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.");
const ERROR: Metric<'_> = Metric::gauge(
    "node_textfile_scrape_error",
    "1 if there was an error opening or reading a file, 0 otherwise",
);

/// How names begin that are this collector's, or that the agent has of itself.
const OWN: [&str; 5] =
    [MTIME.name, ERROR.name, "node_scrape_collector_", "holdfast_agent_", "holdfast_collector_"];
/// Files beyond this are left out.
const FILES_MAX: usize = 256;
/// Bytes of all files together: 10 000 series are about 1 MiB.
const BYTES_MAX: usize = 4 << 20;
/// Series of all files together.
const SERIES_MAX: usize = 10_000;

struct Textfile {
    /// Absent when the option is empty.
    directories: Option<Glob>,
    files: Vec<Known>,
    buffer: Vec<u8>,
    merged: Merged,
}

/// A file as it was read last.
#[derive(Debug)]
struct Known {
    /// As the label `file` has it.
    shown: String,
    text: Vec<u8>,
    mtime_seconds: i64,
}

/// What all files say together.
#[derive(Debug, Default)]
struct Merged {
    families: Vec<Family>,
    /// By the place of a file, whether it was taken.
    taken: Vec<bool>,
    /// What was left out, and why.
    left_out: Vec<String>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let path = context.option("directory");
    let wrong = |error: regex_lite::Error| BuildError {
        collector: context.registration.name,
        key: "directory",
        reason: format!("'{path}' is no pattern ({error}): write one such as '/srv/*/metrics'"),
    };
    let directories = (!path.is_empty()).then(|| Glob::new(path).map_err(wrong)).transpose()?;
    Ok(Box::new(Textfile {
        directories,
        files: Vec::new(),
        buffer: Vec::new(),
        merged: Merged::default(),
    }))
}

impl Collector for Textfile {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let mut unread = Vec::new();
        let changed = self.read(&mut unread);
        if changed {
            self.merged = merge(&self.files);
        }
        let Merged { families, taken, left_out } = &self.merged;
        for family in families {
            let help = family.help.as_deref().unwrap_or_default();
            let metric = Metric { name: &family.name, kind: family.kind, help };
            for sample in &family.samples {
                push(out, &metric, sample);
            }
        }
        for (file, _) in self.files.iter().zip(taken).filter(|(_, taken)| **taken) {
            out.push(&MTIME, &[("file", &file.shown)], file.mtime_seconds as f64);
        }
        let errors = unread.iter().chain(left_out);
        errors.clone().for_each(|error| out.remark(error));
        out.push(&ERROR, &[], f64::from(u8::from(errors.count() > 0)));
        Ok(())
    }

    fn gives_way(&self) -> bool {
        self.directories.is_some()
    }
}

fn push(out: &mut Samples, metric: &Metric<'_>, sample: &Sample) {
    const PLACES: usize = wire::limits::LABELS_MAX;
    let mut labels = [("", ""); PLACES];
    let count = sample.labels.len().min(PLACES);
    for (place, (name, value)) in labels.iter_mut().zip(&sample.labels) {
        *place = (name, value);
    }
    out.push(metric, &labels[..count], sample.value);
}

impl Textfile {
    /// Reads what there is; whether a text or the set of files changed.
    fn read(&mut self, unread: &mut Vec<String>) -> bool {
        let Some(directories) = &self.directories else { return false };
        let (mut place, mut bytes_left, mut changed) = (0, BYTES_MAX, false);
        let paths: Vec<_> =
            directories.paths().iter().flat_map(|path| files_of(path, unread)).collect();
        for path in paths {
            let shown = path.to_string_lossy();
            if place >= FILES_MAX {
                unread.push(format!("{shown}: beyond the {FILES_MAX} files that there may be"));
                break;
            }
            let mtime_seconds = match read_whole(&path, &mut self.buffer, bytes_left) {
                Ok(mtime_seconds) => mtime_seconds,
                Err(error) => {
                    unread.push(format!("{shown}: {error}"));
                    continue;
                }
            };
            bytes_left -= self.buffer.len();
            changed |= note(&mut self.files, place, &shown, &self.buffer);
            self.files[place].mtime_seconds = mtime_seconds;
            place += 1;
        }
        changed |= self.files.len() > place;
        self.files.truncate(place);
        changed
    }
}

/// Puts a file at its place; whether there was another, or another text.
fn note(files: &mut Vec<Known>, place: usize, shown: &str, text: &[u8]) -> bool {
    match files.get_mut(place) {
        Some(known) if known.shown == shown && known.text == text => false,
        Some(known) => {
            shown.clone_into(&mut known.shown);
            known.text.clear();
            known.text.extend_from_slice(text);
            true
        }
        None => {
            files.push(Known { shown: shown.to_owned(), text: text.to_owned(), mtime_seconds: 0 });
            true
        }
    }
}

/// The files of a directory whose names end with `.prom`, in order.
fn files_of(directory: &Path, unread: &mut Vec<String>) -> Vec<PathBuf> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(here).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    match entries {
        Ok(entries) => {
            let names = entries.into_iter().map(|entry| entry.file_name());
            let mut names: Vec<_> =
                names.filter(|name| name.as_encoded_bytes().ends_with(b".prom")).collect();
            names.sort_unstable();
            names.into_iter().map(|name| directory.join(name)).collect()
        }
        Err(error) => {
            unread.push(format!("{}: {error}", here.display()));
            Vec::new()
        }
    }
}

/// Reads a regular file; its time of modification.
fn read_whole(path: &Path, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<i64> {
    // a pipe under such a name must not hold up the tick
    let file: File =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    buffer.clear();
    file.take(bytes_max as u64 + 1).read_to_end(buffer)?;
    if buffer.len() > bytes_max {
        let mib = BYTES_MAX >> 20;
        return Err(io::Error::other(format!("all files together are larger than {mib} MiB")));
    }
    Ok(metadata.mtime())
}

/// Parses all files and puts their metrics together.
fn merge(files: &[Known]) -> Merged {
    let mut merging = Merging::default();
    for file in files {
        let families = std::str::from_utf8(&file.text)
            .map_err(|error| format!("byte {}: not UTF-8", error.valid_up_to()))
            .and_then(|text| {
                exposition::parse(text, SERIES_MAX - merging.series.len())
                    .map_err(|error| error.to_string())
            });
        let taken = families.map(|families| merging.add(&file.shown, families));
        if let Err(error) = &taken {
            merging.merged.left_out.push(format!("{}: {error}", file.shown));
        }
        merging.merged.taken.push(taken.is_ok());
    }
    merging.finish()
}

#[derive(Default)]
struct Merging {
    merged: Merged,
    /// By the name of a metric, its place in `merged`, and the files that have it.
    places: HashMap<String, (usize, Vec<String>)>,
    /// Every series so far.
    series: HashSet<String>,
}

impl Merging {
    fn add(&mut self, file: &str, families: Vec<Family>) {
        for family in families {
            if OWN.iter().any(|own| family.name.starts_with(own)) {
                self.leave_out(file, &format!("{} is the agent's own", family.name));
                continue;
            }
            let families = &mut self.merged.families;
            let (place, known_in) = self.places.entry(family.name.clone()).or_insert_with(|| {
                families.push(Family { samples: Vec::new(), ..family.clone() });
                (families.len() - 1, Vec::new())
            });
            let (place, first) = (*place, known_in.first().cloned().unwrap_or_default());
            let known = &mut self.merged.families[place];
            if known.kind != family.kind {
                let (name, kind, before) =
                    (&family.name, family.kind.as_str(), known.kind.as_str());
                self.leave_out(file, &format!("{name} is {kind} here, {before} in {first}"));
                continue;
            }
            known.help = known.help.take().or(family.help);
            known_in.push(file.to_owned());
            for sample in family.samples {
                self.add_sample(file, place, sample);
            }
        }
    }

    fn add_sample(&mut self, file: &str, place: usize, sample: Sample) {
        let family = &mut self.merged.families[place];
        let labels: Vec<_> = sample.labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
        let series = format!("{}{{{}}}", family.name, labels.join(","));
        if self.series.insert(series.clone()) {
            family.samples.push(sample);
        } else {
            self.leave_out(file, &format!("{series} is there twice: the first one stands"));
        }
    }

    fn leave_out(&mut self, file: &str, why: &str) {
        self.merged.left_out.push(format!("{file}: {why}"));
    }

    fn finish(mut self) -> Merged {
        for family in &mut self.merged.families {
            let files = self.places.get(&family.name).map(|(_, files)| files.join(", "));
            let read_from = || {
                let help = format!("Metric read from {}", files.unwrap_or_default());
                help[..help.floor_char_boundary(wire::limits::HELP_BYTES_MAX)].to_owned()
            };
            family.help.get_or_insert_with(read_from);
        }
        self.merged
    }
}

#[cfg(test)]
mod tests;
