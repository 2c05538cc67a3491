//! Small files beside the databases: what must be known without opening one, or survive its loss.
//!
//! Each is one envelope of kind `Part` (the kind that never leaves a host) for its magic, version and
//! checksum, its `seq` the number the file is about:
//!
//! ```text
//! <generation>/head   first seq  stream id 16          written last at creation: no head, never finished
//! <generation>/tail   last seq   tally · stream id 16
//! <last seq>.gap      last seq   stream id 16 · first seq of what it stands for u64 · payload of the record
//! last                last seq   stream id 16 · last_ms i64 · first seq held u64 · cursors
//!                                rewritten after each append, and synced only when the log is left
//!                                without a generation
//!
//! tally               records u64 · samples u64 · first_ms i64 · last_ms i64
//! cursors             for each sink: bytes of its name u16 · name · seq u64
//! ```
//! Numbers are little endian. What stands last may be absent: older versions wrote less.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use wire::{Gap, Kind, StreamId, envelope};

use super::disk::Disk;

/// Name of the witness's file.
pub(super) const LAST: &str = "last";

/// What lies in a stretch of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Records.
    pub(super) records: u64,
    /// Samples in them.
    pub(super) samples: u64,
    /// Unix milliseconds of the first.
    pub(super) first_ms: i64,
    /// Unix milliseconds of the last.
    pub(super) last_ms: i64,
}

impl Tally {
    /// Bytes that [`Tally::encode`] gives.
    pub(super) const BYTES: usize = 32;

    /// Counts one more record.
    pub(super) fn add(&mut self, time_ms: i64, samples: u64) {
        if self.records == 0 {
            self.first_ms = time_ms;
        }
        self.records += 1;
        self.samples += samples;
        self.last_ms = time_ms;
    }

    /// For a file.
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.records.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.samples.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_ms.to_le_bytes());
        bytes[24..].copy_from_slice(&self.last_ms.to_le_bytes());
        bytes
    }

    /// What [`Tally::encode`] gave.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let [records, samples, first_ms, last_ms] = words else { return None };
        rest.is_empty().then(|| Self {
            records: u64::from_le_bytes(*records),
            samples: u64::from_le_bytes(*samples),
            first_ms: i64::from_le_bytes(*first_ms),
            last_ms: i64::from_le_bytes(*last_ms),
        })
    }
}

/// How far sinks have come, for a file.
pub(super) fn encode_cursors<'a>(cursors: impl Iterator<Item = (&'a str, u64)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (sink, seq) in cursors {
        // No name in a configuration is as long as that: half of one would be another's.
        let Ok(length) = u16::try_from(sink.len()) else { continue };
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(sink.as_bytes());
        bytes.extend_from_slice(&seq.to_le_bytes());
    }
    bytes
}

/// What [`encode_cursors`] gave.
pub(super) fn decode_cursors(mut bytes: &[u8]) -> Option<BTreeMap<String, u64>> {
    let mut cursors = BTreeMap::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (sink, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (seq, rest) = rest.split_first_chunk()?;
        cursors.insert(str::from_utf8(sink).ok()?.to_owned(), u64::from_le_bytes(*seq));
        bytes = rest;
    }
    Some(cursors)
}

/// Writes a generation's head durably.
pub(super) fn write_head(
    disk: &Disk,
    generation: &Path,
    stream: StreamId,
    first_seq: u64,
) -> io::Result<()> {
    write(disk, &generation.join("head"), first_seq, stream.as_bytes())
}

/// Whether a generation's creation was finished.
pub(super) fn has_head(generation: &Path) -> bool {
    generation.join("head").exists()
}

/// A generation's stream and first seq; `None` if the file is absent or damaged.
pub(super) fn read_head(generation: &Path) -> Option<(StreamId, u64)> {
    let (first_seq, payload) = read(&generation.join("head"))?;
    Some((StreamId::from_bytes(payload.try_into().ok()?), first_seq))
}

/// Writes a generation's tail durably.
pub(super) fn write_tail(
    disk: &Disk,
    generation: &Path,
    last_seq: u64,
    tally: &Tally,
    stream: StreamId,
) -> io::Result<()> {
    let payload = [&tally.encode()[..], stream.as_bytes()].concat();
    write(disk, &generation.join("tail"), last_seq, &payload)
}

