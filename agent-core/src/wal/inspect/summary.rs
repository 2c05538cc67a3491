//! How a log stands: counted from its raw bytes, so that it is quick and damage doesn't stop it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};
use wire::{Gap, Kind, StreamId};

use super::{InspectError, Place, StoppedLog, What, generation};
use crate::{
    clock,
    quarantine::Refusals,
    wal::{
        WalError, packed, quarantine, reserve,
        salvage::{self, Piece},
        sidecar::{self, Tally},
    },
};

/// How a log stands. Serialized, it is what `holdfast-agent wal inspect --format json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Where it lies.
    pub directory: PathBuf,
    /// Its streams, in order.
    pub streams: Vec<StreamState>,
    /// Its stretches, in order.
    pub places: Vec<PlaceState>,
    /// Its sinks, by name.
    pub sinks: Vec<SinkState>,
    /// Damaged generations that were put aside, oldest first.
    pub quarantine: Vec<Quarantined>,
    /// Records that sinks refused for good, beside the log.
    pub refused: Option<Refusals>,
    /// All records and samples that are held.
    pub totals: Totals,
    /// Bytes kept back for the day the disk is full; 0 if they were given up.
    pub reserve_bytes: u64,
    /// Bytes on disk of all that lies in the directory.
    pub disk_bytes: u64,
}

/// A stream that records of a log belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamState {
    /// Its id.
    #[serde(serialize_with = "displayed")]
    pub stream_id: StreamId,
    /// The first number that is held.
    pub first_seq: u64,
    /// The last.
    pub last_seq: u64,
}

/// A stretch of a log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlaceState {
    /// Its name in the directory.
    pub name: String,
    /// What it is.
    pub state: State,
    /// The stream its records belong to.
    #[serde(serialize_with = "displayed")]
    pub stream_id: StreamId,
    /// First number it covers.
    pub first_seq: u64,
    /// Last number it covers; less than the first if nothing is in it.
    pub last_seq: u64,
    /// Records that are held, gaps too.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
    /// Unix milliseconds of the first record.
    pub from_ms: Option<i64>,
    /// Unix milliseconds of the last record.
    pub to_ms: Option<i64>,
    /// Records that it should hold and that aren't found whole: damage.
    pub missing: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// The gaps among its records.
    pub gaps: Vec<GapState>,
}

/// What a stretch of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The generation that is written.
    Newest,
    /// A generation that is only read.
    Sealed,
    /// A sealed generation that was packed into one compressed file.
    Packed,
    /// A gap in the place of what was dropped.
    Gap,
}

impl State {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Sealed => "sealed",
            Self::Packed => "packed",
            Self::Gap => "gap",
        }
    }
}

/// A gap, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapState {
    /// The number of its record.
    pub seq: u64,
    /// What it says.
    #[serde(flatten)]
    pub gap: Gap,
}

/// How far a sink has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkState {
    /// Its name.
    pub sink: String,
    /// The highest number it has acknowledged, as it was last written: it may have come further.
    pub acked_seq: u64,
    /// Records that wait for it, gaps too.
    pub waiting_records: u64,
    /// Samples in them.
    pub waiting_samples: u64,
    /// Unix milliseconds of the oldest.
    pub oldest_ms: Option<i64>,
    /// What it lost while nothing waited for it, and has not been told.
    pub lost: Vec<Gap>,
}

/// A damaged generation that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// Its name below `quarantine/`.
    pub name: String,
    /// Unix milliseconds of when it was last written.
    pub written_ms: Option<i64>,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Whole records that are found in it.
    pub records: u64,
}

/// What a log holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Records, gaps too.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes on disk of generations and gaps.
    pub disk_bytes: u64,
    /// Of these, for each record.
    pub bytes_per_record: Option<f64>,
    /// Of these, for each sample.
    pub bytes_per_sample: Option<f64>,
}

impl StoppedLog {
    /// How the log stands. Reads every generation's raw bytes, one at a time.
    ///
    /// # Errors
    /// [`InspectError`] when it can't be read, or an agent has taken the log meanwhile.
    pub fn summary(&self) -> Result<Summary, InspectError> {
        let mut summary = self.empty_summary()?;
        for place in self.places() {
            let pieces = pieces(place)?;
            self.visit.check()?;
            summary.sinks.iter_mut().for_each(|sink| sink.count(&pieces));
            summary.add_to_streams(place);
            summary.places.push(PlaceState::of(place, &pieces));
        }
        summary.add_up();
        Ok(summary)
    }

    fn empty_summary(&self) -> Result<Summary, InspectError> {
        let directory = self.directory().to_owned();
        Ok(Summary {
            streams: Vec::new(),
            places: Vec::new(),
            sinks: self.sinks()?,
            quarantine: quarantined(&directory.join(quarantine::DIRECTORY))?,
            refused: directory.parent().and_then(Refusals::below),
            totals: Totals::default(),
            reserve_bytes: sidecar::disk_bytes(&directory.join(reserve::FILE_NAME)),
            disk_bytes: sidecar::disk_bytes(&directory),
            directory,
        })
    }
}

