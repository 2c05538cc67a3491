//! A packed generation: one flat file that is never written again.
//!
//! ```text
//! <first seq>.pack
//!     frame(head)        bytes of the file u64 · tally · cursors, see sidecar
//!     frame(schemas)*    every schema that its records name
//!     frame(records)+    time_ms i64 · samples u32 · envelope, one after the other
//!     frame(schemas)*    once more: they are small, and without them records are worth nothing
//! ```
//! Frames of records follow each other without a hole: each begins with the number after the last of
//! the one before. The number of a gap is the last one that it covers, so its frame begins earlier.
//!
//! Reading takes no database: the headers are read one after the other, then the frame that holds what
//! is asked for. Nothing here writes, and nothing is kept in memory but the headers, the schemas and
//! the frame that was last read.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, ErrorKind, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use memchr::memmem;
use wire::{EncodedSchema, StreamId, envelope};

use super::{
    carve::Carved,
    fault::{Fault, io_fault},
    frame::{self, Header, What},
    generation::Schemas,
    limits::PACKED_BYTES_MAX,
    parts::RECORD_LEAD_BYTES,
    sidecar::{self, Tally},
    wholes::check_record_of,
};
use crate::sink::{BatchLimits, LogRecord};

/// How such a file's name ends.
pub(super) const EXTENSION: &str = "pack";

/// Whether a path is one of a packed generation, by its name.
pub(super) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

/// A record on its way into or out of a packed generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    /// Its number.
    pub(super) seq: u64,
    /// Unix milliseconds of what it tells.
    pub(super) time_ms: i64,
    /// Samples in it.
    pub(super) samples: u64,
    /// Its envelope.
    pub(super) bytes: &'a [u8],
}

/// What is known of a packed generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The stream that its records belong to.
    pub(super) stream: StreamId,
    /// First number that it covers.
    pub(super) first_seq: u64,
    /// Last number that it covers.
    pub(super) last_seq: u64,
    /// What lies in it; `None` if only frames of records were readable.
    pub(super) tally: Option<Tally>,
    /// How far each sink had come when it was packed.
    pub(super) cursors: BTreeMap<String, u64>,
    /// Bytes of the file.
    pub(super) bytes: u64,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    header: Header,
}

/// An open packed generation. It only reads.
#[derive(Debug)]
pub(super) struct Packed {
    path: PathBuf,
    file: File,
    head: Head,
    schemas: Schemas,
    /// Frames of records, ascending.
    places: Vec<Place>,
    /// The frame last read, and what it holds.
    current: Option<(usize, Vec<u8>)>,
}