/// Whether a generation's tail was written.
pub(super) fn has_tail(generation: &Path) -> bool {
    generation.join("tail").exists()
}

/// What a sealed generation's tail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Its last number.
    pub(super) last_seq: u64,
    /// What lies in it.
    pub(super) tally: Tally,
    /// The stream its records belong to.
    pub(super) stream: Option<StreamId>,
}

/// A generation's tail; `None` if the file is absent or damaged.
pub(super) fn read_tail(generation: &Path) -> Option<Tail> {
    let (last_seq, payload) = read(&generation.join("tail"))?;
    let (tally, stream) = payload.split_at_checked(Tally::BYTES)?;
    let stream = stream.try_into().ok().map(StreamId::from_bytes);
    Some(Tail { last_seq, tally: Tally::decode(tally)?, stream })
}

/// Where the gap that ends with `last_seq` lies.
pub(super) fn gap_path(directory: &Path, last_seq: u64) -> PathBuf {
    directory.join(format!("{last_seq:020}.gap"))
}

/// A gap record that stands for a stretch of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StandIn {
    /// The stream it belongs to.
    pub(super) stream: StreamId,
    /// Where the stretch begins; the gap may begin later, with what was still wanted.
    pub(super) first_seq: u64,
    /// The record; the stretch ends with it.
    pub(super) gap: Gap,
}

/// Writes a gap durably; returns its path.
pub(super) fn write_gap(disk: &Disk, directory: &Path, stand_in: &StandIn) -> io::Result<PathBuf> {
    let StandIn { stream, first_seq, gap } = stand_in;
    let path = gap_path(directory, gap.last_seq);
    let payload = [stream.as_bytes(), &first_seq.to_le_bytes()[..], &gap.encode()].concat();
    write(disk, &path, gap.last_seq, &payload)?;
    Ok(path)
}

/// A gap; `None` if the file is damaged.
pub(super) fn read_gap(path: &Path) -> Option<StandIn> {
    let (last_seq, payload) = read(path)?;
    let (stream, rest) = payload.split_first_chunk()?;
    let (first_seq, gap) = rest.split_first_chunk()?;
    let (stream, first_seq) = (StreamId::from_bytes(*stream), u64::from_le_bytes(*first_seq));
    let gap = Gap::decode(gap).ok().filter(|gap| gap.last_seq == last_seq)?;
    (first_seq <= last_seq).then_some(StandIn { stream, first_seq, gap })
}

/// What a log's [`Witness`] says; `None` if it is absent or unreadable.
pub(super) fn read_last(directory: &Path) -> Option<Said> {
    let (last_seq, payload) = read(&directory.join(LAST))?;
    let (stream, rest) = payload.split_first_chunk()?;
    let stream = StreamId::from_bytes(*stream);
    let (last_ms, rest) = rest.split_first_chunk().unzip();
    let (first_seq, cursors) = rest.and_then(<[u8]>::split_first_chunk).unzip();
    // 0 is written where it isn't known.
    let last_ms = last_ms.map(|ms| i64::from_le_bytes(*ms)).filter(|ms| *ms != 0);
    let first_seq = first_seq.map_or(0, |first_seq| u64::from_le_bytes(*first_seq));
    let cursors = cursors.and_then(decode_cursors).unwrap_or_default();
    Some(Said { stream, first_seq, last_seq, last_ms, cursors })
}

/// The highest durable seq, told apart from the databases: never ahead of them, and behind by at most
/// one append after a kill, by what the kernel had not yet written after a power cut. A log that ends
/// before it has lost its end. It knows the time of that record too, when all records are given back,
/// and how far sinks had come, for when the newest generation is lost.
#[derive(Debug)]
pub(super) struct Witness {
    disk: Disk,
    path: PathBuf,
    file: File,
    /// Number and time of the last record, as it said when it was opened.
    found: Option<(u64, i64)>,
}

