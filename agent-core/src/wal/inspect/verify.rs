//! What is wrong with a log, and what becomes of it.
//!
//! What becomes of it is not guessed: it follows the code that opens a log for real and saves what can be
//! read, on the same bytes.

use std::path::Path;

use wire::Gap;

use super::{Contents, InspectError, Place, StoppedLog, What};
use crate::wal::{
    ending::Ending,
    losses::{self, Losses},
    packed, sidecar,
};

/// Refused records of one generation that are told one by one.
const TOLD_MAX: usize = 10;

/// What is wrong with a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Each generation, in order.
    pub checked: Vec<Checked>,
    /// What was found, in the order of the log.
    pub findings: Vec<Finding>,
    /// Whether another stream begins when it is next opened, because the end of this one is uncertain.
    pub begins_stream: bool,
}

/// A generation that was read from its first to its last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// First number it covers.
    pub first_seq: u64,
    /// Last number it covers; less than the first if nothing is in it.
    pub last_seq: u64,
    /// Records that its database gives; `None` if it gives not all.
    pub given: Option<u64>,
    /// Whole records that a scan of its bytes finds.
    pub raw: u64,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file or directory, by its name in the log's.
    pub place: String,
    /// Whether it is damage; if not, a crash leaves it and it costs nothing.
    pub is_damage: bool,
    /// What it is.
    pub what: String,
    /// What a repair or the next start makes of it.
    pub then: String,
    /// Records that are lost, of those that a sink still waits for.
    pub lost: u64,
}

impl Verdict {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| !finding.is_damage)
    }

    /// Records that are lost, of those that a sink still waits for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.findings.iter().map(|finding| finding.lost).sum()
    }

    fn damage(&mut self, place: &str, what: impl Into<String>, then: impl Into<String>, lost: u64) {
        let (place, what, then) = (place.to_owned(), what.into(), then.into());
        self.findings.push(Finding { place, is_damage: true, what, then, lost });
    }

    fn note(&mut self, path: &Path, what: impl Into<String>, then: &str) {
        let place = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (what, then) = (what.into(), then.to_owned());
        self.findings.push(Finding { place, is_damage: false, what, then, lost: 0 });
    }
}

impl StoppedLog {
    /// Reads everything and says what is wrong.
    ///
    /// # Errors
    /// [`InspectError`] when it can't be read, or an agent has taken the log meanwhile. Damage is none.
    pub fn verify(&self) -> Result<Verdict, InspectError> {
        let mut verdict = Verdict::default();
        let mut expected = self.places().first().map_or(1, |place| place.first_seq);
        for place in self.places() {
            self.check_hole(&mut verdict, expected, place);
            expected = expected.max(place.last_seq + 1);
            self.check_place(&mut verdict, place)?;
        }
        self.check_end(&mut verdict);
        self.check_beside(&mut verdict);
        Ok(verdict)
    }

    fn check_place(&self, verdict: &mut Verdict, place: &Place) -> Result<(), InspectError> {
        let name = place.name();
        let contents = self.read(place)?;
        if let What::Gap(_) = place.what {
            if let Some(reason) = contents.damage {
                verdict.damage(&name, reason, "a gap of its own stands for it", 0);
            }
            return Ok(());
        }
        check_small_files(verdict, place, &name);
        let given = contents.damage.is_none().then_some(contents.batch.records.len() as u64);
        let Place { first_seq, last_seq, .. } = *place;
        let raw = contents.raw_records;
        verdict.checked.push(Checked { name: name.clone(), first_seq, last_seq, given, raw });
        if let Some(reason) = &contents.damage {
            self.check_damaged(verdict, place, &name, &contents, reason);
        }
        self.check_payloads(verdict, &name, &contents);
        Ok(())
    }

    /// Numbers that neither a generation nor a gap covers.
    fn check_hole(&self, verdict: &mut Verdict, expected: u64, place: &Place) {
        if expected < place.first_seq {
            let lost = self.still_wanted(expected, place.first_seq - 1);
            let what = format!(
                "{} before it are gone, and no gap tells of them",
                numbers(expected, place.first_seq - 1)
            );
            verdict.damage(&place.name(), what, "a gap stands in their place", lost);
        }
    }

    fn check_damaged(
        &self,
        verdict: &mut Verdict,
        place: &Place,
        name: &str,
        contents: &Contents,
        reason: &str,
    ) {
        let lost = |gap: &Gap| self.still_wanted(gap.first_seq, gap.last_seq);
        let lost = contents.holes.iter().map(lost).sum();
        let holes = contents.holes.iter().map(|gap| numbers(gap.first_seq, gap.last_seq));
        let holes: Vec<String> = holes.collect();
        let what = match holes.is_empty() {
            true => format!("{reason}; every record of it is readable"),
            false => format!("{reason}; not readable: {}", holes.join(", ")),
        };
        let kept = contents.batch.records.len() - contents.holes.len();
        let then = if place.last_seq <= self.acked_seq() {
            "it is given back: every sink has acknowledged what was in it".to_owned()
        } else if kept == 0 {
            "a gap takes its place; it goes to quarantine".to_owned()
        } else {
            let gaps = count(contents.holes.len() as u64, "gap");
            let kept = count(kept as u64, "record");
            format!("it is made anew of {kept} and {gaps}; the original goes to quarantine")
        };
        verdict.damage(name, what, then, lost);
    }

