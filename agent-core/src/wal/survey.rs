//! What lies in a log's directory, from names and small files: nothing is opened, nothing changed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use wire::{Gap, StreamId};

use super::{
    carve,
    generation::DATA_FILE,
    lock, losses, packed, quarantine, reserve, salvage,
    sidecar::{self, Said, StandIn},
};

/// What lies beside the row.
const BESIDE: [&str; 5] =
    [lock::FILE_NAME, sidecar::LAST, losses::FILE_NAME, reserve::FILE_NAME, quarantine::DIRECTORY];

/// What a gap says whose own words are lost.
pub(super) const NOTE_DAMAGED: &str = "the note of a gap was damaged";

/// Everything that is named as the log names it.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// What makes up the row, in order.
    pub(super) stretches: Vec<Stretch>,
    /// What a gap of the row stands for: it was being dropped, or two gaps were becoming one.
    pub(super) covered: Vec<Stretch>,
    /// What a crash left half done.
    pub(super) unfinished: Vec<PathBuf>,
    /// What is none of the log's.
    pub(super) foreign: Vec<PathBuf>,
}

/// A generation's directory, or the file of a packed one or of a gap.
#[derive(Debug)]
pub(super) struct Stretch {
    /// First number it covers.
    pub(super) first_seq: u64,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// The stream, if it is known without opening anything.
    pub(super) stream: Option<StreamId>,
    /// The gap, if it is one.
    pub(super) gap: Option<Gap>,
    /// What a packed generation says of itself.
    pub(super) packed: Option<packed::Head>,
}

impl Stretch {
    /// Whether it is a generation that was rebuilt and not yet put in its place.
    pub(super) fn is_rebuilt(&self) -> bool {
        self.gap.is_none() && extension(&self.path) == Some("new")
    }

    /// Whether it is a generation that was not packed.
    pub(super) fn is_database(&self) -> bool {
        self.gap.is_none() && !packed::is_packed(&self.path)
    }

    /// Its last number, if that is known without the next one.
    pub(super) fn last_seq(&self) -> Option<u64> {
        let packed = self.packed.as_ref().map(|head| head.last_seq);
        packed.or_else(|| self.gap.as_ref().map(|gap| gap.last_seq))
    }

    /// First and last number of a gap.
    fn gap_range(&self) -> Option<(u64, u64)> {
        self.gap.as_ref().map(|gap| (self.first_seq, gap.last_seq))
    }
}

/// Looks at a log's directory.
pub(super) fn survey(directory: &Path) -> io::Result<Survey> {
    let mut survey = Survey::default();
    for entry in fs::read_dir(directory)? {
        survey.sort_in(entry?.path());
    }
    let gaps: Vec<(u64, u64)> = survey.stretches.iter().filter_map(Stretch::gap_range).collect();
    let is_covered = |stretch: &Stretch| {
        let own = stretch.gap_range();
        let last_seq = own.map_or(stretch.first_seq, |(_, last_seq)| last_seq);
        let covers = |gap: &(u64, u64)| gap.0 <= stretch.first_seq && last_seq <= gap.1;
        gaps.iter().any(|gap| own != Some(*gap) && covers(gap))
    };
    survey.covered = survey.stretches.extract_if(.., |stretch| is_covered(stretch)).collect();
    survey.stretches.sort_by_key(|stretch| stretch.first_seq);
    Ok(survey)
}

impl Survey {
    fn sort_in(&mut self, path: PathBuf) {
        if is_unfinished(&path) {
            self.unfinished.push(path);
            return;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let seq = name.and_then(|name| name.parse().ok()).filter(|seq: &u64| *seq > 0);
        match (extension(&path), seq, name) {
            (Some("new"), Some(seq), _) if !path.is_dir() => {
                self.stretches.push(packed_generation(path, seq));
            }
            (Some("gen" | "new"), Some(seq), _) => self.stretches.push(generation(path, seq)),
            (Some(packed::EXTENSION), Some(seq), _) => {
                self.stretches.push(packed_generation(path, seq));
            }
            (Some("gap"), Some(seq), _) => self.stretches.push(gap(path, seq)),
            (None, _, Some(name)) if BESIDE.contains(&name) => {}
            _ => self.foreign.push(path),
        }
    }
}

/// What is said of the log beside its databases.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) said: Option<Said>,
    /// How far sinks had come.
    pub(super) cursors: BTreeMap<String, u64>,
}

