//! One generation: a small sled database. The only file that names sled.
//!
//! ```text
//! tree     key                     value
//! records  seq u64 · part u16      part 0: time_ms i64 · samples u32 · beginning of the envelope
//!                                  later: see parts
//! schemas  schema id 8 · part u16  part 0: beginning of the envelope; later: see parts
//! meta     "stream"                stream id 16
//!          "counts"                see Counts
//!          "cursor:" sink          seq u64
//! ```
//! Keys are big endian, so that they sort; values are little endian.
//!
//! What is known of sled 0.34 (`tests/sled_findings` shows it), and what is done about it here:
//! - On Linux neither creating nor `flush()` syncs anything. Dropping syncs the data file, and opening
//!   what another left does, with a snapshot of it; `conf` and names are never synced. So
//!   [`Generation::sync`] calls `sync_data` on a descriptor of its own.
//! - It recovers a prefix of what was written. So schemas are written before the record that names
//!   them, and a record's first part, which makes it a record, after its others.
//! - A page above a quarter of a segment becomes a file that is never synced: values are split.
//! - A kill while opening leaves an empty `snap.*.generating`, and then it never opens again:
//!   they are deleted first.
//! - A dropped database lets go of its lock late: an open waits for it.
//! - It panics on damage it doesn't expect: every call is inside `catch_unwind`.
//! - After one I/O error every call fails: the caller drops the generation.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use wire::{EncodedSchema, Kind, SchemaId, StreamId, envelope};

use nix::sys::prctl;

use super::{
    WalError,
    counts::Counts,
    disk::{Act, Disk},
    fault::{Fault, io_fault},
    limits::{
        CACHE_BYTES, DATABASE_LOCK_PAUSE, DATABASE_LOCK_WAIT, POOL_TIMER_SLACK_NS, SEGMENT_BYTES,
    },
    parts::{self, RECORD_LEAD_BYTES},
    sidecar,
    wholes::{
        self, Whole, check_record, damaged, key_of, next_whole, next_whole_after_torn, split_key,
    },
};
use crate::sink::{BatchLimits, LogRecord};

/// sled's data file.
pub(super) const DATA_FILE: &str = "db";

const STREAM: &[u8] = b"stream";
const COUNTS: &[u8] = b"counts";
const CURSOR: &[u8] = b"cursor:";

/// How the records of a generation end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The last whole record, if there is any.
    pub(super) last_seq: Option<u64>,
    /// Whether parts of a further one lie behind it.
    pub(super) torn: bool,
}

/// Schemas by name, shared with batches.
pub(super) type Schemas = Arc<HashMap<SchemaId, Arc<EncodedSchema>>>;

/// An open generation.
pub(super) struct Generation {
    disk: Disk,
    path: PathBuf,
    /// `None` only while it is dropped.
    open: Option<Open>,
}

struct Open {
    records: sled::Tree,
    schemas: sled::Tree,
    meta: sled::Tree,
    db: sled::Db,
    /// For syncing.
    file: File,
}

