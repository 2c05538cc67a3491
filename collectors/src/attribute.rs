//! Attributes of `/sys` that are read every tick, and stay open for it.
//!
//! To open an attribute costs several times what it costs to read it, so an [`Attribute`] is opened once
//! and read from offset 0 from then on. Large machines have thousands of them while a process has a
//! thousand descriptors, so not all stay open: [`OWN_MAX`] of each collector do, and beyond these as many
//! as have a place among [`SHARED_MAX`], of which no collector takes more than half. A host with fifty
//! interfaces so leaves its sensors theirs. The others are opened, read and closed.
//!
//! When a kept one fails (its device went and came back), it is opened again; but one that its device
//! refuses to a fresh descriptor too (the speed of an interface that is down) is only asked again.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent_core::{Metric, Samples};
use nix::errno::Errno;

use crate::sysfs::number;

/// Attributes of one collector that stay open whatever the others have: with all collectors that read
/// attributes, a quarter of what the service may open.
const OWN_MAX: usize = 16;
/// Those beyond, of all collectors together: another quarter.
const SHARED_MAX: usize = 256;
/// Those of them that one collector may have.
const SHARED_EACH_MAX: usize = SHARED_MAX / 2;
/// A page: the kernel gives an attribute no more.
const PAGE_BYTES: usize = 4 << 10;

/// How many stay open beyond what collectors have of their own.
static SHARED: AtomicUsize = AtomicUsize::new(0);

/// What the attributes of one collector are read into, and how many of them stay open.
#[derive(Debug)]
pub(crate) struct Page {
    bytes: Vec<u8>,
    length: usize,
    lossy: String,
    places: Arc<Places>,
}

impl Default for Page {
    fn default() -> Self {
        Self::sharing(&SHARED)
    }
}

impl Page {
    fn sharing(shared: &'static AtomicUsize) -> Self {
        let places =
            Arc::new(Places { own: AtomicUsize::new(0), beyond: AtomicUsize::new(0), shared });
        Self { bytes: vec![0; PAGE_BYTES], length: 0, lossy: String::new(), places }
    }