impl Packed {
    /// Opens one, and checks that it is complete; whether its records are undamaged shows when they are
    /// read.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path).map_err(|source| read_fault(path, source))?;
        let bytes = file.metadata().map_err(|source| read_fault(path, source))?.len();
        let (head, mut offset) = read_head(&file).map_err(|source| read_fault(path, source))?;
        if bytes != head.bytes {
            let reason = format!("{bytes} bytes long instead of {}", head.bytes);
            return Err(Fault::Damaged(reason));
        }
        let mut packed = Self {
            path: path.to_owned(),
            file,
            head,
            schemas: Schemas::default(),
            places: Vec::new(),
            current: None,
        };
        let mut schemas = HashMap::new();
        while offset < bytes {
            let place = packed.place(offset)?;
            match place.header.what {
                What::Records => packed.places.push(place),
                What::Schemas => read_schemas(&packed.frame(place)?, &mut schemas)
                    .ok_or_else(|| Fault::Damaged(format!("no schemas at byte {offset}")))?,
                What::Head => return Err(Fault::Damaged(format!("a head at byte {offset}"))),
            }
            offset += place.header.total_bytes() as u64;
        }
        packed.schemas = Arc::new(schemas);
        packed.check_places()?;
        Ok(packed)
    }

    /// What is known of it.
    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    /// Its schemas.
    pub(super) const fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The records from `from` up to `to` that `limits` allow, at least one. Every number in between
    /// is there or covered by a gap; anything else is damage.
    pub(super) fn read(
        &mut self,
        from: u64,
        to: u64,
        limits: BatchLimits,
    ) -> Result<Vec<LogRecord>, Fault> {
        let (mut records, mut bytes, mut expected) = (Vec::<LogRecord>::new(), 0, from);
        while expected <= to {
            let raw = self.frame_with(expected)?;
            let before = expected;
            for item in Items(raw) {
                let item = item?;
                if item.seq < expected {
                    continue;
                }
                let full =
                    records.len() >= limits.records || bytes + item.bytes.len() > limits.bytes;
                if (full && !records.is_empty()) || expected > to {
                    return Ok(records);
                }
                check_record_of(item.seq, expected, item.bytes)?;
                bytes += item.bytes.len();
                expected = item.seq + 1;
                records.push(LogRecord { seq: item.seq, bytes: item.bytes.to_vec() });
            }
            if expected == before {
                return Err(missing(expected));
            }
        }
        Ok(records)
    }

    /// Unix milliseconds of a record, if it is in the frame that was last read.
    pub(super) fn time_of(&self, seq: u64) -> Option<i64> {
        let (_, raw) = self.current.as_ref()?;
        Items(raw).flatten().find(|item| item.seq == seq).map(|item| item.time_ms)
    }

    fn check_places(&self) -> Result<(), Fault> {
        let mut expected = self.head.first_seq;
        for Place { header, .. } in &self.places {
            if header.first_seq != expected || header.last_seq < expected {
                return Err(missing(expected));
            }
            expected = header.last_seq + 1;
        }
        if expected == self.head.last_seq + 1 { Ok(()) } else { Err(missing(expected)) }
    }

    fn place(&self, offset: u64) -> Result<Place, Fault> {
        let mut header = [0; frame::HEADER_BYTES];
        self.read_at(&mut header, offset)?;
        let header = frame::header(&header);
        let header = header.filter(|header| header.stream == self.head.stream);
        let damaged = || Fault::Damaged(format!("no frame at byte {offset}"));
        Ok(Place { offset, header: header.ok_or_else(damaged)? })
    }

    /// The frame that covers `seq`.
    fn frame_with(&mut self, seq: u64) -> Result<&[u8], Fault> {
        let index = self.places.partition_point(|place| place.header.last_seq < seq);
        let place = *self.places.get(index).ok_or_else(|| missing(seq))?;
        if self.current.as_ref().is_none_or(|(current, _)| *current != index) {
            self.current = None;
            self.current = Some((index, self.frame(place)?));
        }
        Ok(self.current.as_ref().map_or(&[], |(_, raw)| raw))
    }

    fn frame(&self, place: Place) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; place.header.total_bytes()];
        self.read_at(&mut bytes, place.offset)?;
        let opened = frame::open(&bytes).filter(|(header, _)| *header == place.header);
        let damaged = || Fault::Damaged(format!("the frame at byte {} is damaged", place.offset));
        opened.map(|(_, raw)| raw).ok_or_else(damaged)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Fault> {
        self.file.read_exact_at(bytes, offset).map_err(|source| read_fault(&self.path, source))
    }
}

/// What is known of a packed generation without opening it: its head or, if that is damaged, what its
/// frames say. `None` if not one frame is readable.
pub(super) fn look(path: &Path) -> io::Result<Option<Head>> {
    match File::open(path).and_then(|file| read_head(&file)) {
        Ok((head, _)) => return Ok(Some(head)),
        Err(error) if is_damage(&error) => {}
        Err(error) => return Err(error),
    }
    let mut found: Option<Head> = None;
    each_frame(&read_file(path)?, |header, _| {
        let Header { stream, first_seq, last_seq, .. } = *header;
        let head = found.get_or_insert_with(|| Head {
            stream,
            first_seq,
            last_seq,
            tally: None,
            cursors: BTreeMap::new(),
            bytes: 0,
        });
        head.first_seq = head.first_seq.min(first_seq);
        head.last_seq = head.last_seq.max(last_seq);
    });
    Ok(found)
}