    fn check_payloads(&self, verdict: &mut Verdict, name: &str, contents: &Contents) {
        let then = "a sink refuses it: it goes to quarantine, and a gap stands for it";
        let mut untold = 0;
        for (index, refused) in contents.refused().enumerate() {
            if index < TOLD_MAX {
                let what = format!("record {} {}", refused.seq, refused.reason);
                verdict.damage(name, what, then, self.still_wanted(refused.seq, refused.seq));
            } else {
                untold += self.still_wanted(refused.seq, refused.seq).max(1);
            }
        }
        if untold > 0 {
            verdict.damage(name, format!("{untold} more records like that"), then, untold);
        }
    }

    fn check_end(&self, verdict: &mut Verdict) {
        if self.places().is_empty()
            && let Some(said) = self.notes.said.as_ref().filter(|said| !said.holds_nothing())
        {
            let last_seq = said.last_seq;
            let what = format!("says that record {last_seq} was written, and nothing is left");
            verdict.damage(sidecar::LAST, what, "another stream begins, with a gap", 0);
            verdict.begins_stream = true;
        }
        match &self.ending {
            Ending::Whole => {}
            Ending::CutShort => {
                let path = self.places().last().map_or(self.directory(), |place| &place.path);
                let what = "ends with an append that was cut short";
                verdict.note(path, what, "it is sealed there; nothing that was durable is lost");
            }
            Ending::Lost(_) => {
                verdict.begins_stream = true;
                self.check_newest_gone(verdict);
            }
        }
    }

    fn check_newest_gone(&self, verdict: &mut Verdict) {
        let Some(last) = self.places().last().filter(|last| last.what != What::Newest) else {
            return;
        };
        let said = self.notes.said_of(last.stream).max(last.last_seq);
        let what = format!(
            "is the last that is left, and {} after it were written",
            count(said - last.last_seq, "record")
        );
        let lost = self.still_wanted(last.last_seq + 1, said);
        verdict.damage(
            &last.name(),
            what,
            "a gap stands for them, and another stream begins",
            lost,
        );
    }

    fn check_beside(&self, verdict: &mut Verdict) {
        for path in &self.unfinished {
            verdict.note(path, "was left half done by a crash", "it is removed");
        }
        for path in &self.covered {
            verdict.note(path, "was being dropped, a gap stands for it", "it is removed");
        }
        for place in self.places().iter().filter(|place| place.name().ends_with(".new")) {
            let what = "was made anew after damage";
            verdict.note(&place.path, what, "it takes the place it was made for");
        }
        for path in &self.foreign {
            verdict.note(path, "is none of the log's", "it stays as it is");
        }
        if Losses::is_unreadable(self.directory()) {
            let what = "is unreadable: what best-effort sinks lost is not known in detail";
            verdict.damage(losses::FILE_NAME, what, "their cursors tell them how much", 0);
        }
        let last = self.directory().join(sidecar::LAST);
        if self.notes.said.is_none() && last.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            let what = "is unreadable, as a power cut may leave it";
            verdict.note(&last, what, "it is written anew with the next record");
        }
    }

    /// How many of these numbers a sink still waits for.
    fn still_wanted(&self, first_seq: u64, last_seq: u64) -> u64 {
        (last_seq + 1).saturating_sub(first_seq.max(self.acked_seq() + 1))
    }
}

fn check_small_files(verdict: &mut Verdict, place: &Place, name: &str) {
    if packed::is_packed(&place.path) {
        return;
    }
    if sidecar::read_head(&place.path).is_none() {
        let what = match sidecar::has_head(&place.path) {
            true => "is unreadable",
            false => "is gone",
        };
        verdict.damage(&format!("{name}/head"), what, "it is written again from the database", 0);
    }
    if sidecar::has_tail(&place.path) && sidecar::read_tail(&place.path).is_none() {
        let then = "what it said is counted again";
        verdict.damage(&format!("{name}/tail"), "is unreadable", then, 0);
    }
}

/// `record 7` or `records 7 to 9`.
fn numbers(first_seq: u64, last_seq: u64) -> String {
    match first_seq == last_seq {
        true => format!("record {first_seq}"),
        false => format!("records {first_seq} to {last_seq}"),
    }
}

/// `1 gap` or `2 gaps`.
fn count(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
