//! The files of one control group: kept open as far as there is room, read into one buffer, parsed.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use agent_core::{CollectError, Metric, Samples};

use super::{
    sources::{
        Field, Format, MEMORY_FAILURES, MEMORY_USAGE, MEMORY_WORKING_SET, READ_BYTES, READS,
        Source, WRITES, WRITTEN_BYTES, What,
    },
    tree::container_id,
};
use crate::{
    parse::{ParseError, Words, number, numbered},
    reader::read_whole,
};

/// Files that stay open: a quarter of what the service may open.
const KEPT_MAX: usize = 256;
/// Names of devices that are remembered.
const DEVICES_MAX: usize = 1_024;
/// A limit from here on is none: version 1 writes the largest number of pages.
const NO_LIMIT: u64 = 1 << 62;
const US: f64 = 1e6;

/// What all groups are read with.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    kept: usize,
}

impl Reader {
    /// The file's text; `None` if the group hasn't that file, or is gone.
    fn text(&mut self, file: &mut GroupFile) -> Option<Cow<'_, str>> {
        if let Some(open) = &file.open
            && let Ok(length) = read_whole(open, &mut self.buffer)
        {
            return Some(String::from_utf8_lossy(&self.buffer[..length]));
        }
        self.forget(file);
        let open = File::open(&file.path).ok()?;
        let length = read_whole(&open, &mut self.buffer).ok()?;
        if self.kept < KEPT_MAX {
            self.kept += 1;
            file.open = Some(open);
        }
        Some(String::from_utf8_lossy(&self.buffer[..length]))
    }

    fn forget(&mut self, file: &mut GroupFile) {
        self.kept -= usize::from(file.open.take().is_some());
    }

    /// Gives back what is open of a group that is gone.
    pub(super) fn close(&mut self, group: &mut Group) {
        group.files.iter_mut().for_each(|file| self.forget(file));
    }
}

#[derive(Debug)]
struct GroupFile {
    path: PathBuf,
    open: Option<File>,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    id: String,
    /// In the order of the sources.
    files: Vec<GroupFile>,
}

/// Where a group's samples go.
struct Output<'a> {
    group: &'a str,
    out: &'a mut Samples,
    devices: &'a mut Devices,
    usage: Option<u64>,
    inactive_file: u64,
}

impl Group {
    pub(super) fn new(root: &Path, id: &str, sources: &[Source]) -> Self {
        let below = id.trim_start_matches('/');
        let file = |source: &Source| GroupFile {
            path: root.join(source.controller).join(below).join(source.file),
            open: None,
        };
        Self { id: id.to_owned(), files: sources.iter().map(file).collect() }
    }

    /// Its path from the root.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Adds what its files say.
    pub(super) fn collect(
        &mut self,
        sources: &[Source],
        reader: &mut Reader,
        devices: &mut Devices,
        out: &mut Samples,
    ) -> Result<(), CollectError> {
        let mut output = Output { group: &self.id, out, devices, usage: None, inactive_file: 0 };
        for (file, source) in self.files.iter_mut().zip(sources) {
            let Some(text) = reader.text(file) else { continue };
            output
                .read(&text, &source.format)
                .map_err(|error| CollectError::failed(file.path.display().to_string(), error))?;
        }
        if let Some(usage) = output.usage {
            let working_set = usage.saturating_sub(output.inactive_file);
            output.push(&MEMORY_WORKING_SET, working_set as f64);
        }
        Ok(())
    }
}

