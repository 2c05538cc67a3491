//! What a configuration would do to a log that is there: which sinks go on, begin, and give up their
//! place. From names and small files, so that it can be asked while an agent owns the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::Path,
};

use super::{
    sidecar::{self, Said},
    survey,
};

/// How a log stands, seen from beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Lowest number held, or the next one.
    first_seq: u64,
    /// Highest number written.
    last_seq: u64,
    /// How far each sink had come as of the last record; none if an older version wrote the log.
    cursors: BTreeMap<String, u64>,
}

/// What becomes of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// It goes on where it was.
    GoesOn {
        /// The highest number it has acknowledged.
        after: u64,
        /// Records that wait for it.
        waiting: u64,
        /// Records that went before it came.
        lost: u64,
    },
    /// It is new.
    New {
        /// Records held, with the oldest of which it begins.
        held: u64,
    },
    /// It is no longer there.
    GivenUp {
        /// Records that waited for it.
        waiting: u64,
    },
    /// An older version wrote the log, and only its databases know.
    Unknown,
}

impl Outlook {
    /// Looks at a log's directory; `None` if no log is there. With an agent at work it is what was when
    /// it last appended.
    ///
    /// # Errors
    /// The file system's: most likely, the log is another user's.
    pub fn look(directory: &Path) -> io::Result<Option<Self>> {
        let survey = match survey::survey(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            survey => survey?,
        };
        let Some(Said { last_seq, cursors, .. }) = sidecar::read_last(directory) else {
            return Ok(None);
        };
        let first_seq = survey.stretches.first().map_or(u64::MAX, |stretch| stretch.first_seq);
        Ok(Some(Self { first_seq: first_seq.min(last_seq + 1), last_seq, cursors }))
    }

    /// What becomes of each of these sinks, and of those that were there before, by name.
    #[must_use]
    pub fn of<'a>(&'a self, sinks: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, Prospect)> {
        let sinks: BTreeSet<&str> = sinks.into_iter().collect();
        let known = |sink: &&str| self.cursors.contains_key(*sink);
        let gone = self.cursors.keys().map(String::as_str).filter(|sink| !sinks.contains(sink));
        let gone = gone.map(|sink| (sink, Prospect::GivenUp { waiting: self.waiting(sink) }));
        let there = sinks.iter().map(|sink| match self.cursors.get(*sink) {
            _ if self.cursors.is_empty() && self.last_seq > 0 => (*sink, Prospect::Unknown),
            Some(after) => (*sink, self.goes_on(sink, *after)),
            None => (*sink, Prospect::New { held: self.last_seq + 1 - self.first_seq }),
        });
        let (old, new): (Vec<_>, Vec<_>) = there.partition(|(sink, _)| known(sink));
        old.into_iter().chain(new).chain(gone).collect()
    }

    fn goes_on(&self, sink: &str, after: u64) -> Prospect {
        let lost = self.first_seq.saturating_sub(after + 1);
        Prospect::GoesOn { after, waiting: self.waiting(sink), lost }
    }

    /// Records that are held and that a sink has not acknowledged.
    fn waiting(&self, sink: &str) -> u64 {
        let after = self.cursors.get(sink).copied().unwrap_or(0);
        self.last_seq.saturating_sub(after.max(self.first_seq - 1))
    }
}

impl fmt::Display for Prospect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoesOn { after, waiting, lost: 0 } => {
                write!(f, "goes on after record {after} ({waiting} records wait)")
            }
            Self::GoesOn { after, waiting, lost } => write!(
                f,
                "goes on after record {after} ({lost} records went before it came, {waiting} wait)"
            ),
            Self::New { held } => write!(f, "new, begins with the oldest of {held} records held"),
            Self::GivenUp { waiting } => write!(
                f,
                "no longer configured, its place in the log is given up ({waiting} records were \
                 waiting)"
            ),
            Self::Unknown => f.write_str(
                "an older version wrote the log: what it does will be said at the start",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sink_has_a_prospect() {
        let check = |first_seq, last_seq, cursors: &[(&str, u64)], expected: &[(&str, &str)]| {
            let cursors = cursors.iter().map(|(sink, seq)| ((*sink).to_owned(), *seq)).collect();
            let outlook = Outlook { first_seq, last_seq, cursors };
            let found = outlook.of(["hub", "archive"]);
            let found: Vec<(&str, String)> =
                found.into_iter().map(|(sink, prospect)| (sink, prospect.to_string())).collect();
            let expected: Vec<(&str, String)> =
                expected.iter().map(|(sink, text)| (*sink, (*text).to_owned())).collect();
            assert_eq!(found, expected);
        };
        check(
            11,
            40,
            &[("archive", 25), ("hub", 40)],
            &[
                ("archive", "goes on after record 25 (15 records wait)"),
                ("hub", "goes on after record 40 (0 records wait)"),
            ],
        );
        check(
            11,
            40,
            &[("old", 25), ("hub", 5)],
            &[
                ("hub", "goes on after record 5 (5 records went before it came, 30 wait)"),
                ("archive", "new, begins with the oldest of 30 records held"),
                (
                    "old",
                    "no longer configured, its place in the log is given up (15 records were \
                     waiting)",
                ),
            ],
        );
        let unknown = "an older version wrote the log: what it does will be said at the start";
        check(11, 40, &[], &[("archive", unknown), ("hub", unknown)]);
        let begins = "new, begins with the oldest of 0 records held";
        check(1, 0, &[], &[("archive", begins), ("hub", begins)]);
    }
}