impl StoppedLog {
    fn sinks(&self) -> Result<Vec<SinkState>, InspectError> {
        let sink = |(sink, acked_seq): (&String, &u64)| {
            let lost = self.lost_by(sink)?;
            let gaps = lost.iter().flat_map(|batch| &batch.records);
            Ok(SinkState {
                sink: sink.clone(),
                acked_seq: *acked_seq,
                waiting_records: 0,
                waiting_samples: 0,
                oldest_ms: None,
                lost: gaps.filter_map(|record| salvage::gap_of(&record.bytes)).collect(),
            })
        };
        self.cursors().iter().map(sink).collect()
    }
}

impl Summary {
    fn add_to_streams(&mut self, place: &Place) {
        if place.last_seq < place.first_seq {
            return;
        }
        match self.streams.last_mut() {
            Some(last) if last.stream_id == place.stream => last.last_seq = place.last_seq,
            _ => self.streams.push(StreamState {
                stream_id: place.stream,
                first_seq: place.first_seq,
                last_seq: place.last_seq,
            }),
        }
    }

    fn add_up(&mut self) {
        let sum = |of: fn(&PlaceState) -> u64| self.places.iter().map(of).sum();
        let (records, samples) = (sum(|place| place.records), sum(|place| place.samples));
        let disk_bytes: u64 = sum(|place| place.disk_bytes);
        let per = |count: u64| (count > 0).then(|| disk_bytes as f64 / count as f64);
        let (bytes_per_record, bytes_per_sample) = (per(records), per(samples));
        self.totals = Totals { records, samples, disk_bytes, bytes_per_record, bytes_per_sample };
    }
}

impl SinkState {
    fn count(&mut self, pieces: &[Piece]) {
        for piece in pieces.iter().filter(|piece| piece.seq > self.acked_seq) {
            self.waiting_records += 1;
            self.waiting_samples += piece.samples;
            self.oldest_ms.get_or_insert(piece.time_ms);
        }
    }
}

impl PlaceState {
    fn of(place: &Place, pieces: &[Piece]) -> Self {
        let mut tally = Tally::default();
        let (mut gaps, mut missing, mut expected) = (Vec::new(), 0, place.first_seq);
        for piece in pieces {
            tally.add(piece.time_ms, piece.samples);
            let gap = (piece.kind == Kind::Gap).then(|| salvage::gap_of(&piece.bytes)).flatten();
            let begins = gap.as_ref().filter(|gap| gap.last_seq == piece.seq);
            let begins = begins.map_or(piece.seq, |gap| gap.first_seq);
            missing += begins.saturating_sub(expected);
            expected = piece.seq + 1;
            gaps.extend(gap.map(|gap| GapState { seq: piece.seq, gap }));
        }
        missing += (place.last_seq + 1).saturating_sub(expected);
        let time = |time_ms| (tally.records > 0).then_some(time_ms);
        Self {
            name: place.name(),
            state: match place.what {
                What::Newest => State::Newest,
                What::Sealed if packed::is_packed(&place.path) => State::Packed,
                What::Sealed => State::Sealed,
                What::Gap(_) => State::Gap,
            },
            stream_id: place.stream,
            first_seq: place.first_seq,
            last_seq: place.last_seq,
            records: tally.records,
            samples: tally.samples,
            from_ms: time(tally.first_ms),
            to_ms: time(tally.last_ms),
            missing,
            disk_bytes: place.disk_bytes,
            gaps,
        }
    }
}

/// The records that are found whole in a stretch, in order.
fn pieces(place: &Place) -> Result<Vec<Piece>, WalError> {
    if let What::Gap(gap) = &place.what {
        let bytes = wire::envelope::encode(Kind::Gap, place.last_seq, &gap.encode())?;
        return Ok(vec![salvage::piece(place.last_seq, bytes)]);
    }
    let carved = generation::raw(&place.path, place.first_seq)?;
    let covered = carved.records.into_iter().take_while(|(seq, _)| *seq <= place.last_seq);
    Ok(covered.map(|(seq, bytes)| salvage::piece(seq, bytes)).collect())
}

fn quarantined(directory: &Path) -> Result<Vec<Quarantined>, WalError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let entries = entries.map_err(|source| WalError::Io {
        operation: "read",
        path: directory.to_owned(),
        source,
    })?;
    let mut found = Vec::new();
    for entry in entries {
        let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        found.push(Quarantined {
            name: entry.file_name().to_string_lossy().into_owned(),
            written_ms: written.map(clock::unix_ms),
            disk_bytes: sidecar::disk_bytes(&entry.path()),
            records: generation::raw(&entry.path(), 0)?.records.len() as u64,
        });
    }
    found.sort_by(|a, b| (a.written_ms, &a.name).cmp(&(b.written_ms, &b.name)));
    Ok(found)
}

fn displayed<S: Serializer>(stream: &StreamId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(stream)
}