/// Whether a file is a packed generation in which every frame is whole; for what a crash left.
pub(super) fn is_whole(path: &Path) -> io::Result<bool> {
    let bytes = read_file(path)?;
    let said = match File::open(path).and_then(|file| read_head(&file)) {
        Ok((head, _)) => head.bytes,
        Err(error) if is_damage(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut at = 0;
    while let Some(header) = bytes.get(at..).and_then(frame::header) {
        if !frame::is_whole(&bytes[at..]) {
            break;
        }
        at += header.total_bytes();
    }
    Ok(at == bytes.len() && said == at as u64)
}

/// Everything readable of a packed generation, whatever is damaged, with numbers from `from` on. An
/// absent file has nothing.
pub(super) fn carve(path: &Path, from: u64) -> io::Result<Carved> {
    let bytes = match read_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Carved::default()),
        bytes => bytes?,
    };
    let mut carved = Carved::default();
    let mut schemas = HashMap::new();
    each_frame(&bytes, |header, frame| {
        let wanted = header.what == What::Schemas
            || (header.what == What::Records && header.last_seq >= from);
        let Some((_, raw)) = frame::open(frame).filter(|_| wanted) else { return };
        if header.what == What::Schemas {
            let _ = read_schemas(&raw, &mut schemas);
            return;
        }
        carved.traces_to = carved.traces_to.max(header.last_seq);
        for item in Items(&raw).flatten().filter(|item| item.seq >= from) {
            let known = envelope::split_first(item.bytes);
            if known.is_ok_and(|(found, _)| found.seq == item.seq && found.kind.is_record()) {
                carved.records.entry(item.seq).or_insert_with(|| item.bytes.to_vec());
            }
        }
    });
    carved.schemas = schemas;
    Ok(carved)
}

/// Calls `visit` with every undamaged frame, wherever it lies.
fn each_frame(bytes: &[u8], mut visit: impl FnMut(&Header, &[u8])) {
    let mut at = 0;
    while let Some(found) = memmem::find(&bytes[at..], &frame::MAGIC) {
        at += found;
        let whole = frame::header(&bytes[at..]).filter(|_| frame::is_whole(&bytes[at..]));
        if let Some(header) = whole {
            visit(&header, &bytes[at..at + header.total_bytes()]);
        }
        at += whole.map_or(1, |header| header.total_bytes());
    }
}

/// The head and where it ends.
fn read_head(file: &File) -> io::Result<(Head, u64)> {
    let damaged = || io::Error::new(ErrorKind::InvalidData, "its head is damaged");
    let mut header = [0; frame::HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    let known = frame::header(&header).filter(|header| header.what == What::Head);
    let mut bytes = vec![0; known.ok_or_else(damaged)?.total_bytes()];
    file.read_exact_at(&mut bytes, 0)?;
    let (header, raw) = frame::open(&bytes).ok_or_else(damaged)?;
    let (file_bytes, rest) = raw.split_first_chunk().ok_or_else(damaged)?;
    let (tally, cursors) = rest.split_at_checked(Tally::BYTES).ok_or_else(damaged)?;
    let head = Head {
        stream: header.stream,
        first_seq: header.first_seq,
        last_seq: header.last_seq,
        tally: Some(Tally::decode(tally).ok_or_else(damaged)?),
        cursors: sidecar::decode_cursors(cursors).ok_or_else(damaged)?,
        bytes: u64::from_le_bytes(*file_bytes),
    };
    Ok((head, bytes.len() as u64))
}

fn read_schemas(
    mut raw: &[u8],
    schemas: &mut HashMap<wire::SchemaId, Arc<EncodedSchema>>,
) -> Option<()> {
    while !raw.is_empty() {
        let (found, rest) = envelope::split_first(raw).ok()?;
        let schema = EncodedSchema::from_payload(found.payload).ok()?;
        schemas.insert(schema.id, schema);
        raw = rest;
    }
    Some(())
}

/// The file as a whole, as far as one that we wrote can be long.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(PACKED_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The records of a frame.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = split_item(self.0);
        self.0 = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(item, _)| item).ok_or_else(|| Fault::Damaged("no record".to_owned())))
    }
}

fn split_item(raw: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (lead, rest) = raw.split_at_checked(RECORD_LEAD_BYTES)?;
    let (bytes, rest) = rest.split_at_checked(envelope::total_len(rest).ok()?)?;
    let time_ms = i64::from_le_bytes(*lead.first_chunk()?);
    let samples = u64::from(u32::from_le_bytes(*lead.last_chunk()?));
    let seq = u64::from_le_bytes(*bytes[16..].first_chunk()?);
    Some((Item { seq, time_ms, samples, bytes }, rest))
}

fn missing(seq: u64) -> Fault {
    Fault::Damaged(format!("record {seq} is missing"))
}

/// What is shorter than it says is damaged; anything else is the disk's own refusal. A file that is gone
/// was not taken by us.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound)
}

fn read_fault(path: &Path, source: io::Error) -> Fault {
    match is_damage(&source) {
        true => Fault::Damaged(source.to_string()),
        false => io_fault("read", path, source),
    }
}