/// What goes wrong inside one call.
type Trouble = wholes::Trouble<sled::Error>;

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Generation {
    /// Creates one, durable and empty, in place of anything unfinished at `path`.
    pub(super) fn create<'a>(
        disk: &Disk,
        path: &Path,
        stream: StreamId,
        first_seq: u64,
        cursors: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<Self, Fault> {
        let io = |source| io_fault("create generation", path, source);
        sidecar::remove_directory(disk, path).map_err(io)?;
        disk.create_directory(path).map_err(io)?;
        Self::fill(disk, path, stream, first_seq, cursors).inspect_err(|_| {
            // As a whole: a head alone would say that all else had been there. What stays goes when the log
            // is next opened.
            let _ = sidecar::remove_directory(disk, path);
        })
    }

    fn fill<'a>(
        disk: &Disk,
        path: &Path,
        stream: StreamId,
        first_seq: u64,
        mut cursors: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<Self, Fault> {
        let generation = Self::open_database(disk, path)?;
        generation.writing("write", |open| {
            open.meta.insert(STREAM, stream.as_bytes())?;
            Ok(())
        })?;
        cursors.try_for_each(|(sink, seq)| generation.put_cursor(sink, seq))?;
        generation.sync()?;
        let conf = path.join("conf");
        let synced = File::open(&conf)
            .and_then(|file| disk.sync_file(&file, &conf))
            // The head says that all else is there: its name must not be durable before theirs.
            .and_then(|()| disk.sync_directory(path))
            .and_then(|()| sidecar::write_head(disk, path, stream, first_seq))
            .and_then(|()| disk.sync_directory(path.parent().unwrap_or(path)));
        synced.map_err(|source| io_fault("create generation", path, source))?;
        Ok(generation)
    }

    /// Opens one. What is found in it is durable: after a kill, what was written may not be yet.
    pub(super) fn open(disk: &Disk, path: &Path) -> Result<Self, Fault> {
        let io = |source| io_fault("open generation", path, source);
        remove_unfinished_snapshots(disk, path).map_err(io)?;
        // sled syncs a snapshot of what it finds: that must not know more than the disk.
        let data = path.join(DATA_FILE);
        match File::open(&data) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            file => file.and_then(|file| disk.sync_data(&file, &data)).map_err(io)?,
        }
        let generation = Self::open_database(disk, path)?;
        generation.sync()?;
        Ok(generation)
    }

    fn open_database(disk: &Disk, path: &Path) -> Result<Self, Fault> {
        let deadline = Instant::now() + DATABASE_LOCK_WAIT;
        let open = loop {
            let open = guarded("open generation", path, || {
                disk.act(Act::OpenDatabase, path, || Ok(open_sled(path)?))
            });
            match open {
                Err(Fault::Io(error)) if is_passing(&error) && Instant::now() < deadline => {
                    thread::sleep(DATABASE_LOCK_PAUSE);
                }
                other => break other?,
            }
        };
        Ok(Self { disk: disk.clone(), path: path.to_owned(), open: Some(open) })
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of its data file on disk.
    pub(super) fn data_bytes(&self) -> u64 {
        let metadata = self.open.as_ref().and_then(|open| open.file.metadata().ok());
        metadata.map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Writes a schema.
    pub(super) fn put_schema(&self, schema: &EncodedSchema) -> Result<u64, Fault> {
        let number = u64::from_be_bytes(schema.id.0);
        let whole = envelope::encode(Kind::Schema, 0, &schema.payload)
            .map_err(|error| Fault::Io(error.into()))?;
        let values = parts::split(Kind::Schema, number, &[], &whole);
        self.writing("write schema", |open| Ok(put(&open.schemas, number, values)?))?;
        Ok(whole.len() as u64)
    }

    /// Writes a record: its envelope, and what is counted of it.
    pub(super) fn put_record(
        &self,
        seq: u64,
        kind: Kind,
        whole: &[u8],
        time_ms: i64,
        samples: u64,
    ) -> Result<(), Fault> {
        let samples = u32::try_from(samples).unwrap_or(u32::MAX);
        let lead = [&time_ms.to_le_bytes()[..], &samples.to_le_bytes()].concat();
        let values = parts::split(kind, seq, &lead, whole);
        self.writing("write record", |open| Ok(put(&open.records, seq, values)?))
    }

    /// Writes a sink's cursor.
    pub(super) fn put_cursor(&self, sink: &str, seq: u64) -> Result<(), Fault> {
        let key = [CURSOR, sink.as_bytes()].concat();
        self.writing("write cursor", |open| {
            open.meta.insert(key, &seq.to_le_bytes())?;
            Ok(())
        })
    }

    /// Forgets a sink.
    pub(super) fn remove_cursor(&self, sink: &str) -> Result<(), Fault> {
        let key = [CURSOR, sink.as_bytes()].concat();
        self.writing("remove cursor", |open| {
            open.meta.remove(key)?;
            Ok(())
        })
    }

    /// Writes what is counted.
    pub(super) fn put_counts(&self, counts: &Counts) -> Result<(), Fault> {
        self.writing("write counts", |open| {
            open.meta.insert(COUNTS, counts.encode())?;
            Ok(())
        })
    }

    /// Makes all that was written durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.guarded(Act::FlushDatabase, "flush", |open| {
            with_calm_threads(|| open.db.flush())?;
            Ok(())
        })?;
        let Some(open) = &self.open else { return Ok(()) };
        let path = self.path.join(DATA_FILE);
        self.disk.sync_data(&open.file, &path).map_err(|source| io_fault("sync", &path, source))
    }

    /// The stream its records belong to.
    pub(super) fn stream(&self) -> Result<StreamId, Fault> {
        let stream = self.reading("read", |open| Ok(open.meta.get(STREAM)?))?;
        let bytes = stream.and_then(|bytes| <[u8; 16]>::try_from(&*bytes).ok());
        bytes.map(StreamId::from_bytes).ok_or_else(|| Fault::Damaged("no stream id".to_owned()))
    }

    /// Cursors as they were when they were last written.
    pub(super) fn cursors(&self) -> Result<BTreeMap<String, u64>, Fault> {
        self.reading("read cursors", |open| {
            let mut cursors = BTreeMap::new();
            for entry in open.meta.scan_prefix(CURSOR) {
                let (key, value) = entry?;
                let sink = String::from_utf8_lossy(&key[CURSOR.len()..]).into_owned();
                let seq = value.as_ref().try_into().map(u64::from_le_bytes);
                cursors.insert(sink, seq.map_err(|_| damaged("cursor"))?);
            }
            Ok(cursors)
        })
    }

    /// Its schemas.
    pub(super) fn schemas(&self) -> Result<Schemas, Fault> {
        self.reading("read schemas", |open| {
            let mut schemas = HashMap::new();
            let mut entries = open.schemas.iter();
            while let Some((number, whole)) = next_whole_after_torn(&mut entries)? {
                let found = envelope::split_first(&whole.bytes).ok();
                let schema =
                    found.and_then(|(found, _)| EncodedSchema::from_payload(found.payload).ok());
                let schema = schema.filter(|schema| u64::from_be_bytes(schema.id.0) == number);
                let schema = schema.ok_or_else(|| damaged("schema"))?;
                schemas.insert(schema.id, schema);
            }
            Ok(Arc::new(schemas))
        })
    }

    /// How its records end.
    pub(super) fn end(&self) -> Result<End, Fault> {
        self.reading("read end", |open| {
            let Some(seq) = last_below(&open.records, u64::MAX)? else {
                return Ok(End { last_seq: None, torn: false });
            };
            match next_whole(&mut open.records.range(key_of(seq, 0)..), RECORD_LEAD_BYTES) {
                Ok(Some(_)) => return Ok(End { last_seq: Some(seq), torn: false }),
                Err(Trouble::Database(error)) => return Err(error.into()),
                Ok(None) | Err(Trouble::Damaged(_)) => {}
            }
            Ok(End { last_seq: last_below(&open.records, seq)?, torn: true })
        })
    }

    /// Counts up to and with `last_seq`, from what was last written on.
    pub(super) fn counts(&self, last_seq: u64) -> Result<Counts, Fault> {
        self.reading("count", |open| {
            let stored = open.meta.get(COUNTS)?;
            let stored = stored.and_then(|bytes| Counts::decode(&bytes));
            let mut counts = stored.filter(|c| c.seq <= last_seq).unwrap_or_default();
            // Parts of a torn record may lie behind.
            let range = key_of(counts.seq + 1, 0)..key_of(last_seq + 1, 0);
            let mut entries = open.records.range(range);
            while let Some((seq, whole)) = next_whole(&mut entries, RECORD_LEAD_BYTES)? {
                counts.seq = seq;
                counts.bytes += whole.bytes.len() as u64;
                counts.tally.add(whole.time_ms, whole.samples);
            }
            Ok(counts)
        })
    }

    /// Unix milliseconds of a record, if it is there.
    pub(super) fn time_of(&self, seq: u64) -> Option<i64> {
        let value = self.reading("read", |open| Ok(open.records.get(key_of(seq, 0))?)).ok()??;
        value.first_chunk().map(|time_ms| i64::from_le_bytes(*time_ms))
    }

    /// The records from `from` up to `to` that `limits` allow, at least one. Every number in between
    /// is there or covered by a gap; anything else is damage.
    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        limits: BatchLimits,
    ) -> Result<Vec<LogRecord>, Fault> {
        let wholes = self.wholes(from, to, limits)?;
        let record = |(seq, whole): (u64, Whole)| LogRecord { seq, bytes: whole.bytes };
        Ok(wholes.into_iter().map(record).collect())
    }

    /// As [`Generation::read`], with what was noted of each record.
    pub(super) fn wholes(
        &self,
        from: u64,
        to: u64,
        limits: BatchLimits,
    ) -> Result<Vec<(u64, Whole)>, Fault> {
        self.reading("read records", |open| {
            let (mut records, mut bytes, mut expected) = (Vec::new(), 0, from);
            let mut entries = open.records.range(key_of(from, 0)..);
            while expected <= to {
                let Some((seq, whole)) = next_whole(&mut entries, RECORD_LEAD_BYTES)? else {
                    return Err(damaged(format!("record {expected} is missing")));
                };
                check_record(seq, expected, &whole.bytes)?;
                let full =
                    records.len() >= limits.records || bytes + whole.bytes.len() > limits.bytes;
                if full && !records.is_empty() {
                    break;
                }
                bytes += whole.bytes.len();
                expected = seq + 1;
                records.push((seq, whole));
            }
            Ok(records)
        })
    }

    fn reading<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&Open) -> Result<T, Trouble>,
    ) -> Result<T, Fault> {
        self.guarded(Act::ReadDatabase, operation, call)
    }

    fn writing<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&Open) -> Result<T, Trouble>,
    ) -> Result<T, Fault> {
        self.guarded(Act::WriteDatabase, operation, call)
    }

    fn guarded<T>(
        &self,
        act: Act,
        operation: &'static str,
        call: impl FnOnce(&Open) -> Result<T, Trouble>,
    ) -> Result<T, Fault> {
        let Some(open) = &self.open else {
            return Err(Fault::Damaged("used while it was closed".to_owned()));
        };
        guarded(operation, &self.path, || self.disk.act(act, &self.path, || call(open)))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let open = self.open.take();
        if catch_unwind(AssertUnwindSafe(|| drop(open))).is_err() {
            tracing::warn!(path = %self.path.display(), "closing a generation of the log failed");
        }
    }
}