/// What a witness says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The stream of the last record.
    pub(super) stream: StreamId,
    /// The first number that was held; 0 if it didn't say.
    pub(super) first_seq: u64,
    /// The last record's number.
    pub(super) last_seq: u64,
    /// Its time in Unix milliseconds, if it is known.
    pub(super) last_ms: Option<i64>,
    /// How far each sink had come.
    pub(super) cursors: BTreeMap<String, u64>,
}

impl Said {
    /// Whether nothing was held any more.
    pub(super) const fn holds_nothing(&self) -> bool {
        self.first_seq > self.last_seq
    }
}

impl Witness {
    /// Opens it, and reads what it says.
    pub(super) fn open(disk: &Disk, directory: &Path) -> io::Result<(Self, Option<Said>)> {
        let path = directory.join(LAST);
        let said = read_last(directory);
        let found = said.as_ref().and_then(|said| Some((said.last_seq, said.last_ms?)));
        let file = disk.create_file(&path)?;
        Ok((Self { disk: disk.clone(), path, file, found }, said))
    }

    /// The time of the last record of a log that ends with `last_seq`, whose own last records are of
    /// `held_ms` if there are any. After a power cut this file may be behind.
    pub(super) fn last_ms(&self, last_seq: u64, held_ms: Option<i64>) -> Option<i64> {
        let told = self.found.filter(|(seq, _)| *seq >= last_seq).map(|(_, last_ms)| last_ms);
        told.or_else(|| held_ms.max(self.found.map(|(_, last_ms)| last_ms)))
    }

    /// Says of a stream which numbers are held, the time of the last, and how far sinks have come.
    pub(super) fn say<'a>(
        &self,
        stream: StreamId,
        (first_seq, last_seq): (u64, u64),
        last_ms: i64,
        cursors: impl Iterator<Item = (&'a str, u64)>,
    ) -> io::Result<()> {
        let payload = [
            &stream.as_bytes()[..],
            &last_ms.to_le_bytes(),
            &first_seq.to_le_bytes(),
            &encode_cursors(cursors),
        ];
        let bytes = envelope::encode(Kind::Part, last_seq, &payload.concat());
        self.disk.overwrite(&self.file, &self.path, &bytes.unwrap_or_default())
    }

    /// Makes what it says durable. It is written in place, so a full disk has room for it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.sync_file(&self.file, &self.path)?;
        self.disk.sync_directory(self.path.parent().unwrap_or(&self.path))
    }
}

/// Writes such a file durably, in place of what was there.
pub(super) fn write(disk: &Disk, path: &Path, seq: u64, payload: &[u8]) -> io::Result<()> {
    // Far shorter than the longest payload: it always has an envelope.
    let bytes = envelope::encode(Kind::Part, seq, payload).unwrap_or_default();
    let mut aside = OsString::from(path);
    aside.push(".part");
    let aside = PathBuf::from(aside);
    write_aside(disk, &aside, &bytes)?;
    disk.rename(&aside, path).inspect_err(|_| {
        let _ = disk.remove_file(&aside);
    })?;
    disk.sync_directory(path.parent().unwrap_or(path))
}

/// Number and payload of such a file; `None` if it is absent or damaged.
pub(super) fn read(path: &Path) -> Option<(u64, Vec<u8>)> {
    let bytes = fs::read(path).ok()?;
    let (found, _) = envelope::split_first(&bytes).ok()?;
    (found.kind == Kind::Part).then(|| (found.seq, found.payload.to_vec()))
}

/// Writes a file that is to take another's place, so that it is whole before it does.
pub(super) fn write_aside(disk: &Disk, aside: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = disk.write_file(aside, bytes).and_then(|file| disk.sync_file(&file, aside));
    written.inspect_err(|_| {
        let _ = disk.remove_file(aside);
    })
}

/// Removes a generation, packed or not, or a gap; not there is fine. It is durable, so that of several
/// the oldest go first, whenever the power is cut.
pub(super) fn remove(disk: &Disk, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return remove_directory(disk, path);
    }
    match disk.remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => disk.sync_directory(path.parent().unwrap_or(path)),
    }
}