    /// One read is the whole attribute: the kernel writes it anew at offset 0, into a page.
    fn fill(&mut self, file: &File) -> io::Result<()> {
        self.length = 0;
        loop {
            match file.read_at(&mut self.bytes, 0) {
                Ok(length) => {
                    self.length = length;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn text(&mut self) -> &str {
        let bytes = &self.bytes[..self.length];
        match std::str::from_utf8(bytes) {
            Ok(text) => text.trim(),
            Err(_) => {
                self.lossy = String::from_utf8_lossy(bytes).into_owned();
                self.lossy.trim()
            }
        }
    }
}

/// How many attributes of one collector stay open.
#[derive(Debug)]
struct Places {
    /// Of its own.
    own: AtomicUsize,
    /// Beyond those.
    beyond: AtomicUsize,
    /// Beyond those, of all collectors.
    shared: &'static AtomicUsize,
}

/// A place among those that stay open, given back when it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    is_own: bool,
}

impl Place {
    fn take(places: &Arc<Places>) -> Option<Self> {
        let place = |is_own| Some(Self { places: Arc::clone(places), is_own });
        if one_more(&places.own, OWN_MAX) {
            return place(true);
        }
        if !one_more(&places.beyond, SHARED_EACH_MAX) {
            return None;
        }
        if one_more(places.shared, SHARED_MAX) {
            return place(false);
        }
        places.beyond.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Places { own, beyond, shared } = &*self.places;
        let counts = if self.is_own { &[own][..] } else { &[beyond, shared] };
        counts.iter().for_each(|count| _ = count.fetch_sub(1, Ordering::Relaxed));
    }
}

/// Counts one more, unless there are so many.
fn one_more(count: &AtomicUsize, most: usize) -> bool {
    let more = |count: usize| (count < most).then_some(count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// A descriptor that stays open.
#[derive(Debug)]
struct Kept {
    file: File,
    /// How it failed when it was fresh: the device's own word, so a fresh one would say no different.
    refused: Option<Errno>,
    _place: Place,
}

/// How what was opened of a device fails once that is gone: not kept, for it tells nothing of the device
/// that came since.
const GONE: Errno = Errno::ENODEV;

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// One attribute of one device.
#[derive(Debug)]
pub(crate) struct Attribute {
    path: PathBuf,
    kept: Option<Kept>,
}

impl Attribute {
    /// The attribute of that path; it is opened when it is first read.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, kept: None }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its text as it is now, without the space around it.
    ///
    /// # Errors
    /// The system's: the device has no such attribute, this user may not read it, or the device
    /// refuses just now.
    pub(crate) fn read<'p>(&mut self, page: &'p mut Page) -> io::Result<&'p str> {
        if let Some(kept) = &self.kept {
            match page.fill(&kept.file) {
                Ok(()) => return Ok(page.text()),
                Err(error) if kept.refused == Some(errno(&error)) => return Err(error),
                Err(_) => self.kept = None,
            }
        }
        let file = File::open(&self.path)?;
        let answer = page.fill(&file);
        let refused = answer.as_ref().err().map(errno);
        if refused != Some(GONE) {
            let place = Place::take(&page.places);
            self.kept = place.map(|place| Kept { file, refused, _place: place });
        }
        answer.map(|()| page.text())
    }

    /// Its number, decimal or with `0x` in hexadecimal; `None` when it can't be read or is none.
    pub(crate) fn number(&mut self, page: &mut Page) -> Option<f64> {
        number(self.read(page).ok()?)
    }
}

/// An attribute whose text is the value of a label.
#[derive(Debug)]
pub(crate) struct Text {
    /// `None` if the device has no such attribute.
    attribute: Option<Attribute>,
    value: String,
}

impl Text {
    /// The attribute of that path, if there is one.
    pub(crate) fn new(path: PathBuf) -> Self {
        let attribute = path.is_file().then(|| Attribute::new(path));
        Self { attribute, value: String::new() }
    }

    /// Reads it; what can't be read is empty.
    pub(crate) fn refresh(&mut self, page: &mut Page) {
        self.value.clear();
        if let Some(Ok(text)) = self.attribute.as_mut().map(|attribute| attribute.read(page)) {
            self.value.push_str(text);
        }
    }

    /// What was read last.
    pub(crate) fn value(&self) -> &str {
        &self.value
    }
}

/// An attribute that is the value of a metric.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name, or its path below the device.
    pub(crate) attribute: &'static str,
    /// What it becomes.
    pub(crate) metric: Metric<'static>,
    /// What its number is divided by: 1 000 000 where the kernel says microvolts.
    pub(crate) divisor: f64,
}

impl Field {
    /// An attribute in the metric's unit.
    pub(crate) const fn new(attribute: &'static str, metric: Metric<'static>) -> Self {
        Self { attribute, metric, divisor: 1.0 }
    }
}

/// Those attributes of a table that a device has.
#[derive(Debug)]
pub(crate) struct Fields(Vec<(Attribute, &'static Field)>);

impl Fields {
    /// Of a device in that directory.
    pub(crate) fn of(directory: &Path, table: &'static [Field]) -> Self {
        let fields = table.iter().filter_map(|field| {
            let path = directory.join(field.attribute);
            path.is_file().then(|| (Attribute::new(path), field))
        });
        Self(fields.collect())
    }

    /// Adds a sample for each that can be read now. One that is no number is left out with a remark.
    pub(crate) fn push(&mut self, labels: &[(&str, &str)], page: &mut Page, out: &mut Samples) {
        self.push_parsed(labels, page, out, |_, text| number(text).map(Some));
    }

    /// As [`Fields::push`], of text that `parse` makes a number of. `None` is no number, and the number
    /// inside can be left out for a reason.
    pub(crate) fn push_parsed(
        &mut self,
        labels: &[(&str, &str)],
        page: &mut Page,
        out: &mut Samples,
        parse: impl Fn(&Field, &str) -> Option<Option<f64>>,
    ) {
        for (attribute, field) in &mut self.0 {
            let Ok(text) = attribute.read(page) else { continue };
            match parse(field, text) {
                Some(Some(number)) => out.push(&field.metric, labels, number / field.divisor),
                Some(None) => {}
                None => out.remark(&no_number(attribute.path(), text)),
            }
        }
    }
}

/// What is said of an attribute that should be a number.
pub(crate) fn no_number(path: &Path, text: &str) -> String {
    const SHOWN: usize = 40;
    let shown = &text[..text.floor_char_boundary(SHOWN)];
    format!("{}: {shown:?} is not a number", path.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn attributes_are_read_anew_from_the_kept_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("temp1_input");
        fs::write(&path, "41000\n").unwrap();
        let (mut attribute, mut page) = (Attribute::new(path.clone()), Page::default());
        assert_eq!(attribute.number(&mut page), Some(41_000.0));
        fs::write(&path, "-1\n").unwrap();
        assert_eq!(attribute.number(&mut page), Some(-1.0));
        fs::write(&path, "ok \n").unwrap();
        assert_eq!(attribute.number(&mut page), None);
        assert_eq!(attribute.read(&mut page).unwrap(), "ok");
        fs::write(&path, b"caf\xe9").unwrap();
        assert_eq!(attribute.read(&mut page).unwrap(), "caf\u{fffd}");
        fs::remove_file(&path).unwrap();
        assert_eq!(attribute.read(&mut page).unwrap(), "caf\u{fffd}", "the one that was opened");
    }

    #[test]
    fn a_kept_descriptor_that_fails_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (mut attribute, mut page) = (Attribute::new(path.clone()), Page::default());
        assert_eq!(attribute.read(&mut page).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&path, "live").unwrap();
        assert_eq!(attribute.read(&mut page).unwrap(), "live");
        // a directory opens but can't be read
        attribute.kept.as_mut().unwrap().file = File::open(directory.path()).unwrap();
        assert_eq!(attribute.read(&mut page).unwrap(), "live");
    }

    #[test]
    fn what_a_fresh_descriptor_is_refused_is_only_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("speed");
        let (mut attribute, mut page) = (Attribute::new(path.clone()), Page::default());
        // a directory opens but can't be read
        fs::create_dir(&path).unwrap();
        let mut check_refused = || {
            let error = attribute.read(&mut page).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::IsADirectory);
        };
        check_refused();
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "1000").unwrap();
        check_refused();
        // it refuses in another way than it did: opened again
        attribute.kept.as_mut().unwrap().refused = Some(Errno::EINVAL);
        assert_eq!(attribute.read(&mut page).unwrap(), "1000");
    }