fn open_sled(path: &Path) -> sled::Result<Open> {
    let config = sled::Config::new()
        .path(path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    let db = config.open()?;
    Ok(Open {
        records: db.open_tree("records")?,
        schemas: db.open_tree("schemas")?,
        meta: db.open_tree("meta")?,
        db,
        file: File::open(path.join(DATA_FILE))?,
    })
}

/// The last number below `end` under which anything lies. It is searched for forwards: to look backwards
/// from an open end sled compares with a key of 1 MiB that it brings along, a sixth of a small program.
fn last_below(records: &sled::Tree, end: u64) -> Result<Option<u64>, Trouble> {
    let first_from = |seq: u64| {
        let entry = records.range(key_of(seq, 0)..key_of(end, 0)).next().transpose()?;
        entry.map(|(key, _)| split_key(&key).map(|(found, _)| found)).transpose()
    };
    let Some(mut last) = first_from(0)? else { return Ok(None) };
    let mut none_from = end;
    while last + 1 < none_from {
        let middle = last + (none_from - last) / 2;
        match first_from(middle)? {
            Some(found) => last = found,
            None => none_from = middle,
        }
    }
    Ok(Some(last))
}

fn remove_unfinished_snapshots(disk: &Disk, path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

/// The first part last: with it there, the others are.
fn put(tree: &sled::Tree, number: u64, values: Vec<Vec<u8>>) -> sled::Result<()> {
    for (part, value) in (0..).zip(values).collect::<Vec<(u16, _)>>().into_iter().rev() {
        tree.insert(key_of(number, part), value)?;
    }
    Ok(())
}

fn guarded<T>(
    operation: &'static str,
    path: &Path,
    call: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Trouble::Database(sled::Error::Io(source)))) => Err(match is_damage(&source) {
            true => Fault::Damaged(source.to_string()),
            false => io_fault(operation, path, source),
        }),
        Ok(Err(Trouble::Database(sled::Error::ReportableBug(reason)))) => {
            Err(Fault::Io(WalError::Database { operation, path: path.to_owned(), reason }))
        }
        Ok(Err(Trouble::Database(error))) => Err(Fault::Damaged(error.to_string())),
        Ok(Err(Trouble::Damaged(reason))) => Err(Fault::Damaged(reason)),
        Err(panic) => Err(panicked(operation, path, &*panic)),
    }
}