impl Notes {
    /// From all that was surveyed, and the witness.
    pub(super) fn new(stretches: &[Stretch], said: Option<Said>) -> Self {
        let mut cursors = said.as_ref().map(|said| said.cursors.clone()).unwrap_or_default();
        for head in stretches.iter().filter_map(|stretch| stretch.packed.as_ref()) {
            for (sink, &seq) in &head.cursors {
                let known = cursors.entry(sink.clone()).or_default();
                *known = seq.max(*known);
            }
        }
        Self { said, cursors }
    }

    /// The last number that the witness said of a stream.
    pub(super) fn said_of(&self, stream: StreamId) -> u64 {
        let said = self.said.as_ref().filter(|said| said.stream == stream);
        said.map_or(0, |said| said.last_seq)
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

/// Files being written, generations being created, packed, rebuilt or removed. One that was rebuilt is
/// finished if it is whole and its place is free. One without a head was never finished, unless records
/// are in it. One that was packed is not needed any more as a database, if all of it is in the file.
fn is_unfinished(path: &Path) -> bool {
    let has_traces =
        || carve::scan(&path.join(DATA_FILE), 0).is_ok_and(|carved| carved.traces_to > 0);
    let beside = |extension| Some(path.with_extension(extension)).filter(|path| path.exists());
    match extension(path) {
        Some("del" | "part") => true,
        Some("new") => {
            beside("gen").is_some() || beside(packed::EXTENSION).is_some() || !is_whole(path)
        }
        Some("gen") => match beside(packed::EXTENSION) {
            Some(file) => is_whole(&file),
            None => !sidecar::has_head(path) && !has_traces(),
        },
        Some(packed::EXTENSION) => beside("gen").is_some() && !is_whole(path),
        _ => false,
    }
}

/// Whether a rebuilt or packed generation is all there. What the disk doesn't let us see may be.
fn is_whole(path: &Path) -> bool {
    match path.is_dir() {
        true => sidecar::read_tail(path).is_some(),
        false => packed::is_whole(path).unwrap_or(true),
    }
}

fn generation(path: PathBuf, seq: u64) -> Stretch {
    let head = sidecar::read_head(&path);
    let first_seq = head.map_or(seq, |(_, first)| first.max(seq));
    let stream = head.map(|(stream, _)| stream);
    let stream = stream.or_else(|| sidecar::read_tail(&path)?.stream);
    Stretch { first_seq, path, stream, gap: None, packed: None }
}

fn packed_generation(path: PathBuf, seq: u64) -> Stretch {
    let packed = packed::look(&path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "can't read a generation of the log yet");
        None
    });
    let first_seq = packed.as_ref().map_or(seq, |head| head.first_seq.max(seq));
    let stream = packed.as_ref().map(|head| head.stream);
    Stretch { first_seq, path, stream, gap: None, packed }
}

/// What a gap says. Of one that is damaged only the last number is known, by its name.
fn gap(path: PathBuf, seq: u64) -> Stretch {
    if let Some(StandIn { stream, first_seq, gap }) = sidecar::read_gap(&path) {
        return Stretch { first_seq, path, stream: Some(stream), gap: Some(gap), packed: None };
    }
    tracing::error!(path = %path.display(), seq, "a gap of the log is damaged");
    let gap = salvage::damage_gap(NOTE_DAMAGED, 0, 0, (seq, seq), 1);
    Stretch { first_seq: seq, path, stream: None, gap: Some(gap), packed: None }
}

#[cfg(test)]
mod tests {
    use super::{super::disk::Disk, *};

    /// A crash, or a power cut, between writing a gap that two became and removing the first of them.
    #[test]
    fn of_a_gap_and_the_one_it_became_the_larger_stays() {
        let directory = tempfile::tempdir().unwrap();
        let stream = StreamId::from_bytes([1; 16]);
        for (first_seq, last_seq) in [(1, 4), (5, 8), (5, 12), (13, 16)] {
            let gap = salvage::damage_gap("", 0, 0, (first_seq, last_seq), 1);
            let stand_in = StandIn { stream, first_seq, gap };
            sidecar::write_gap(&Disk::default(), directory.path(), &stand_in).unwrap();
        }
        let survey = survey(directory.path()).unwrap();
        let ranges = |stretches: &[Stretch]| -> Vec<(u64, u64)> {
            stretches.iter().filter_map(Stretch::gap_range).collect()
        };
        assert_eq!(ranges(&survey.stretches), [(1, 4), (5, 12), (13, 16)]);
        assert_eq!(ranges(&survey.covered), [(5, 8)]);
    }
}
