//! `holdfast-agent wal export`: the records of a log, as a file sink writes them.

use std::io::{BufWriter, Write, stderr, stdout};

use agent_core::{
    Batch,
    wal::inspect::{Contents, Place, StoppedLog},
};
use anyhow::Result;
use settings::{Problem, Problems};
use sinks::{
    records::decode_records,
    render::{Heading, json},
};

use super::text::numbers;

/// What is exported.
pub(super) struct Export<'a> {
    /// What waits for this sink.
    pub(super) sink: Option<&'a str>,
    /// First number.
    pub(super) from: Option<u64>,
    /// Last number.
    pub(super) to: Option<u64>,
    /// The host's name to write into each line.
    pub(super) host: Option<String>,
}

impl Export<'_> {
    /// Prints the records; true if all could be read. What can't is told on standard error, and a gap
    /// stands in its place.
    ///
    /// # Errors
    /// When the log can't be read, the sink isn't known, or standard output refuses.
    pub(super) fn run(&self, log: &StoppedLog) -> Result<bool> {
        let (from, to) = (self.first(log)?, self.to.unwrap_or(u64::MAX));
        let mut out = BufWriter::new(stdout().lock());
        let mut is_sound = true;
        for lost in self.sink.map_or(Ok(Vec::new()), |sink| log.lost_by(sink))? {
            self.write(&mut out, &lost)?;
        }
        let mut expected = from;
        for place in log.places() {
            if place.last_seq < from || place.first_seq > to {
                continue;
            }
            if expected < place.first_seq && place != &log.places()[0] {
                let gone = numbers(expected, place.first_seq - 1);
                tell(&format!("{gone} are gone, and no gap tells of them"));
                is_sound = false;
            }
            expected = place.last_seq + 1;
            let mut contents = log.read(place)?;
            is_sound &= tell_damage(place, &contents);
            contents.batch.records.retain(|record| (from..=to).contains(&record.seq));
            is_sound &= self.write(&mut out, &contents.batch)?;
        }
        out.flush()?;
        Ok(is_sound)
    }

    fn first(&self, log: &StoppedLog) -> Result<u64, Problems> {
        let Some(sink) = self.sink else { return Ok(self.from.unwrap_or(0)) };
        log.cursors().get(sink).map(|acked_seq| acked_seq + 1).ok_or_else(|| {
            let known: Vec<&str> = log.cursors().keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "no sink has read from this log".to_owned(),
                false => format!("expected {}", known.join(" or ")),
            };
            Problems::from(Problem::new(format!("--sink: unknown sink {sink:?}, {known}")))
        })
    }

    fn write(&self, out: &mut impl Write, batch: &Batch) -> Result<bool> {
        let mut is_sound = true;
        for decoded in decode_records(batch) {
            let decoded = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    tell(&error.to_string());
                    is_sound = false;
                    continue;
                }
            };
            let heading = Heading {
                stream_id: Some(batch.stream_id),
                seq: Some(decoded.seq),
                time_ms: decoded.time_ms(),
                host: self.host.as_deref(),
            };
            json::write(out, &heading, &decoded.content())?;
        }
        Ok(is_sound)
    }
}

/// Says what can't be read; true if nothing.
fn tell_damage(place: &Place, contents: &Contents) -> bool {
    let Some(reason) = &contents.damage else { return true };
    let holes = contents.holes.iter().map(|gap| numbers(gap.first_seq, gap.last_seq));
    let holes: Vec<String> = holes.collect();
    let name = place.name();
    match holes.is_empty() {
        true => tell(&format!("{name}: {reason}; every record of it is readable")),
        false => tell(&format!("{name}: {reason}; not readable: {}", holes.join(", "))),
    }
    false
}

fn tell(what: &str) {
    // Nobody may be listening; the exit code says it too.
    let _ = writeln!(stderr(), "damage: {what}");
}