/// Removes a directory so that a crash leaves it whole or marked for removal; not there is fine.
pub(super) fn remove_directory(disk: &Disk, directory: &Path) -> io::Result<()> {
    let doomed = directory.with_extension("del");
    // One that stayed when its removal failed stands in the way.
    remove_marked(disk, &doomed)?;
    match disk.rename(directory, &doomed) {
        Ok(()) => remove_marked(disk, &doomed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The mark is durable before anything goes: else a power cut could leave the name and take what is in
/// it.
fn remove_marked(disk: &Disk, doomed: &Path) -> io::Result<()> {
    if !doomed.exists() {
        return Ok(());
    }
    disk.sync_directory(doomed.parent().unwrap_or(doomed))?;
    disk.remove_directory(doomed)
}

/// Bytes that a file or everything below a directory takes on disk; what vanishes meanwhile is 0.
pub(super) fn disk_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let below = match fs::read_dir(path) {
        Ok(entries) if metadata.is_dir() => {
            entries.flatten().map(|entry| disk_bytes(&entry.path())).sum()
        }
        _ => 0,
    };
    below + metadata.blocks() * 512
}

#[cfg(test)]
mod tests {
    use wire::GapReason;

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([9; 16]);

    #[test]
    fn what_was_written_is_read_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, path) = (&Disk::default(), directory.path());
        let tally = Tally { records: 3, samples: 1_000, first_ms: -5, last_ms: i64::MAX };
        let gap = Gap {
            reason: GapReason::LogOverflow,
            from_ms: 1,
            to_ms: 2,
            first_seq: 3,
            last_seq: 9,
            records: 7,
            samples: 0,
            detail: String::new(),
        };
        write_head(disk, path, STREAM, 7).unwrap();
        write_tail(disk, path, 9, &tally, STREAM).unwrap();
        let stand_in = StandIn { stream: STREAM, first_seq: 2, gap };
        let gap_path = write_gap(disk, path, &stand_in).unwrap();
        assert!(has_head(path));
        assert_eq!(read_head(path), Some((STREAM, 7)));
        let tail = Tail { last_seq: 9, tally, stream: Some(STREAM) };
        assert_eq!(read_tail(path), Some(tail));
        assert_eq!(read_gap(&gap_path), Some(stand_in));

        let flip = |file: &Path| {
            let mut bytes = fs::read(file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        };
        flip(&path.join("head"));
        flip(&path.join("tail"));
        flip(&gap_path);
        assert!(has_head(path));
        assert_eq!((read_head(path), read_tail(path), read_gap(&gap_path)), (None, None, None));
    }

    #[test]
    fn the_witness_says_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Witness::open(&Disk::default(), directory.path()).unwrap();
        let (witness, said) = open();
        assert_eq!(said, None);
        for seq in [1, u64::MAX, 5] {
            // Each is shorter than the one before.
            let cursors = [("hub", 3), ("the other", seq)];
            let some = &cursors[..if seq == 5 { 1 } else { 2 }];
            witness.say(STREAM, (2, seq), -7, some.iter().copied()).unwrap();
        }
        let (witness, said) = open();
        let cursors = BTreeMap::from([("hub".to_owned(), 3)]);
        let expected =
            Said { stream: STREAM, first_seq: 2, last_seq: 5, last_ms: Some(-7), cursors };
        assert_eq!(said, Some(expected));
        let check = |last_seq, held_ms, expected| {
            assert_eq!(witness.last_ms(last_seq, held_ms), expected, "{last_seq} {held_ms:?}");
        };
        check(5, Some(9), Some(-7));
        check(4, Some(9), Some(-7));
        check(6, Some(9), Some(9));
        check(6, Some(-9), Some(-7));
        check(6, None, Some(-7));
    }

    #[test]
    fn a_witness_of_an_older_version_says_no_time() {
        let (disk, directory) = (&Disk::default(), tempfile::tempdir().unwrap());
        write(disk, &directory.path().join("last"), 5, STREAM.as_bytes()).unwrap();
        let (witness, said) = Witness::open(disk, directory.path()).unwrap();
        let cursors = BTreeMap::new();
        let expected = Said { stream: STREAM, first_seq: 0, last_seq: 5, last_ms: None, cursors };
        assert_eq!(said, Some(expected));
        assert_eq!((witness.last_ms(5, None), witness.last_ms(5, Some(9))), (None, Some(9)));
    }
}