impl Output<'_> {
    fn read(&mut self, text: &str, format: &Format) -> Result<(), ParseError> {
        match format {
            Format::Number(metric, unit) => {
                let value = single(text)?;
                self.push(metric, value as f64 / unit);
            }
            Format::Limit(metric) => {
                if text.trim() != "max" {
                    let limit = single(text)?;
                    if limit < NO_LIMIT {
                        self.push(metric, limit as f64);
                    }
                }
            }
            Format::Usage => {
                let usage = single(text)?;
                self.usage = Some(usage);
                self.push(&MEMORY_USAGE, usage as f64);
            }
            Format::Fields(fields) => self.fields(text, fields)?,
            Format::IoV2 => self.io_v2(text)?,
            Format::IoV1 { reads, writes } => self.io_v1(text, reads, writes)?,
            Format::Pressure { waiting, stalled } => self.pressure(text, waiting, stalled)?,
        }
        Ok(())
    }

    fn push(&mut self, metric: &Metric<'_>, value: f64) {
        let id = ("id", self.group);
        match container_id(self.group) {
            Some(container) => self.out.push(metric, &[("container_id", container), id], value),
            None => self.out.push(metric, &[id], value),
        }
    }

    fn push_device(&mut self, metric: &Metric<'_>, number: &str, value: u64) {
        let (id, device) = (("id", self.group), ("device", self.devices.name(number)));
        let value = value as f64;
        match container_id(self.group) {
            Some(container) => {
                self.out.push(metric, &[("container_id", container), device, id], value);
            }
            None => self.out.push(metric, &[device, id], value),
        }
    }

    fn fields(&mut self, text: &str, fields: &[Field]) -> Result<(), ParseError> {
        for (index, line) in numbered(text) {
            let mut words = Words::new(index, line);
            let key = words.word("name")?;
            let Some(field) = fields.iter().find(|field| field.key == key) else { continue };
            let value = words.number("value")?;
            match &field.what {
                What::Sample(metric, unit) => self.push(metric, value as f64 / unit),
                What::InactiveFile => self.inactive_file = value,
                What::Faults(kind) => self.push_faults(kind, value as f64),
            }
        }
        Ok(())
    }

    fn push_faults(&mut self, kind: &str, value: f64) {
        let (id, kind) = (("id", self.group), ("failure_type", kind));
        // of the group and of what is below it
        let scope = ("scope", "hierarchy");
        let out = &mut *self.out;
        match container_id(self.group) {
            Some(container) => {
                let labels = [("container_id", container), kind, id, scope];
                out.push(&MEMORY_FAILURES, &labels, value);
            }
            None => out.push(&MEMORY_FAILURES, &[kind, id, scope], value),
        }
    }

    fn io_v2(&mut self, text: &str) -> Result<(), ParseError> {
        const KEYS: [(&str, Metric<'_>); 4] =
            [("rbytes", READ_BYTES), ("wbytes", WRITTEN_BYTES), ("rios", READS), ("wios", WRITES)];
        for (index, line) in numbered(text) {
            let mut words = Words::new(index, line);
            let device = words.word("device")?;
            while let Some(word) = words.next() {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                let Some((key, metric)) = KEYS.iter().find(|(known, _)| *known == key) else {
                    continue;
                };
                let value = number(index, key, value)
                    .map_err(|_| ParseError::new(index, key, "not a name, = and a number"))?;
                self.push_device(metric, device, value);
            }
        }
        Ok(())
    }

    fn io_v1(
        &mut self,
        text: &str,
        reads: &Metric<'_>,
        writes: &Metric<'_>,
    ) -> Result<(), ParseError> {
        for (index, line) in numbered(text) {
            let mut words = Words::new(index, line);
            let device = words.word("device")?;
            let metric = match words.word("operation")? {
                "Read" => reads,
                "Write" => writes,
                _ => continue,
            };
            let value = words.number("value")?;
            self.push_device(metric, device, value);
        }
        Ok(())
    }

    fn pressure(
        &mut self,
        text: &str,
        waiting: &Metric<'_>,
        stalled: &Metric<'_>,
    ) -> Result<(), ParseError> {
        for (index, line) in numbered(text) {
            let mut words = Words::new(index, line);
            let metric = match words.word("kind")? {
                "some" => waiting,
                "full" => stalled,
                _ => continue,
            };
            let mut rest = std::iter::from_fn(|| words.next());
            let total = rest.find_map(|word| word.strip_prefix("total="));
            let total = total.ok_or_else(|| ParseError::new(index, "total", "missing"))?;
            let total = number(index, "total", total)?;
            self.push(metric, total as f64 / US);
        }
        Ok(())
    }
}

/// The only number of a file.
fn single(text: &str) -> Result<u64, ParseError> {
    Words::new(1, text).number("value")
}

/// Names of block devices by their numbers.
#[derive(Debug)]
pub(super) struct Devices {
    directory: PathBuf,
    names: BTreeMap<String, String>,
}

impl Devices {
    /// As `/sys/dev/block` has them.
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, names: BTreeMap::new() }
    }

    /// `/dev/sda` for `8:0`; the number if there is no name.
    fn name<'a>(&'a mut self, number: &'a str) -> &'a str {
        if self.names.len() >= DEVICES_MAX {
            self.names.clear();
        }
        if !self.names.contains_key(number) {
            let name = self.look_up(number).unwrap_or_else(|| number.to_owned());
            self.names.insert(number.to_owned(), name);
        }
        self.names.get(number).map_or(number, String::as_str)
    }

    fn look_up(&self, number: &str) -> Option<String> {
        // a damaged file must not lead elsewhere
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        let event = is_number.then(|| self.directory.join(number).join("uevent"))?;
        let event = fs::read_to_string(event).ok()?;
        let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
        Some(format!("/dev/{name}"))
    }
}