/// Some of sled's I/O errors say that a file is shorter than it was, or are made by sled itself. The
/// lock that another holds is neither.
fn is_damage(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => true,
        ErrorKind::Other => error.raw_os_error().is_none() && !is_lock(error),
        _ => false,
    }
}

fn is_lock(error: &io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

/// Errors that go away: the lock of a database that is still being dropped, a busy thread pool.
fn is_passing(error: &WalError) -> bool {
    match error {
        WalError::Io { source, .. } => is_lock(source),
        WalError::Database { .. } => true,
        _ => false,
    }
}

/// sled unwraps some I/O errors: a panic that shows one is no damage.
fn panicked(operation: &'static str, path: &Path, panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
    let reason = format!("sled panicked: {text}");
    match text.contains("Os { code:") {
        true => Fault::Io(WalError::Database { operation, path: path.to_owned(), reason }),
        false => Fault::Damaged(reason),
    }
}

/// The first flush starts sled's seven threads, which for ever wake once a second for nothing: that
/// costs an idle host more than the log does. Threads inherit the timer slack of who starts them (`prctl(2)`): with a
/// large one the kernel lets them sleep until it is awake anyway. Work wakes them at once as before.
fn with_calm_threads<T>(start: impl FnOnce() -> T) -> T {
    let before = prctl::get_timerslack().ok().and_then(|slack| u64::try_from(slack).ok());
    // Only thrift: where it can't be had, all works without.
    let _ = prctl::set_timerslack(POOL_TIMER_SLACK_NS);
    let started = start();
    if let Some(before) = before {
        let _ = prctl::set_timerslack(before);
    }
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_number_below_another() {
        let records = sled::Config::new().temporary(true).open().unwrap().open_tree("t").unwrap();
        let check = |end: u64, expected: Option<u64>| {
            assert_eq!(last_below(&records, end).ok().unwrap(), expected, "below {end}");
        };
        check(u64::MAX, None);
        for seq in [7, 8, 9, 13, 1 << 40] {
            records.insert(key_of(seq, 0), &[0]).unwrap();
            records.insert(key_of(seq, 3), &[0]).unwrap();
        }
        check(u64::MAX, Some(1 << 40));
        check(1 << 40, Some(13));
        check(14, Some(13));
        check(13, Some(9));
        check(9, Some(8));
        check(7, None);
        check(0, None);
    }
}