    /// So many attributes of one collector.
    struct Many {
        attributes: Vec<Attribute>,
        page: Page,
    }

    impl Many {
        /// All of them are read, some from a kept descriptor; how many that is.
        fn read(&mut self) -> usize {
            let Self { attributes, page } = self;
            assert!(attributes.iter_mut().all(|attribute| attribute.number(page) == Some(7.0)));
            attributes.iter().filter(|attribute| attribute.kept.is_some()).count()
        }
    }

    #[test]
    fn no_collector_takes_the_places_of_the_others() {
        static SHARED: AtomicUsize = AtomicUsize::new(0);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("energy_uj");
        fs::write(&path, "7").unwrap();
        let many = |count: usize| Many {
            attributes: (0..count).map(|_| Attribute::new(path.clone())).collect(),
            page: Page::sharing(&SHARED),
        };
        let most = OWN_MAX + SHARED_EACH_MAX;
        let (mut interfaces, mut sensors, mut zones) = (many(400), many(400), many(400));
        // twice: the second time from kept descriptors
        for _ in 0..2 {
            assert_eq!(interfaces.read(), most);
            assert_eq!(sensors.read(), most, "as many as the one that came before");
            assert_eq!(zones.read(), OWN_MAX, "its own are there for a third");
        }
        assert_eq!(SHARED.load(Ordering::Relaxed), SHARED_MAX);
        drop(interfaces);
        assert_eq!(zones.read(), most, "what another gave back");
        drop((sensors, zones));
        assert_eq!(SHARED.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_device_has_some_of_a_table() {
        static TABLE: [Field; 3] = [
            Field::new("missing", Metric::gauge("node_missing", "")),
            Field { divisor: 10.0, ..Field::new("temp", Metric::gauge("node_temp", "")) },
            Field::new("odd", Metric::gauge("node_odd", "")),
        ];
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("temp"), "355\n").unwrap();
        fs::write(directory.path().join("odd"), "N/A (no PMA)\n").unwrap();
        let mut out = Samples::new("test");
        let mut fields = Fields::of(directory.path(), &TABLE);
        fields.push(&[("power_supply", "BAT0")], &mut Page::default(), &mut out);
        assert!(out.remarks().ends_with("/odd: \"N/A (no PMA)\" is not a number"));
        let (schema, values) = out.finish();
        assert_eq!(schema.schema.families[0].name, "node_temp");
        assert_eq!(values, [35.5]);
    }
}
